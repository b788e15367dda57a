"""The fleet as one integer program: replicas by workload, configuration, region, purchase and period.

HiGHS solves it (docs/formulation.md, "Fleets").
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from math import ceil, inf

from ortools.math_opt.python import mathopt

from servesat.core.errors import SolverError
from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.mixes import PARTS, Rates, add_mix, no_less
from servesat.fleet.formulation.pod_cuts import Floor
from servesat.fleet.formulation.solvers import solved
from servesat.fleet.formulation.spare_mixes import SpareMix
from servesat.fleet.instance import RESOLUTION, FleetInstance, WorkloadDemand
from servesat.fleet.previous_plan import Earlier, ReplicaKey

SLACK = 1e-9
"""How much more than its optimum an earlier goal may cost while a later one is pursued, relatively."""

SIZE = 1e3
"""What a workload's largest demand is in its rows: HiGHS calls plans optimal that are not where it is far more.

Its tolerances are absolute, 1e-6 of a row; that is less than a unit still.
"""


UNDECIDED = 3
"""Rounds that go on after a packing that was not decided: other slices may be."""


class FleetModel:
    """One integer program over an instance; some limits may be left out, some demand left unserved.

    `reserved` settles the chips that are reserved, by region and type, or how many there are `at_least`. A model that
    is not built by `deadline`, a moment of `time.perf_counter`, stays `unfinished`: what it is asked to solve is
    unknown.
    """

    def __init__(
        self,
        instance: FleetInstance,
        without: Iterable[Limit] = (),
        *,
        may_fall_short: bool = False,
        reserved: Mapping[tuple[str, str], int] | None = None,
        at_least: bool = False,
        deadline: float = inf,
    ) -> None:
        self.instance, self.without = instance, set(without)
        self.model = mathopt.Model()
        periods = range(len(instance.hours))
        add = self.model.add_integer_variable
        self.x = [[add(lb=0) for _ in periods] for _ in instance.options]
        self.reserved = {place: add(lb=0) for place in sorted(instance.reserved_prices)}
        for place, count in (reserved or {}).items():
            self.reserved[place].lower_bound = count
            self.reserved[place].upper_bound = inf if at_least else count
        self.short = {
            need.name: [self.model.add_integer_variable(lb=0, ub=demand) for demand in need.demand]
            for need in (instance.needs if may_fall_short else ())
        }
        self.need = {need.name: need for need in instance.needs}
        self.largest: dict[str, int] = defaultdict(int)  # replica of a workload, in its units
        self.of_workload: dict[str, list[int]] = {need.name: [] for need in instance.needs}
        self.of_place: dict[tuple[tuple[str, str], bool], list[int]] = defaultdict(list)
        for o, option in enumerate(instance.options):
            self.of_workload[option.workload].append(o)
            self.largest[option.workload] = max(self.largest[option.workload], option.capacity)
            self.of_place[option.place, option.purchase == "reserved"].append(o)
        self.mixes = any(need.sizes for need in instance.needs)
        self.spares: dict[tuple[str, int], SpareMix] = {}  # by workload and period
        self.unfinished = False
        for need in instance.needs:
            self.unfinished = time.perf_counter() > deadline
            if self.unfinished:
                break
            self._meet(need)
        self._share_chips()
        self.floors = [
            Floor(self.model, instance, place, self.x) for place in instance.pods if self._on(Limit("pods", place))
        ]
        self.moved = None if instance.earlier is None else self._moved(instance.earlier)
        most = None if instance.earlier is None else instance.earlier.max_changes
        if self.moved is not None and most is not None and self._on(Limit("max_changes")):
            self.model.add_linear_constraint(self.moved <= most)
        if self._on(Limit("budget")) and instance.budget_usd is not None:
            self.model.add_linear_constraint(self.usd() <= instance.budget_usd)

    def _on(self, limit: Limit) -> bool:
        return limit not in self.without

    def usd(self) -> mathopt.LinearTypes:
        """The bill over all periods: replicas by the hour, reserved chips in every hour, and what changes cost."""
        instance = self.instance
        bought = mathopt.fast_sum(
            option.usd_per_hour * hours * count
            for option, counts in zip(instance.options, self.x, strict=True)
            if option.purchase != "reserved"
            for hours, count in zip(instance.hours, counts, strict=True)
        )
        whole, price = sum(instance.hours), instance.reserved_prices
        kept = mathopt.fast_sum(price[place] * whole * count for place, count in self.reserved.items())
        bill = bought + kept
        if self.moved is None or instance.earlier is None:
            return bill
        return bill + instance.earlier.usd_per_change * self.moved

    def _moved(self, earlier: Earlier) -> mathopt.LinearExpression:
        """Replicas started or stopped against an earlier plan, however they are paid for."""
        now: dict[ReplicaKey, list[int]] = defaultdict(list)
        for o, option in enumerate(self.instance.options):
            now[option.runs].append(o)
        none = (0,) * len(self.instance.hours)
        moved, gone = [], 0
        for place in {**now, **earlier.replicas}:
            for period, before in enumerate(earlier.replicas.get(place, none)):
                if place not in now:
                    gone += before
                    continue
                change = self.model.add_variable(lb=0)
                after = mathopt.fast_sum(self.x[o][period] for o in now[place])
                self.model.add_linear_constraint(change >= after - before)
                self.model.add_linear_constraint(change >= before - after)
                moved.append(change)
        return mathopt.fast_sum(moved) + gone

    def shortfall(self, need: WorkloadDemand) -> mathopt.LinearSum:
        """What is not served of a workload, in hours of its largest demand, times RESOLUTION.

        Smaller coefficients would drown in the tolerances of the solver.
        """
        scale = RESOLUTION / (max(need.demand) or 1)
        hours = self.instance.hours
        return mathopt.fast_sum(hour * scale * one for hour, one in zip(hours, self.short[need.name], strict=True))

    def configurations(self) -> mathopt.LinearSum:
        """How many configurations the workloads run in, each counted once a workload, wherever and whenever used."""
        used: dict[tuple[str, str], mathopt.Variable] = {}
        for o, option in enumerate(self.instance.options):
            key = (option.workload, option.configuration.name)
            if key not in used:
                used[key] = self.model.add_binary_variable()
            most = self._most(o)
            for count in self.x[o]:
                self.model.add_linear_constraint(count <= most * used[key])
        return mathopt.fast_sum(used.values())

    def changes(self) -> mathopt.LinearSum:
        """Replicas started or stopped from one period to the next."""
        moved = []
        for counts in self.x:
            for before, after in pairwise(counts):
                change = self.model.add_variable(lb=0)
                self.model.add_linear_constraint(change >= after - before)
                self.model.add_linear_constraint(change >= before - after)
                moved.append(change)
        return mathopt.fast_sum(moved)

    def added(self, place: tuple[str, str]) -> mathopt.Variable:
        """Chips added to a quota that was left out: as many as the plan takes beyond it."""
        extra = self.model.add_integer_variable(lb=0)
        self._limit_chips(place, extra)
        return extra

    def share(self, limit: Limit) -> mathopt.Variable:
        """The share of a limit on regions or spot that was left out: as large as the plan needs it in some period."""
        need = self.need[limit.of[0]]
        share = self.model.add_variable(lb=0, ub=1)
        for period, demand in ((period, demand) for period, demand in enumerate(need.demand) if demand):
            wanted = _size(need, period) * demand
            for rest in self._apart(need, limit.kind):
                self.model.add_linear_constraint(self._capacity(need, rest, period) >= wanted - wanted * share)
        return share

    def sum(self, goals: list[mathopt.LinearSum]) -> mathopt.LinearSum:
        """Goals of equal rank together."""
        return mathopt.fast_sum(goals)

    def keep(self, goal: mathopt.LinearSum, value: float) -> None:
        """Hold an earlier goal at its optimum."""
        self.model.add_linear_constraint(goal <= value + SLACK * abs(value))

    def fraction_unserved(self) -> mathopt.Variable:
        """The share of every demand that is left unserved, the same for all; needs `may_fall_short`."""
        share = self.model.add_variable(lb=0, ub=1)
        for need in self.instance.needs:
            for demand, short in zip(need.demand, self.short[need.name], strict=True):
                self.model.add_linear_constraint(short <= demand * share)
        return share

    def _meet(self, need: WorkloadDemand) -> None:
        """Every row of a workload in every period: demand, spread over regions, off spot, and with spare replicas."""
        mine = self.of_workload[need.name]
        shares = {"demand": 1.0, "spot_share": 1 - need.max_spot_share}
        if need.max_share_per_region is not None:
            shares["region_share"] = 1 - need.max_share_per_region
        for period in (period for period, demand in enumerate(need.demand) if demand):
            unserved = _size(need, period) * self.short[need.name][period] if self.short else 0.0
            rows = [
                (self._capacity(need, rest, period), share)
                for kind, share in shares.items()
                if self._on(Limit(kind, (need.name,))) and share
                for rest in self._apart(need, kind)
            ]
            for served, share in rows:
                self.model.add_linear_constraint(served + share * unserved >= _least(need, period, share))
            if need.n_plus and self._on(Limit("n_plus", (need.name,))):
                if need.sizes:
                    self.spares[need.name, period] = self._spare_mix(need, mine, period)
                else:
                    self._spare(need, mine, period, _size(need, period) * need.demand[period] - unserved)
        if need.one_chip and self._on(Limit("one_chip", (need.name,))):
            self._one_chip(need, mine)

    def _apart(self, need: WorkloadDemand, kind: str) -> list[list[int]]:
        """The options that must serve a share of a demand, for each row of a limit: all, elsewhere, or off spot."""
        options, mine = self.instance.options, self.of_workload[need.name]
        match kind:
            case "region_share":
                regions = sorted({options[o].region for o in mine})
                return [[o for o in mine if options[o].region != region] for region in regions]
            case "spot_share":
                return [[o for o in mine if options[o].purchase != "spot"]]
            case _:
                return [mine]

    def _capacity(self, need: WorkloadDemand, some: list[int], period: int) -> mathopt.LinearTypes:
        """What some options serve together, of requests of several sizes in their shares."""
        if need.sizes:
            return PARTS * add_mix(self.model, self._alike(some, period), self._asked(need, period))[0]
        size, options = _size(need, period), self.instance.options
        return mathopt.fast_sum(size * options[o].capacity * self.x[o][period] for o in some)

    def _asked(self, need: WorkloadDemand, period: int) -> list[float]:
        """Requests/s of each size, as exactly as a solver can tell them."""
        every = [self.instance.options[o].of_size for o in self.of_workload[need.name]]
        return no_less(need.of_sizes(period), every)

    def _alike(self, some: list[int], period: int) -> dict[Rates, mathopt.LinearSum]:
        """Replicas that serve as much of each size, together."""
        found: dict[Rates, list[mathopt.Variable]] = defaultdict(list)
        for o in some:
            found[self.instance.options[o].of_size].append(self.x[o][period])
        return {rates: mathopt.fast_sum(counts) for rates, counts in found.items()}

    def _spare(self, need: WorkloadDemand, mine: list[int], period: int, wanted: mathopt.LinearTypes) -> None:
        """Without n_plus replicas of any configuration that is used in a region, the rest meets the demand.

        Options of equal capacity are alike in this. They are told apart by spot, so that a replica beyond `most` of
        them can be spared: with twice what is needed of them, and two more, either one region or all others together
        have what every row asks for.
        """
        options, demand, size = self.instance.options, max(need.demand), _size(need, period)
        must_serve = self._on(Limit("demand", (need.name,)))  # else it may as well run nothing
        whole = self.model.add_variable(lb=0)  # one column, rather than all of them in each row
        self.model.add_linear_constraint(whole == self._capacity(need, mine, period))
        alike: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for o in mine:
            alike[options[o].capacity, options[o].purchase == "spot"].append(o)
        for (capacity, _), some in alike.items():
            used = self.model.add_binary_variable()
            most = 2 * ceil(self._enough(some[0])) + 2 + self._kept(some)
            self.model.add_linear_constraint(mathopt.fast_sum(self.x[o][period] for o in some) <= most * used)
            idle = 0.0 if must_serve else size * demand * (1 - used)
            self.model.add_linear_constraint(whole - need.n_plus * size * capacity * used >= wanted - idle)

    def _spare_mix(self, need: WorkloadDemand, mine: list[int], period: int) -> SpareMix:
        same: dict[Rates, list[int]] = defaultdict(list)
        for o in mine:
            same[self.instance.options[o].of_size].append(o)
        most = {rates: 2 * ceil(self._enough(some[0])) + 2 + self._kept(some) for rates, some in same.items()}
        return SpareMix(
            self.model,
            self._alike(mine, period),
            self._asked(need, period),
            n_plus=need.n_plus,
            most=most,
            unserved=self.short[need.name][period] / need.demand[period] if self.short else 0.0,
            must_serve=self._on(Limit("demand", (need.name,))),
        )

    def _asks_for_spares(self, found: FleetSolution) -> bool:
        """Add rows for spare replicas that a plan breaks; whether there are any."""
        asks = False
        for (name, period), spare in self.spares.items():
            counts: dict[Rates, int] = defaultdict(int)
            for o in self.of_workload[name]:
                counts[self.instance.options[o].of_size] += found.replicas[o][period]
            short = found.unserved[name][period] / self.need[name].demand[period] if self.short else 0.0
            asks = spare.ask(counts, short) or asks
        return asks

    def _most(self, option: int) -> int:
        """More replicas of an option than any best plan has, at a demand or after the largest one."""
        return max(ceil(self._enough(option)) + 1, self._kept([option]))

    def _enough(self, option: int) -> float:
        """Replicas of an option that serve alone what it can of any demand, with what is to spare beside it."""
        one = self.instance.options[option]
        return self.need[one.workload].enough(one, self.largest[one.workload])

    def _kept(self, options: list[int]) -> int:
        """Replicas of some options in an earlier plan: they need not be stopped."""
        earlier = self.instance.earlier
        if earlier is None:
            return 0
        return sum(max(earlier.replicas.get(self.instance.options[o].runs, (0,))) for o in options)

    def _one_chip(self, need: WorkloadDemand, mine: list[int]) -> None:
        options = self.instance.options
        types = sorted({options[o].configuration.chip for o in mine})
        chosen = {chip: self.model.add_binary_variable() for chip in types}
        self.model.add_linear_constraint(mathopt.fast_sum(chosen.values()) == 1)
        for o in mine:
            most = self._most(o)
            for count in self.x[o]:
                self.model.add_linear_constraint(count <= most * chosen[options[o].configuration.chip])

    def _share_chips(self) -> None:
        """What all workloads take of the chips of a region: within the quota, and of reserved ones within those."""
        for period in range(len(self.instance.hours)):
            for place, held in self.reserved.items():
                self.model.add_linear_constraint(self._taken(place, period, reserved=True) <= held)
        for place in self.instance.quotas:
            if self._on(Limit("quota", place)):
                self._limit_chips(place, 0)

    def _limit_chips(self, place: tuple[str, str], extra: mathopt.Variable | int) -> None:
        """Take no more of the chips of a place than its quota, and so many extra."""
        for period in range(len(self.instance.hours)):
            held = self._taken(place, period, reserved=False) + self.reserved.get(place, 0)
            others = self.instance.taken[place][period] if place in self.instance.taken else 0
            self.model.add_linear_constraint(held - extra <= self.instance.quotas[place] - others)

    def _taken(self, place: tuple[str, str], period: int, *, reserved: bool) -> mathopt.LinearSum:
        """Chips of a place that replicas take in a period, of those that are reserved, or of the others."""
        options = self.instance.options
        return mathopt.fast_sum(options[o].chips * self.x[o][period] for o in self.of_place[place, reserved])

    def solve(self, objective: object, time_limit_s: float | None, *, relative_gap: float = 0.0) -> FleetSolution:
        """Minimise an objective to a relative gap, by default to a proved optimum, or as near as the time allows.

        Slices that do not stand together in their pods are forbidden, and spare replicas asked for beside those in use,
        and it is minimised anew, until all stand and may fail.
        """
        if self.unfinished:
            return FleetSolution(Status.UNKNOWN)
        until = inf if time_limit_s is None else time.perf_counter() + time_limit_s
        self.model.minimize(objective)
        bound, undecided = 0.0, 0  # no goal falls below it
        while True:
            found = self._minimised(None if until == inf else until - time.perf_counter(), relative_gap)
            proved = all(floor.proved for floor in self.floors)
            bound = max(bound, found.bound) if proved else bound
            if found.status in (Status.INFEASIBLE, Status.UNKNOWN):
                return found if proved else FleetSolution(Status.UNKNOWN, undecided=True)
            collides = [floor.forbid_collisions(found.replicas, until) for floor in self.floors]
            if not self._asks_for_spares(found) and not any(collides):
                return found if proved else replace(found, status=Status.FEASIBLE, bound=bound)
            undecided += not all(floor.proved for floor in self.floors)
            if undecided > UNDECIDED or time.perf_counter() > until:
                return FleetSolution(Status.UNKNOWN, undecided=undecided > UNDECIDED)

    def _minimised(self, time_limit_s: float | None, relative_gap: float) -> FleetSolution:
        found = solved(self.model, relative_gap=relative_gap, time_limit_s=time_limit_s, mixes=self.mixes)
        reason = found.termination.reason
        if reason in (mathopt.TerminationReason.INFEASIBLE, mathopt.TerminationReason.INFEASIBLE_OR_UNBOUNDED):
            return FleetSolution(Status.INFEASIBLE)
        if not found.has_primal_feasible_solution():
            if reason is mathopt.TerminationReason.NO_SOLUTION_FOUND:
                return FleetSolution(Status.UNKNOWN)
            raise SolverError(f"the solver ended with {reason}: {found.termination.detail}")
        optimal = reason is mathopt.TerminationReason.OPTIMAL
        value = found.variable_values()

        def whole(variable: mathopt.Variable) -> int:
            return round(float(value[variable]))

        return FleetSolution(
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            replicas=tuple(tuple(map(whole, counts)) for counts in self.x),
            reserved={place: whole(count) for place, count in self.reserved.items()},
            unserved={name: tuple(map(whole, ones)) for name, ones in self.short.items()},
            objective=found.objective_value(),
            bound=found.best_objective_bound(),
        )


def _least(need: WorkloadDemand, period: int, share: float) -> float:
    """What a row must serve of a share of a demand.

    In whole units, rounded up, so that no rounding of the solver's decides; but what replicas serve of a mix is no
    whole number of them.
    """
    if need.sizes:
        return PARTS * share * (1 - LIMIT_RTOL)
    return _size(need, period) * ceil(share * need.demand[period] * (1 - LIMIT_RTOL))


def _size(need: WorkloadDemand, period: int) -> float:
    """What one unit of a workload is in its rows; of a mix, all that is asked in the period is PARTS."""
    return PARTS / need.demand[period] if need.sizes else SIZE / max(RESOLUTION, *need.demand)
