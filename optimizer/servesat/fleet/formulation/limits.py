"""The named limits of a fleet, and the solution that a solver returns."""

from dataclasses import dataclass, field

from servesat.core.result import Status
from servesat.fleet.instance import FleetInstance, ReservedChips


@dataclass(frozen=True)
class Limit:
    """A named limit of a fleet, which can be relaxed to find out which limits conflict."""

    kind: str
    """`demand`, `quota`, `pods`, `region_share`, `spot_share`, `n_plus`, `one_chip`, `max_configurations`, `budget` or
    `max_changes`."""
    of: tuple[str, ...] = ()  # the workload, or the region and the chip


@dataclass(frozen=True)
class FleetSolution:
    """Replicas of each option in each period, reserved chips, unserved demand, and the dual bound on the objective."""

    status: Status
    replicas: tuple[tuple[int, ...], ...] = ()  # [option][period]
    reserved: dict[ReservedChips, int] = field(default_factory=dict)
    unserved: dict[str, tuple[int, ...]] = field(default_factory=dict)  # by workload, in its units, by period
    objective: float = 0.0
    bound: float = 0.0
    undecided: bool = False  # UNKNOWN because a packing was not decided, not because time ran out


def limits_of(instance: FleetInstance) -> list[Limit]:
    """Every limit of an instance."""
    workloads, previous_plan = instance.workloads, instance.previous_plan
    limits = [Limit("demand", (workload.name,)) for workload in workloads]
    limits += [
        Limit("region_share", (workload.name,)) for workload in workloads if workload.max_share_per_region is not None
    ]
    limits += [Limit("spot_share", (workload.name,)) for workload in workloads if workload.max_spot_share < 1]
    limits += [Limit("n_plus", (workload.name,)) for workload in workloads if workload.redundant_replicas]
    limits += [Limit("one_chip", (workload.name,)) for workload in workloads if workload.one_chip]
    limits += [Limit("max_configurations", (workload.name,)) for workload in workloads if workload.max_configurations]
    limits += [Limit("quota", region_chip) for region_chip in instance.quotas]
    limits += [Limit("pods", region_chip) for region_chip in instance.pods]
    if previous_plan is not None and previous_plan.max_changes is not None:
        limits.append(Limit("max_changes"))
    return limits + ([Limit("budget")] if instance.budget_usd is not None else [])
