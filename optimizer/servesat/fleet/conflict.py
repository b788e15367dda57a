"""Why no fleet exists: limits that conflict, slices that collide, and the nearest changes with which one exists."""

import time
from bisect import bisect_left
from dataclasses import dataclass, replace
from math import ceil, floor, inf

from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution, Limit, limits_of
from servesat.fleet.instance import FleetInstance
from servesat.fleet.pods.packing import collision
from servesat.fleet.pods.slices import Counts, fits

MOST_PODS = 10_000
"""Pods of a place up to which it is asked how many are enough."""


UNITS = {
    "quota": "chips",
    "pods": "pods",
    "budget": "$",
    "max_changes": "changes",
    "region_share": "of the demand",
    "spot_share": "of the demand",
}
"""What a correction of each kind of limit is counted in."""


@dataclass(frozen=True, kw_only=True)
class Collision:
    """Slices that do not stand together in the pods of a place, of a plan that leaves these out of account.

    Without any one of them the rest stands, if it is `proved`.
    """

    region: str
    chip: str
    slices: Counts
    proved: bool


@dataclass(frozen=True, kw_only=True)
class FleetCorrection:
    """One change that makes a plan exist: to a quota, pods, shares, all demand, the budget, or to what may change."""

    limit: Limit
    value: float
    unit: str


def seconds_to(deadline: float) -> float | None:
    """What is left until a moment of `time.perf_counter`, a little at least; None until infinity."""
    return None if deadline == inf else max(deadline - time.perf_counter(), 1e-3)


def minimal_conflict(
    instance: FleetInstance, deadline: float = inf, *, degrade: bool = False
) -> tuple[Limit, ...] | None:
    """Limits that no fleet meets together, and of which none can be left out: by leaving out one after the other.

    First of a period that has no plan by itself, if there is one: it has a fraction of the variables, and few of its
    limits are left for all periods. With `degrade` demand may be left unserved, and is none of them. None where the
    deadline strikes before.
    """
    limits = [limit for limit in limits_of(instance) if limit.kind != "demand" or not degrade]
    for period in [] if degrade else _fullest_first(instance):
        alone = instance.in_period(period)
        status = _status(alone, set(), deadline)
        if status is Status.INFEASIBLE:
            found = _reduced(alone, limits, deadline)
            return found and _reduced(_of_workloads_in(instance, found), list(found), deadline)
        if status is Status.UNKNOWN:
            return None
    return _reduced(instance, limits, deadline, degrade=degrade)


def _fullest_first(instance: FleetInstance) -> list[int]:
    """Periods by what is asked for, over the most that each workload asks for; none where an earlier plan ties them."""
    if len(instance.hours) == 1 or instance.earlier is not None:
        return []
    asked = [[one / max(need.demand) for one in need.demand] for need in instance.needs if any(need.demand)]
    return sorted(range(len(instance.hours)), key=lambda period: -sum(of_need[period] for of_need in asked))


def _of_workloads_in(instance: FleetInstance, limits: tuple[Limit, ...]) -> FleetInstance:
    """The instance without workloads that no limit names: they need not run."""
    named = {limit.of[0] for limit in limits if limit.kind not in {"quota", "pods", "budget"}}
    needs = tuple(need for need in instance.needs if need.name in named)
    return replace(instance.only(lambda option: option.workload in named), needs=needs)


def _reduced(
    instance: FleetInstance, limits: list[Limit], deadline: float, *, degrade: bool = False
) -> tuple[Limit, ...] | None:
    """Limits that conflict without any that can be left out; None where the deadline strikes."""
    without = set(limits_of(instance)) - set(limits)
    for limit in reversed(limits):
        status = _status(instance, without | {limit}, deadline, degrade=degrade)
        if status is Status.UNKNOWN:
            return None
        if status is Status.INFEASIBLE:
            without.add(limit)
    return tuple(limit for limit in limits if limit not in without)


def _status(instance: FleetInstance, without: set[Limit], deadline: float, *, degrade: bool = False) -> Status:
    """Whether there is a plan without some limits; UNKNOWN where the deadline strikes."""
    if time.perf_counter() > deadline:
        return Status.UNKNOWN
    model = FleetModel(instance, without, may_fall_short=degrade, deadline=deadline)
    return model.solve(0, seconds_to(deadline)).status


def collisions_of(instance: FleetInstance, conflict: tuple[Limit, ...], deadline: float = inf) -> tuple[Collision, ...]:
    """What does not stand of the cheapest plan that leaves the pods in conflict out of account."""
    places = [(limit.of[0], limit.of[1]) for limit in conflict if limit.kind == "pods"]
    if not places:
        return ()
    found = _without_floors(instance, conflict, set(places), deadline)
    collisions = []
    for region, chip in places if found.replicas else ():
        place = (region, chip)
        periods = (instance.slices(place, period, found.replicas) for period in range(len(instance.hours)))
        clash = next((clash for one in periods if (clash := collision(instance.pods[place], one))), None)
        if clash is not None:
            collisions.append(Collision(region=region, chip=chip, slices=clash[0], proved=clash[1]))
    return tuple(collisions)


def _without_floors(
    instance: FleetInstance, conflict: tuple[Limit, ...], places: set[tuple[str, str]], deadline: float
) -> FleetSolution:
    """The cheapest plan of the demands in conflict, pods left out of account; of slices that fit if there is one."""
    rest = {Limit("demand", (need.name,)) for need in instance.needs} - set(conflict)
    without = rest | {Limit("pods", place) for place in places}
    fitting = instance.only(
        lambda option: (
            option.place not in places
            or all(fits(instance.pods[option.place].shape, one) for one, _ in option.configuration.slices)
        )
    )
    found = FleetSolution(Status.UNKNOWN)
    for one in (fitting, instance):
        model = FleetModel(one, without, deadline=deadline)
        found = model.solve(model.usd(), seconds_to(deadline))
        if found.replicas:
            by_option = dict(zip(one.options, found.replicas, strict=True))
            none = (0,) * len(instance.hours)
            return replace(found, replicas=tuple(by_option.get(option, none) for option in instance.options))
    return found


def corrections_of(
    instance: FleetInstance, conflict: tuple[Limit, ...], deadline: float = inf, *, degrade: bool = False
) -> tuple[FleetCorrection, ...]:
    """The nearest of each kind that alone makes a plan exist: a quota, pods, the budget, changes, less demand."""
    found = []
    if not degrade:
        served = _share_of_demand(instance, deadline)
        if served is not None:
            found.append(FleetCorrection(limit=Limit("demand"), value=served, unit="of all demand"))
    for limit in conflict:
        if time.perf_counter() > deadline:
            break
        value = _enough(instance, limit, deadline, degrade=degrade)
        if value is not None:
            found.append(FleetCorrection(limit=limit, value=value, unit=UNITS[limit.kind]))
    return tuple(found)


def _share_of_demand(instance: FleetInstance, deadline: float) -> float | None:
    """The share of every demand that a fleet within all limits meets; None where that is nothing."""
    model = FleetModel(instance, may_fall_short=True, deadline=deadline)
    served = model.solve(model.fraction_unserved(), seconds_to(deadline))
    found = served.status is Status.OPTIMAL and served.objective < 1 - LIMIT_RTOL
    return floor((1 - served.objective) * 1e6) / 1e6 if found else None  # a little less, for what a solver rounds


def _enough(instance: FleetInstance, limit: Limit, deadline: float, *, degrade: bool) -> float | None:
    """The least that a limit must allow for a fleet to exist; None where none exists whatever it allows."""
    if limit.kind == "pods":
        return _fewest_pods(instance, (limit.of[0], limit.of[1]), deadline, degrade=degrade)
    model = FleetModel(instance, {limit}, may_fall_short=degrade, deadline=deadline)
    match limit.kind:
        case "quota":
            place = (limit.of[0], limit.of[1])
            least = model.solve(model.added(place), seconds_to(deadline))
            value: float = instance.quotas[place] + round(least.objective)
        case "budget":
            least = model.solve(model.usd(), seconds_to(deadline))
            value = least.objective
        case "max_changes" if model.moved is not None:
            least = model.solve(model.moved, seconds_to(deadline))
            value = round(least.objective)
        case "region_share" | "spot_share" if not degrade:
            least = model.solve(model.share(limit), seconds_to(deadline))
            value = ceil(least.objective * 1e4 - 1e-3) / 1e4
        case _:
            return None
    return value if least.status is Status.OPTIMAL else None


def _fewest_pods(instance: FleetInstance, place: tuple[str, str], deadline: float, *, degrade: bool) -> int | None:
    """The fewest pods of a place with which a plan exists; None where none exists with any number, or is found out."""
    pods = instance.pods[place]

    def exists(count: int) -> bool:
        more = replace(instance, pods={**instance.pods, place: replace(pods, count=count)})
        model = FleetModel(more, may_fall_short=degrade, deadline=deadline)
        found = model.solve(0, seconds_to(deadline))
        if found.status is Status.UNKNOWN:
            raise TimeoutError
        return found.status is not Status.INFEASIBLE

    enough = max(pods.count, 1)
    try:
        while not exists(enough):
            if enough >= MOST_PODS:
                return None
            enough = min(2 * enough, MOST_PODS)
        return bisect_left(range(enough), True, lo=pods.count, key=exists)
    except TimeoutError:
        return None
