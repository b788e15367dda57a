"""A fleet as the solver sees it: whole numbers of replicas, demand rounded up and capacity rounded down."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, floor, fsum

from servesat.catalogue.load import chip_ids
from servesat.catalogue.price_book import Purchase
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.configurations import Configuration, configurations
from servesat.fleet.pods.slices import Box, Counts, Pods, counted
from servesat.fleet.previous_plan import Earlier, ReplicaKey
from servesat.fleet.shared_replicas import shared_configurations
from servesat.fleet.spec import FleetSpec, FleetWorkload, Region

RESOLUTION = 10**7
"""Units in the largest demand of a workload, or in a replica where that serves more."""

OF_REPLICA = 10**5
"""Units in a replica at least, however many of them a demand takes."""

MOST_UNITS = 10**11
"""Units in a demand at most: a solver's doubles hold no more of them apart."""


@dataclass(frozen=True)
class ReplicaOption:
    """A configuration in a region, bought in one way: what one replica serves, takes and costs.

    Where requests come in several sizes, `of_size` says what it serves, and `requests_per_s` and `capacity` are 0.
    """

    workload: str
    configuration: Configuration
    region: str
    purchase: Purchase
    usd_per_chip_hour: float
    requests_per_s: float  # counted on; less than it serves where spot chips may go away
    capacity: int  # the same, in units of the workload
    of_size: tuple[float, ...] = ()  # requests/s of each size alone, where there are several

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.configuration.chips

    @property
    def place(self) -> tuple[str, str]:
        """The region, and the type of chip."""
        return self.region, self.configuration.chip

    @property
    def runs(self) -> ReplicaKey:
        """The workload, the configuration and the region: another one is another replica."""
        return self.workload, self.configuration.name, self.region

    @property
    def usd_per_hour(self) -> float:
        """What one replica costs for an hour."""
        return self.chips * self.usd_per_chip_hour


@dataclass(frozen=True)
class WorkloadDemand:
    """What one workload asks for: its demand in each period, in its own units, and how it must be spread.

    Where its requests come in several sizes, `shares` are those of each size in each period.
    """

    name: str
    demand: tuple[int, ...]
    requests_per_s: tuple[float, ...]
    unit: float  # requests/s of one unit
    n_plus: int
    max_share_per_region: float | None
    max_spot_share: float
    one_chip: bool
    priority: int
    sizes: tuple[str, ...] = ()
    shares: tuple[tuple[float, ...], ...] = ()  # [period][size]

    def in_period(self, period: int) -> "WorkloadDemand":
        """What is asked for in one period alone."""
        return replace(
            self,
            demand=(self.demand[period],),
            requests_per_s=(self.requests_per_s[period],),
            shares=self.shares[period : period + 1],
        )

    def at_its_peak(self, periods: int) -> "WorkloadDemand":
        """The largest demand, of each size for itself, in so many periods."""
        demand, requests_per_s, shares = max(self.demand), max(self.requests_per_s), self.shares[:0]
        if self.sizes:
            of_size = [max(rates) for rates in zip(*map(self.of_sizes, range(len(self.demand))), strict=True)]
            requests_per_s, shares = fsum(of_size), (shares_of(of_size),)
            demand = _whole_units(requests_per_s, self.unit)
        return replace(
            self,
            demand=(demand,) * periods,
            requests_per_s=(requests_per_s,) * periods,
            shares=shares * periods,
        )

    def enough(self, option: ReplicaOption, largest: int) -> float:
        """Replicas of an option that serve alone what it can of any demand, and what is to spare beside, not whole.

        `largest` is the capacity of the largest replica, which may be the one to spare.
        """
        if not self.sizes:
            return (max(self.demand) + self.n_plus * largest) / option.capacity
        asked = [zip(self.of_sizes(period), option.of_size, strict=True) for period in range(len(self.demand))]
        return self.n_plus + max(fsum(requests / rate for requests, rate in own if rate) for own in asked)

    def of_sizes(self, period: int) -> tuple[float, ...]:
        """Requests/s of each size in a period."""
        return tuple(self.requests_per_s[period] * share for share in self.shares[period])


def shares_of(of_size: Sequence[float]) -> tuple[float, ...]:
    """The share of each size in a demand; of none they are alike."""
    total = fsum(of_size)
    return tuple(one / total if total else 1 / len(of_size) for one in of_size)


@dataclass(frozen=True)
class FleetInstance:
    """Everything the formulation needs to know of a fleet.

    Quotas and pods are by region and chip, if there are any; `earlier` is a plan against which changes count, and
    `taken` and `standing` are chips that others take of a quota, and slices of others in pods, in each period.
    """

    needs: tuple[WorkloadDemand, ...]
    options: tuple[ReplicaOption, ...]
    hours: tuple[float, ...]
    quotas: dict[tuple[str, str], int]
    budget_usd: float | None
    earlier: Earlier | None = None
    pods: dict[tuple[str, str], Pods] = field(default_factory=dict)
    taken: dict[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)
    standing: dict[tuple[str, str], tuple[Counts, ...]] = field(default_factory=dict)

    def of(self, workload: str) -> list[int]:
        """The options of one workload, by position."""
        return self._by_workload.get(workload, [])

    @cached_property
    def _by_workload(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = defaultdict(list)
        for position, option in enumerate(self.options):
            found[option.workload].append(position)
        return found

    def unservable(self) -> list[tuple[str, str | None]]:
        """Workloads with a demand that nothing serves, or the sizes of their requests that nothing does, by name."""
        found: list[tuple[str, str | None]] = []
        for need in self.needs:
            options = [self.options[o] for o in self.of(need.name)]
            if not need.sizes and any(need.demand) and not options:
                found.append((need.name, None))
            asked = [any(rates) for rates in zip(*map(need.of_sizes, range(len(need.shares))), strict=True)]
            for number, size in enumerate(need.sizes):
                if asked[number] and not any(option.of_size[number] for option in options):
                    found.append((need.name, size))
        return found

    def slices(self, place: tuple[str, str], period: int, replicas: Sequence[Sequence[int]]) -> Counts:
        """The slices that stand in the pods of a place in a period, for replicas by option and period."""
        here = [(one, counts[period]) for one, counts in zip(self.options, replicas, strict=True) if one.place == place]
        own = [(one, count * times) for option, times in here for one, count in option.configuration.slices]
        return counted([*own, *(self.standing[place][period] if place in self.standing else ())])

    @cached_property
    def reserved_prices(self) -> dict[tuple[str, str], float]:
        """What a reserved chip costs an hour, by region and type, where there are any."""
        return {one.place: one.usd_per_chip_hour for one in self.options if one.purchase == "reserved"}

    @property
    def periods_stand_alone(self) -> bool:
        """Whether nothing joins several periods: no reservation, budget, earlier plan, or type of chip for all."""
        joined = self.reserved_prices or self.budget_usd is not None or self.earlier is not None
        others = self.taken or self.standing or any(need.one_chip for need in self.needs)
        return len(self.hours) > 1 and not joined and not others

    def only(self, keep: Callable[[ReplicaOption], bool]) -> "FleetInstance":
        """The instance with some of its options."""
        return replace(self, options=tuple(option for option in self.options if keep(option)))

    def in_period(self, period: int) -> "FleetInstance":
        """The instance with one of its periods."""
        return replace(self, needs=tuple(need.in_period(period) for need in self.needs), hours=(self.hours[period],))

    def at_its_peak(self) -> "FleetInstance":
        """The instance with the largest demand of each workload, and of each size of its requests, in every period.

        In a single one, as long as all, unless changes count against an earlier plan.
        """
        hours = (sum(self.hours),) if self.earlier is None else self.hours
        return replace(self, needs=tuple(need.at_its_peak(len(hours)) for need in self.needs), hours=hours)

    def with_sizes_apart(self) -> "FleetInstance":
        """The instance with each size of requests a workload of its own, which shares no replica, by other names."""
        needs: list[WorkloadDemand] = []
        options: list[ReplicaOption] = []
        for need in self.needs:
            own = [self.options[o] for o in self.of(need.name)]
            for size in range(len(need.sizes)) if need.sizes else (None,):
                name = str(len(needs))
                apart, mine = replace(need, name=name), [replace(one, workload=name) for one in own]
                if size is not None:
                    rates = tuple(need.of_sizes(period)[size] for period in range(len(self.hours)))
                    mine = [
                        replace(one, requests_per_s=one.of_size[size], of_size=()) for one in mine if one.of_size[size]
                    ]
                    apart, mine = in_units(replace(apart, requests_per_s=rates, sizes=(), shares=()), mine)
                needs.append(apart)
                options += mine
        return replace(self, needs=tuple(needs), options=tuple(options))

    def short_of(self, unserved: Mapping[str, Sequence[float]]) -> "FleetInstance":
        """The instance without some of the demand, in requests/s by workload and period."""
        needs = []
        for need in self.needs:
            gone = unserved[need.name]
            left = [max(0.0, rate - less) for rate, less in zip(need.requests_per_s, gone, strict=True)]
            units = [max(0, n - round(less / need.unit)) for n, less in zip(need.demand, gone, strict=True)]
            needs.append(replace(need, demand=tuple(units), requests_per_s=tuple(left)))
        return replace(self, needs=tuple(needs))


def fleet_instance(spec: FleetSpec, on_progress: Callable[[str], None] = lambda _: None) -> FleetInstance:
    """Evaluate what each workload could run in, where, and for how much; `on_progress` gets each step in words."""
    needs, options = [], []
    for number, (name, workload) in enumerate(spec.workloads.items(), start=1):
        on_progress(f"configurations of {name}, workload {number} of {len(spec.workloads)}")
        need, own = in_units(_need(name, workload), _options(spec, name, workload))
        needs.append(need)
        options += own
    quotas = {
        (region, chip): count for region, given in spec.regions.items() for chip, count in (given.quota or {}).items()
    }
    pods = {(region, chip): own for region in spec.regions for chip, own in spec.pods(region).items()}
    return FleetInstance(tuple(needs), tuple(options), spec.periods_h, quotas, spec.budget_usd, pods=pods)


def in_units(need: WorkloadDemand, options: list[ReplicaOption]) -> tuple[WorkloadDemand, list[ReplicaOption]]:
    """A workload's demand, and its options' capacities, in a unit for both; those that serve something."""
    unit = _unit(max(need.requests_per_s), options)
    able = [replace(one, capacity=floor(one.requests_per_s / unit * (1 + LIMIT_RTOL))) for one in options]
    demand = tuple(_whole_units(rate, unit) for rate in need.requests_per_s)
    # what serves no unit serves nothing that is counted
    return replace(need, unit=unit, demand=demand), [one for one in able if one.capacity or any(one.of_size)]


def _unit(demand: float, options: list[ReplicaOption]) -> float:
    """The unit in which a workload's demand and capacities are counted [requests/s].

    A whole number of them are the capacity of the option that serves at the least cost, which most replicas run in.
    """
    able = [one for one in options if one.requests_per_s]
    if not able:
        return (demand or 1.0) / RESOLUTION
    replica = min(able, key=lambda one: one.usd_per_hour / one.requests_per_s).requests_per_s
    replicas = max(1.0, demand / replica)
    return replica / max(1, min(max(RESOLUTION / replicas, OF_REPLICA), MOST_UNITS / replicas) // 1)


def _need(name: str, workload: FleetWorkload) -> WorkloadDemand:
    """What a workload asks for, not yet counted in units."""
    return WorkloadDemand(
        name=name,
        demand=(),
        requests_per_s=workload.demand,
        unit=1.0,
        n_plus=workload.n_plus,
        max_share_per_region=workload.max_share_per_region,
        max_spot_share=workload.max_spot_share,
        one_chip=workload.one_chip,
        priority=workload.priority,
        sizes=tuple(workload.sizes),
        shares=_shares(workload),
    )


def _shares(workload: FleetWorkload) -> tuple[tuple[float, ...], ...]:
    """The share of each size in the demand of each period; none where requests have one size."""
    return tuple(map(shares_of, zip(*(size.demand for size in workload.sizes.values()), strict=True)))


def _whole_units(requests_per_s: float, unit: float) -> int:
    """A demand in units, rounded up."""
    return ceil(requests_per_s / unit * (1 - LIMIT_RTOL))


def regions_allowed(spec: FleetSpec, workload: FleetWorkload) -> dict[str, Region]:
    """The regions that a workload may run in."""
    return {
        name: region for name, region in spec.regions.items() if workload.regions is None or name in workload.regions
    }


def chips_allowed(spec: FleetSpec, workload: FleetWorkload) -> set[str]:
    """The chips that a workload may use, and that its regions have, at a price or not."""
    searched = workload.deployment.search.chips
    chips = set().union(*(region.chips() for region in regions_allowed(spec, workload).values()))
    chips &= {*chip_ids(), *(chip.id for chip in searched or ())}
    chips &= set(workload.chips) if workload.chips is not None else chips
    return chips & {chip.id for chip in searched} if searched is not None else chips


def _options(spec: FleetSpec, name: str, workload: FleetWorkload) -> list[ReplicaOption]:
    """What a workload may rent, each capacity still to be counted in its units."""
    allowed, chips = regions_allowed(spec, workload), chips_allowed(spec, workload)
    most = workload.deployment.search.max_usd_per_hour
    found = []
    shapes: dict[str, set[Box]] = defaultdict(set)
    for region_name in allowed:
        for chip, pods in spec.pods(region_name).items():
            shapes[chip].add(pods.shape)
    if workload.sizes:
        own = shared_configurations(workload.deployments, chips, pods=shapes)
    else:
        own = configurations(workload.deployment, chips, keep_dominated=workload.n_plus > 0, pods=shapes)
    for one in own:
        for region_name, region in allowed.items():
            for purchase in region.purchases if one.chip in region.chips() else ():
                usd = region.usd_per_chip_hour(one.chip, purchase)
                if usd is not None and (most is None or usd * one.chips <= most * (1 + LIMIT_RTOL)):
                    sure = spec.spot_capacity if purchase == "spot" else 1.0
                    of_size = tuple(rate * sure for rate in one.of_size)
                    found.append(
                        ReplicaOption(name, one, region_name, purchase, usd, one.requests_per_s * sure, 0, of_size)
                    )
    return found
