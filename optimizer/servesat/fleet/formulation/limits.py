"""The named limits of a fleet, and what a solver finds within them."""

from dataclasses import dataclass, field

from servesat.core.result import Status
from servesat.fleet.instance import FleetInstance


@dataclass(frozen=True)
class Limit:
    """A named limit of a fleet: one that can be left out, to see what conflicts."""

    kind: str  # demand, quota, pods, region_share, spot_share, n_plus, one_chip, budget, max_changes
    of: tuple[str, ...] = ()  # the workload, or the region and the chip


@dataclass(frozen=True)
class FleetSolution:
    """Replicas of each option in each period, chips reserved, what is not served, and the bound on the money."""

    status: Status
    replicas: tuple[tuple[int, ...], ...] = ()  # [option][period]
    reserved: dict[tuple[str, str], int] = field(default_factory=dict)  # by region and chip
    unserved: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by workload, in its units, by period
    objective: float = 0.0
    bound: float = 0.0
    undecided: bool = False  # UNKNOWN for want of a packing, not of time


def limits_of(instance: FleetInstance) -> list[Limit]:
    """Every limit that an instance has."""
    found = [Limit("demand", (need.name,)) for need in instance.needs]
    found += [Limit("region_share", (need.name,)) for need in instance.needs if need.max_share_per_region is not None]
    found += [Limit("spot_share", (need.name,)) for need in instance.needs if need.max_spot_share < 1]
    found += [Limit("n_plus", (need.name,)) for need in instance.needs if need.n_plus]
    found += [Limit("one_chip", (need.name,)) for need in instance.needs if need.one_chip]
    found += [Limit("quota", place) for place in instance.quotas]
    found += [Limit("pods", place) for place in instance.pods]
    if instance.earlier is not None and instance.earlier.max_changes is not None:
        found.append(Limit("max_changes"))
    return found + ([Limit("budget")] if instance.budget_usd is not None else [])
