"""Why no plan exists: limits in conflict, slices that collide, and the smallest corrections that allow a plan."""

import time
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, replace
from math import floor, inf

from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL, round_up
from servesat.fleet.formulation.compact import FleetModel, Objective
from servesat.fleet.formulation.goals import extra_quota, required_configurations, required_share, unserved_fraction
from servesat.fleet.formulation.limits import FleetSolution, Limit, limits_of
from servesat.fleet.instance import FleetInstance, RegionChip
from servesat.fleet.pods.packing import collision
from servesat.fleet.pods.slices import Counts, fits

MAX_PODS = 10_000
"""Maximum number of pods up to which a sufficient number is searched for."""

UNITS = {
    "quota": "chips",
    "pods": "pods",
    "budget": "$",
    "max_changes": "changes",
    "max_configurations": "configurations",
    "region_share": "of the demand",
    "spot_share": "of the demand",
}
"""The unit of a correction of each kind of limit."""


@dataclass(frozen=True, kw_only=True)
class Collision:
    """Slices that do not fit together in the pods of a region and chip, in a plan that ignores the pods.

    If this is `proved`, the set is minimal: without any one of the slices the rest fits.
    """

    region: str
    chip: str
    slices: Counts
    proved: bool


@dataclass(frozen=True, kw_only=True)
class FleetCorrection:
    """A change of one limit that allows a plan: a quota, pods, a share, all demand, the budget, or changes."""

    limit: Limit
    value: float
    unit: str


def seconds_to(deadline: float) -> float | None:
    """Seconds until a moment of `time.perf_counter`, at least a little; None if it is infinite."""
    return None if deadline == inf else max(deadline - time.perf_counter(), 1e-3)


def minimal_conflict(
    instance: FleetInstance, deadline: float = inf, *, degrade: bool = False, without: Collection[Limit] = ()
) -> tuple[Limit, ...] | None:
    """An irreducible infeasible subset of the limits, by a deletion filter; None if the deadline passes first.

    If a single period is infeasible by itself, the conflict is found in that period: it has a fraction of the
    variables, and few of its limits remain. With `degrade` demand may be left unserved, and is never in conflict. The
    limits `without` which it is looked for are not in it.
    """
    limits = [limit for limit in limits_of(instance) if limit.kind != "demand" or not degrade]
    limits = [limit for limit in limits if limit not in without]
    for period in [] if degrade else _highest_load_first(instance):
        single = instance.in_period(period)
        status = _status(single, set(without), deadline)
        if status is Status.INFEASIBLE:
            conflict = _deletion_filter(single, limits, deadline)
            return conflict and _deletion_filter(_with_workloads_in(instance, conflict), list(conflict), deadline)
        if status is Status.UNKNOWN:
            return None
    return _deletion_filter(instance, limits, deadline, degrade=degrade)


def further_conflicts(
    instance: FleetInstance, first: tuple[Limit, ...], deadline: float = inf, *, degrade: bool = False
) -> tuple[tuple[Limit, ...], ...]:
    """Minimal conflicts that share no limit with the first one, nor with each other; as far as time allows.

    Where there are any, no single change allows a plan.
    """
    found: list[tuple[Limit, ...]] = []
    while True:
        without = {*first, *(limit for members in found for limit in members)}
        if _status(instance, without, deadline, degrade=degrade) is not Status.INFEASIBLE:
            return tuple(found)
        another = minimal_conflict(instance, deadline, degrade=degrade, without=without)
        if not another:
            return tuple(found)
        found.append(another)


def _highest_load_first(instance: FleetInstance) -> list[int]:
    """Periods by load, as a share of each workload's peak; none if a previous plan couples the periods."""
    if len(instance.hours) == 1 or instance.previous_plan is not None:
        return []
    loads = [
        [units / max(workload.demand) for units in workload.demand]
        for workload in instance.workloads
        if any(workload.demand)
    ]
    return sorted(range(len(instance.hours)), key=lambda period: -sum(load[period] for load in loads))


def _with_workloads_in(instance: FleetInstance, limits: tuple[Limit, ...]) -> FleetInstance:
    """The instance restricted to the workloads that some limit names."""
    named = {limit.of[0] for limit in limits if limit.kind not in {"quota", "pods", "budget"}}
    workloads = tuple(workload for workload in instance.workloads if workload.name in named)
    return replace(instance.with_options(lambda option: option.workload in named), workloads=workloads)


def _deletion_filter(
    instance: FleetInstance, limits: list[Limit], deadline: float, *, degrade: bool = False
) -> tuple[Limit, ...] | None:
    """An irreducible infeasible subset of some limits; None if the deadline passes first."""
    relaxed = set(limits_of(instance)) - set(limits)
    for limit in reversed(limits):
        status = _status(instance, relaxed | {limit}, deadline, degrade=degrade)
        if status is Status.UNKNOWN:
            return None
        if status is Status.INFEASIBLE:
            relaxed.add(limit)
    return tuple(limit for limit in limits if limit not in relaxed)


def _status(instance: FleetInstance, relaxed: set[Limit], deadline: float, *, degrade: bool = False) -> Status:
    """Whether there is a plan if some limits are relaxed; UNKNOWN if the deadline passes first."""
    if time.perf_counter() > deadline:
        return Status.UNKNOWN
    model = FleetModel(instance, relaxed, may_fall_short=degrade, deadline=deadline)
    return model.solve(Objective(0.0), seconds_to(deadline)).status


def collisions_of(instance: FleetInstance, conflict: tuple[Limit, ...], deadline: float = inf) -> tuple[Collision, ...]:
    """The slices that collide in the cheapest plan that ignores the pods in conflict."""
    region_chips = [(limit.of[0], limit.of[1]) for limit in conflict if limit.kind == "pods"]
    if not region_chips:
        return ()
    solution = _without_pods(instance, conflict, set(region_chips), deadline)
    collisions = []
    for region, chip in region_chips if solution.replicas else ():
        pods = instance.pods[region, chip]
        by_period = (
            instance.slices((region, chip), period, solution.replicas) for period in range(len(instance.hours))
        )
        clash = next((clash for slices in by_period if (clash := collision(pods, slices))), None)
        if clash is not None:
            collisions.append(Collision(region=region, chip=chip, slices=clash[0], proved=clash[1]))
    return tuple(collisions)


def _without_pods(
    instance: FleetInstance, conflict: tuple[Limit, ...], region_chips: set[RegionChip], deadline: float
) -> FleetSolution:
    """The cheapest plan for the demands in conflict that ignores pods; if possible, of slices that fit in a pod."""
    other_demand = {Limit("demand", (workload.name,)) for workload in instance.workloads} - set(conflict)
    relaxed = other_demand | {Limit("pods", region_chip) for region_chip in region_chips}
    fitting = instance.with_options(
        lambda option: (
            option.region_chip not in region_chips
            or all(fits(instance.pods[option.region_chip].shape, item) for item, _ in option.configuration.slices)
        )
    )
    solution = FleetSolution(Status.UNKNOWN)
    for candidate in (fitting, instance):
        model = FleetModel(candidate, relaxed, deadline=deadline)
        solution = model.solve(model.usd(), seconds_to(deadline))
        if solution.replicas:
            by_option = dict(zip(candidate.options, solution.replicas, strict=True))
            none = (0,) * len(instance.hours)
            return replace(solution, replicas=tuple(by_option.get(option, none) for option in instance.options))
    return solution


def corrections_of(
    instance: FleetInstance, conflict: tuple[Limit, ...], deadline: float = inf, *, degrade: bool = False
) -> tuple[FleetCorrection, ...]:
    """The smallest correction of each limit in conflict, and of all demand, that by itself allows a plan."""
    corrections = []
    if not degrade:
        share = _servable_share(instance, deadline)
        if share is not None:
            corrections.append(FleetCorrection(limit=Limit("demand"), value=share, unit="of all demand"))
    for limit in conflict:
        if time.perf_counter() > deadline:
            break
        value = _sufficient_value(instance, limit, deadline, degrade=degrade)
        if value is not None:
            corrections.append(FleetCorrection(limit=limit, value=value, unit=UNITS[limit.kind]))
    return tuple(corrections)


def _servable_share(instance: FleetInstance, deadline: float) -> float | None:
    """The largest share of every demand that can be served within all limits; None if it is zero or not found."""
    model = FleetModel(instance, may_fall_short=True, deadline=deadline)
    solution = model.solve(Objective(unserved_fraction(model)), seconds_to(deadline))
    serves = solution.status is Status.OPTIMAL and solution.objective < 1 - LIMIT_RTOL
    return floor((1 - solution.objective) * 1e6) / 1e6 if serves else None  # rounded down, for the solver's tolerance


def _sufficient_value(instance: FleetInstance, limit: Limit, deadline: float, *, degrade: bool) -> float | None:
    """The smallest value of a limit that allows a plan; None if none does."""
    if limit.kind == "pods":
        return _sufficient_pods(instance, (limit.of[0], limit.of[1]), deadline, degrade=degrade)
    model = FleetModel(instance, {limit}, may_fall_short=degrade, deadline=deadline)
    match limit.kind:
        case "quota":
            region_chip = (limit.of[0], limit.of[1])
            solution = model.solve(Objective(extra_quota(model, region_chip)), seconds_to(deadline))
            value: float = instance.quotas[region_chip] + round(solution.objective)
        case "budget":
            solution = model.solve(model.usd(), seconds_to(deadline))
            value = solution.objective
        case "max_changes" if model.changed_replicas is not None:
            solution = model.solve(Objective(model.changed_replicas), seconds_to(deadline))
            value = round(solution.objective)
        case "max_configurations":
            solution = model.solve(Objective(required_configurations(model, limit)), seconds_to(deadline))
            value = round(solution.objective)
        case "region_share" | "spot_share" if not degrade:
            solution = model.solve(Objective(required_share(model, limit)), seconds_to(deadline))
            value = float(round_up(solution.objective * 1e4)) / 1e4
        case _:
            return None
    return value if solution.status is Status.OPTIMAL else None


def _sufficient_pods(instance: FleetInstance, region_chip: RegionChip, deadline: float, *, degrade: bool) -> int | None:
    """The smallest number of pods that allows a plan; None if no number does, or if it is not found in time."""
    pods = instance.pods[region_chip]

    def has_plan(count: int) -> bool:
        more = replace(instance, pods={**instance.pods, region_chip: replace(pods, count=count)})
        model = FleetModel(more, may_fall_short=degrade, deadline=deadline)
        solution = model.solve(Objective(0.0), seconds_to(deadline))
        if solution.status is Status.UNKNOWN:
            raise TimeoutError
        return solution.status is not Status.INFEASIBLE

    sufficient = max(pods.count, 1)
    try:
        while not has_plan(sufficient):
            if sufficient >= MAX_PODS:
                return None
            sufficient = min(2 * sufficient, MAX_PODS)
        return bisect_left(range(sufficient), True, lo=pods.count, key=has_plan)
    except TimeoutError:
        return None
