"""The covers of a large fleet mixed within its quotas and reservations, by a linear program (PDLP)."""

from collections import defaultdict
from dataclasses import dataclass

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

DEAR = 2.0
"""What not serving a block is made to cost at first, over its first cover: it keeps prices from swinging far off."""

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
        found = mathopt.solve(self.model, mathopt.SolverType.PDLP, params=_parameters())
        if found.termination.reason is not mathopt.TerminationReason.OPTIMAL:
            return None
        dual, value = found.dual_values(), found.variable_values()
        self.reserved = {place: value[count] for place, count in self.kept.items()}
        self.spent = np.zeros(len(self.instance.hours))
        for cover, share in self.shares.items():
            self.spent[cover.period] += self.model.objective.get_linear_coefficient(share) * value[share]
        short = [variable for variable in self.missing.values() if value[variable] > SHORT]
        self.short = bool(short)
        for variable in short:
            dear = self.model.objective.get_linear_coefficient(variable)
            self.model.objective.set_linear_coefficient(variable, DEARER * dear)
        number = {place: position for position, place in enumerate(self.places)}
        scarce, kept = (np.zeros((len(self.places), len(self.instance.hours))) for _ in range(2))
        for rows, prices in ((self.quota, scarce), (self.keep, kept)):
            for (place, t), row in rows.items():
                prices[number[place], t] = max(0.0, -dual[row])
        return found.objective_value(), scarce, kept

    def _add(self, cover: Cover) -> mathopt.Variable:
        usd, taken, kept = cover.takes(self.instance)
        if cover.block not in self.whole:
            self.whole[cover.block] = self.model.add_linear_constraint(lb=1.0, ub=1.0)
            self.missing[cover.block] = self.model.add_variable(lb=0.0)
            self.whole[cover.block].set_coefficient(self.missing[cover.block], 1.0)
            alone = usd + sum(
                self.instance.reserved_prices[place] * self.instance.hours[cover.period] * count
                for place, count in kept.items()
            )
            self.model.objective.set_linear_coefficient(self.missing[cover.block], DEAR * alone)
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
