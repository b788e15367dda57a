"""The fleet as one integer program: replicas by workload, configuration, region, purchase and period.

HiGHS solves it, or SCIP if replicas serve requests of several sizes (docs/formulation.md, "Fleets").
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import inf

from ortools.math_opt.python import mathopt

from servesat.core.errors import SolverError
from servesat.core.result import Status
from servesat.fleet.formulation.instance_rows import hold_pieces
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.pod_cuts import PodConstraints
from servesat.fleet.formulation.solvers import solve_model
from servesat.fleet.formulation.workload_rows import WorkloadRows
from servesat.fleet.instance import FleetInstance, Place, RegionChip, ReservedChips
from servesat.fleet.machines import Machine
from servesat.fleet.previous_plan import PreviousPlan, ReplicaKey

MAX_COEFFICIENT = 1e9
"""How large a coefficient of the bill may be in its unit; solvers take coefficients that far apart."""

GOAL_RTOL = 1e-9
"""How far an earlier goal may rise above its optimum while a later one is minimised, relatively."""

MAX_UNDECIDED_ROUNDS = 3
"""How many rounds continue after an undecided packing was cut off: the next plan may use other slices."""


@dataclass(frozen=True)
class Objective:
    """What a model minimises: an expression in some unit, chosen so that its coefficients suit the solver."""

    expression: mathopt.LinearTypes
    unit: float = 1.0


class FleetModel:
    """One integer program over an instance; some limits may be relaxed, and demand may be left unserved.

    `reserved` fixes the numbers of reserved chips, or with `may_reserve_more` is a lower bound on them. If the model is
    not built by `deadline`, a moment of `time.perf_counter`, it is `unfinished`, and `solve` returns UNKNOWN.
    """

    def __init__(
        self,
        instance: FleetInstance,
        relaxed: Iterable[Limit] = (),
        *,
        may_fall_short: bool = False,
        reserved: Mapping[ReservedChips, int] | None = None,
        may_reserve_more: bool = False,
        deadline: float = inf,
    ) -> None:
        self.instance, self.relaxed = instance, set(relaxed)
        self.model = mathopt.Model()
        self._add_variables(may_fall_short, reserved or {}, may_reserve_more)
        self.options_at: dict[Place, list[int]] = defaultdict(list)  # those that pay by the chip
        for o, option in enumerate(instance.options):
            if option.machine is None:
                self.options_at[option.place].append(o)
        self.mixes = any(workload.sizes for workload in instance.workloads)
        self.rows = WorkloadRows(self.model, instance, self.replicas, self.unserved, self.relaxed)
        self.unfinished = not self._add_workload_rows(deadline)
        self._add_chip_rows()
        self.pod_constraints = [
            PodConstraints(self.model, instance, region_chip, self.replicas)
            for region_chip in instance.pods
            if self._enforces(Limit("pods", region_chip))
        ]
        previous_plan = instance.previous_plan
        self.changed_replicas = None if previous_plan is None else self._count_changes(previous_plan)
        max_changes = None if previous_plan is None else previous_plan.max_changes
        if self.changed_replicas is not None and max_changes is not None and self._enforces(Limit("max_changes")):
            self.model.add_linear_constraint(self.changed_replicas <= max_changes)
        if self._enforces(Limit("budget")) and instance.budget_usd is not None:
            bill = self.usd()
            self.model.add_linear_constraint(bill.expression <= instance.budget_usd / bill.unit)

    def _add_variables(
        self, may_fall_short: bool, reserved: Mapping[ReservedChips, int], may_reserve_more: bool
    ) -> None:
        add = self.model.add_integer_variable
        self.replicas = [[add(lb=0) for _ in self.instance.hours] for _ in self.instance.options]  # [option][period]
        self.reserved = {place: add(lb=0) for place in self.instance.reservable}
        for place, chips in reserved.items():
            self.reserved[place].lower_bound = chips
            self.reserved[place].upper_bound = inf if may_reserve_more else chips
        self.instances = {
            machine: [add(lb=0)] * len(self.instance.hours)
            if machine.purchase == "reserved"
            else [add(lb=0) for _ in self.instance.hours]
            for machine in self.instance.machines
        }
        self.unserved = {
            workload.name: [add(lb=0, ub=demand) for demand in workload.demand]
            for workload in (self.instance.workloads if may_fall_short else ())
        }

    def _enforces(self, limit: Limit) -> bool:
        return limit not in self.relaxed

    def usd(self, reserved_hours: float | None = None) -> Objective:
        """The bill over all periods: replicas and instances by the hour, what is reserved for all hours, and changes.

        Reserved chips are paid for `reserved_hours`, those of all periods by default. The unit is the smallest
        coefficient, as solvers drop coefficients below 1e-9, however small the bill is.
        """
        instance = self.instance
        reserved_hours = sum(instance.hours) if reserved_hours is None else reserved_hours
        terms = [
            (option.usd_per_hour * hours, count)
            for option, counts in zip(instance.options, self.replicas, strict=True)
            if option.purchase != "reserved" and option.machine is None
            for hours, count in zip(instance.hours, counts, strict=True)
        ]
        for machine, counts in self.instances.items():
            by_period = zip(instance.hours, counts, strict=True)
            paid = [(reserved_hours, counts[0])] if machine.purchase == "reserved" else by_period
            terms += [(machine.usd_per_hour * hours, count) for hours, count in paid]
        terms += [(place.usd_per_chip_hour * reserved_hours, chips) for place, chips in self.reserved.items()]
        if self.changed_replicas is not None and instance.previous_plan is not None:
            terms.append((instance.previous_plan.usd_per_change, self.changed_replicas))
        if instance.usd_per_change:
            terms.append((instance.usd_per_change, self.period_changes))
        positive = [usd for usd, _ in terms if usd > 0]
        unit = max(min(positive), max(positive) / MAX_COEFFICIENT) if positive else 1.0
        return Objective(mathopt.fast_sum(usd / unit * count for usd, count in terms), unit)

    @cached_property
    def period_changes(self) -> mathopt.LinearSum:
        """Replicas started or stopped from one period to the next."""
        changes = []
        for counts in self.replicas:
            for before, after in pairwise(counts):
                change = self.model.add_variable(lb=0)
                self.model.add_linear_constraint(change >= after - before)
                self.model.add_linear_constraint(change >= before - after)
                changes.append(change)
        return mathopt.fast_sum(changes)

    def hold(self, goal: Objective, value: float) -> None:
        """Keep a goal at its optimum while later goals are minimised."""
        scaled = value / goal.unit
        self.model.add_linear_constraint(goal.expression <= scaled + GOAL_RTOL * abs(scaled))

    def _count_changes(self, previous_plan: PreviousPlan) -> mathopt.LinearExpression:
        """Replicas started or stopped relative to the previous plan, however they are paid for."""
        options: dict[ReplicaKey, list[int]] = defaultdict(list)
        for o, option in enumerate(self.instance.options):
            options[option.replica_key].append(o)
        none = (0,) * len(self.instance.hours)
        changes, stopped = [], 0
        for key in {**options, **previous_plan.replicas}:
            for period, before in enumerate(previous_plan.replicas.get(key, none)):
                if key not in options:
                    stopped += before
                    continue
                change = self.model.add_variable(lb=0)
                after = mathopt.fast_sum(self.replicas[o][period] for o in options[key])
                self.model.add_linear_constraint(change >= after - before)
                self.model.add_linear_constraint(change >= before - after)
                changes.append(change)
        return mathopt.fast_sum(changes) + stopped

    def _add_workload_rows(self, deadline: float) -> bool:
        """Add the rows of every workload; false if the deadline passed before all were added."""
        for workload in self.instance.workloads:
            if time.perf_counter() > deadline:
                return False
            self.rows.add(workload)
        return True

    def _add_chip_rows(self) -> None:
        """Reserved replicas stay within the reserved chips, and all chips within the quotas."""
        for period in range(len(self.instance.hours)):
            for place, reserved in self.reserved.items():
                used = self._chips_used(place, period)
                others = self.instance.occupied_reserved.get(place)
                self.model.add_linear_constraint(used + (others[period] if others else 0) <= reserved)
        for machine, options in self.instance.machines.items():
            for period, instances in enumerate(self.instances[machine]):
                self._add_instance_rows(machine, options, period, instances)
        for region_chip in self.instance.quotas:
            if self._enforces(Limit("quota", region_chip)):
                self.add_quota_rows(region_chip, 0)

    def _add_instance_rows(self, machine: Machine, options: list[int], period: int, count: mathopt.Variable) -> None:
        """The instances of a machine hold the slices of its replicas, and those of other workloads."""
        occupied = self.instance.occupied_pieces.get(machine, {})
        pieces: dict[int, list[mathopt.LinearTypes]] = defaultdict(list)
        for o in options:
            for size, number in self.instance.options[o].pieces:
                pieces[size].append(number * self.replicas[o][period])
        for size, number in occupied.items():
            pieces[size].append(number)
        hold_pieces(self.model, machine.chips, pieces, count)

    def add_quota_rows(self, region_chip: RegionChip, extra: mathopt.Variable | int) -> None:
        """Limit the chips of a region and type to the quota and some extra chips, in every period."""
        for period in range(len(self.instance.hours)):
            rented = self._chips_used(region_chip, period)
            bought = mathopt.fast_sum(
                machine.chips * counts[period]
                for machine, counts in self.instances.items()
                if (machine.region, machine.chip) == region_chip
            )
            reserved = [chips for place, chips in self.reserved.items() if place.region_chip == region_chip]
            taken = rented + bought + mathopt.fast_sum(reserved)
            occupied = self.instance.occupied_chips
            others = occupied[region_chip][period] if region_chip in occupied else 0
            self.model.add_linear_constraint(taken - extra <= self.instance.quotas[region_chip] - others)

    def _chips_used(self, place: Place, period: int) -> mathopt.LinearSum:
        """Chips of a place that replicas pay for by the chip in a period."""
        options = self.instance.options
        return mathopt.fast_sum(options[o].chips * self.replicas[o][period] for o in self.options_at[place])

    def solve(self, objective: Objective, time_limit_s: float | None, *, relative_gap: float = 0.0) -> FleetSolution:
        """Minimise an objective to a relative gap, by default to proved optimality, or as near as the time allows.

        This is a cutting-plane loop: slices that do not fit together in their pods are forbidden, and the redundancy
        rows that a plan violates are added, until a plan needs neither.
        """
        if self.unfinished:
            return FleetSolution(Status.UNKNOWN)
        until = inf if time_limit_s is None else time.perf_counter() + time_limit_s
        self.model.minimize(objective.expression)
        bound, undecided_rounds = 0.0, 0  # every goal is non-negative
        while True:
            left_s = None if until == inf else until - time.perf_counter()
            solution = self._minimise(objective.unit, left_s, relative_gap)
            proved = all(pods.proved for pods in self.pod_constraints)
            bound = max(bound, solution.bound) if proved else bound
            if solution.status in (Status.INFEASIBLE, Status.UNKNOWN):
                return solution if proved else FleetSolution(Status.UNKNOWN, undecided=True)
            collides = [pods.forbid_collisions(solution.replicas, until) for pods in self.pod_constraints]
            if not self.rows.add_violated_redundancy_cuts(solution) and not any(collides):
                return solution if proved else replace(solution, status=Status.FEASIBLE, bound=bound)
            undecided_rounds += not all(pods.proved for pods in self.pod_constraints)
            if undecided_rounds > MAX_UNDECIDED_ROUNDS or time.perf_counter() > until:
                return FleetSolution(Status.UNKNOWN, undecided=undecided_rounds > MAX_UNDECIDED_ROUNDS)

    def _minimise(self, unit: float, time_limit_s: float | None, relative_gap: float) -> FleetSolution:
        result = solve_model(self.model, relative_gap=relative_gap, time_limit_s=time_limit_s, mixes=self.mixes)
        reason = result.termination.reason
        if reason in (mathopt.TerminationReason.INFEASIBLE, mathopt.TerminationReason.INFEASIBLE_OR_UNBOUNDED):
            return FleetSolution(Status.INFEASIBLE)
        if not result.has_primal_feasible_solution():
            if reason is mathopt.TerminationReason.NO_SOLUTION_FOUND:
                return FleetSolution(Status.UNKNOWN)
            raise SolverError(f"the solver ended with {reason}: {result.termination.detail}")
        optimal = reason is mathopt.TerminationReason.OPTIMAL
        value = result.variable_values()

        def rounded(variable: mathopt.Variable) -> int:
            return round(float(value[variable]))

        return FleetSolution(
            status=Status.OPTIMAL if optimal else Status.FEASIBLE,
            replicas=tuple(tuple(map(rounded, counts)) for counts in self.replicas),
            reserved={place: rounded(chips) for place, chips in self.reserved.items()},
            unserved={name: tuple(map(rounded, units)) for name, units in self.unserved.items()},
            objective=result.objective_value() * unit,
            bound=result.best_objective_bound() * unit,
        )
