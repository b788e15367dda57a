"""Workloads that cannot be served, and why: their chips have no price, or no plan on those chips meets their limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

from servesat.catalogue.chip import chips_in
from servesat.core.plan import Mode
from servesat.deployment.solve import solve
from servesat.fleet.instance import FleetInstance
from servesat.fleet.instance_from_spec import chips_allowed, regions_allowed, slices_held
from servesat.fleet.spec import FleetSpec
from servesat.spec.spec import Spec

Reason = Literal["slices", "network", "cost", "replays"]
"""What keeps plans from being rented: slices or a network that no offer has, their cost, or limits in replays."""


@dataclass(frozen=True, kw_only=True)
class Unservable:
    """A workload, or one size of its requests, without a configuration that serves it.

    `sold` and `unsold` are the chips it may use, by whether any of its regions has a price for them; `spec` is its
    deployment on the chips and the slices sold, and `conflict` the minimal sets of its limits that no plan satisfies on
    them. If there is no conflict, `reason` says what no offer has, or which limit of a replica none keeps.
    """

    workload: str
    size: str | None = None
    sold: tuple[str, ...]
    unsold: tuple[str, ...]
    spec: Spec
    reason: Reason | None = None
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
    explained = Unservable(workload=name, size=size, sold=sold, unsold=unsold, spec=deployment)
    if not sold:
        return explained
    held = slices_held(spec, workload, sold, for_pools=False)
    slices = {chip: found for chip in sold if (found := tuple(dict.fromkeys(chain.from_iterable(held[chip]))))}
    if not slices:
        return replace(explained, reason="slices")
    narrowed = deployment.changed(
        {"search.chips": list(slices), "search.topologies": slices, "search.max_usd_per_hour": None}
    )
    conflict = solve(narrowed).conflict or ()
    every = {chip.id: deployment.topologies_of(chip) for chip in narrowed.chips}
    widest = {chip: max(found, key=chips_in) for chip, found in slices.items() if len(found) < len(every[chip])}
    explained = replace(explained, spec=narrowed, conflict=conflict, widest=widest)
    if conflict:
        return explained
    if deployment.modes == (Mode.DISAGGREGATED,) and not any(
        slices_held(spec, workload, sold, for_pools=True).values()
    ):
        return replace(explained, reason="network")
    if workload.percentile is not None:
        return replace(explained, reason="replays", percentile=workload.percentile)
    return replace(explained, reason="slices" if deployment.search.max_usd_per_hour is None else "cost")
