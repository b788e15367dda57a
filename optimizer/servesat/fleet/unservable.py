"""Workloads that cannot be served, and why: their chips have no price, or no plan on those chips meets their limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from servesat.deployment.solve import solve
from servesat.fleet.instance import FleetInstance
from servesat.fleet.instance_from_spec import chips_allowed, regions_allowed, slices_held
from servesat.fleet.spec import FleetSpec
from servesat.spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Unservable:
    """A workload, or one size of its requests, without a configuration that serves it.

    `sold` and `unsold` are the chips it may use, by whether any of its regions has a price for them; `spec` is its
    deployment on the chips and the slices sold, and `conflict` the minimal sets of its limits that no plan satisfies on
    them. If there is no conflict, each replica costs more than `search.max_usd_per_hour`, breaks its limits in replays,
    or has two pools that no machines hold together.
    """

    workload: str
    size: str | None = None
    sold: tuple[str, ...]
    unsold: tuple[str, ...]
    spec: Spec
    max_usd_per_hour: float | None = None  # of a replica
    conflict: tuple[tuple[str, ...], ...] = ()
    widest: Mapping[str, str] = field(default_factory=dict)  # slices of a chip that machines hold, where not all
    percentile: float | None = None  # the share of requests for which replays keep the limits at no rate


def unservable(spec: FleetSpec, instance: FleetInstance) -> tuple[Unservable, ...]:
    """Every workload with a demand, and every size of its requests, that no option of the instance serves."""
    return tuple(_explained(spec, name, size) for name, size in instance.unservable())


def _explained(spec: FleetSpec, name: str, size: str | None) -> Unservable:
    workload = spec.workloads[name]
    deployment = workload.deployment if size is None else workload.deployments[size].in_one_pool()
    regions = regions_allowed(spec, workload).values()
    chips = sorted(chips_allowed(spec, workload))
    sold = tuple(
        chip
        for chip in chips
        if any(
            chip in region.chips() and region.is_sold(chip, purchase)
            for region in regions
            for purchase in region.purchases
        )
    )
    unsold = tuple(chip for chip in chips if chip not in sold)
    max_usd = deployment.search.max_usd_per_hour
    explained = Unservable(
        workload=name, size=size, sold=sold, unsold=unsold, spec=deployment, max_usd_per_hour=max_usd
    )
    if not sold:
        return explained
    held = slices_held(spec, workload, sold, for_pools=False)
    slices = {chip: found for chip in sold if (found := tuple(dict.fromkeys(chain.from_iterable(held[chip]))))}
    if not slices:
        return explained
    narrowed = deployment.changed(
        {"search.chips": list(slices), "search.topologies": slices, "search.max_usd_per_hour": None}
    )
    conflict = solve(narrowed).conflict or ()
    every = {chip.id: deployment.topologies_of(chip) for chip in narrowed.chips}
    widest = {chip: found[-1] for chip, found in slices.items() if len(found) < len(every[chip])}
    percentile = None if conflict else workload.percentile
    return replace(explained, spec=narrowed, conflict=conflict, percentile=percentile, widest=widest)
