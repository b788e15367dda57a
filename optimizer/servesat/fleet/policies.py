"""What simpler ways to run a fleet would cost, by the same model, and the value of more quota or pods."""

import time
from collections import Counter
from dataclasses import dataclass, replace

from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.cheapest import DEFAULT_TIME_LIMIT_S, cheapest
from servesat.fleet.check import bill_of, changes_of, chips_taken, is_as_solved
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, RegionChip, ReservedChips
from servesat.fleet.pods.slices import Counts, Pods
from servesat.fleet.previous_plan import PreviousPlan
from servesat.fleet.result import FleetResult

FEW_CONFIGURATIONS = "one configuration of each workload in a region"
"""The name of the policy."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A simpler policy and its bill; None if it cannot serve the fleet, `proved` if the bill is its optimum."""

    name: str
    total_usd: float | None
    proved: bool


@dataclass(frozen=True, kw_only=True)
class QuotaValue:
    """A quota that is used up in some period, and what an additional chip would save over all periods."""

    region: str
    chip: str
    quota: int
    periods: int  # in which the quota is used up
    saves_usd: float
    proved: bool


@dataclass(frozen=True, kw_only=True)
class PodValue:
    """What an additional pod of a region and chip would save over all periods."""

    region: str
    chip: str
    pods: Pods
    saves_usd: float
    proved: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a plan is compared with: simpler policies, larger quotas and more pods."""

    policies: tuple[Policy, ...] = ()
    quotas: tuple[QuotaValue, ...] = ()
    pods: tuple[PodValue, ...] = ()


def compared(result: FleetResult, *, time_limit_s: float | None = None) -> Comparison:
    """The cost of simpler policies, and the savings from an additional chip of each full quota and from another pod.

    `time_limit_s` is for each of them; the default is five minutes.
    """
    time_limit_s = DEFAULT_TIME_LIMIT_S if time_limit_s is None else time_limit_s
    if result.total_usd is None:
        return Comparison()
    if result.unserved is not None:  # the policies serve as much as the plan
        result = replace(result, instance=result.instance.without_demand(result.unserved))
    return Comparison(
        policies=_policies(result.instance, time_limit_s),
        quotas=_quotas(result, time_limit_s),
        pods=_pods(result, time_limit_s),
    )


def _policies(instance: FleetInstance, time_limit_s: float) -> tuple[Policy, ...]:
    policies = [_best_single_chip(instance, time_limit_s)]
    policies.append(_optimum("a static fleet, sized for the peak", instance.at_peak(), time_limit_s))
    if any(workload.max_configurations != 1 for workload in instance.workloads):
        policies.append(_optimum(FEW_CONFIGURATIONS, _with_one_configuration(instance), time_limit_s))
    if instance.reservable or instance.reserves_instances:
        unreserved = instance.with_options(lambda option: option.purchase != "reserved")
        policies.append(_optimum("no reservations", unreserved, time_limit_s))
    shared = [workload for workload in instance.workloads if workload.sizes]
    # these limits apply to a workload as a whole, and not to its sizes
    separable = instance.previous_plan is None and not instance.limits_configurations
    if shared and separable:
        name = "replicas of its own for each size of requests, in one pool"
        policies.append(_optimum(name, instance.with_separate_sizes(), time_limit_s))
    return (*policies, _greedy(instance, time_limit_s))


def _with_one_configuration(instance: FleetInstance) -> FleetInstance:
    workloads = tuple(replace(workload, max_configurations=1) for workload in instance.workloads)
    return replace(instance, workloads=workloads)


def _best_single_chip(instance: FleetInstance, time_limit_s: float) -> Policy:
    """The cheapest fleet on a single type of chip."""
    singles, deadline = [], time.perf_counter() + time_limit_s
    for chip in sorted({option.configuration.chip for option in instance.options}):
        single = instance.with_options(lambda option, chip=chip: option.configuration.chip == chip)  # type: ignore[misc]
        singles.append(_optimum(f"one type of chip, {chip}", single, max(0.0, deadline - time.perf_counter())))
    feasible = [policy for policy in singles if policy.total_usd is not None]
    proved = all(policy.proved for policy in singles)
    if not feasible:
        return Policy(name="one type of chip", total_usd=None, proved=proved)
    return replace(min(feasible, key=lambda policy: policy.total_usd or 0.0), proved=proved)


def _quotas(result: FleetResult, time_limit_s: float) -> tuple[QuotaValue, ...]:
    instance, values = result.instance, []
    for (region, chip), quota in instance.quotas.items():
        full = sum(count == quota for count in result.chips_taken[region, chip])
        if full and quota:
            wider = replace(instance, quotas={**instance.quotas, (region, chip): quota + 1})
            saves, proved = _savings(result, wider, time_limit_s)
            values.append(
                QuotaValue(region=region, chip=chip, quota=quota, periods=full, saves_usd=saves, proved=proved)
            )
    return tuple(values)


def _pods(result: FleetResult, time_limit_s: float) -> tuple[PodValue, ...]:
    instance, values = result.instance, []
    for (region, chip), pods in instance.pods.items():
        wider = replace(instance, pods={**instance.pods, (region, chip): replace(pods, count=pods.count + 1)})
        saves, proved = _savings(result, wider, time_limit_s)
        values.append(PodValue(region=region, chip=chip, pods=pods, saves_usd=saves, proved=proved))
    return tuple(values)


def _savings(result: FleetResult, wider: FleetInstance, time_limit_s: float) -> tuple[float, bool]:
    """What a wider limit saves, and whether that is proved."""
    optimum = _optimum("", wider, time_limit_s)
    saves = 0.0 if optimum.total_usd is None else max(0.0, (result.total_usd or 0.0) - optimum.total_usd)
    return saves, optimum.proved


def _optimum(name: str, instance: FleetInstance, time_limit_s: float) -> Policy:
    solution = cheapest(instance, time.perf_counter() + time_limit_s)
    if solution.status not in (Status.OPTIMAL, Status.FEASIBLE):
        return Policy(name=name, total_usd=None, proved=solution.status is Status.INFEASIBLE)
    usd = bill_of(instance, solution)
    return Policy(name=name, total_usd=usd, proved=solution.status is Status.OPTIMAL and is_as_solved(usd, solution))


def _greedy(instance: FleetInstance, time_limit_s: float) -> Policy:
    """Plan one workload after another, by priority, within the quotas, pods and changes that earlier ones leave.

    None counts on instances that others rent; where their slices fit into the same ones, the bill is for those.
    """
    name, proved, periods = "greedy, one workload after another", True, range(len(instance.hours))
    replicas: dict[int, tuple[int, ...]] = {}
    reserved: Counter[ReservedChips] = Counter()
    deadline = time.perf_counter() + time_limit_s
    occupied_chips: dict[RegionChip, tuple[int, ...]] = dict(instance.occupied_chips)
    occupied_slices: dict[RegionChip, tuple[Counts, ...]] = dict(instance.occupied_slices)
    previous_plan = instance.previous_plan
    if previous_plan is not None:
        previous_plan = previous_plan.after(_stopped_replicas(instance, previous_plan))
    for workload in sorted(instance.workloads, key=lambda workload: workload.priority):
        single = replace(
            instance.with_options(lambda option, name=workload.name: option.workload == name),  # type: ignore[misc]
            workloads=(workload,),
            budget_usd=None,
            previous_plan=None if previous_plan is None else previous_plan.of({workload.name}),
            occupied_chips=occupied_chips,
            occupied_slices=occupied_slices,
        )
        model = FleetModel(single)
        solution = model.solve(model.usd(), max(0.0, deadline - time.perf_counter()))
        if solution.status not in (Status.OPTIMAL, Status.FEASIBLE):
            return Policy(name=name, total_usd=None, proved=solution.status is Status.INFEASIBLE)
        replicas |= zip(instance.options_of(workload.name), solution.replicas, strict=True)
        reserved.update(solution.reserved)
        proved = proved and solution.status is Status.OPTIMAL and is_as_solved(bill_of(single, solution), solution)
        previous_plan = None if previous_plan is None else previous_plan.after(changes_of(single, solution))
        for region_chip in instance.pods:
            occupied_slices[region_chip] = tuple(
                single.slices(region_chip, period, solution.replicas) for period in periods
            )
        for region_chip, counts in chips_taken(single, solution).items():
            before = occupied_chips.get(region_chip, (0,) * len(periods))
            occupied_chips[region_chip] = tuple(map(int.__add__, before, counts))
    every = tuple(replicas[option] for option in range(len(instance.options)))
    total = bill_of(instance, FleetSolution(Status.FEASIBLE, every, dict(reserved)))
    over_budget = instance.budget_usd is not None and total > instance.budget_usd * (1 + LIMIT_RTOL)
    return Policy(name=name, total_usd=None if over_budget else total, proved=proved)


def _stopped_replicas(instance: FleetInstance, previous_plan: PreviousPlan) -> int:
    """Replicas of the previous plan whose workloads are no longer part of the fleet."""
    removed = {key[0] for key in previous_plan.replicas} - {workload.name for workload in instance.workloads}
    return previous_plan.of(removed).changes({}, len(instance.hours))
