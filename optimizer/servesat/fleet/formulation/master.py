"""The covers of a large fleet mixed within its quotas and reservations, by a linear program (PDLP)."""

from collections import defaultdict
from dataclasses import dataclass
from math import inf

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.arrays import Floats
from servesat.fleet.instance import FleetInstance

Place = tuple[str, str]

PRECISION = 1e-4
"""The relative error at which a mixture is good enough: prices are only tried, and their bound is exact."""

ABSOLUTE = 1e-2
"""The same for figures near zero, in the units of the rows."""

THREADS = 2

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
"""How much dearer that gets while a mixture still leaves some of a block unserved."""


@dataclass(frozen=True)
class Cover:
    """Replicas that serve one workload in one period: pairs of an option and a number."""

    block: int  # which workload and period
    period: int
    replicas: tuple[tuple[int, int], ...]

    def takes(self, instance: FleetInstance) -> tuple[float, dict[Place, int], dict[Place, int]]:
        """What it costs, the chips it takes of each place, and those it takes of reserved ones."""
        usd = 0.0
        taken: dict[Place, int] = defaultdict(int)
        kept: dict[Place, int] = defaultdict(int)
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

    def __init__(self, instance: FleetInstance, places: list[Place]) -> None:
        self.instance, self.places = instance, places
        self.model, hours = mathopt.Model(), sum(instance.hours)
        periods = range(len(instance.hours))
        self.whole: dict[int, mathopt.LinearConstraint] = {}
        self.missing: dict[int, mathopt.Variable] = {}
        self.alone: dict[int, float] = {}  # what the cheapest cover of a block costs, reserved chips by the hour
        self.times: dict[int, float] = {}  # what not serving a block is made to cost, over that
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
            self.model.objective.set_linear_coefficient(count, instance.reserved_prices[place] * hours)
            for t in periods:
                self.keep[place, t].set_coefficient(count, -1.0)
                if (place, t) in self.quota:
                    self.quota[place, t].set_coefficient(count, 1.0)
        self.shares: dict[Cover, mathopt.Variable] = {}
        self.start = mathopt.SolutionHint()  # the last mixture, and its duals
        self.reduced_costs: dict[mathopt.Variable, float] = {}
        self.reserved: dict[Place, float] = {}  # in the last mixture, not whole
        self.spent = np.zeros(len(instance.hours))  # in each period of it, without what is reserved

    def with_covers(self, covers: list[Cover]) -> tuple[float, Floats, Floats] | None:
        """Add covers, and solve: the bill, and the duals of quotas and of reserved chips, both [places, periods].

        None where there is no mixture. A first-order method is much faster than a simplex here, and its duals do not
        swing from one vertex to another.
        """
        for cover in covers:
            if cover not in self.shares:
                self.shares[cover] = self._add(cover)
        for block, variable in self.missing.items():
            self.model.objective.set_linear_coefficient(variable, self.times[block] * self.alone[block])
        start = mathopt.ModelSolveParameters(solution_hints=[self.start])
        found = mathopt.solve(self.model, mathopt.SolverType.PDLP, params=_parameters(), model_params=start)
        if found.termination.reason is not mathopt.TerminationReason.OPTIMAL:
            return None
        dual, value = found.dual_values(), found.variable_values()
        self.start = mathopt.SolutionHint(variable_values=value, dual_values=dual)
        self.reduced_costs = found.reduced_costs()
        self.reserved = {place: value[count] for place, count in self.kept.items()}
        self.spent = np.zeros(len(self.instance.hours))
        for cover, share in self.shares.items():
            self.spent[cover.period] += self.model.objective.get_linear_coefficient(share) * value[share]
        short = [block for block, variable in self.missing.items() if value[variable] > SHORT]
        self.short = bool(short)
        for block in short:
            self.times[block] *= DEARER
        number = {place: position for position, place in enumerate(self.places)}
        scarce, kept = (np.zeros((len(self.places), len(self.instance.hours))) for _ in range(2))
        for rows, prices in ((self.quota, scarce), (self.keep, kept)):
            for (place, t), row in rows.items():
                prices[number[place], t] = max(0.0, -dual[row])
        return found.objective_value(), scarce, kept

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

    def _add(self, cover: Cover) -> mathopt.Variable:
        usd, taken, kept = cover.takes(self.instance)
        if cover.block not in self.whole:
            self.whole[cover.block] = self.model.add_linear_constraint(lb=1.0, ub=1.0)
            self.missing[cover.block] = self.model.add_variable(lb=0.0)
            self.whole[cover.block].set_coefficient(self.missing[cover.block], 1.0)
            self.alone[cover.block], self.times[cover.block] = inf, DEAR
        prices, hours = self.instance.reserved_prices, self.instance.hours[cover.period]
        alone = usd + sum(prices[place] * hours * count for place, count in kept.items())
        self.alone[cover.block] = min(self.alone[cover.block], alone)
        share = self.model.add_variable(lb=0.0)
        self.whole[cover.block].set_coefficient(share, 1.0)
        self.model.objective.set_linear_coefficient(share, usd)
        for rows, chips in ((self.quota, taken), (self.keep, kept)):
            for place, count in chips.items():
                if (place, cover.period) in rows:
                    rows[place, cover.period].set_coefficient(share, float(count))
        return share


def _parameters() -> mathopt.SolveParameters:
    parameters = mathopt.SolveParameters()
    parameters.pdlp.num_threads = THREADS
    criteria = parameters.pdlp.termination_criteria.simple_optimality_criteria
    criteria.eps_optimal_relative, criteria.eps_optimal_absolute = PRECISION, ABSOLUTE
    return parameters
