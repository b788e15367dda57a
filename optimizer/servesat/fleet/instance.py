"""A fleet as the solver sees it: integer demand, rounded up, and integer replica capacities, rounded down."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, floor, fsum
from typing import NamedTuple

from servesat.catalogue.price_book import Price, Purchase
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.configurations import Configuration
from servesat.fleet.machines import Machine, Pieces
from servesat.fleet.pods.slices import Counts, Pods, counted
from servesat.fleet.previous_plan import PreviousPlan, ReplicaKey

RESOLUTION = 10**7
"""Units in the largest demand of a workload, or in a replica if a replica serves more than that demand."""

MIN_UNITS_PER_REPLICA = 10**5
"""Minimum number of units in a replica, however many replicas a demand takes."""

MAX_UNITS = 10**11
"""Maximum number of units in a demand: beyond it, a solver's doubles no longer distinguish units."""

RegionChip = tuple[str, str]
"""A region and a type of chip."""


class ReservedChips(NamedTuple):
    """Chips that are reserved one by one, in a region at a price; those of large instances may cost more."""

    region: str
    chip: str
    usd_per_chip_hour: float

    @property
    def region_chip(self) -> RegionChip:
        """The region and the type of chip."""
        return self.region, self.chip


Place = RegionChip | ReservedChips
"""Where a replica takes its chips from: those rented in a region, or those reserved there at a price."""


def region_chip_of(place: Place) -> RegionChip:
    """The region and the type of chip of a place."""
    return place.region_chip if isinstance(place, ReservedChips) else place


@dataclass(frozen=True)
class ReplicaOption:
    """A configuration in a region, bought in one way: what one replica serves, takes and costs.

    If requests come in several sizes, `size_rates` says what the replica serves of each size alone, and
    `requests_per_s` and `capacity` are 0.
    """

    workload: str
    configuration: Configuration
    region: str
    purchase: Purchase
    usd_per_chip_hour: float
    requests_per_s: float  # counted on: on spot less than the replica serves, if the spec discounts spot capacity
    capacity: int  # the same, in units of the workload
    size_rates: tuple[float, ...] = ()  # requests/s of each size alone, if there are several sizes
    price: Price | None = None  # of the price book; None if the fleet states the price
    machine: Machine | None = None  # whose instances its slices stand in; None if it pays by the chip

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.configuration.chips

    @property
    def region_chip(self) -> RegionChip:
        """The region and the type of chip."""
        return self.region, self.configuration.chip

    @property
    def place(self) -> Place:
        """What its chips count against: the reservation at its price, if it pays for reserved chips one by one."""
        if self.purchase == "reserved" and self.machine is None:
            return ReservedChips(*self.region_chip, self.usd_per_chip_hour)
        return self.region_chip

    @property
    def replica_key(self) -> ReplicaKey:
        """Workload, configuration and region: what identifies a replica when plans are compared."""
        return self.workload, self.configuration.name, self.region

    @property
    def usd_per_hour(self) -> float:
        """Cost of one replica for an hour: of instances, its share, the least that it can cost."""
        return self.chips * self.usd_per_chip_hour

    @cached_property
    def pieces(self) -> Pieces:
        """What a replica takes of its machine's instances; nothing if it pays by the chip."""
        if self.machine is None:
            return ()
        return self.machine.pieces(self.configuration.slice_chips or ((self.chips, 1),))


@dataclass(frozen=True)
class WorkloadDemand:
    """The demand of one workload in each period, in integer units, and the limits on how it is served.

    If its requests come in several sizes, `size_shares` has the share of each size in the demand of each period.
    """

    name: str
    demand: tuple[int, ...]
    requests_per_s: tuple[float, ...]
    unit: float  # requests/s of one unit
    redundant_replicas: int  # how many replicas of any one configuration may fail while the rest meets the demand
    max_share_per_region: float | None
    max_spot_share: float
    one_chip: bool
    priority: int
    sizes: tuple[str, ...] = ()
    size_shares: tuple[tuple[float, ...], ...] = ()  # [period][size]
    max_configurations: int | None = None  # in a region, over all periods

    @property
    def min_non_spot_share(self) -> float:
        """Share of the demand that must not be served on spot capacity."""
        return 1 - self.max_spot_share

    def in_period(self, period: int) -> "WorkloadDemand":
        """The demand of one period alone."""
        return replace(
            self,
            demand=(self.demand[period],),
            requests_per_s=(self.requests_per_s[period],),
            size_shares=self.size_shares[period : period + 1],
        )

    def at_peak(self, periods: int) -> "WorkloadDemand":
        """The largest demand, taken separately for each size, in every one of this many periods."""
        demand, requests_per_s, size_shares = max(self.demand), max(self.requests_per_s), self.size_shares[:0]
        if self.sizes:
            peaks = [max(rates) for rates in zip(*map(self.size_demand, range(len(self.demand))), strict=True)]
            requests_per_s, size_shares = fsum(peaks), (size_shares_of(peaks),)
            demand = _units_rounded_up(requests_per_s, self.unit)
        return replace(
            self,
            demand=(demand,) * periods,
            requests_per_s=(requests_per_s,) * periods,
            size_shares=size_shares * periods,
        )

    def replicas_alone(self, option: ReplicaOption, largest_capacity: int) -> float:
        """How many replicas of an option alone serve any demand that it can serve, redundant ones included.

        Not rounded. `largest_capacity` is the capacity of the largest replica: that may be the one that fails.
        """
        if not self.sizes:
            return (max(self.demand) + self.redundant_replicas * largest_capacity) / option.capacity
        periods = range(len(self.demand))
        pairs = [zip(self.size_demand(period), option.size_rates, strict=True) for period in periods]
        return self.redundant_replicas + max(fsum(demand / rate for demand, rate in sizes if rate) for sizes in pairs)

    def size_demand(self, period: int) -> tuple[float, ...]:
        """Requests/s of each size in a period."""
        return tuple(self.requests_per_s[period] * share for share in self.size_shares[period])


def size_shares_of(size_demand: Sequence[float]) -> tuple[float, ...]:
    """The share of each size in a demand; equal shares if the demand is zero."""
    total = fsum(size_demand)
    return tuple(rate / total if total else 1 / len(size_demand) for rate in size_demand)


@dataclass(frozen=True)
class FleetInstance:
    """Everything the formulation needs to know of a fleet.

    `occupied_chips` are chips of a quota, `occupied_reserved` those of a reservation that is made for them too,
    `occupied_slices` slices in pods, and `occupied_pieces` slices in instances, that other workloads already take in
    each period.
    """

    workloads: tuple[WorkloadDemand, ...]
    options: tuple[ReplicaOption, ...]
    hours: tuple[float, ...]
    quotas: dict[RegionChip, int]
    budget_usd: float | None
    previous_plan: PreviousPlan | None = None
    pods: dict[RegionChip, Pods] = field(default_factory=dict)
    occupied_chips: dict[RegionChip, tuple[int, ...]] = field(default_factory=dict)
    occupied_reserved: dict[ReservedChips, tuple[int, ...]] = field(default_factory=dict)
    occupied_slices: dict[RegionChip, tuple[Counts, ...]] = field(default_factory=dict)
    usd_per_change: float = 0.0  # of a replica started or stopped between two periods
    occupied_pieces: dict[Machine, dict[int, int]] = field(default_factory=dict)  # by chips, in every period

    def options_of(self, workload: str) -> list[int]:
        """Positions of the options of one workload."""
        return self._options_by_workload.get(workload, [])

    @cached_property
    def _options_by_workload(self) -> dict[str, list[int]]:
        positions: dict[str, list[int]] = defaultdict(list)
        for position, option in enumerate(self.options):
            positions[option.workload].append(position)
        return positions

    def no_longer_possible(self) -> list[ReplicaKey]:
        """Replicas of the previous plan that no option is, though their workload is there still.

        Their region, chips, settings or limits are others now.
        """
        possible = {option.replica_key for option in self.options}
        before = {} if self.previous_plan is None else self.previous_plan.replicas
        names = {workload.name for workload in self.workloads}
        return [key for key, counts in before.items() if any(counts) and key[0] in names and key not in possible]

    def unservable(self) -> list[tuple[str, str | None]]:
        """The workloads with a demand, or the sizes of their requests, that no option serves."""
        unservable: list[tuple[str, str | None]] = []
        for workload in self.workloads:
            options = [self.options[o] for o in self.options_of(workload.name)]
            if not workload.sizes and any(workload.demand) and not options:
                unservable.append((workload.name, None))
            periods = range(len(workload.size_shares))
            has_demand = [any(rates) for rates in zip(*map(workload.size_demand, periods), strict=True)]
            for number, size in enumerate(workload.sizes):
                if has_demand[number] and not any(option.size_rates[number] for option in options):
                    unservable.append((workload.name, size))
        return unservable

    def slices(self, region_chip: RegionChip, period: int, replicas: Sequence[Sequence[int]]) -> Counts:
        """The slices in the pods of a region and chip in a period, given replicas by option and period."""
        rented = [
            (item, per_replica * counts[period])
            for option, counts in zip(self.options, replicas, strict=True)
            if option.region_chip == region_chip
            for item, per_replica in option.configuration.slices
        ]
        return counted(
            [*rented, *(self.occupied_slices[region_chip][period] if region_chip in self.occupied_slices else ())]
        )

    @cached_property
    def machines(self) -> dict[Machine, list[int]]:
        """The machines whose instances may be rented, with the positions of the options that stand in them."""
        positions: dict[Machine, list[int]] = defaultdict(list)
        for position, option in enumerate(self.options):
            if option.machine is not None:
                positions[option.machine].append(position)
        return positions

    @cached_property
    def reservable(self) -> list[ReservedChips]:
        """What can be reserved by the chip: each chip at each price."""
        return sorted({place for option in self.options if isinstance(place := option.place, ReservedChips)})

    @property
    def reserves_instances(self) -> bool:
        """Whether instances may be reserved for all periods."""
        return any(machine.purchase == "reserved" for machine in self.machines)

    @property
    def periods_are_independent(self) -> bool:
        """Whether no constraint or cost couples periods.

        Reservations, a budget, a previous plan, changes at a price, and limits on configurations and types of chips do.
        """
        reserved = self.reservable or self.reserves_instances
        coupled = reserved or self.budget_usd is not None or self.previous_plan is not None
        occupied = self.occupied_chips or self.occupied_reserved or self.occupied_slices or self.occupied_pieces
        others = occupied or self.usd_per_change or self.limits_configurations
        return len(self.hours) > 1 and not coupled and not others

    @property
    def limits_configurations(self) -> bool:
        """Whether some workload may use one type of chip only, or few configurations."""
        return any(workload.one_chip or workload.max_configurations is not None for workload in self.workloads)

    def with_options(self, includes: Callable[[ReplicaOption], bool]) -> "FleetInstance":
        """The instance restricted to the options for which `includes` holds."""
        return replace(self, options=tuple(option for option in self.options if includes(option)))

    def in_period(self, period: int) -> "FleetInstance":
        """The instance restricted to one period."""
        workloads = tuple(workload.in_period(period) for workload in self.workloads)
        return replace(self, workloads=workloads, hours=(self.hours[period],))

    def at_peak(self) -> "FleetInstance":
        """The instance with the largest demand of each workload, and of each size of its requests, in every period.

        All periods are merged into one, unless changes count relative to a previous plan.
        """
        hours = (sum(self.hours),) if self.previous_plan is None else self.hours
        return replace(self, workloads=tuple(workload.at_peak(len(hours)) for workload in self.workloads), hours=hours)

    def with_separate_sizes(self) -> "FleetInstance":
        """The instance with a workload of its own for each size of requests, so that sizes share no replicas."""
        workloads: list[WorkloadDemand] = []
        options: list[ReplicaOption] = []
        for workload in self.workloads:
            for size in range(len(workload.sizes)) if workload.sizes else (None,):
                name = str(len(workloads))
                renamed = replace(workload, name=name)
                renamed_options = [replace(self.options[o], workload=name) for o in self.options_of(workload.name)]
                if size is not None:
                    renamed, renamed_options = self._of_single_size(renamed, renamed_options, size)
                workloads.append(renamed)
                options += renamed_options
        return replace(self, workloads=tuple(workloads), options=tuple(options))

    def _of_single_size(
        self, workload: WorkloadDemand, options: list[ReplicaOption], size: int
    ) -> tuple[WorkloadDemand, list[ReplicaOption]]:
        rates = tuple(workload.size_demand(period)[size] for period in range(len(self.hours)))
        able = [
            replace(option, requests_per_s=option.size_rates[size], size_rates=())
            for option in options
            if option.size_rates[size]
        ]
        return in_units(replace(workload, requests_per_s=rates, sizes=(), size_shares=()), able)

    def without_demand(self, unserved: Mapping[str, Sequence[float]]) -> "FleetInstance":
        """The instance without the unserved demand, in requests/s by workload and period."""
        workloads = []
        for workload in self.workloads:
            missing = unserved[workload.name]
            rates = [max(0.0, rate - less) for rate, less in zip(workload.requests_per_s, missing, strict=True)]
            units = [max(0, n - round(less / workload.unit)) for n, less in zip(workload.demand, missing, strict=True)]
            workloads.append(replace(workload, demand=tuple(units), requests_per_s=tuple(rates)))
        return replace(self, workloads=tuple(workloads))


def in_units(workload: WorkloadDemand, options: list[ReplicaOption]) -> tuple[WorkloadDemand, list[ReplicaOption]]:
    """The demand and the options' capacities in a common unit, without the options that serve nothing."""
    unit = _unit(max(workload.requests_per_s), options)
    scaled = [replace(option, capacity=floor(option.requests_per_s / unit * (1 + LIMIT_RTOL))) for option in options]
    demand = tuple(_units_rounded_up(rate, unit) for rate in workload.requests_per_s)
    # an option that serves less than a unit would add no capacity
    able = [option for option in scaled if option.capacity or any(option.size_rates)]
    return replace(workload, unit=unit, demand=demand), able


def _unit(demand: float, options: list[ReplicaOption]) -> float:
    """The unit in which a workload's demand and capacities are counted [requests/s].

    The option with the lowest cost per request has a capacity of a whole number of units, because most replicas are
    of that option.
    """
    able = [option for option in options if option.requests_per_s]
    if not able:
        return (demand or 1.0) / RESOLUTION
    replica = min(able, key=lambda option: option.usd_per_hour / option.requests_per_s).requests_per_s
    replicas = max(1.0, demand / replica)
    return replica / max(1, min(max(RESOLUTION / replicas, MIN_UNITS_PER_REPLICA), MAX_UNITS / replicas) // 1)


def _units_rounded_up(requests_per_s: float, unit: float) -> int:
    return ceil(requests_per_s / unit * (1 - LIMIT_RTOL))
