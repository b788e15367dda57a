"""The rows of each workload in the compact model: demand, shares, redundancy, types of chips and configurations."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil, gcd, prod

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.tolerances import LIMIT_RTOL, round_up
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.mixes import TIME_ROW_SCALE, SizeRates, above_tolerance, add_mix
from servesat.fleet.formulation.redundancy_cuts import RedundancyCuts
from servesat.fleet.instance import RESOLUTION, FleetInstance, WorkloadDemand

DEMAND_ROW_SCALE = 1e3
"""The largest demand of a workload in its rows: with far larger values HiGHS reports plans as optimal that are not.

HiGHS's tolerances are absolute, 1e-6 of a row, which is still less than a unit at this scale.
"""

MOST_SUMS = 10_000
"""Sums of capacities that are tried for the least that replicas serve; of more, it is bounded."""


class WorkloadRows:
    """Adds the rows of workloads to a model with variables for replicas, by option and period, and unserved demand.

    `unserved` is empty if all demand must be served; `relaxed` are the limits without rows.
    """

    def __init__(
        self,
        model: mathopt.Model,
        instance: FleetInstance,
        replicas: Sequence[Sequence[mathopt.Variable]],
        unserved: Mapping[str, Sequence[mathopt.Variable]],
        relaxed: Iterable[Limit],
    ) -> None:
        self.model, self.instance, self.replicas, self.unserved = model, instance, replicas, unserved
        self.relaxed = set(relaxed)
        self.workloads = {workload.name: workload for workload in instance.workloads}
        self.largest_capacity: dict[str, int] = defaultdict(int)  # of a replica of a workload, in its units
        for option in instance.options:
            self.largest_capacity[option.workload] = max(self.largest_capacity[option.workload], option.capacity)
        self.redundancy_cuts: dict[tuple[str, int], RedundancyCuts] = {}  # by workload and period

    def add(self, workload: WorkloadDemand) -> None:
        """Add the rows of a workload in every period."""
        shares = {"demand": 1.0, "spot_share": workload.min_non_spot_share}
        if workload.max_share_per_region is not None:
            shares["region_share"] = 1 - workload.max_share_per_region
        for period in (period for period, demand in enumerate(workload.demand) if demand):
            unserved = unit_in_rows(workload, period) * self.unserved[workload.name][period] if self.unserved else 0.0
            rows = [
                (options, share)
                for kind, share in shares.items()
                if self._enforces(kind, workload) and share
                for options in self.counted_options(workload, kind)
            ]
            for options, share in rows:
                served = self.served(workload, options, period) + share * unserved
                self.model.add_linear_constraint(served >= self._required(workload, period, share, options))
            if workload.redundant_replicas and self._enforces("n_plus", workload):
                if workload.sizes:
                    self.redundancy_cuts[workload.name, period] = self._new_redundancy_cuts(workload, period)
                else:
                    demand = unit_in_rows(workload, period) * self._in_multiples(workload, workload.demand[period])
                    self._add_redundancy_rows(workload, period, demand - unserved)
        if workload.one_chip and self._enforces("one_chip", workload):
            self._add_one_chip_rows(workload)
        if workload.max_configurations is not None and self._enforces("max_configurations", workload):
            for used in self.configurations_by_region(workload):
                self.model.add_linear_constraint(used <= workload.max_configurations)

    def configurations_by_region(self, workload: WorkloadDemand) -> list[mathopt.LinearSum]:
        """The number of configurations in which a workload runs in each region, over all periods."""
        used: dict[str, dict[str, mathopt.Variable]] = defaultdict(dict)
        for o in self.instance.options_of(workload.name):
            option = self.instance.options[o]
            in_region = used[option.region]
            if option.configuration.name not in in_region:
                in_region[option.configuration.name] = self.model.add_binary_variable()
            for count in self.replicas[o]:
                self.model.add_linear_constraint(count <= self.max_replicas(o) * in_region[option.configuration.name])
        return [mathopt.fast_sum(in_region.values()) for in_region in used.values()]

    def _enforces(self, kind: str, workload: WorkloadDemand) -> bool:
        return Limit(kind, (workload.name,)) not in self.relaxed

    def counted_options(self, workload: WorkloadDemand, kind: str) -> list[list[int]]:
        """The options whose capacity counts, for each row of a limit: all, those outside a region, or non-spot ones."""
        options, positions = self.instance.options, self.instance.options_of(workload.name)
        match kind:
            case "region_share":
                regions = sorted({options[o].region for o in positions})
                return [[o for o in positions if options[o].region != region] for region in regions]
            case "spot_share":
                return [[o for o in positions if options[o].purchase != "spot"]]
            case _:
                return [positions]

    def served(self, workload: WorkloadDemand, options: list[int], period: int) -> mathopt.LinearTypes:
        """What some options serve together; for requests of several sizes, in the proportions of the demand."""
        if workload.sizes:
            by_rates = self._replicas_by_rates(options, period)
            return TIME_ROW_SCALE * add_mix(self.model, by_rates, self._size_demand(workload, period))[0]
        unit = unit_in_rows(workload, period)
        return mathopt.fast_sum(unit * self.instance.options[o].capacity * self.replicas[o][period] for o in options)

    def _size_demand(self, workload: WorkloadDemand, period: int) -> list[float]:
        """Requests/s of each size, raised above the solver's tolerance."""
        option_rates = [self.instance.options[o].size_rates for o in self.instance.options_of(workload.name)]
        return above_tolerance(workload.size_demand(period), option_rates)

    def _required(self, workload: WorkloadDemand, period: int, share: float, options: list[int]) -> float:
        """The right-hand side of a row in which some options serve a share of the demand.

        It is rounded up to the least that whole replicas serve: of a demand just above what they serve, HiGHS's
        presolve takes some plans for too little. Of mixes replicas serve fractional units; where demand may go unserved
        the row has a share of that, which is no whole number.
        """
        if workload.sizes:
            return TIME_ROW_SCALE * share * (1 - LIMIT_RTOL)
        served = share * workload.demand[period]
        if self.unserved:
            return unit_in_rows(workload, period) * served * (1 - LIMIT_RTOL)
        units, capacities = int(round_up(served)), self._capacities(options)
        return unit_in_rows(workload, period) * (least_sum(capacities, units) if capacities else units)

    def _in_multiples(self, workload: WorkloadDemand, units: int) -> int:
        """Some units of demand, rounded up to a multiple of what divides all capacities, unless some go unserved."""
        capacities = self._capacities(self.instance.options_of(workload.name))
        return least_sum([gcd(*capacities)], units) if capacities and not self.unserved else units

    def _capacities(self, options: list[int]) -> set[int]:
        return {self.instance.options[o].capacity for o in options} - {0}

    def _replicas_by_rates(self, options: list[int], period: int) -> dict[SizeRates, mathopt.LinearSum]:
        """The total number of replicas with the same rates."""
        counts: dict[SizeRates, list[mathopt.Variable]] = defaultdict(list)
        for o in options:
            counts[self.instance.options[o].size_rates].append(self.replicas[o][period])
        return {rates: mathopt.fast_sum(replicas) for rates, replicas in counts.items()}

    def _add_redundancy_rows(self, workload: WorkloadDemand, period: int, demand: mathopt.LinearTypes) -> None:
        """Without the replicas that may fail, of any configuration in use in a region, the rest meets the demand.

        Options with equal capacity form one group, since the loss of any of their replicas has the same effect; spot
        and other options form separate groups, so that the bound on the replicas of a group is valid. Twice as many
        replicas as meet the demand alone, plus two, are never exceeded: beyond that number one replica can be removed,
        because either one region or all other regions together still have what every row requires.
        """
        options, unit = self.instance.options, unit_in_rows(workload, period)
        peak = self._in_multiples(workload, max(workload.demand))
        positions = self.instance.options_of(workload.name)
        must_serve = self._enforces("demand", workload)  # otherwise the workload may run nothing
        total = self.model.add_variable(lb=0)  # one column in each row instead of all replicas
        self.model.add_linear_constraint(total == self.served(workload, positions, period))
        groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for o in positions:
            groups[options[o].capacity, options[o].purchase == "spot"].append(o)
        for (capacity, _), group in groups.items():
            used = self.model.add_binary_variable()
            replicas = mathopt.fast_sum(self.replicas[o][period] for o in group)
            self.model.add_linear_constraint(replicas <= self._max_group_replicas(group) * used)
            slack = 0.0 if must_serve else unit * peak * (1 - used)
            failing = workload.redundant_replicas * unit * capacity * used
            self.model.add_linear_constraint(total - failing >= demand - slack)

    def _new_redundancy_cuts(self, workload: WorkloadDemand, period: int) -> RedundancyCuts:
        positions = self.instance.options_of(workload.name)
        groups: dict[SizeRates, list[int]] = defaultdict(list)
        for o in positions:
            groups[self.instance.options[o].size_rates].append(o)
        unserved = self.unserved[workload.name][period] / workload.demand[period] if self.unserved else 0.0
        return RedundancyCuts(
            self.model,
            self._replicas_by_rates(positions, period),
            self._size_demand(workload, period),
            redundant_replicas=workload.redundant_replicas,
            max_replicas={rates: self._max_group_replicas(group) for rates, group in groups.items()},
            unserved_share=unserved,
            must_serve=self._enforces("demand", workload),
        )

    def add_violated_redundancy_cuts(self, solution: FleetSolution) -> bool:
        """Add the redundancy rows that a plan violates; whether there are any."""
        added = False
        for (name, period), cuts in self.redundancy_cuts.items():
            counts: dict[SizeRates, int] = defaultdict(int)
            for o in self.instance.options_of(name):
                counts[self.instance.options[o].size_rates] += solution.replicas[o][period]
            demand = self.workloads[name].demand[period]
            unserved_share = solution.unserved[name][period] / demand if self.unserved else 0.0
            added = cuts.add_violated(counts, unserved_share) or added
        return added

    def _add_one_chip_rows(self, workload: WorkloadDemand) -> None:
        options, positions = self.instance.options, self.instance.options_of(workload.name)
        chips = sorted({options[o].configuration.chip for o in positions})
        chosen = {chip: self.model.add_binary_variable() for chip in chips}
        self.model.add_linear_constraint(mathopt.fast_sum(chosen.values()) <= 1)
        for o in positions:
            max_replicas = self.max_replicas(o)
            for count in self.replicas[o]:
                self.model.add_linear_constraint(count <= max_replicas * chosen[options[o].configuration.chip])

    def max_replicas(self, option: int) -> int:
        """An upper bound on the replicas of an option in an optimal plan.

        It includes replicas that keep running after the largest demand, or from the previous plan.
        """
        return max(ceil(self._replicas_alone(option)) + 1, self._previous_replicas([option]))

    def _max_group_replicas(self, group: list[int]) -> int:
        """The same for options of equal capacity together, with redundant replicas: see `_add_redundancy_rows`."""
        return 2 * ceil(self._replicas_alone(group[0])) + 2 + self._previous_replicas(group)

    def _replicas_alone(self, position: int) -> float:
        """How many replicas of an option alone serve any demand that it can serve, redundant ones included."""
        option = self.instance.options[position]
        return self.workloads[option.workload].replicas_alone(option, self.largest_capacity[option.workload])

    def _previous_replicas(self, options: list[int]) -> int:
        """Replicas of some options in the previous plan, which may keep running."""
        previous_plan = self.instance.previous_plan
        if previous_plan is None:
            return 0
        return sum(max(previous_plan.replicas.get(self.instance.options[o].replica_key, (0,))) for o in options)


def unit_in_rows(workload: WorkloadDemand, period: int) -> float:
    """The scaled value of one unit of a workload in its rows; of a mix, the period's demand is TIME_ROW_SCALE."""
    if workload.sizes:
        return TIME_ROW_SCALE / workload.demand[period]
    return DEMAND_ROW_SCALE / max(RESOLUTION, *workload.demand)


def least_sum(terms: Collection[int], least: int) -> int:
    """The smallest sum of any number of some terms, all above 0, that is at least so much; or a bound below it."""
    largest = sorted(set(terms), reverse=True)
    counts = [least // term + 2 for term in largest[:-1]]
    if prod(counts) > MOST_SUMS:
        largest, counts = [gcd(*largest)], []
    sums = np.zeros(1, dtype=np.int64)
    for term, count in zip(largest, counts, strict=False):
        sums = np.unique(np.add.outer(sums, term * np.arange(count)))
    return int(np.min(np.where(sums < least, sums + -(-(least - sums) // largest[-1]) * largest[-1], sums)))
