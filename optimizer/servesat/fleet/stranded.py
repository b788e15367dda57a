"""Workloads that nothing serves, and why: nobody sells what they may use, or no plan on it meets their limits."""

from dataclasses import dataclass

from servesat.deployment import solve
from servesat.fleet.instance import FleetInstance, chips_allowed, regions_allowed
from servesat.fleet.spec import FleetSpec
from servesat.plan import Requirement
from servesat.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Stranded:
    """A workload without a configuration.

    `sold` and `unsold` are the chips it may use, by whether any of its regions has a price for them; `spec` is its
    deployment on those sold, and `conflict` the minimal sets of its limits that no plan satisfies on them. Without a
    conflict each replica costs more than `search.max_usd_per_hour`.
    """

    workload: str
    sold: tuple[str, ...]
    unsold: tuple[str, ...]
    spec: Spec
    conflict: tuple[tuple[Requirement, ...], ...] = ()


def stranded(spec: FleetSpec, instance: FleetInstance) -> tuple[Stranded, ...]:
    """Every workload with a demand that has no option in an instance."""
    asked = [need.name for need in instance.needs if any(need.demand) and not instance.of(need.name)]
    return tuple(_stranded(spec, name) for name in asked)


def _stranded(spec: FleetSpec, name: str) -> Stranded:
    workload = spec.workloads[name]
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
    if not sold:
        return Stranded(workload=name, sold=sold, unsold=unsold, spec=workload.deployment)
    slices = {chip: names for chip, names in workload.deployment.search.topologies.items() if chip in sold}
    narrowed = workload.deployment.changed(
        {"search.chips": list(sold), "search.topologies": slices, "search.max_usd_per_hour": None}
    )
    conflict = solve(narrowed).conflict or ()
    return Stranded(workload=name, sold=sold, unsold=unsold, spec=narrowed, conflict=conflict)
