"""Builds the instance of a fleet from its spec: what each workload could run in, where, and at what price."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from typing import Any, NoReturn

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids, load_chip
from servesat.core.errors import ServesatError
from servesat.core.parallel.runs import DIED_TWICE, THIS_PROCESS, Crew, Workers
from servesat.core.plan import Assignment
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.configurations import Configuration, configurations, may_keep_prefixes, topologies_of
from servesat.fleet.earlier_configurations import configuration_as_before
from servesat.fleet.instance import FleetInstance, ReplicaOption, WorkloadDemand, in_units, size_shares_of
from servesat.fleet.machines import Machine
from servesat.fleet.pods.slices import Box
from servesat.fleet.previous_plan import Decisions, Running
from servesat.fleet.region import Region
from servesat.fleet.shared_replicas import shared_configurations
from servesat.fleet.spec import FleetSpec, FleetWorkload
from servesat.spec.offers import Buy, Offer


def fleet_instance(
    spec: FleetSpec,
    on_progress: Callable[[str], None] = lambda _: None,
    workers: Workers = THIS_PROCESS,
    deadline: float = inf,
    running: Running | None = None,
) -> FleetInstance:
    """The instance of a fleet: evaluates the options of every workload; `on_progress` is called with each step.

    After the deadline, a moment of `time.perf_counter`, no more workloads are begun, and those are left out. What is
    `running` may go on as it is, where it keeps today's limits.
    """
    workloads: list[WorkloadDemand] = []
    options: list[ReplicaOption] = []

    def handed_out() -> Iterator[str]:
        for number, name in enumerate(spec.workloads, start=1):
            if time.perf_counter() > deadline:
                return
            on_progress(f"configurations of {name}, workload {number} of {len(spec.workloads)}")
            yield name

    with Crew(partial(_in_units, spec, {} if running is None else running.decisions), workers, _lost) as crew:
        for demand, workload_options in crew.in_order(handed_out()):
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


def _in_units(spec: FleetSpec, running: Decisions, name: str) -> tuple[WorkloadDemand, list[ReplicaOption]]:
    """The demand and the options of a workload."""
    workload = spec.workloads[name]
    return in_units(_workload_demand(name, workload), _options(spec, name, workload, running.get(name, {})))


def _lost(name: str) -> NoReturn:
    raise ServesatError(f"workload {name}: {DIED_TWICE}")


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


def _options(
    spec: FleetSpec, name: str, workload: FleetWorkload, running: Mapping[str, Mapping[str, Assignment]]
) -> list[ReplicaOption]:
    """The options of a workload, with capacities not yet in units; among them what is running, by configuration."""
    regions, chips = regions_allowed(spec, workload), chips_allowed(spec, workload)
    pod_shapes: dict[str, set[Box]] = defaultdict(set)
    for region_name in regions:
        for chip, pods in spec.pods(region_name).items():
            pod_shapes[chip].add(pods.shape)
    if workload.sizes:
        candidates = shared_configurations(workload.deployments, chips, pods=pod_shapes)
    else:
        keep_dominated = workload.n_plus > 0 or spec.usd_per_change > 0  # few large replicas change less
        candidates = configurations(
            workload.deployment,
            chips,
            keep_dominated=keep_dominated,
            pods=pod_shapes,
            held=slices_held(spec, workload, chips, for_pools=True),
            machines=slices_held(spec, workload, chips, for_pools=False),
            demand=_rates_to_size_for(spec, workload),
            at_random=workload.at_random,
        )
    found = {candidate.name for candidate in candidates}
    before = (
        configuration_as_before(workload, configuration, decisions)
        for configuration, decisions in running.items()
        if configuration not in found
        and all(one.chip in chips and may_keep_prefixes(workload.deployment, one.chip) for one in decisions.values())
    )
    candidates = (*candidates, *(one for one in before if one is not None))
    max_usd = workload.deployment.search.max_usd_per_hour
    options = []
    for region_name, region in regions.items():
        for purchase in region.purchases:
            offers = {
                chip: _distinct_offers(region.offers(_chip_of(workload, chip), purchase))
                for chip in {candidate.chip for candidate in candidates} & region.chips()
            }
            for candidate in candidates:
                for offer in _holding(offers.get(candidate.chip, []), candidate, spec.buy):
                    usd = offer.usd_per_chip_hour
                    if max_usd is not None and usd * candidate.chips > max_usd * (1 + LIMIT_RTOL):
                        continue
                    derating = spec.spot_capacity if purchase == "spot" else 1.0
                    options.append(
                        ReplicaOption(
                            workload=name,
                            configuration=candidate,
                            region=region_name,
                            purchase=purchase,
                            usd_per_chip_hour=usd,
                            requests_per_s=candidate.requests_per_s * derating,
                            capacity=0,
                            size_rates=tuple(rate * derating for rate in candidate.size_rates),
                            price=offer.price,
                            machine=_machine(offer, region_name, spec.buy),
                        )
                    )
    return options


def _chip_of(workload: FleetWorkload, chip: str) -> Chip:
    """A chip as the deployment has it, else as the catalogue does."""
    records = {one.id: one for one in workload.deployment.search.chips or ()}
    return records.get(chip) or load_chip(chip)


def slices_held(
    spec: FleetSpec, workload: FleetWorkload, chips: Iterable[str], *, for_pools: bool
) -> dict[str, list[tuple[str, ...]]]:
    """Of each chip, the lists of slices that offers of the regions hold; `for_pools`, offers with a network alone."""
    held = {}
    for name in sorted(chips):
        chip = _chip_of(workload, name)
        searched = workload.deployment.topologies_of(chip)
        offers = [
            offer
            for region in regions_allowed(spec, workload).values()
            for purchase in (region.purchases if name in region.chips() else ())
            for offer in region.offers(chip, purchase)
            if _moves_as_fast(offer) or not for_pools
        ]
        lists = (tuple(one for one in searched if offer.instances_of_slice(one) is not None) for offer in offers)
        held[name] = list(dict.fromkeys(lists))
    return held


def _rates_to_size_for(spec: FleetSpec, workload: FleetWorkload) -> tuple[float, ...]:
    """The demand of each period, and what serves it where only a part of spot capacity is counted on."""
    on_spot = any("spot" in region.purchases for region in regions_allowed(spec, workload).values())
    derated = [rate / spec.spot_capacity for rate in workload.demand] if on_spot and spec.spot_capacity < 1 else []
    return (*workload.demand, *derated)


def _moves_as_fast(offer: Offer) -> bool:
    """Whether an offer's network is as fast as that of its chip, with which two pools are found."""
    return offer.network_bytes_per_s >= (offer.chip.network_bytes_per_s or 0.0)


def _distinct_offers(offers: list[Offer]) -> list[Offer]:
    """The cheapest offer of each kind of instance, the cheapest first; no plan uses a dearer one of the same kind.

    Of those that cost the same the one with the fastest network: a plan names the machines that all it needs stands in.
    """
    kinds: dict[Any, dict[tuple[bool, float], Offer]] = defaultdict(dict)
    for offer in sorted(offers, key=lambda offer: (offer.usd_per_chip_hour, -_network_stated(offer))):
        size = () if offer.price is None else (offer.price.instance_chips, offer.price.link_chips)
        network = _moves_as_fast(offer), _network_stated(offer)
        if not any(known[0] >= network[0] and known[1] >= network[1] for known in kinds[size]):
            kinds[size][network] = offer
    return sorted(
        (offer for of_size in kinds.values() for offer in of_size.values()), key=lambda one: one.usd_per_chip_hour
    )


def _network_stated(offer: Offer) -> float:
    """What each chip of an offer sends over the network [bytes/s]; 0 where that is not stated."""
    return 0.0 if offer.price is None else offer.price.network_bytes_per_s_per_chip or 0.0


def _holding(offers: list[Offer], candidate: Configuration, buy: Buy) -> list[Offer]:
    """The offers that hold the slices of a configuration, and move its KV cache as fast as it was found to move.

    Of chips that pay their share the cheapest offer only, and so of slices that are sold by themselves; of reserved
    ones every offer, as a replica may stand on chips that others reserve at a higher price.
    """
    plan = candidate.plan
    plans = list(candidate.plans.values()) if plan is None else [plan]
    topologies = {topology for one in plans for topology in topologies_of(one)}
    holding = []
    for offer in offers:
        moves = plan is None or plan.prefill is None or _moves_as_fast(offer)
        if moves and all(offer.instances_of_slice(topology) is not None for topology in topologies):
            holding.append(offer)
    by_share = [offer for offer in holding if _is_by_share(offer, buy)]
    reserved = [offer for offer in by_share if offer.price is not None and offer.price.purchase == "reserved"]
    return [offer for offer in holding if not _is_by_share(offer, buy)] + (reserved or by_share[:1])


def _is_by_share(offer: Offer, buy: Buy) -> bool:
    """Whether slices are paid for by the chip."""
    return buy == "share" or offer.price is None or offer.price.instance_chips is None


def _machine(offer: Offer, region: str, buy: Buy) -> Machine | None:
    """The instance that slices stand in; None where they are paid for by the chip."""
    price = offer.price
    if _is_by_share(offer, buy) or price is None:
        return None
    return Machine(
        region=region,
        chip=offer.chip.id,
        purchase=price.purchase,
        chips=price.instance_chips or 1,
        usd_per_hour=price.usd_per_instance_hour or 0.0,
        price=price,
    )
