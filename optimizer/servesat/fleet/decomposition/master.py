"""The master problem: a linear program that mixes the covers of a large fleet within its quotas and reservations."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import NamedTuple

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.arrays import Floats
from servesat.fleet.decomposition.options import DEFAULT_OPTIONS, MasterOptions
from servesat.fleet.formulation.solvers import MAX_TIME_LIMIT_S, solve_linear
from servesat.fleet.instance import FleetInstance, Place, RegionChip, ReservedChips, region_chip_of


@dataclass(frozen=True)
class Cover:
    """Replicas that serve one block, a workload in a period: pairs of an option and a number."""

    block: int
    period: int
    replicas: tuple[tuple[int, int], ...]

    def usage(self, instance: FleetInstance) -> tuple[float, dict[Place, int]]:
        """The cost without reserved chips, and the chips by place."""
        usd = 0.0
        used: dict[Place, int] = defaultdict(int)
        for position, count in self.replicas:
            option = instance.options[position]
            used[option.place] += option.chips * count
            if not isinstance(option.place, ReservedChips):
                usd += option.usd_per_hour * instance.hours[self.period] * count
        return usd, used


class MasterSolution(NamedTuple):
    """The cost of the optimal mixture, and its dual prices, non-negative and of shape [places, periods]."""

    usd: float
    quota_duals: Floats
    reservation_duals: Floats


class Master:
    """The linear program over covers: a convex combination for each block, within quotas and reservations."""

    def __init__(
        self, instance: FleetInstance, places: list[Place], options: MasterOptions = DEFAULT_OPTIONS.master
    ) -> None:
        self.instance, self.places, self.options = instance, places, options
        self.model = mathopt.Model()
        periods = range(len(instance.hours))
        self.convexity: dict[int, mathopt.LinearConstraint] = {}
        self.missing: dict[int, mathopt.Variable] = {}  # the share of a block that no cover serves
        self.cheapest_usd: dict[int, float] = {}  # of the covers of a block, with reserved chips by the hour
        self.penalty: dict[int, float] = {}  # for not serving a block, as a multiple of that
        self.penalty_growth: dict[int, float] = {}  # factor on the penalty when the block is not served again
        self.usd_unit = 1.0  # the unit of money in the objective
        self.max_block_chips: dict[tuple[RegionChip, int], int] = defaultdict(int)  # of any cover of a block
        self.max_period_chips: dict[tuple[RegionChip, int], int] = defaultdict(int)  # of all blocks of a period
        self.has_unserved = True  # whether the last mixture leaves some block unserved
        self.quota_rows = {
            (place, t): self.model.add_linear_constraint(ub=float(instance.quotas[place]))
            for place in places
            if not isinstance(place, ReservedChips) and place in instance.quotas
            for t in periods
        }
        self.reserved = {place: self.model.add_variable(lb=0.0) for place in instance.reservable}
        self.reservation_rows = {
            (place, t): self.model.add_linear_constraint(ub=0.0) for place in self.reserved for t in periods
        }
        for place, chips in self.reserved.items():
            for t in periods:
                self.reservation_rows[place, t].set_coefficient(chips, -1.0)
                if (place.region_chip, t) in self.quota_rows:
                    self.quota_rows[place.region_chip, t].set_coefficient(chips, 1.0)
        self.shares: dict[Cover, mathopt.Variable] = {}
        self.warm_start = mathopt.SolutionHint()  # the last mixture and its duals
        self.reduced_costs: dict[mathopt.Variable, float] = {}
        self.reserved_chips: dict[ReservedChips, float] = {}  # in the last mixture, fractional
        self.period_usd = np.zeros(len(instance.hours))  # cost of its periods, without reserved chips

    def solve_with(self, covers: list[Cover], time_limit_s: float) -> MasterSolution | None:
        """Add covers and solve the master problem; None if no mixture is found in time.

        PDLP, a first-order method, is much faster than a simplex method here, and its duals do not jump between
        vertices. With few covers GLOP is used: it is exact, however chips and money are scaled.
        """
        if not self.shares:
            self._set_usd_unit(covers)
        for cover in covers:
            if cover not in self.shares:
                self.shares[cover] = self._add(cover)
        for block, missing in self.missing.items():
            penalty = self.penalty[block] * self.cheapest_usd[block] / self.usd_unit
            self.model.objective.set_linear_coefficient(missing, penalty)
        self._tighten_quotas()
        hints = mathopt.ModelSolveParameters(solution_hints=[self.warm_start])
        few = len(self.shares) < self.options.max_simplex_covers
        engine = mathopt.SolverType.GLOP if few else mathopt.SolverType.PDLP
        parameters = _solve_parameters(time_limit_s, self.options)
        result = solve_linear(self.model, engine, parameters, hints)
        if result.termination.reason is not mathopt.TerminationReason.OPTIMAL:
            return None
        self._store(result)
        self._raise_penalties()
        index = {place: position for position, place in enumerate(self.places)}
        quota_duals, reservation_duals = (np.zeros((len(self.places), len(self.instance.hours))) for _ in range(2))
        for (region_chip, t), row in self.quota_rows.items():
            quota_duals[index[region_chip], t] = self._dual_usd(row)
        for (place, t), row in self.reservation_rows.items():
            reservation_duals[index[place], t] = self._dual_usd(row)
        return MasterSolution(result.objective_value() * self.usd_unit, quota_duals, reservation_duals)

    def _dual_usd(self, row: mathopt.LinearConstraint) -> float:
        """The price of a chip of a row in the last mixture [$]."""
        return max(0.0, -float(self.warm_start.dual_values[row])) * self.usd_unit

    def _store(self, result: mathopt.SolveResult) -> None:
        """Keep what the next solve and the rounding need of a mixture."""
        value = result.variable_values()
        self.warm_start = mathopt.SolutionHint(variable_values=value, dual_values=result.dual_values())
        self.reduced_costs = result.reduced_costs()
        self.reserved_chips = {place: value[chips] for place, chips in self.reserved.items()}
        self.period_usd = np.zeros(len(self.instance.hours))
        for cover, share in self.shares.items():
            usd = self.usd_unit * self.model.objective.get_linear_coefficient(share)
            self.period_usd[cover.period] += usd * value[share]

    def _raise_penalties(self) -> None:
        """Raise the penalty of every block that the last mixture does not serve, each time by a larger factor."""
        value, threshold = self.warm_start.variable_values, self.options.min_missing_share
        unserved = [block for block, missing in self.missing.items() if value[missing] > threshold]
        self.has_unserved = bool(unserved)
        for block in unserved:
            self.penalty[block] *= self.penalty_growth[block]
            self.penalty_growth[block] *= self.options.penalty_growth

    def promising(self) -> list[Cover]:
        """The covers of the last mixture, those of smallest reduced cost in each block, and those added after it.

        Of each block the one with the largest share in the mixture comes first.
        """
        by_block = defaultdict[int, list[Cover]](list)
        for cover in self.shares:
            by_block[cover.block].append(cover)
        per_block = max(self.options.min_promising_per_block, self.options.promising_covers // max(1, len(by_block)))
        value, reduced_cost = self.warm_start.variable_values, self.reduced_costs
        selected = []
        for covers in by_block.values():
            covers.sort(key=lambda cover: reduced_cost.get(self.shares[cover], 0.0))
            selected.append(max(covers, key=lambda cover: value.get(self.shares[cover], 0.0)))
            selected += covers[:per_block]
            selected += [
                cover
                for cover in covers[per_block:]
                if value.get(self.shares[cover], 1.0) > self.options.min_mixture_share
            ]
        return list(dict.fromkeys(selected))

    def _set_usd_unit(self, covers: list[Cover]) -> None:
        """Set the unit of money to the average cost of the first covers, with reserved chips by the hour."""
        costs = [self._usd_with_reserved(cover, *cover.usage(self.instance)) for cover in covers]
        self.usd_unit = sum(costs) / max(len(costs), 1) or 1.0
        hours = sum(self.instance.hours)
        for place, chips in self.reserved.items():
            self.model.objective.set_linear_coefficient(chips, place.usd_per_chip_hour * hours / self.usd_unit)

    def _usd_with_reserved(self, cover: Cover, usd: float, used: dict[Place, int]) -> float:
        """The cost of a cover with reserved chips paid by the hour."""
        hours = self.instance.hours[cover.period]
        reserved = ((place, chips) for place, chips in used.items() if isinstance(place, ReservedChips))
        return usd + sum(place.usd_per_chip_hour * hours * chips for place, chips in reserved)

    def _tighten_quotas(self) -> None:
        """Limit the right-hand side of each quota to a multiple of the chips that covers can take of it."""
        max_chips: dict[RegionChip, int] = defaultdict(int)
        for (region_chip, _), chips in self.max_period_chips.items():
            max_chips[region_chip] = max(max_chips[region_chip], chips)
        for (region_chip, _), row in self.quota_rows.items():
            limit = self.options.quota_headroom * max_chips[region_chip]
            row.upper_bound = float(min(self.instance.quotas[region_chip], limit))

    def _add(self, cover: Cover) -> mathopt.Variable:
        usd, used = cover.usage(self.instance)
        block, period = cover.block, cover.period
        taken: dict[RegionChip, int] = defaultdict(int)
        for place, chips in used.items():
            taken[region_chip_of(place)] += chips
        for region_chip, chips in taken.items():
            more = chips - self.max_block_chips[region_chip, block]
            if more > 0:
                self.max_block_chips[region_chip, block] += more
                self.max_period_chips[region_chip, period] += more
        if block not in self.convexity:
            self._add_block(block)
        usd_with_reserved = self._usd_with_reserved(cover, usd, used)
        self.cheapest_usd[block] = min(self.cheapest_usd[block], usd_with_reserved)
        share = self.model.add_variable(lb=0.0)
        self.convexity[block].set_coefficient(share, 1.0)
        self.model.objective.set_linear_coefficient(share, usd / self.usd_unit)
        for place, chips in used.items():
            if isinstance(place, ReservedChips):
                self.reservation_rows[place, period].set_coefficient(share, float(chips))
            elif (place, period) in self.quota_rows:
                self.quota_rows[place, period].set_coefficient(share, float(chips))
        return share

    def _add_block(self, block: int) -> None:
        self.convexity[block] = self.model.add_linear_constraint(lb=1.0, ub=1.0)
        self.missing[block] = self.model.add_variable(lb=0.0)
        self.convexity[block].set_coefficient(self.missing[block], 1.0)
        self.cheapest_usd[block] = inf
        self.penalty[block] = self.options.initial_penalty
        self.penalty_growth[block] = self.options.penalty_growth


def _solve_parameters(time_limit_s: float, options: MasterOptions) -> mathopt.SolveParameters:
    parameters = mathopt.SolveParameters(time_limit=timedelta(seconds=min(max(time_limit_s, 1e-3), MAX_TIME_LIMIT_S)))
    parameters.pdlp.num_threads = options.threads
    criteria = parameters.pdlp.termination_criteria.simple_optimality_criteria
    criteria.eps_optimal_relative = options.relative_precision
    criteria.eps_optimal_absolute = options.absolute_precision
    return parameters
