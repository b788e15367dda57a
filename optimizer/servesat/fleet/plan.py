"""Plans a fleet for its goals in order, the lowest bill first, then the fewest configurations and changes."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from servesat.core.parallel.runs import THIS_PROCESS, Workers
from servesat.core.result import Status
from servesat.fleet.cheapest import DEFAULT_TIME_LIMIT_S, cheapest_by_period, cheapest_decomposed
from servesat.fleet.check import (
    bill_of,
    changes_of,
    check,
    chips_taken,
    instances_of,
    is_as_solved,
    period_changes_of,
    served_rates,
)
from servesat.fleet.conflict import collisions_of, corrections_of, further_conflicts, minimal_conflict, seconds_to
from servesat.fleet.decomposition.column_generation import decomposes
from servesat.fleet.decomposition.options import DEFAULT_OPTIONS, ColumnGenerationOptions
from servesat.fleet.formulation.compact import GOAL_RTOL, FleetModel, Objective
from servesat.fleet.formulation.goals import (
    configurations,
    configurations_in,
    shortfall_of,
    total_shortfall,
)
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.one_type import choose_columns, is_choice_of_columns
from servesat.fleet.instance import FleetInstance, RegionChip
from servesat.fleet.instance_from_spec import fleet_instance
from servesat.fleet.placement_map import placement_map
from servesat.fleet.previous_plan import PreviousPlan, read_running
from servesat.fleet.result import (
    COMPACT,
    COMPACT_WITH_SIZES,
    DECOMPOSITION,
    DECOMPOSITION_WITH_SIZES,
    Allocation,
    FleetResult,
    Rental,
    Reservation,
)
from servesat.fleet.spec import FleetSpec
from servesat.fleet.unservable import unservable

__all__ = ["FleetResult", "plan_fleet", "plan_instance"]

GOALS = ("usd", "moves", "configurations", "changes")
"""The goals in order: the bill, changes to the previous plan, configurations, and changes between periods."""

SECONDARY_GOALS = GOALS[1:]

SECONDARY_TIME_LIMIT_S = 5.0
"""Seconds for each secondary goal: these goals tidy a plan up, and are not worth a long wait."""

LEAST_PLANNING_S = 5.0
"""Seconds to plan once all configurations are found, however long that took: else it was in vain."""

MIN_WORKLOADS_FOR_PROCESSES = 50
"""Workloads below which starting processes takes longer than it saves."""

MAX_COMPACT_VARIABLES = 1_000_000
"""Replica variables from which the compact model is not tried: building it would take gigabytes and minutes."""


@dataclass(frozen=True)
class Goal:
    """What a fleet is planned for: its name, the step shown as progress, its objective, and its value in a plan."""

    name: str
    step: str
    objective: Objective
    value: Callable[[FleetSolution], float]

    def is_kept_by(self, solution: FleetSolution, value: float) -> bool:
        """Whether a plan for a later goal is as good for this one, computed without the solver."""
        return self.value(solution) <= value + 2 * GOAL_RTOL * abs(value)


def plan_fleet(
    spec: FleetSpec | Mapping[str, Any] | str | Path,
    *,
    time_limit_s: float | None = None,
    degrade: bool = False,
    earlier: str | Path | None = None,
    max_changes: int | None = None,
    usd_per_change: float = 0.0,
    on_progress: Callable[[str], None] = lambda _: None,
    workers: Workers = THIS_PROCESS,
) -> FleetResult:
    """Find the cheapest fleet that meets every demand and limit, with a proof, and check it without the solver.

    With `degrade`, demand that cannot be met is left unserved: first as little as possible of priority 1, then of 2,
    and so on, and then the bill is minimised. `earlier` is the JSON file of the previous plan. Without a time limit
    planning ends after five minutes. `on_progress` is called with a description of each step. The workers find what
    workloads can run in, and the covers of a fleet that is decomposed. Once all configurations are found, planning has
    `LEAST_PLANNING_S` even where finding them took the time limit. Raises SpecError if the fleet is malformed.
    """
    spec = spec if isinstance(spec, FleetSpec) else FleetSpec.load(spec)
    start = time.perf_counter()
    workers = workers.of_run(is_long=len(spec.workloads) >= MIN_WORKLOADS_FOR_PROCESSES)
    deadline = start + (DEFAULT_TIME_LIMIT_S if time_limit_s is None else time_limit_s)
    running = None if earlier is None else read_running(earlier, len(spec.periods_h))
    instance = fleet_instance(spec, on_progress, workers, deadline, running)
    if len(instance.workloads) < len(spec.workloads):
        return FleetResult(status=Status.UNKNOWN, instance=instance, engine="", solve_s=time.perf_counter() - start)
    if running is not None:
        instance = replace(instance, previous_plan=PreviousPlan(running.replicas, max_changes, usd_per_change))
    deadline = max(deadline, time.perf_counter() + LEAST_PLANNING_S)
    result = plan_instance(instance, deadline, degrade=degrade, on_progress=on_progress, workers=workers)
    if result.conflict or result.unserved:
        result = replace(result, unservable=unservable(spec, instance))
    return replace(result, solve_s=time.perf_counter() - start)


def plan_instance(
    instance: FleetInstance,
    deadline: float,
    *,
    degrade: bool = False,
    goals: tuple[str, ...] = GOALS,
    on_progress: Callable[[str], None] = lambda _: None,
    options: ColumnGenerationOptions = DEFAULT_OPTIONS,
    workers: Workers = THIS_PROCESS,
) -> FleetResult:
    """Plan an instance for some of the goals until a deadline, a moment of `time.perf_counter`."""
    unservable_workloads = instance.unservable()
    if unservable_workloads and not degrade:
        conflict = (Limit("demand", (unservable_workloads[0][0],)),)
        return FleetResult(status=Status.INFEASIBLE, instance=instance, conflict=conflict)
    if instance.previous_plan is None:  # otherwise an unneeded replica may stay, because that changes less
        with_demand = {workload.name for workload in instance.workloads if any(workload.demand)}
        instance = instance.with_options(lambda option: option.workload in with_demand)
    if not degrade and decomposes(instance, options):
        result = _plan_large(instance, deadline, on_progress, options, workers)
        if result is not None:
            return result
    return _plan_compact(instance, deadline, goals, on_progress, degrade=degrade)


def _plan_large(
    instance: FleetInstance,
    deadline: float,
    on_progress: Callable[[str], None],
    options: ColumnGenerationOptions,
    workers: Workers,
) -> FleetResult | None:
    """The result of decomposition; None if it finds no plan, and the compact model is worth a try."""
    engine = DECOMPOSITION_WITH_SIZES if _has_sizes(instance) else DECOMPOSITION
    solution = cheapest_decomposed(instance, deadline, on_progress, options, workers)
    if solution is not None and solution.status is Status.INFEASIBLE:
        return _without_plan(instance, solution.status, deadline, degrade=False)
    if solution is not None:
        optimal = solution.status is Status.OPTIMAL
        proved = {"usd": optimal, **dict.fromkeys(("configurations", "changes"), False)}
        bound = bill_of(instance, solution) if optimal else solution.bound
        return _with_plan(instance, solution, bound, proved, engine=engine)
    if len(instance.options) * len(instance.hours) >= MAX_COMPACT_VARIABLES or time.perf_counter() > deadline:
        return FleetResult(status=Status.UNKNOWN, instance=instance, engine=engine)
    return None


def _plan_compact(
    instance: FleetInstance,
    deadline: float,
    goals: tuple[str, ...],
    on_progress: Callable[[str], None],
    *,
    degrade: bool,
) -> FleetResult:
    """The result of the compact model: each goal is held at its optimum while the next one is minimised.

    A plan for a later goal is taken only if the goals before it, computed anew, are still at their optima: within a
    solver's tolerances a bill may rise.
    """
    model = FleetModel(instance, may_fall_short=degrade, deadline=deadline)
    best, bound = FleetSolution(Status.UNKNOWN), 0.0
    held: list[tuple[Goal, float]] = []
    proved: dict[str, bool] = {}
    for goal in _goals(model, instance, goals, degrade=degrade):
        on_progress(goal.step)
        if goal.name == "usd" and not degrade and instance.periods_are_independent:
            solution = cheapest_by_period(instance, deadline, on_progress)
        else:
            chosen = None
            if goal.name == "usd" and not degrade and is_choice_of_columns(instance):
                chosen = choose_columns(instance, seconds_to(deadline))
            solution = chosen or model.solve(goal.objective, _goal_time_limit(goal.name, deadline))
        has_plan = solution.status in (Status.OPTIMAL, Status.FEASIBLE)
        if not has_plan and not proved:
            on_progress("looking for the limits in conflict")
            result = _without_plan(instance, solution.status, deadline, degrade=degrade)
            return replace(result, undecided=solution.undecided)
        if not has_plan or not all(earlier.is_kept_by(solution, value) for earlier, value in held):
            proved[goal.name] = False
            continue
        best, value = solution, goal.value(solution)
        proved[goal.name] = solution.status is Status.OPTIMAL
        if goal.name == "usd":
            proved["usd"] &= is_as_solved(value, solution)
        held.append((goal, value))
        if goal.name == "usd":
            bound = value if proved["usd"] else solution.bound
        model.hold(goal.objective, value)
    engine = COMPACT_WITH_SIZES if _has_sizes(instance) else COMPACT
    unserved = _unserved(instance, best) if degrade else None
    return _with_plan(instance, best, bound, proved, engine=engine, unserved=unserved)


def _has_sizes(instance: FleetInstance) -> bool:
    return any(workload.sizes for workload in instance.workloads)


def _goal_time_limit(goal: str, deadline: float) -> float | None:
    left_s = seconds_to(deadline)
    return left_s if goal not in SECONDARY_GOALS else min(SECONDARY_TIME_LIMIT_S, left_s or SECONDARY_TIME_LIMIT_S)


def _goals(model: FleetModel, instance: FleetInstance, goals: tuple[str, ...], *, degrade: bool) -> Iterator[Goal]:
    """The goals in order; the objective of each is built once the goals before it are settled."""
    if degrade:
        for priority in sorted({workload.priority for workload in instance.workloads}):
            workloads = [workload for workload in instance.workloads if workload.priority == priority]
            name = f"unserved of priority {priority}"
            shortfall = Objective(total_shortfall(model, workloads))
            yield Goal(name, name, shortfall, partial(shortfall_of, instance.hours, workloads))
    yield Goal("usd", "lowest bill", model.usd(), partial(bill_of, instance))
    if "moves" in goals and model.changed_replicas is not None:
        moves = Objective(model.changed_replicas)
        yield Goal("moves", "fewest changes to the previous plan", moves, partial(changes_of, instance))
    if "configurations" in goals:
        used = Objective(configurations(model))
        yield Goal("configurations", "fewest configurations", used, partial(configurations_in, instance))
    if "changes" in goals and len(instance.hours) > 1:
        changes = Objective(model.period_changes)
        yield Goal("changes", "fewest changes between periods", changes, period_changes_of)


def _with_plan(
    instance: FleetInstance,
    solution: FleetSolution,
    bound: float,
    proved: dict[str, bool],
    *,
    engine: str,
    unserved: dict[str, tuple[float, ...]] | None = None,
) -> FleetResult:
    """The result for a plan, which is checked."""
    usd = check(instance, solution)
    optimal = all(done for name, done in proved.items() if name not in SECONDARY_GOALS)
    return FleetResult(
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        instance=instance,
        total_usd=usd,
        bound_usd=min(bound, usd),
        allocations=_allocations(instance, solution),
        reservations=_reservations(instance, solution),
        rentals=_rentals(instance, solution),
        chips_taken=chips_taken(instance, solution),
        placement_maps=tuple(placement_map(instance, solution, region_chip) for region_chip in instance.pods),
        changes=None if instance.previous_plan is None else changes_of(instance, solution),
        period_changes=period_changes_of(solution),
        unserved=unserved,
        proved=proved,
        engine=engine,
    )


def _allocations(instance: FleetInstance, solution: FleetSolution) -> tuple[Allocation, ...]:
    served = _served(instance, solution)
    return tuple(
        Allocation(
            workload=option.workload,
            region=option.region,
            purchase=option.purchase,
            period=period,
            option=option,
            replicas=count,
            requests_per_s=served[o, period],
            usd=0.0
            if option.purchase == "reserved" and option.machine is None
            else option.usd_per_hour * hours * count,
        )
        for o, (option, counts) in enumerate(zip(instance.options, solution.replicas, strict=True))
        for period, (hours, count) in enumerate(zip(instance.hours, counts, strict=True))
        if count
    )


def _served(instance: FleetInstance, solution: FleetSolution) -> dict[tuple[int, int], tuple[float, ...]]:
    """What the replicas of each option in use serve of each size in each period [requests/s]."""
    served: dict[tuple[int, int], tuple[float, ...]] = {}
    for workload in instance.workloads:
        for period in range(len(instance.hours)):
            positions = [o for o in instance.options_of(workload.name) if solution.replicas[o][period]]
            replicas = [(instance.options[o], solution.replicas[o][period]) for o in positions]
            rates = served_rates(workload, period, replicas)
            served.update(zip(((o, period) for o in positions), rates, strict=True))
    return served


def _reservations(instance: FleetInstance, solution: FleetSolution) -> tuple[Reservation, ...]:
    chips: Counter[RegionChip] = Counter()
    usd: dict[RegionChip, float] = defaultdict(float)
    for place, reserved in solution.reserved.items():
        chips[place.region_chip] += reserved
        usd[place.region_chip] += place.usd_per_chip_hour * sum(instance.hours) * reserved
    return tuple(
        Reservation(region=region, chip=chip, chips=count, usd=usd[region, chip])
        for (region, chip), count in chips.items()
        if count
    )


def _rentals(instance: FleetInstance, solution: FleetSolution) -> tuple[Rental, ...]:
    rentals = []
    for machine, counts in instances_of(instance, solution.replicas).items():
        for period, (hours, count) in enumerate(zip(instance.hours, counts, strict=True)):
            used = sum(instance.options[o].chips * solution.replicas[o][period] for o in instance.machines[machine])
            usd = machine.usd_per_hour * hours * count
            if count:
                rentals.append(Rental(machine=machine, period=period, instances=count, chips_used=used, usd=usd))
    return tuple(rentals)


def _unserved(instance: FleetInstance, solution: FleetSolution) -> dict[str, tuple[float, ...]]:
    return {
        workload.name: tuple(
            min(units * workload.unit, rate)  # a demand is rounded up to whole units
            for units, rate in zip(solution.unserved[workload.name], workload.requests_per_s, strict=True)
        )
        for workload in instance.workloads
    }


def _without_plan(instance: FleetInstance, status: Status, deadline: float, *, degrade: bool) -> FleetResult:
    """The result without a plan: the limits in conflict, and corrections."""
    result = FleetResult(status=status, instance=instance)
    conflict = None if status is Status.UNKNOWN else minimal_conflict(instance, deadline, degrade=degrade)
    if conflict is None:
        return result
    return replace(
        result,
        conflict=conflict,
        collisions=collisions_of(instance, conflict, deadline),
        corrections=corrections_of(instance, conflict, deadline, degrade=degrade),
        further_conflicts=further_conflicts(instance, conflict, deadline, degrade=degrade),
    )
