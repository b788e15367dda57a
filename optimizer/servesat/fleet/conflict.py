"""Why no fleet exists: limits that conflict, slices that collide, and the nearest changes with which one exists."""

from bisect import bisect_left
from dataclasses import dataclass, replace

from servesat.fleet.floor import Counts
from servesat.fleet.formulation import FleetModel, FleetSolution, Limit, collision, limits_of
from servesat.fleet.instance import FleetInstance
from servesat.plan import Status
from servesat.rules import TOLERANCE

MOST_PODS = 10_000
"""Pods of a place up to which it is asked how many are enough."""


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
    """One change that makes a plan exist: to a quota, to pods, to all demand, to the budget, to what may change."""

    limit: Limit
    value: float
    unit: str


def minimal_conflict(instance: FleetInstance) -> tuple[Limit, ...]:
    """Limits that no fleet meets together, and of which none can be left out: by leaving out one after the other."""
    without: set[Limit] = set()
    for limit in reversed(limits_of(instance)):
        found = FleetModel(instance, without | {limit}).solve(0, None)
        if found.status is Status.INFEASIBLE:
            without.add(limit)
    return tuple(limit for limit in limits_of(instance) if limit not in without)


def collisions_of(instance: FleetInstance, conflict: tuple[Limit, ...]) -> tuple[Collision, ...]:
    """What does not stand of the cheapest plan that leaves the pods in conflict out of account."""
    places = [(limit.of[0], limit.of[1]) for limit in conflict if limit.kind == "pods"]
    model = FleetModel(instance, {Limit("pods", place) for place in places})
    found = model.solve(model.usd(), None) if places else FleetSolution(Status.UNKNOWN)
    collisions = []
    for region, chip in places if found.status is Status.OPTIMAL else ():
        place = (region, chip)
        periods = (instance.slices(place, period, found.replicas) for period in range(len(instance.hours)))
        clash = next((clash for one in periods if (clash := collision(instance.pods[place], one))), None)
        if clash is not None:
            collisions.append(Collision(region=region, chip=chip, slices=clash[0], proved=clash[1]))
    return tuple(collisions)


def _fewest_pods(instance: FleetInstance, place: tuple[str, str]) -> int | None:
    """The fewest pods of a place with which a plan exists; None where none exists with any number."""
    pods = instance.pods[place]

    def exists(count: int) -> bool:
        more = replace(instance, pods={**instance.pods, place: replace(pods, count=count)})
        return FleetModel(more).solve(0, None).status is Status.OPTIMAL

    enough = max(pods.count, 1)
    while not exists(enough):
        enough *= 2
        if enough > MOST_PODS:
            return None
    return bisect_left(range(enough), True, lo=pods.count, key=exists)


def corrections_of(instance: FleetInstance, conflict: tuple[Limit, ...]) -> tuple[FleetCorrection, ...]:
    """The nearest of each kind that alone makes a plan exist: a quota, the budget, changes, a share of all demand."""
    found = []
    model = FleetModel(replace(instance, budget_usd=None), may_fall_short=True)
    served = model.solve(model.fraction_unserved(), None)
    if served.status is Status.OPTIMAL and served.objective < 1 - TOLERANCE:
        found.append(FleetCorrection(limit=Limit("demand"), value=1 - served.objective, unit="of all demand"))
    for limit in conflict:
        model = FleetModel(instance, {limit})
        if limit.kind == "quota":
            place = (limit.of[0], limit.of[1])
            solution = model.solve(model.added(place), None)
            if solution.status is Status.OPTIMAL:
                value = instance.quotas[place] + round(solution.objective)
                found.append(FleetCorrection(limit=limit, value=value, unit="chips"))
        elif limit.kind == "pods":
            fewest = _fewest_pods(instance, (limit.of[0], limit.of[1]))
            if fewest is not None:
                found.append(FleetCorrection(limit=limit, value=fewest, unit="pods"))
        elif limit.kind == "budget":
            solution = model.solve(model.usd(), None)
            if solution.status is Status.OPTIMAL:
                found.append(FleetCorrection(limit=limit, value=solution.objective, unit="$"))
        elif limit.kind == "max_changes":
            solution = model.solve(model.moved, None)
            if solution.status is Status.OPTIMAL:
                found.append(FleetCorrection(limit=limit, value=round(solution.objective), unit="changes"))
    return tuple(found)
