"""A fleet planned: the least money, then the fewest configurations, then the fewest changes, each proved."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import fsum, inf
from pathlib import Path
from typing import Any

from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.check import changes_of, check, chips_taken, counted_on
from servesat.fleet.conflict import (
    Collision,
    FleetCorrection,
    collisions_of,
    corrections_of,
    minimal_conflict,
    seconds_to,
)
from servesat.fleet.decomposition.column_generation import decomposes, plan_by_decomposition
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.instance import FleetInstance, ReplicaOption, fleet_instance
from servesat.fleet.placement_map import FloorMap, floor_map
from servesat.fleet.previous_plan import Earlier, read_earlier
from servesat.fleet.spec import FleetSpec
from servesat.fleet.unservable import Unservable, unservable

GOALS = ("usd", "moves", "configurations", "changes")
"""What is pursued after another: money over all periods, replicas that differ from an earlier plan, configurations that
workloads run in, replicas that change from one period to the next.
"""

SAYINGS = {
    "usd": "the least bill",
    "moves": "the fewest moves from the earlier plan",
    "configurations": "the fewest configurations",
    "changes": "the fewest changes between periods",
}
"""What is being done while a goal is pursued."""

COMPACT, COMPACT_OF_MIXES = "compact model, HiGHS", "compact model, SCIP"

DECOMPOSITION, DECOMPOSITION_OF_MIXES = "decomposition, PDLP and HiGHS", "decomposition, PDLP, HiGHS and SCIP"

LONGEST_S = 300.0
"""Seconds that a fleet takes at most where no time limit is given: its gap closes ever more slowly."""

HOPELESS = 1_000_000
"""Replica variables from which the compact model takes gigabytes, and minutes to be built: it is not tried then."""

LATER = GOALS[1:]
LATER_S = 10.0
"""Seconds for each goal after money: they tidy a plan up, and are not worth waiting for."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Replicas of one workload in one configuration, region, purchase and period, and what they cost in it.

    Reserved replicas cost nothing here: their chips are paid for as a whole, see `Reservation`. `requests_per_s` is
    what is counted on of each size of requests, in the shares of the period's demand: together all replicas of the
    workload serve so much of each.
    """

    workload: str
    region: str
    purchase: str
    period: int
    option: ReplicaOption
    replicas: int
    requests_per_s: tuple[float, ...]
    usd: float


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Chips reserved in a region for all periods, and what they cost over them."""

    region: str
    chip: str
    chips: int
    usd: float


@dataclass(frozen=True, kw_only=True)
class FleetResult:
    """A fleet's plan with its proof, or the limits in conflict.

    It is `optimal` when its bill is proved the least (and, where demand falls short, that it falls no shorter than it
    must), `infeasible` without a conflict when the time limit struck before that was found, `unknown` when it struck
    before a plan was, or, if `undecided`, when it was not found out whether slices stand in their pods. `proved` tells
    of each goal whether its optimum is proved; `unserved` is by workload and period, in requests/s, when demand was
    allowed to fall short; `chips_taken` is by region and chip, for each period; `changes` are the replicas started or
    stopped against an earlier plan, whose price is in the bill; `engine` is what solved it.
    """

    status: Status
    instance: FleetInstance
    total_usd: float | None = None
    bound_usd: float | None = None
    allocations: tuple[Allocation, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    unserved: dict[str, tuple[float, ...]] | None = None
    proved: dict[str, bool] | None = None
    conflict: tuple[Limit, ...] | None = None
    collisions: tuple[Collision, ...] = ()
    corrections: tuple[FleetCorrection, ...] = ()
    unservable: tuple[Unservable, ...] = ()
    floors: tuple[FloorMap, ...] = ()
    chips_taken: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    changes: int | None = None
    undecided: bool = False
    engine: str = COMPACT
    solve_s: float = 0.0

    @property
    def gap(self) -> float | None:
        """How far the bill may be above the least one, relatively; None without a plan."""
        if self.total_usd is None or self.bound_usd is None:
            return None
        return 1 - self.bound_usd / self.total_usd if self.total_usd else 0.0


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
    """Find the cheapest fleet that meets every demand and limit, proved, and re-derived without the solver.

    With `degrade`, what cannot be served is left: first as little as possible of priority 1, then of 2, and so on, and
    at that the least money. Without a time limit it ends after five minutes. `on_progress` gets each step in words.
    Raises SpecError when the fleet is malformed.
    """
    spec = spec if isinstance(spec, FleetSpec) else FleetSpec.load(spec)
    start = time.perf_counter()
    instance = fleet_instance(spec, on_progress)
    if earlier is not None:
        before = Earlier(read_earlier(earlier, len(spec.periods_h)), max_changes, usd_per_change)
        instance = replace(instance, earlier=before)
    deadline = start + (LONGEST_S if time_limit_s is None else time_limit_s)
    result = plan_instance(instance, deadline, degrade=degrade, on_progress=on_progress)
    if result.conflict or result.unserved:
        result = replace(result, unservable=unservable(spec, instance))
    return replace(result, solve_s=time.perf_counter() - start)


def cheapest(
    instance: FleetInstance, deadline: float, on_progress: Callable[[str], None] = lambda _: None
) -> FleetSolution:
    """The least money alone, until a deadline: large instances decomposed, periods that nothing joins one by one."""
    if decomposes(instance):
        found = _decomposed(instance, deadline, on_progress)
        if found is not None or time.perf_counter() > deadline:
            return found or FleetSolution(Status.UNKNOWN)
    if instance.periods_stand_alone:
        return _by_period(instance, deadline, on_progress)
    model = FleetModel(instance, deadline=deadline)
    return model.solve(model.usd(), _time_for("usd", deadline))


def _by_period(instance: FleetInstance, deadline: float, on_progress: Callable[[str], None]) -> FleetSolution:
    """The least money of each period alone: together they are that of all, and so are their bounds.

    First all of them in equal shares of the time, then those that are left open in what is left of it.
    """
    count = len(instance.hours)
    models: dict[int, FleetModel] = {}
    solved: dict[int, FleetSolution] = {}
    for turn in range(2):
        still_open = [period for period in range(count) if turn == 0 or solved[period].status is not Status.OPTIMAL]
        for number, period in enumerate(still_open):
            if turn and time.perf_counter() > deadline:
                break
            on_progress(f"period {period + 1} of {count}{', once more' if turn else ''}")
            model = models.get(period) or FleetModel(instance.in_period(period), deadline=deadline)
            left = seconds_to(deadline)
            better = model.solve(model.usd(), None if left is None else left / (len(still_open) - number))
            if better.status is Status.INFEASIBLE:
                return better
            models[period] = model
            solved[period] = _better_of(solved.get(period), better)
    found = [solved[period] for period in range(count)]
    unknown = next((one for one in found if one.status is Status.UNKNOWN), None)
    if unknown is not None:
        return unknown
    return FleetSolution(
        status=Status.OPTIMAL if all(one.status is Status.OPTIMAL for one in found) else Status.FEASIBLE,
        replicas=tuple(
            tuple(one[0] for one in of_option) for of_option in zip(*(f.replicas for f in found), strict=True)
        ),
        objective=fsum(one.objective for one in found),
        bound=fsum(one.bound for one in found),
    )


def _better_of(first: FleetSolution | None, second: FleetSolution) -> FleetSolution:
    """The cheaper of two plans of one model, with the better of their bounds."""
    if first is None or first.status is Status.UNKNOWN:
        return second
    if second.status is Status.UNKNOWN:
        return first
    return replace(min(second, first, key=lambda one: one.objective), bound=max(first.bound, second.bound))


def _decomposed(instance: FleetInstance, deadline: float, on_progress: Callable[[str], None]) -> FleetSolution | None:
    """The plan of a large fleet with its bound, OPTIMAL where they meet; None where the decomposition finds none."""
    until = time.perf_counter() + LONGEST_S if deadline == inf else deadline
    found = plan_by_decomposition(instance, until, on_progress)
    if found.status is Status.UNKNOWN:
        return None
    if found.status is Status.INFEASIBLE:
        return found
    return replace(found, status=Status.OPTIMAL) if found.objective <= found.bound * (1 + LIMIT_RTOL) else found


def _time_for(goal: str, deadline: float) -> float | None:
    """How long a goal may be pursued: until the deadline, and a later one for no more than a moment."""
    left = seconds_to(deadline)
    return left if goal not in LATER else min(LATER_S, left or LATER_S)


def plan_instance(
    instance: FleetInstance,
    deadline: float,
    *,
    degrade: bool = False,
    goals: tuple[str, ...] = GOALS,
    on_progress: Callable[[str], None] = lambda _: None,
) -> FleetResult:
    """Plan an instance until a deadline, a moment of `time.perf_counter`, for some of the goals."""
    nothing_serves = instance.unservable()
    if nothing_serves and not degrade:
        conflict = (Limit("demand", (nothing_serves[0][0],)),)
        return FleetResult(status=Status.INFEASIBLE, instance=instance, conflict=conflict)
    mixes = any(need.sizes for need in instance.needs)
    compact, decomposition = (COMPACT_OF_MIXES, DECOMPOSITION_OF_MIXES) if mixes else (COMPACT, DECOMPOSITION)
    if instance.earlier is None:  # else a replica that nobody needs may stay, to change less
        asked = {need.name for need in instance.needs if any(need.demand)}
        instance = instance.only(lambda option: option.workload in asked)
    if not degrade and decomposes(instance):
        large = _decomposed(instance, deadline, on_progress)
        if large is not None and large.status is Status.INFEASIBLE:
            return _without_plan(instance, large.status, deadline, degrade=degrade)
        if large is not None:
            done = {"usd": large.status is Status.OPTIMAL, **dict.fromkeys(("configurations", "changes"), False)}
            return _planned(instance, large, large.bound, done, engine=decomposition)
        if len(instance.options) * len(instance.hours) >= HOPELESS or time.perf_counter() > deadline:
            return FleetResult(status=Status.UNKNOWN, instance=instance, engine=decomposition)
    model = FleetModel(instance, may_fall_short=degrade, deadline=deadline)
    solution, bound = FleetSolution(Status.UNKNOWN), 0.0
    proved: dict[str, bool] = {}
    for name, goal in _goals(model, instance, goals, degrade=degrade):
        on_progress(SAYINGS.get(name, name))
        alone = name == "usd" and not degrade and instance.periods_stand_alone
        found = _by_period(instance, deadline, on_progress) if alone else model.solve(goal, _time_for(name, deadline))
        if found.status in (Status.INFEASIBLE, Status.UNKNOWN):
            if not proved:
                on_progress("why there is no plan")
                result = _without_plan(instance, found.status, deadline, degrade=degrade)
                return replace(result, undecided=found.undecided)
            proved[name] = False
            continue
        solution, proved[name] = found, found.status is Status.OPTIMAL
        if name == "usd":
            bound = found.bound
        model.keep(goal, found.objective)
    unserved = _unserved(instance, solution) if degrade else None
    return _planned(instance, solution, bound, proved, engine=compact, unserved=unserved)


def _planned(
    instance: FleetInstance,
    solution: FleetSolution,
    bound: float,
    proved: dict[str, bool],
    *,
    engine: str,
    unserved: dict[str, tuple[float, ...]] | None = None,
) -> FleetResult:
    """The result of a plan, checked."""
    usd = check(instance, solution)
    return FleetResult(
        status=Status.OPTIMAL if all(done for name, done in proved.items() if name not in LATER) else Status.FEASIBLE,
        instance=instance,
        total_usd=usd,
        bound_usd=usd if proved["usd"] else min(bound, usd),
        allocations=_allocations(instance, solution),
        reservations=_reservations(instance, solution),
        chips_taken=chips_taken(instance, solution),
        floors=tuple(floor_map(instance, solution, place) for place in instance.pods),
        changes=None if instance.earlier is None else changes_of(instance, solution),
        unserved=unserved,
        proved=proved,
        engine=engine,
    )


def _goals(
    model: FleetModel, instance: FleetInstance, goals: tuple[str, ...], *, degrade: bool
) -> Iterator[tuple[str, Any]]:
    """The goals in their order; each is built when those before it are settled."""
    if degrade:
        for priority in sorted({need.priority for need in instance.needs}):
            short = [model.shortfall(need) for need in instance.needs if need.priority == priority]
            yield f"unserved of priority {priority}", model.sum(short)
    yield "usd", model.usd()
    if "moves" in goals and model.moved is not None:
        yield "moves", model.moved
    if "configurations" in goals:
        yield "configurations", model.configurations()
    if "changes" in goals and len(instance.hours) > 1:
        yield "changes", model.changes()


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
    """What is counted on of the replicas of each option in each period, where there are any."""
    found: dict[tuple[int, int], tuple[float, ...]] = {}
    for need in instance.needs:
        for period in range(len(instance.hours)):
            mine = [o for o in instance.of(need.name) if solution.replicas[o][period]]
            used = [(instance.options[o], solution.replicas[o][period]) for o in mine]
            found.update(zip(((o, period) for o in mine), counted_on(need, period, used), strict=True))
    return found


def _reservations(instance: FleetInstance, solution: FleetSolution) -> tuple[Reservation, ...]:
    price = instance.reserved_prices
    return tuple(
        Reservation(region=region, chip=chip, chips=count, usd=price[region, chip] * sum(instance.hours) * count)
        for (region, chip), count in solution.reserved.items()
        if count
    )


def _unserved(instance: FleetInstance, solution: FleetSolution) -> dict[str, tuple[float, ...]]:
    return {need.name: tuple(count * need.unit for count in solution.unserved[need.name]) for need in instance.needs}


def _without_plan(instance: FleetInstance, status: Status, deadline: float, *, degrade: bool) -> FleetResult:
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
