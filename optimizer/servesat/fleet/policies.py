"""What simpler ways to run a fleet would cost, by the same model."""

import time
from dataclasses import dataclass, replace

from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.check import bill_of, changes_of, chips_taken
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.instance import FleetInstance
from servesat.fleet.plan import LONGEST_S, FleetResult, cheapest
from servesat.fleet.pods.slices import Pods


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A simpler policy and its bill; None where it cannot serve the fleet, `proved` whether the bill is its least."""

    name: str
    total_usd: float | None
    proved: bool


@dataclass(frozen=True, kw_only=True)
class QuotaValue:
    """A quota that is used up in some period, and what one more chip of it would save over all periods."""

    region: str
    chip: str
    quota: int
    periods: int  # in which it is used up
    saves_usd: float
    proved: bool


@dataclass(frozen=True, kw_only=True)
class PodValue:
    """What one more pod of a place would save over all periods."""

    region: str
    chip: str
    pods: Pods
    saves_usd: float
    proved: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What stands beside a fleet's plan: simpler policies, and what its quotas and pods cost."""

    policies: tuple[Policy, ...] = ()
    quotas: tuple[QuotaValue, ...] = ()
    pods: tuple[PodValue, ...] = ()


def compared(result: FleetResult, *, time_limit_s: float | None = None) -> Comparison:
    """What simpler policies would cost, and what one more chip of a full quota, and one more pod, save.

    `time_limit_s` is for each, five minutes if left out.
    """
    time_limit_s = LONGEST_S if time_limit_s is None else time_limit_s
    if result.total_usd is None:
        return Comparison()
    if result.unserved is not None:  # the others serve as much
        result = replace(result, instance=result.instance.short_of(result.unserved))
    return Comparison(
        policies=_policies(result.instance, time_limit_s),
        quotas=_quotas(result, time_limit_s),
        pods=_pods(result, time_limit_s),
    )


def _policies(instance: FleetInstance, time_limit_s: float) -> tuple[Policy, ...]:
    found = [_best_single(instance, time_limit_s)]
    found.append(_best("a static fleet, sized for the peak", instance.at_its_peak(), time_limit_s))
    if instance.reserved_prices:
        without = instance.only(lambda option: option.purchase != "reserved")
        found.append(_best("no reservations", without, time_limit_s))
    shared = [need for need in instance.needs if need.sizes]
    alone = instance.earlier is None and not any(
        need.one_chip for need in shared
    )  # limits on a workload, not on a size
    if shared and alone:
        name = "replicas of its own for each size of requests, in one pool"
        found.append(_best(name, instance.with_sizes_apart(), time_limit_s))
    return (*found, _one_after_another(instance, time_limit_s))


def _best_single(instance: FleetInstance, time_limit_s: float) -> Policy:
    """The best fleet on one type of chip."""
    singles = []
    for chip in sorted({option.configuration.chip for option in instance.options}):
        alone = instance.only(lambda option, chip=chip: option.configuration.chip == chip)  # type: ignore[misc]
        singles.append(_best(f"one type of chip, {chip}", alone, time_limit_s))
    feasible = [policy for policy in singles if policy.total_usd is not None]
    proved = all(policy.proved for policy in singles)
    if not feasible:
        return Policy(name="one type of chip", total_usd=None, proved=proved)
    return replace(min(feasible, key=lambda policy: policy.total_usd or 0.0), proved=proved)


def _quotas(result: FleetResult, time_limit_s: float) -> tuple[QuotaValue, ...]:
    instance, found = result.instance, []
    taken = result.chips_taken
    for (region, chip), quota in instance.quotas.items():
        full = sum(count == quota for count in taken[region, chip])
        if full and quota:
            wider = replace(instance, quotas={**instance.quotas, (region, chip): quota + 1})
            saves, proved = _saved(result, wider, time_limit_s)
            found.append(
                QuotaValue(region=region, chip=chip, quota=quota, periods=full, saves_usd=saves, proved=proved)
            )
    return tuple(found)


def _pods(result: FleetResult, time_limit_s: float) -> tuple[PodValue, ...]:
    instance, found = result.instance, []
    for (region, chip), pods in instance.pods.items():
        wider = replace(instance, pods={**instance.pods, (region, chip): replace(pods, count=pods.count + 1)})
        saves, proved = _saved(result, wider, time_limit_s)
        found.append(PodValue(region=region, chip=chip, pods=pods, saves_usd=saves, proved=proved))
    return tuple(found)


def _saved(result: FleetResult, wider: FleetInstance, time_limit_s: float) -> tuple[float, bool]:
    """What a fleet with more room saves over a plan, and whether that is proved."""
    best = _best("", wider, time_limit_s)
    saves = 0.0 if best.total_usd is None else max(0.0, (result.total_usd or 0.0) - best.total_usd)
    return saves, best.proved


def _best(name: str, instance: FleetInstance, time_limit_s: float) -> Policy:
    found = cheapest(instance, time.perf_counter() + time_limit_s)
    has_plan = found.status in (Status.OPTIMAL, Status.FEASIBLE)
    usd = bill_of(instance, found) if has_plan else None
    return Policy(name=name, total_usd=usd, proved=found.status in (Status.OPTIMAL, Status.INFEASIBLE))


def _one_after_another(instance: FleetInstance, time_limit_s: float) -> Policy:
    """Each workload at its cheapest within what those before it leave of quotas, pods and changes, by priority."""
    name, total, proved, periods = "greedy, one workload after another", 0.0, True, range(len(instance.hours))
    taken, standing, earlier = dict(instance.taken), dict(instance.standing), instance.earlier
    if earlier is not None:
        names = {need.name for need in instance.needs}
        gone = earlier.of(lambda workload: workload not in names).changes({}, len(periods))
        total, earlier = total + earlier.usd_per_change * gone, earlier.after(gone)
    for need in sorted(instance.needs, key=lambda need: need.priority):
        mine = instance.only(lambda option, name=need.name: option.workload == name)  # type: ignore[misc]
        own = None if earlier is None else earlier.of(lambda workload, name=need.name: workload == name)  # type: ignore[misc]
        alone = replace(mine, needs=(need,), budget_usd=None, earlier=own, taken=taken, standing=standing)
        model = FleetModel(alone)
        found = model.solve(model.usd(), time_limit_s)
        if found.status not in (Status.OPTIMAL, Status.FEASIBLE):
            return Policy(name=name, total_usd=None, proved=found.status is Status.INFEASIBLE)
        total += bill_of(alone, found)
        proved = proved and found.status is Status.OPTIMAL
        earlier = None if earlier is None else earlier.after(changes_of(alone, found))
        for place in instance.pods:
            standing[place] = tuple(alone.slices(place, period, found.replicas) for period in periods)
        for place, counts in chips_taken(alone, found).items():
            before = taken.get(place, (0,) * len(periods))
            taken[place] = tuple(map(int.__add__, before, counts))
    too_dear = instance.budget_usd is not None and total > instance.budget_usd * (1 + LIMIT_RTOL)
    return Policy(name=name, total_usd=None if too_dear else total, proved=proved)
