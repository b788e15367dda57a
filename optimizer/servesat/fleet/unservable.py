"""Workloads that nothing serves, and why: nobody sells what they may use, or no plan on it meets their limits."""

from dataclasses import dataclass, replace

from servesat.deployment.solve import solve
from servesat.fleet.instance import FleetInstance, chips_allowed, regions_allowed
from servesat.fleet.spec import FleetSpec
from servesat.spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Unservable:
    """A workload, or one size of its requests, without a configuration.

    `sold` and `unsold` are the chips it may use, by whether any of its regions has a price for them; `spec` is its
    deployment on those sold, and `conflict` the minimal sets of its limits that no plan satisfies on them. Without a
    conflict each replica costs more than `search.max_usd_per_hour`.
    """

    workload: str
    size: str | None = None
    sold: tuple[str, ...]
    unsold: tuple[str, ...]
    spec: Spec
    conflict: tuple[tuple[str, ...], ...] = ()


def unservable(spec: FleetSpec, instance: FleetInstance) -> tuple[Unservable, ...]:
    """Every workload with a demand, and each size of its requests, that has no option in an instance."""
    return tuple(_stranded(spec, name, size) for name, size in instance.unservable())


def _stranded(spec: FleetSpec, name: str, size: str | None) -> Unservable:
    workload = spec.workloads[name]
    own = workload.deployment if size is None else workload.deployments[size].in_one_pool()
    regions = regions_allowed(spec, workload).values()
    chips = sorted(chips_allowed(spec, workload))
    sold = tuple(
        chip
        for chip in chips
        if any(
            chip in region.chips() and region.usd_per_chip_hour(chip, purchase) is not None
            for region in regions
            for purchase in region.purchases
        )
    )
    unsold = tuple(chip for chip in chips if chip not in sold)
    found = Unservable(workload=name, size=size, sold=sold, unsold=unsold, spec=own)
    if not sold:
        return found
    slices = {chip: names for chip, names in own.search.topologies.items() if chip in sold}
    narrowed = own.changed({"search.chips": list(sold), "search.topologies": slices, "search.max_usd_per_hour": None})
    return replace(found, spec=narrowed, conflict=solve(narrowed).conflict or ())
