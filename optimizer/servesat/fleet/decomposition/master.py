"""The covers of a large fleet mixed within its quotas and reservations, by a linear program (PDLP)."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from math import inf

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.arrays import Floats
from servesat.fleet.formulation.solvers import LONGEST_S
from servesat.fleet.instance import FleetInstance

RegionChip = tuple[str, str]

PRECISION = 1e-4
"""The relative error at which a mixture is good enough: prices are only tried, and their bound is exact."""

ABSOLUTE = 1e-4
"""The same for figures near zero, in the units of the rows: blocks, chips, and what a block costs on average."""

THREADS = 2

FEW = 2000
"""Covers up to which they are mixed by a simplex."""

ROOM = 2
"""How many times the chips that covers can take a quota is at most: those rented, and those reserved for a peak.

PDLP's error is relative to all quotas together; where they are far from full, an empty mixture would be good enough.
"""

SHORT = 1e-3
"""The share of a block that must be missing to count; less is an error of the solver's."""

MIXED = 1e-3
"""The share of a block from which a cover is part of its mixture."""

PROMISING = 200_000
"""Covers that are promising beside those, about: those of the least reduced cost, as many of each block."""

FEWEST = 2
"""Of each block at least."""

DEAR = 2.0
"""What not serving a block is made to cost at first, over its cheapest cover: it keeps prices from swinging far off."""

DEARER = 1.5
"""How much dearer that gets while a mixture still leaves some of a block unserved: each time more, by as much again."""


@dataclass(frozen=True)
class Cover:
    """Replicas that serve one workload in one period: pairs of an option and a number."""

    block: int  # which workload and period
    period: int
    replicas: tuple[tuple[int, int], ...]

    def takes(self, instance: FleetInstance) -> tuple[float, dict[RegionChip, int], dict[RegionChip, int]]:
        """What it costs, the chips it takes of each place, and those it takes of reserved ones."""
        usd = 0.0
        taken: dict[RegionChip, int] = defaultdict(int)
        kept: dict[RegionChip, int] = defaultdict(int)
        for position, count in self.replicas:
            option = instance.options[position]
            if option.purchase == "reserved":
                kept[option.place] += option.chips * count
            else:
                taken[option.place] += option.chips * count
                usd += option.usd_per_hour * instance.hours[self.period] * count
        return usd, taken, kept


class Master:
    """The linear program over covers: a mixture for each block, within quotas and reservations."""

    def __init__(self, instance: FleetInstance, places: list[RegionChip]) -> None:
        self.instance, self.places = instance, places
        self.model = mathopt.Model()
        periods = range(len(instance.hours))
        self.whole: dict[int, mathopt.LinearConstraint] = {}
        self.missing: dict[int, mathopt.Variable] = {}
        self.alone: dict[int, float] = {}  # what the cheapest cover of a block costs, reserved chips by the hour
        self.times: dict[int, float] = {}  # what not serving a block is made to cost, over that
        self.dearer: dict[int, float] = {}  # how much dearer that gets when it is short again
        self.usd = 1.0  # the unit of money in the objective
        self.largest: dict[tuple[RegionChip, int], int] = defaultdict(
            int
        )  # chips of a place that a cover of a block takes
        self.most: dict[tuple[RegionChip, int], int] = defaultdict(int)  # that all blocks of a period can take
        self.short = True  # whether the last mixture leaves something unserved
        self.quota = {
            (place, t): self.model.add_linear_constraint(ub=float(instance.quotas[place]))
            for place in places
            if place in instance.quotas
            for t in periods
        }
        self.kept = {place: self.model.add_variable(lb=0.0) for place in instance.reserved_prices}
        self.keep = {(place, t): self.model.add_linear_constraint(ub=0.0) for place in self.kept for t in periods}
        for place, count in self.kept.items():
            for t in periods:
                self.keep[place, t].set_coefficient(count, -1.0)
                if (place, t) in self.quota:
                    self.quota[place, t].set_coefficient(count, 1.0)
        self.shares: dict[Cover, mathopt.Variable] = {}
        self.start = mathopt.SolutionHint()  # the last mixture, and its duals
        self.reduced_costs: dict[mathopt.Variable, float] = {}
        self.reserved: dict[RegionChip, float] = {}  # in the last mixture, not whole
        self.spent = np.zeros(len(instance.hours))  # in each period of it, without what is reserved

    def with_covers(self, covers: list[Cover], time_limit_s: float) -> tuple[float, Floats, Floats] | None:
        """Add covers, and solve: the bill, and the duals of quotas and of reserved chips, both [places, periods].

        None where no mixture is found in time. A first-order method is much faster than a simplex here, and its duals
        do not swing from one vertex to another; but few covers are mixed by a simplex, which no scale of chips or money
        keeps from its end.
        """
        if not self.shares:
            self._count_money(covers)
        for cover in covers:
            if cover not in self.shares:
                self.shares[cover] = self._add(cover)
        for block, variable in self.missing.items():
            self.model.objective.set_linear_coefficient(variable, self.times[block] * self.alone[block] / self.usd)
        self._hold_quotas()
        start = mathopt.ModelSolveParameters(solution_hints=[self.start])
        engine = mathopt.SolverType.GLOP if len(self.shares) < FEW else mathopt.SolverType.PDLP
        found = mathopt.solve(self.model, engine, params=_parameters(time_limit_s), model_params=start)
        if found.termination.reason is not mathopt.TerminationReason.OPTIMAL:
            return None
        dual, value = found.dual_values(), found.variable_values()
        self.start = mathopt.SolutionHint(variable_values=value, dual_values=dual)
        self.reduced_costs = found.reduced_costs()
        self.reserved = {place: value[count] for place, count in self.kept.items()}
        self.spent = np.zeros(len(self.instance.hours))
        for cover, share in self.shares.items():
            self.spent[cover.period] += self.usd * self.model.objective.get_linear_coefficient(share) * value[share]
        short = [block for block, variable in self.missing.items() if value[variable] > SHORT]
        self.short = bool(short)
        for block in short:
            self.times[block] *= self.dearer[block]
            self.dearer[block] *= DEARER
        number = {place: position for position, place in enumerate(self.places)}
        scarce, kept = (np.zeros((len(self.places), len(self.instance.hours))) for _ in range(2))
        for rows, prices in ((self.quota, scarce), (self.keep, kept)):
            for (place, t), row in rows.items():
                prices[number[place], t] = max(0.0, -dual[row]) * self.usd
        return found.objective_value() * self.usd, scarce, kept

    def promising(self) -> list[Cover]:
        """The covers in the last mixture, a few of each block that are nearly worth it, and those that came later."""
        of_block = defaultdict[int, list[Cover]](list)
        for cover in self.shares:
            of_block[cover.block].append(cover)
        each = max(FEWEST, PROMISING // max(1, len(of_block)))
        share, cost = self.start.variable_values, self.reduced_costs
        kept = []
        for covers in of_block.values():
            covers.sort(key=lambda cover: cost.get(self.shares[cover], 0.0))
            kept += covers[:each]
            kept += [cover for cover in covers[each:] if share.get(self.shares[cover], 1.0) > MIXED]
        return kept

    def _count_money(self, covers: list[Cover]) -> None:
        """Count it in what the first covers cost on average, reserved chips by the hour."""
        costs = [self._alone(cover, *cover.takes(self.instance)) for cover in covers]
        self.usd = sum(costs) / max(len(costs), 1) or 1.0
        hours = sum(self.instance.hours)
        for place, count in self.kept.items():
            price = self.instance.reserved_prices[place]
            self.model.objective.set_linear_coefficient(count, price * hours / self.usd)

    def _alone(self, cover: Cover, usd: float, _: dict[RegionChip, int], kept: dict[RegionChip, int]) -> float:
        """What a cover costs with reserved chips by the hour."""
        prices, hours = self.instance.reserved_prices, self.instance.hours[cover.period]
        return usd + sum(prices[place] * hours * count for place, count in kept.items())

    def _hold_quotas(self) -> None:
        """Hold each quota to no more than covers can take of it."""
        most: dict[RegionChip, int] = defaultdict(int)
        for (place, _), chips in self.most.items():
            most[place] = max(most[place], chips)
        for (place, _), row in self.quota.items():
            row.upper_bound = float(min(self.instance.quotas[place], ROOM * most[place]))

    def _add(self, cover: Cover) -> mathopt.Variable:
        usd, taken, kept = cover.takes(self.instance)
        for place in {*taken, *kept}:
            more = taken.get(place, 0) + kept.get(place, 0) - self.largest[place, cover.block]
            if more > 0:
                self.largest[place, cover.block] += more
                self.most[place, cover.period] += more
        if cover.block not in self.whole:
            self.whole[cover.block] = self.model.add_linear_constraint(lb=1.0, ub=1.0)
            self.missing[cover.block] = self.model.add_variable(lb=0.0)
            self.whole[cover.block].set_coefficient(self.missing[cover.block], 1.0)
            self.alone[cover.block], self.times[cover.block], self.dearer[cover.block] = inf, DEAR, DEARER
        self.alone[cover.block] = min(self.alone[cover.block], self._alone(cover, usd, taken, kept))
        share = self.model.add_variable(lb=0.0)
        self.whole[cover.block].set_coefficient(share, 1.0)
        self.model.objective.set_linear_coefficient(share, usd / self.usd)
        for rows, chips in ((self.quota, taken), (self.keep, kept)):
            for place, count in chips.items():
                if (place, cover.period) in rows:
                    rows[place, cover.period].set_coefficient(share, float(count))
        return share


def _parameters(time_limit_s: float) -> mathopt.SolveParameters:
    parameters = mathopt.SolveParameters(time_limit=timedelta(seconds=min(max(time_limit_s, 1e-3), LONGEST_S)))
    parameters.pdlp.num_threads = THREADS
    criteria = parameters.pdlp.termination_criteria.simple_optimality_criteria
    criteria.eps_optimal_relative, criteria.eps_optimal_absolute = PRECISION, ABSOLUTE
    return parameters
