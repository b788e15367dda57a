"""Plans a fleet for its goals in order, the lowest bill first, then the fewest configurations and changes."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from servesat.core.result import Status
from servesat.fleet.cheapest import DEFAULT_TIME_LIMIT_S, cheapest_by_period, cheapest_decomposed
from servesat.fleet.check import changes_of, check, chips_taken, served_rates
from servesat.fleet.conflict import collisions_of, corrections_of, minimal_conflict, seconds_to
from servesat.fleet.decomposition.column_generation import decomposes
from servesat.fleet.decomposition.options import DEFAULT_OPTIONS, ColumnGenerationOptions
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.goals import changes_between_periods, configurations, total_shortfall
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.instance import FleetInstance
from servesat.fleet.instance_from_spec import fleet_instance
from servesat.fleet.placement_map import placement_map
from servesat.fleet.previous_plan import PreviousPlan, read_previous_plan
from servesat.fleet.result import (
    COMPACT,
    COMPACT_WITH_SIZES,
    DECOMPOSITION,
    DECOMPOSITION_WITH_SIZES,
    Allocation,
    FleetResult,
    Reservation,
)
from servesat.fleet.spec import FleetSpec
from servesat.fleet.unservable import unservable

__all__ = ["FleetResult", "plan_fleet", "plan_instance"]

GOALS = ("usd", "moves", "configurations", "changes")
"""The goals in order: the bill, changes to the previous plan, configurations, and changes between periods."""

GOAL_STEPS = {
    "usd": "lowest bill",
    "moves": "fewest changes to the previous plan",
    "configurations": "fewest configurations",
    "changes": "fewest changes between periods",
}
"""What is shown as progress while a goal is minimised."""

SECONDARY_GOALS = GOALS[1:]

SECONDARY_TIME_LIMIT_S = 10.0
"""Seconds for each secondary goal: these goals tidy a plan up, and are not worth a long wait."""

MAX_COMPACT_VARIABLES = 1_000_000
"""Replica variables from which the compact model is not tried: building it would take gigabytes and minutes."""


def plan_fleet(
    spec: FleetSpec | Mapping[str, Any] | str | Path,
    *,
    time_limit_s: float | None = None,
    degrade: bool = False,
    earlier: str | Path | None = None,
    max_changes: int | None = None,
    usd_per_change: float = 0.0,
    on_progress: Callable[[str], None] = lambda _: None,
) -> FleetResult:
    """Find the cheapest fleet that meets every demand and limit, with a proof, and check it without the solver.

    With `degrade`, demand that cannot be met is left unserved: first as little as possible of priority 1, then of 2,
    and so on, and then the bill is minimised. `earlier` is the JSON file of the previous plan. Without a time limit
    planning ends after five minutes. `on_progress` is called with a description of each step. Raises SpecError if the
    fleet is malformed.
    """
    spec = spec if isinstance(spec, FleetSpec) else FleetSpec.load(spec)
    start = time.perf_counter()
    instance = fleet_instance(spec, on_progress)
    if earlier is not None:
        replicas = read_previous_plan(earlier, len(spec.periods_h))
        instance = replace(instance, previous_plan=PreviousPlan(replicas, max_changes, usd_per_change))
    deadline = start + (DEFAULT_TIME_LIMIT_S if time_limit_s is None else time_limit_s)
    result = plan_instance(instance, deadline, degrade=degrade, on_progress=on_progress)
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
        result = _plan_large(instance, deadline, on_progress, options)
        if result is not None:
            return result
    return _plan_compact(instance, deadline, goals, on_progress, degrade=degrade)


def _plan_large(
    instance: FleetInstance, deadline: float, on_progress: Callable[[str], None], options: ColumnGenerationOptions
) -> FleetResult | None:
    """The result of decomposition; None if it finds no plan, and the compact model is worth a try."""
    engine = DECOMPOSITION_WITH_SIZES if _has_sizes(instance) else DECOMPOSITION
    solution = cheapest_decomposed(instance, deadline, on_progress, options)
    if solution is not None and solution.status is Status.INFEASIBLE:
        return _without_plan(instance, solution.status, deadline, degrade=False)
    if solution is not None:
        proved = {"usd": solution.status is Status.OPTIMAL, **dict.fromkeys(("configurations", "changes"), False)}
        return _with_plan(instance, solution, solution.bound, proved, engine=engine)
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
    """The result of the compact model: each goal is held at its optimum while the next one is minimised."""
    model = FleetModel(instance, may_fall_short=degrade, deadline=deadline)
    best, bound = FleetSolution(Status.UNKNOWN), 0.0
    proved: dict[str, bool] = {}
    for name, goal in _objectives(model, instance, goals, degrade=degrade):
        on_progress(GOAL_STEPS.get(name, name))
        if name == "usd" and not degrade and instance.periods_are_independent:
            solution = cheapest_by_period(instance, deadline, on_progress)
        else:
            solution = model.solve(goal, _goal_time_limit(name, deadline))
        if solution.status in (Status.INFEASIBLE, Status.UNKNOWN):
            if not proved:
                on_progress("looking for the limits in conflict")
                result = _without_plan(instance, solution.status, deadline, degrade=degrade)
                return replace(result, undecided=solution.undecided)
            proved[name] = False
            continue
        best, proved[name] = solution, solution.status is Status.OPTIMAL
        if name == "usd":
            bound = solution.bound
        model.hold(goal, solution.objective)
    engine = COMPACT_WITH_SIZES if _has_sizes(instance) else COMPACT
    unserved = _unserved(instance, best) if degrade else None
    return _with_plan(instance, best, bound, proved, engine=engine, unserved=unserved)


def _has_sizes(instance: FleetInstance) -> bool:
    return any(workload.sizes for workload in instance.workloads)


def _goal_time_limit(goal: str, deadline: float) -> float | None:
    left_s = seconds_to(deadline)
    return left_s if goal not in SECONDARY_GOALS else min(SECONDARY_TIME_LIMIT_S, left_s or SECONDARY_TIME_LIMIT_S)


def _objectives(
    model: FleetModel, instance: FleetInstance, goals: tuple[str, ...], *, degrade: bool
) -> Iterator[tuple[str, Any]]:
    """The goals in order with their objectives; each is built once the goals before it are settled."""
    if degrade:
        for priority in sorted({workload.priority for workload in instance.workloads}):
            workloads = [workload for workload in instance.workloads if workload.priority == priority]
            yield f"unserved of priority {priority}", total_shortfall(model, workloads)
    yield "usd", model.usd()
    if "moves" in goals and model.changed_replicas is not None:
        yield "moves", model.changed_replicas
    if "configurations" in goals:
        yield "configurations", configurations(model)
    if "changes" in goals and len(instance.hours) > 1:
        yield "changes", changes_between_periods(model)


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
        bound_usd=usd if proved["usd"] else min(bound, usd),
        allocations=_allocations(instance, solution),
        reservations=_reservations(instance, solution),
        chips_taken=chips_taken(instance, solution),
        placement_maps=tuple(placement_map(instance, solution, region_chip) for region_chip in instance.pods),
        changes=None if instance.previous_plan is None else changes_of(instance, solution),
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
            usd=0.0 if option.purchase == "reserved" else option.usd_per_hour * hours * count,
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
    price = instance.reserved_prices
    return tuple(
        Reservation(region=region, chip=chip, chips=chips, usd=price[region, chip] * sum(instance.hours) * chips)
        for (region, chip), chips in solution.reserved.items()
        if chips
    )


def _unserved(instance: FleetInstance, solution: FleetSolution) -> dict[str, tuple[float, ...]]:
    return {
        workload.name: tuple(units * workload.unit for units in solution.unserved[workload.name])
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
    )
