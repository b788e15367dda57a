"""The result of planning a fleet: its plan with the proof of optimality, or why there is none."""

from dataclasses import dataclass, field

from servesat.core.result import Status
from servesat.fleet.conflict import Collision, FleetCorrection
from servesat.fleet.formulation.limits import Limit
from servesat.fleet.instance import FleetInstance, RegionChip, ReplicaOption
from servesat.fleet.machines import Machine
from servesat.fleet.placement_map import PlacementMap
from servesat.fleet.unservable import Unservable

COMPACT, COMPACT_WITH_SIZES = "compact model, HiGHS", "compact model, SCIP"

DECOMPOSITION, DECOMPOSITION_WITH_SIZES = "decomposition, PDLP and HiGHS", "decomposition, PDLP, HiGHS and SCIP"


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Replicas of one workload in one configuration, region, purchase and period, and their cost in it.

    Reserved replicas have no cost here, since reserved chips are paid for in total: see `Reservation`. Those in
    whole instances cost what their chips do at the instance's price; `Rental` has the rest, of idle chips.
    `requests_per_s` is what the replicas serve of each size of requests, in the proportions of the period's demand.
    """

    workload: str
    region: str
    purchase: str
    period: int
    option: ReplicaOption
    replicas: int
    requests_per_s: tuple[float, ...]
    usd: float


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Chips reserved in a region for all periods, and their cost over all of them."""

    region: str
    chip: str
    chips: int
    usd: float


@dataclass(frozen=True, kw_only=True)
class Rental:
    """Instances of one machine in a period, the chips in use in them, and their cost in it."""

    machine: Machine
    period: int
    instances: int
    chips_used: int
    usd: float

    @property
    def chips(self) -> int:
        """Chips of all instances."""
        return self.instances * self.machine.chips

    @property
    def usd_idle(self) -> float:
        """What the chips cost that nothing uses."""
        return self.usd * (1 - self.chips_used / self.chips)


@dataclass(frozen=True, kw_only=True)
class FleetResult:
    """A fleet's plan with its proof, or the limits in conflict.

    It is `optimal` if the bill is proved minimal (and, if demand is left unserved, the unserved demand too),
    `infeasible` without a conflict if the time limit was reached before the conflict was found, and `unknown` if it was
    reached before a plan was found, or, if `undecided`, because a packing of slices into pods was not decided.

    `further_conflicts` hold no limit of `conflict`, nor of each other.

    `proved` tells for each goal whether its optimum is proved. `unserved`, if demand was allowed to be left unserved,
    is by workload and period, in requests/s. `chips_taken` has the chips of each period. `changes` counts the replicas
    started or stopped relative to a previous plan, `period_changes` those between periods; the bill includes their
    cost. `engine` names the solvers; none was asked where time ended before.
    """

    status: Status
    instance: FleetInstance
    total_usd: float | None = None
    bound_usd: float | None = None
    allocations: tuple[Allocation, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    rentals: tuple[Rental, ...] = ()
    unserved: dict[str, tuple[float, ...]] | None = None
    proved: dict[str, bool] | None = None
    conflict: tuple[Limit, ...] | None = None
    further_conflicts: tuple[tuple[Limit, ...], ...] = ()
    collisions: tuple[Collision, ...] = ()
    corrections: tuple[FleetCorrection, ...] = ()
    unservable: tuple[Unservable, ...] = ()
    placement_maps: tuple[PlacementMap, ...] = ()
    chips_taken: dict[RegionChip, list[int]] = field(default_factory=dict)
    changes: int | None = None
    period_changes: int = 0
    undecided: bool = False
    engine: str = COMPACT
    solve_s: float = 0.0

    @property
    def gap(self) -> float | None:
        """The relative gap between the bill and its dual bound; None without a plan."""
        if self.total_usd is None or self.bound_usd is None:
            return None
        return 1 - self.bound_usd / self.total_usd if self.total_usd else 0.0
