"""A fleet as the solver sees it: whole numbers of replicas, demand rounded up and capacity rounded down."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, floor

from servesat.fleet.configurations import Configuration, configurations
from servesat.fleet.earlier import Earlier, Place
from servesat.fleet.floor import Counts, Pods, counted
from servesat.fleet.spec import FleetSpec, FleetWorkload
from servesat.pricing import Purchase
from servesat.rules import TOLERANCE

RESOLUTION = 10**7
"""Capacity and demand of a workload are counted in this fraction of its largest demand."""


@dataclass(frozen=True)
class Option:
    """A configuration in a region, bought in one way: what one replica serves, takes and costs."""

    workload: str
    configuration: Configuration
    region: str
    purchase: Purchase
    usd_per_chip_hour: float
    requests_per_s: float  # counted on; less than it serves where spot chips may go away
    capacity: int  # the same, in units of the workload

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.configuration.chips

    @property
    def place(self) -> tuple[str, str]:
        """The region, and the type of chip."""
        return self.region, self.configuration.chip

    @property
    def runs(self) -> Place:
        """The workload, the configuration and the region: another one is another replica."""
        return self.workload, self.configuration.name, self.region

    @property
    def usd_per_hour(self) -> float:
        """What one replica costs for an hour."""
        return self.chips * self.usd_per_chip_hour


@dataclass(frozen=True)
class Need:
    """What one workload asks for: its demand in each period, in its own units, and how it must be spread."""

    name: str
    demand: tuple[int, ...]
    requests_per_s: tuple[float, ...]
    unit: float  # requests/s of one unit
    n_plus: int
    max_share_per_region: float | None
    max_spot_share: float
    one_chip: bool
    priority: int


@dataclass(frozen=True)
class FleetInstance:
    """Everything the formulation needs to know of a fleet.

    Quotas and pods are by region and chip, if there are any; `earlier` is a plan against which changes count, and
    `standing` what stands in pods besides, in each period.
    """

    needs: tuple[Need, ...]
    options: tuple[Option, ...]
    hours: tuple[float, ...]
    quotas: dict[tuple[str, str], int]
    budget_usd: float | None
    earlier: Earlier | None = None
    pods: dict[tuple[str, str], Pods] = field(default_factory=dict)
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

    def slices(self, place: tuple[str, str], period: int, replicas: Sequence[Sequence[int]]) -> Counts:
        """The slices that stand in the pods of a place in a period, for replicas by option and period."""
        here = [(one, counts[period]) for one, counts in zip(self.options, replicas, strict=True) if one.place == place]
        own = [(one, count * times) for option, times in here for one, count in option.configuration.slices]
        return counted([*own, *(self.standing[place][period] if place in self.standing else ())])

    @cached_property
    def reserved_prices(self) -> dict[tuple[str, str], float]:
        """What a reserved chip costs an hour, by region and type, where there are any."""
        return {one.place: one.usd_per_chip_hour for one in self.options if one.purchase == "reserved"}

    def only(self, keep: Callable[[Option], bool]) -> "FleetInstance":
        """The instance with some of its options."""
        return replace(self, options=tuple(option for option in self.options if keep(option)))

    def in_period(self, period: int) -> "FleetInstance":
        """The instance with one of its periods."""
        needs = [
            replace(need, demand=(need.demand[period],), requests_per_s=(need.requests_per_s[period],))
            for need in self.needs
        ]
        return replace(self, needs=tuple(needs), hours=(self.hours[period],))

    def at_its_peak(self) -> "FleetInstance":
        """The instance with the largest demand of each workload in a single period, as long as all."""
        peaks = [
            replace(need, demand=(max(need.demand),), requests_per_s=(max(need.requests_per_s),)) for need in self.needs
        ]
        return replace(self, needs=tuple(peaks), hours=(sum(self.hours),), earlier=None)


def fleet_instance(spec: FleetSpec) -> FleetInstance:
    """Evaluate what each workload could run in, where, and for how much."""
    needs, options = [], []
    for name, workload in spec.workloads.items():
        unit = max(*workload.demand, 1e-12) / RESOLUTION
        needs.append(_need(name, workload, unit))
        options += _options(spec, name, workload, unit)
    quotas = {
        (region, chip): count for region, given in spec.regions.items() for chip, count in (given.quota or {}).items()
    }
    pods = {(region, chip): own for region in spec.regions for chip, own in spec.pods(region).items()}
    return FleetInstance(tuple(needs), tuple(options), spec.periods_h, quotas, spec.budget_usd, pods=pods)


def _need(name: str, workload: FleetWorkload, unit: float) -> Need:
    return Need(
        name=name,
        demand=tuple(ceil(rate / unit * (1 - TOLERANCE)) for rate in workload.demand),
        requests_per_s=workload.demand,
        unit=unit,
        n_plus=workload.n_plus,
        max_share_per_region=workload.max_share_per_region,
        max_spot_share=workload.max_spot_share,
        one_chip=workload.one_chip,
        priority=workload.priority,
    )


def _options(spec: FleetSpec, name: str, workload: FleetWorkload, unit: float) -> list[Option]:
    allowed = {region: spec.regions[region] for region in workload.regions or spec.regions}
    searched = workload.deployment.search.chips
    chips = set().union(*(region.chips() for region in allowed.values()))
    chips &= set(workload.chips) if workload.chips is not None else chips
    chips &= {chip.id for chip in searched} if searched is not None else chips
    found = []
    in_pods = {chip for region in allowed.values() for chip in region.pods}
    for one in configurations(workload.deployment, chips, keep_dominated=workload.n_plus > 0, in_pods=in_pods):
        for region_name, region in allowed.items():
            for purchase in region.purchases if one.chip in region.chips() else ():
                usd = region.usd_per_chip_hour(one.chip, purchase)
                if usd is not None:
                    counted = one.requests_per_s * (spec.spot_capacity if purchase == "spot" else 1.0)
                    found.append(
                        Option(name, one, region_name, purchase, usd, counted, floor(counted / unit * (1 + TOLERANCE)))
                    )
    return [option for option in found if option.capacity > 0]
