"""Whole replicas for a large fleet, from the covers that a mixture is made of: a period at a time (HiGHS)."""

import time
from collections import defaultdict
from collections.abc import Mapping
from math import floor

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.arrays import Floats, Ints
from servesat.fleet.formulation.compact import FleetModel, FleetSolution
from servesat.fleet.formulation.highs import solved
from servesat.fleet.formulation.master import Cover, Place
from servesat.fleet.instance import FleetInstance
from servesat.plan import Status

GAP = 1e-4
"""The relative gap at which a period's choice of covers is good enough."""

LOSS = 3e-3
"""How much more a period may cost in whole replicas than in the mixture, relatively, before it is planned anew."""

ANEW_S = 5.0
"""Seconds for that in each period at most: the first of them bring most."""

ANEW_GAP = 1e-3
"""The relative gap at which a period planned anew is good enough."""


def whole_plan(
    instance: FleetInstance, covers: list[Cover], mixed: Mapping[Place, float], spent: Floats, deadline: float
) -> FleetSolution:
    """The plan of one cover for each block, and of any replicas in periods where that is dear or does not fit.

    Reservations are those of the mixture, rounded down: what is reserved cannot be rented. `spent` is what the mixture
    spends in each period, and `deadline` a moment of `time.perf_counter`. UNKNOWN where a period found no plan in time.
    """
    reserved = {place: floor(count + 1e-6) for place, count in mixed.items()}
    periods = range(len(instance.hours))
    plans = [_chosen(instance, covers, reserved, period, (deadline - time.perf_counter()) / 2) for period in periods]
    cost = np.array([_cost(instance, plan, period) for period, plan in enumerate(plans)])
    for position, period in enumerate(np.argsort(spent - cost).tolist()):  # the dearest first
        left = (deadline - time.perf_counter()) / (len(periods) - position)
        if cost[period] > spent[period] * (1 + LOSS) and (left > 0 or plans[period] is None):
            plan = _planned(instance, reserved, period, min(max(left, 1.0), ANEW_S))
            if plan is not None and _cost(instance, plan, period) < cost[period]:
                plans[period] = plan
    if any(plan is None for plan in plans):
        return FleetSolution(Status.UNKNOWN)
    replicas = np.stack([plan for plan in plans if plan is not None], axis=1)
    return FleetSolution(
        Status.FEASIBLE, tuple(map(tuple, replicas.tolist())), {place: n for place, n in reserved.items() if n}
    )


def _cost(instance: FleetInstance, plan: Ints | None, period: int) -> float:
    """What the replicas of a period cost without those reserved, infinite without a plan [$]."""
    if plan is None:
        return np.inf
    hours, options = instance.hours[period], instance.options
    used = [(options[o], int(plan[o])) for o in np.flatnonzero(plan).tolist()]
    return sum(one.usd_per_hour * hours * count for one, count in used if one.purchase != "reserved")


def _planned(instance: FleetInstance, reserved: Mapping[Place, int], period: int, time_limit_s: float) -> Ints | None:
    """Replicas of each option in one period, by the compact model; None where it finds none in time."""
    model = FleetModel(instance.in_period(period), reserved=reserved)
    found = model.solve(model.usd(), time_limit_s, relative_gap=ANEW_GAP)
    return np.array(found.replicas)[:, 0] if found.replicas else None


def _chosen(
    instance: FleetInstance, covers: list[Cover], reserved: Mapping[Place, int], period: int, time_limit_s: float
) -> Ints | None:
    """Replicas of each option in one period, by the cheapest covers that fit together; None where none do."""
    own = list(dict.fromkeys(cover for cover in covers if cover.period == period))
    replicas = np.zeros(len(instance.options), dtype=np.int64)
    model = mathopt.Model()
    picked = [model.add_binary_variable() for _ in own]
    of_block: dict[int, list[mathopt.Variable]] = defaultdict(list)
    taken: dict[Place, list[mathopt.LinearTerm]] = defaultdict(list)
    kept: dict[Place, list[mathopt.LinearTerm]] = defaultdict(list)
    cost = []
    for cover, variable in zip(own, picked, strict=True):
        of_block[cover.block].append(variable)
        usd, *chips = cover.takes(instance)
        cost.append(usd * variable)
        for parts, counts in zip((taken, kept), chips, strict=True):
            for place, count in counts.items():
                parts[place].append(count * variable)
    for variables in of_block.values():
        model.add_linear_constraint(mathopt.fast_sum(variables) == 1)
    for place, terms in taken.items():
        if place in instance.quotas:
            model.add_linear_constraint(mathopt.fast_sum(terms) <= instance.quotas[place] - reserved.get(place, 0))
    for place, terms in kept.items():
        model.add_linear_constraint(mathopt.fast_sum(terms) <= reserved.get(place, 0))
    model.minimize(mathopt.fast_sum(cost))
    found = solved(model, relative_gap=GAP, time_limit_s=time_limit_s)
    if not found.has_primal_feasible_solution():
        return None
    for cover, value in zip(own, found.variable_values(picked), strict=True):
        if value > 0.5:
            for option, count in cover.replicas:
                replicas[option] += count
    return replicas
