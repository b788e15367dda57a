"""Builds the instance of a fleet from its spec: what each workload could run in, where, and at what price."""

from collections import defaultdict
from collections.abc import Callable

from servesat.catalogue.load import chip_ids
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.configurations import configurations
from servesat.fleet.instance import FleetInstance, ReplicaOption, WorkloadDemand, in_units, size_shares_of
from servesat.fleet.pods.slices import Box
from servesat.fleet.shared_replicas import shared_configurations
from servesat.fleet.spec import FleetSpec, FleetWorkload, Region


def fleet_instance(spec: FleetSpec, on_progress: Callable[[str], None] = lambda _: None) -> FleetInstance:
    """The instance of a fleet: evaluates the options of every workload; `on_progress` is called with each step."""
    workloads, options = [], []
    for number, (name, workload) in enumerate(spec.workloads.items(), start=1):
        on_progress(f"configurations of {name}, workload {number} of {len(spec.workloads)}")
        demand, workload_options = in_units(_workload_demand(name, workload), _options(spec, name, workload))
        workloads.append(demand)
        options += workload_options
    quotas = {
        (name, chip): count for name, region in spec.regions.items() for chip, count in (region.quota or {}).items()
    }
    pods = {(region, chip): chip_pods for region in spec.regions for chip, chip_pods in spec.pods(region).items()}
    return FleetInstance(
        tuple(workloads),
        tuple(options),
        spec.periods_h,
        quotas,
        spec.budget_usd,
        pods=pods,
        usd_per_change=spec.usd_per_change,
    )


def regions_allowed(spec: FleetSpec, workload: FleetWorkload) -> dict[str, Region]:
    """The regions that a workload may run in."""
    return {
        name: region for name, region in spec.regions.items() if workload.regions is None or name in workload.regions
    }


def chips_allowed(spec: FleetSpec, workload: FleetWorkload) -> set[str]:
    """The chips that a workload may use and that its regions have, with or without a price."""
    searched = workload.deployment.search.chips
    chips = set().union(*(region.chips() for region in regions_allowed(spec, workload).values()))
    chips &= {*chip_ids(), *(chip.id for chip in searched or ())}
    chips &= set(workload.chips) if workload.chips is not None else chips
    return chips & {chip.id for chip in searched} if searched is not None else chips


def _workload_demand(name: str, workload: FleetWorkload) -> WorkloadDemand:
    """The demand of a workload, not yet in units."""
    size_demand = zip(*(size.demand for size in workload.sizes.values()), strict=True)
    return WorkloadDemand(
        name=name,
        demand=(),
        requests_per_s=workload.demand,
        unit=1.0,
        redundant_replicas=workload.n_plus,
        max_share_per_region=workload.max_share_per_region,
        max_spot_share=workload.max_spot_share,
        one_chip=workload.one_chip,
        priority=workload.priority,
        sizes=tuple(workload.sizes),
        size_shares=tuple(map(size_shares_of, size_demand)),
        max_configurations=workload.max_configurations,
    )


def _options(spec: FleetSpec, name: str, workload: FleetWorkload) -> list[ReplicaOption]:
    """The options of a workload, with capacities not yet in units."""
    regions, chips = regions_allowed(spec, workload), chips_allowed(spec, workload)
    pod_shapes: dict[str, set[Box]] = defaultdict(set)
    for region_name in regions:
        for chip, pods in spec.pods(region_name).items():
            pod_shapes[chip].add(pods.shape)
    if workload.sizes:
        candidates = shared_configurations(workload.deployments, chips, pods=pod_shapes)
    else:
        keep_dominated = workload.n_plus > 0 or spec.usd_per_change > 0  # few large replicas change less
        candidates = configurations(workload.deployment, chips, keep_dominated=keep_dominated, pods=pod_shapes)
    max_usd = workload.deployment.search.max_usd_per_hour
    options = []
    for candidate in candidates:
        for region_name, region in regions.items():
            for purchase in region.purchases if candidate.chip in region.chips() else ():
                usd = region.usd_per_chip_hour(candidate.chip, purchase)
                if usd is None or (max_usd is not None and usd * candidate.chips > max_usd * (1 + LIMIT_RTOL)):
                    continue
                derating = spec.spot_capacity if purchase == "spot" else 1.0
                rate = candidate.requests_per_s * derating
                size_rates = tuple(rate * derating for rate in candidate.size_rates)
                price = region.listed_price(candidate.chip, purchase)
                options.append(ReplicaOption(name, candidate, region_name, purchase, usd, rate, 0, size_rates, price))
    return options
