"""The pricing problems of all blocks at given dual prices, and the Lagrangian bound that their optima give."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, NoReturn

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.errors import ServesatError
from servesat.core.parallel.runs import DIED_TWICE, THIS_PROCESS, Crew, Workers
from servesat.fleet.decomposition.coupled_covers import CoupledCover, is_coupled
from servesat.fleet.decomposition.covers import Covers
from servesat.fleet.decomposition.master import Cover
from servesat.fleet.instance import FleetInstance, Place, RegionChip, ReservedChips

GAIN_RTOL = 1e-9
"""A profit on a reservation within this relative error of its dual price is rounding."""

PARTS_A_WORKER = 4
"""Parts of the blocks with a single covering row that each worker is handed in a round: some take longer."""


@dataclass(frozen=True)
class DualPrices:
    """The prices of a chip in each period on top of its cost; arrays of shape [places, periods]."""

    quota: Floats  # of a rented chip
    reservation: Floats  # of a reserved chip

    @classmethod
    def initial(cls, instance: FleetInstance, places: list[Place]) -> "DualPrices":
        """No quota is tight, and reserved chips are paid by the hour."""
        reserved = np.array([one.usd_per_chip_hour if isinstance(one, ReservedChips) else 0.0 for one in places])
        no_quota_price = np.zeros((len(places), len(instance.hours)))
        return cls(no_quota_price, reserved[:, None] * np.array(instance.hours)[None])

    def towards(self, quota: Floats, reservation: Floats, step: float) -> "DualPrices":
        """These prices, moved by a step towards others."""
        return DualPrices(
            self.quota + step * (quota - self.quota), self.reservation + step * (reservation - self.reservation)
        )


@dataclass(frozen=True)
class Blocks:
    """Every workload in every period with a demand; arrays of shape [blocks, options of a workload], padded.

    An item of a covering problem stands for all options of a workload with the same capacity, separately for spot.
    """

    period: Ints  # [blocks]
    option: Ints  # position in the instance, -1 for padding
    item: Ints  # even off spot, odd on spot
    usd: Floats  # of a replica for the period, 0 if reserved
    chips: Floats
    place: Ints
    reserved: Bools
    simple: Ints  # positions of the blocks with a single covering row
    covers: Covers  # of those
    coupled: dict[int, CoupledCover]  # of the others, by position

    def prices_at(self, prices: DualPrices) -> Floats:
        """The price of a replica of each option at given dual prices, infinite for padding."""
        period = self.period[:, None]
        quota, reservation = prices.quota[self.place, period], prices.reservation[self.place, period]
        chip_price = np.where(self.reserved, reservation, quota)
        return np.where(self.option >= 0, self.usd + self.chips * chip_price, np.inf)

    def priced(self, some: "SomeBlocks") -> tuple[list[Cover], Floats]:
        """The cheapest cover of some blocks, as far as they have one, and a lower bound on the cost of each."""
        positions = some.positions.tolist()
        if some.are_coupled:
            found = [self.coupled[block].cheapest(price) for block, price in zip(positions, some.price, strict=True)]
            covers = [
                self._cover(block, ((column, count) for column, count in enumerate(counts) if count))
                for block, (_, counts) in zip(positions, found, strict=True)
            ]
            return [cover for cover in covers if cover.replicas], np.array([bound for bound, _ in found])
        price, rows = np.array(some.price), np.searchsorted(self.simple, some.positions)
        item_price = self.item_prices(rows, price)
        lower_bounds, _, replicas = self.covers.of(rows).cheapest(item_price, some.grid_cells)
        item = self.item[some.positions]
        is_cheapest = price == np.take_along_axis(item_price, item, axis=1)
        covers = []
        for row, block in enumerate(positions):
            used = np.flatnonzero(replicas[row]).tolist()
            columns = [int(np.flatnonzero(is_cheapest[row] & (item[row] == number))[0]) for number in used]
            covers.append(self._cover(block, zip(columns, replicas[row, used].tolist(), strict=True)))
        return [cover for cover in covers if cover.replicas], lower_bounds

    def item_prices(self, rows: Ints, price: Floats) -> Floats:
        """The lowest price of a replica of each item in some rows of `simple`, given those of their options."""
        lowest = np.full((len(rows), self.covers.capacity.shape[1]), np.inf)
        where = np.broadcast_to(np.arange(len(price))[:, None], price.shape)
        np.minimum.at(lowest, (where, self.item[self.simple[rows]]), price)
        return lowest

    def _cover(self, block: int, columns: Iterable[tuple[int, int]]) -> Cover:
        """The cover of a block, of replicas of its options by their columns."""
        replicas = tuple((int(self.option[block, column]), count) for column, count in columns)
        return Cover(block, int(self.period[block]), replicas)


class SomeBlocks(NamedTuple):
    """Blocks of a kind, with the price of a replica of each of their options; of coupled blocks without padding."""

    positions: Ints
    price: Sequence[Floats] | Floats
    are_coupled: bool
    grid_cells: tuple[int, ...]


class Pricing:
    """The pricing problems of all blocks, shared out over workers, which keep the blocks."""

    def __init__(
        self, instance: FleetInstance, blocks: Blocks, grid_cells: tuple[int, ...], workers: Workers = THIS_PROCESS
    ) -> None:
        self.instance, self.blocks, self.grid_cells = instance, blocks, grid_cells
        self.crew = Crew(blocks.priced, workers, self._lost)

    def cheapest_covers(self, price: Floats) -> tuple[list[Cover], float]:
        """The cheapest cover of each block at given prices of its options, and a lower bound on their total cost."""
        covers, bounds = [], []
        for some, bound in self.crew.in_order(self._shared_out(price)):
            covers += some
            bounds.append(bound)
        return covers, float(np.concatenate(bounds).sum())

    def end(self) -> None:
        """End the workers."""
        self.crew.end()

    def _shared_out(self, price: Floats) -> Iterator[SomeBlocks]:
        """Every block once: some parts a worker of those that take no time, and each of the others by itself."""
        parts = 1 if self.crew.size == 1 else PARTS_A_WORKER * self.crew.size
        for some in np.array_split(self.blocks.simple, min(parts, len(self.blocks.simple)) or 1):
            yield SomeBlocks(some, price[some], are_coupled=False, grid_cells=self.grid_cells)
        for block, coupled in self.blocks.coupled.items():
            own = price[block, : len(coupled.options)]
            yield SomeBlocks(np.array([block]), [own], are_coupled=True, grid_cells=self.grid_cells)

    def _lost(self, some: SomeBlocks) -> NoReturn:
        options = self.blocks.option[some.positions, 0].tolist()
        names = dict.fromkeys(self.instance.options[option].workload for option in options)
        raise ServesatError(f"the covers of {', '.join(names)}: {DIED_TWICE}")


def blocks_of(instance: FleetInstance, places: list[Place]) -> Blocks:
    """The blocks of an instance."""
    index = {place: position for position, place in enumerate(places)}
    options, workloads = instance.options, instance.workloads
    workload_options = [instance.options_of(workload.name) for workload in workloads]
    width = max(map(len, workload_options))
    pairs = [(w, t) for w, workload in enumerate(workloads) for t, demand in enumerate(workload.demand) if demand]
    workload, period = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    option = np.array([positions + [-1] * (width - len(positions)) for positions in workload_options])
    item, items = _items(instance, option)
    real = option >= 0

    def by_option(values: list[float]) -> Floats:
        return np.where(real, np.array(values)[option], 0.0)

    demand = np.array([[float(units) for units in w.demand] for w in workloads])[workload, period]
    capacity = np.zeros((len(workload_options), items))
    rows = np.broadcast_to(np.arange(len(workload_options))[:, None], option.shape)
    np.maximum.at(capacity, (rows, item), by_option([float(o.capacity) for o in options]))
    is_reserved = real & np.array([o.purchase == "reserved" for o in options])[option]
    usd = np.where(is_reserved, 0.0, by_option([o.usd_per_hour for o in options]))
    is_simple = np.array([not is_coupled(w) for w in workloads])[workload]
    simple = workload[is_simple]
    return Blocks(
        period=period,
        option=option[workload],
        item=item[workload],
        usd=usd[workload] * np.array(instance.hours)[period][:, None],
        chips=by_option([float(o.chips) for o in options])[workload],
        place=np.where(real, np.array([index[o.place] for o in options])[option], 0)[workload],
        reserved=is_reserved[workload],
        simple=np.flatnonzero(is_simple),
        covers=Covers(
            capacity=capacity[simple] / demand[is_simple, None],
            spot=np.arange(items) % 2 == 1,
            min_non_spot_share=np.array([w.min_non_spot_share for w in workloads])[simple],
            redundant_replicas=np.array([w.redundant_replicas for w in workloads])[simple],
        ),
        coupled={
            block: CoupledCover(workloads[workload[block]].in_period(int(period[block])), block_options)
            for block in np.flatnonzero(~is_simple).tolist()
            for block_options in [tuple(options[o] for o in workload_options[workload[block]])]
        },
    )


def _items(instance: FleetInstance, option: Ints) -> tuple[Ints, int]:
    """The item of each option, numbered by capacity, even off spot and odd on spot; and the number of items."""
    item = np.zeros(option.shape, dtype=np.int64)
    max_kinds = 0
    for row, positions in enumerate(option.tolist()):
        numbers: dict[tuple[str, int], int] = {}
        for column, position in enumerate(positions):
            if position >= 0:
                spot, capacity = instance.options[position].purchase == "spot", instance.options[position].capacity
                number = numbers.setdefault(("spot" if spot else "", capacity), len(numbers))
                item[row, column] = 2 * number + spot
        max_kinds = max(max_kinds, len(numbers))
    return item, 2 * max_kinds


def dual_constant(instance: FleetInstance, places: list[Place], prices: DualPrices) -> float:
    """The constant that the Lagrangian bound subtracts from the total cost of the blocks.

    It is the quotas at their dual prices, and the profit of reservations whose dual prices exceed their cost: infinite
    for a profitable reservation without a quota. Of those at several prices the most profitable one fills the quota.
    """
    hours, total = sum(instance.hours), 0.0
    quota_price = {place: float(prices.quota[position].sum()) for position, place in enumerate(places)}
    most_profit: dict[RegionChip, float] = {}
    for position, place in enumerate(places):
        if isinstance(place, ReservedChips):
            price, of_quota = float(prices.reservation[position].sum()), quota_price[place.region_chip]
            profit = price - of_quota - place.usd_per_chip_hour * hours
            if profit > GAIN_RTOL * price:
                most_profit[place.region_chip] = max(profit, most_profit.get(place.region_chip, 0.0))
        else:
            total += quota_price[place] * instance.quotas.get(place, 0)
    for region_chip, profit in most_profit.items():
        total += profit * instance.quotas.get(region_chip, np.inf)
    return total


def max_bill(instance: FleetInstance, blocks: Blocks) -> float:
    """A bill that the cheapest plan does not exceed, if there is a plan.

    It rents every quota entirely, and replicas at the highest cost for the rest: without a quota, one option could
    serve a whole simple block, and a limited number of replicas of each option a coupled one.
    """
    hours, highest_price = sum(instance.hours), defaultdict[RegionChip, float](float)
    for option in instance.options:
        highest_price[option.region_chip] = max(highest_price[option.region_chip], option.usd_per_chip_hour)
    quotas = sum(count * highest_price[region_chip] * hours for region_chip, count in instance.quotas.items())
    without_quota = np.array([option.region_chip not in instance.quotas for option in instance.options])
    simple, covers = blocks.simple, blocks.covers
    capacity = np.take_along_axis(covers.capacity, blocks.item[simple], axis=1)
    is_free = without_quota[blocks.option[simple]] & (blocks.option[simple] >= 0)
    served = 1 + covers.redundant_replicas * covers.capacity.max(axis=1, initial=0.0)  # the largest replica may fail
    count = np.ceil(served[:, None] / np.where(is_free, capacity, 1.0)) + 1
    usd = np.array([option.usd_per_hour for option in instance.options])
    simple_usd = np.where(is_free, count * usd[blocks.option[simple]] * hours, 0.0).max(axis=1).sum()
    coupled_usd = sum(
        2 * (ceil(coupled.workload.replicas_alone(option, largest)) + 1) * option.usd_per_hour * hours
        for coupled in blocks.coupled.values()
        for largest in [max(option.capacity for option in coupled.options)]
        for option in coupled.options
        if option.region_chip not in instance.quotas
    )
    return float(quotas + simple_usd + coupled_usd)
