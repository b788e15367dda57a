"""Workloads that cannot be served, and why: their chips have no price, or no plan on those chips meets their limits."""

from dataclasses import dataclass, replace

from servesat.deployment.solve import solve
from servesat.fleet.instance import FleetInstance
from servesat.fleet.instance_from_spec import chips_allowed, regions_allowed
from servesat.fleet.spec import FleetSpec
from servesat.spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Unservable:
    """A workload, or one size of its requests, without a configuration that serves it.

    `sold` and `unsold` are the chips it may use, by whether any of its regions has a price for them; `spec` is its
    deployment on the chips sold, and `conflict` the minimal sets of its limits that no plan satisfies on them. If there
    is no conflict, each replica costs more than `search.max_usd_per_hour`, or breaks its limits in replays.
    """

    workload: str
    size: str | None = None
    sold: tuple[str, ...]
    unsold: tuple[str, ...]
    spec: Spec
    conflict: tuple[tuple[str, ...], ...] = ()
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
    explained = Unservable(workload=name, size=size, sold=sold, unsold=unsold, spec=deployment)
    if not sold:
        return explained
    slices = {chip: topologies for chip, topologies in deployment.search.topologies.items() if chip in sold}
    narrowed = deployment.changed(
        {"search.chips": list(sold), "search.topologies": slices, "search.max_usd_per_hour": None}
    )
    conflict = solve(narrowed).conflict or ()
    return replace(explained, spec=narrowed, conflict=conflict, percentile=None if conflict else workload.percentile)
