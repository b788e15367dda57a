"""Requests of several sizes on shared replicas: what replicas serve of a mix if they split their time over sizes."""

from collections.abc import Mapping, Sequence

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.arrays import Floats
from servesat.fleet.formulation.solvers import solve_linear

TIME_ROW_SCALE = 1e3
"""The time of one replica in the rows of the model: solver tolerances are absolute within a row."""

MIN_TIME_SHARE = 1e-6
"""Minimum share of the fastest replica's time that a size with a positive demand takes: solvers are no more exact."""

MIN_RELATIVE_DEMAND = 1e-12
"""Demand of a size that is modelled at least, relative to the largest: its inverse is a coefficient."""

SizeRates = tuple[float, ...]
"""What a replica serves of each size when it serves that size alone [requests/s]."""


def add_mix(
    model: mathopt.Model, replicas: Mapping[SizeRates, mathopt.LinearTypes], size_demand: Sequence[float]
) -> tuple[mathopt.Variable, dict[SizeRates, list[mathopt.Variable]]]:
    """Add to a model the multiple of a demand that some replicas could serve [demand in requests/s of each size].

    Gives the multiple, and the time that replicas spend on each size, by their rates::

        Σ over sizes  time[rates, size] ≤ TIME_ROW_SCALE · replicas[rates]
        Σ over rates  rates[size] / size_demand[size] · time[rates, size] ≥ TIME_ROW_SCALE · multiple
    """
    multiple = model.add_variable(lb=0)
    times = {rates: [model.add_variable(lb=0) for _ in rates] for rates in replicas}
    for rates, count in replicas.items():
        model.add_linear_constraint(mathopt.fast_sum(times[rates]) <= TIME_ROW_SCALE * count)
    for size, demand in enumerate(size_demand):
        if demand:
            served = (rates[size] / demand * by_size[size] for rates, by_size in times.items() if rates[size])
            model.add_linear_constraint(mathopt.fast_sum(served) >= TIME_ROW_SCALE * multiple)
    return multiple, times


def above_tolerance(size_demand: Sequence[float], option_rates: Sequence[SizeRates]) -> list[float]:
    """The demand of each size, raised where it is positive but too small for a solver to distinguish from zero."""
    fastest = [max(rates) for rates in zip(*option_rates, strict=True)] if option_rates else [0.0] * len(size_demand)
    return [
        max(demand, MIN_TIME_SHARE * rate) if demand else 0.0 for demand, rate in zip(size_demand, fastest, strict=True)
    ]


def best_mix(replicas: Mapping[SizeRates, int], size_demand: Sequence[float]) -> Floats:
    """What replicas serve of each size when they serve as much as possible in the proportions of the demand.

    In requests/s, of shape [rates, sizes]. GLOP splits the time of the replicas over sizes; what they then serve is
    recomputed here, within their time, and a size beyond its proportion is cut back to it.
    """
    rates, target = np.array(list(replicas)).reshape(-1, len(size_demand)), np.array(size_demand)
    max_count = max(replicas.values(), default=0)
    if not max_count:
        return np.zeros_like(rates)
    model = mathopt.Model()
    modelled = [max(demand, MIN_RELATIVE_DEMAND * target.max()) if demand else 0.0 for demand in size_demand]
    multiple, times = add_mix(model, {key: count / max_count for key, count in replicas.items()}, modelled)
    model.maximize(multiple)
    value = solve_linear(model, mathopt.SolverType.GLOP).variable_values()
    busy = np.maximum(
        [[value[time] * max_count / TIME_ROW_SCALE for time in by_size] for by_size in times.values()], 0.0
    )
    used, available = busy.sum(axis=1), np.array([float(count) for count in replicas.values()])
    scale = np.divide(available, used, out=np.ones_like(used), where=used > available)
    served = rates * busy * scale[:, None]
    total = served.sum(axis=0)
    served_multiple = np.divide(total, target, out=np.full_like(target, np.inf), where=target > 0).min()
    in_proportion = np.divide(served_multiple * target, total, out=np.zeros_like(total), where=total > 0)
    proportional: Floats = served * in_proportion
    return proportional
