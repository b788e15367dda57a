"""The least that one workload costs in one period at given prices of a replica, for all of them.

Each is a small covering problem: whole replicas that together serve the demand, so much of it off spot chips, and with
replicas to spare. It is solved by dynamic programming over cells of the demand. Capacity rounded up to whole cells
gives a bound that no cover undercuts; where its cover serves the demand without rounding, it is the cheapest.
"""

from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.dominance import undominated_in_each_row

TIGHT = 1e-12
"""How much a cover may lack by the error of a sum, relatively to the demand; a unit is more."""


@dataclass(frozen=True)
class Covers:
    """Demands, each with the same number of items, as capacities in units of the demand.

    `capacity` has the shape [blocks, items], and is 0 where a block has no such item; `spot` says which items are spot,
    [items]; `kept` is the share of the demand that must be off spot, [blocks]; `spare` is how many replicas of any one
    item in use may fail while the rest serves the demand, [blocks].
    """

    capacity: Floats
    spot: Bools
    kept: Floats
    spare: Ints

    def cheapest(self, price: Floats, grids: tuple[int, ...]) -> tuple[Floats, Floats, Ints]:
        """What each block costs at least, the cost of a cover, and its replicas of shape [blocks, items].

        At prices of shape [blocks, items], on ever finer grids until both costs are the same. Where nothing covers a
        block they are infinite and the replicas 0.
        """
        blocks, _ = self.capacity.shape
        least, usd = np.full(blocks, inf), np.full(blocks, inf)
        replicas = np.zeros(self.capacity.shape, dtype=np.int64)
        kept = self._worth_a_look(price)
        for block in range(blocks):
            own = np.flatnonzero(kept[block])
            capacity, spot = self.capacity[block, own], self.spot[own]
            one = _Block(capacity, price[block, own], spot, float(self.kept[block]), int(self.spare[block]))
            least[block], usd[block], counts = one.cheapest(grids)
            replicas[block, own] = counts
        return least, usd, replicas

    def _worth_a_look(self, price: Floats) -> Bools:
        """Items that no other of their kind undercuts with as much capacity; of spare replicas, larger is no better."""
        real = (self.capacity > 0) & np.isfinite(price)
        found = np.zeros(real.shape, dtype=bool)
        for kind in (np.flatnonzero(~self.spot), np.flatnonzero(self.spot)):
            found[:, kind] = undominated_in_each_row(np.minimum(self.capacity[:, kind], 1.0), price[:, kind])
        return real & (found | (self.spare > 0)[:, None])


@dataclass(frozen=True)
class _Block:
    """One demand of 1; arrays of shape [items]."""

    capacity: Floats
    price: Floats
    spot: Bools
    kept: float
    spare: int

    def cheapest(self, grids: tuple[int, ...]) -> tuple[float, float, Ints]:
        """What it costs at least, the cost of a cover, and its replicas."""
        alone_usd, alone = self._of_one_item()
        items = self._in_reach(alone_usd)
        least, found = min(self._divided(), alone_usd), (alone_usd, alone)
        for grid in grids:
            usd, replicas = self._covered(items, grid, up=True, most=found[0])
            least = max(least, min(usd, found[0]))
            if usd < found[0] and self._is_served(replicas):
                found = usd, replicas
            if least >= found[0] * (1 - TIGHT):
                return least, *found
        usd, replicas = self._covered(items, grids[-1], up=False, most=found[0])
        if usd < found[0] and self._is_served(replicas):
            found = usd, replicas
        return least, *found

    def _of_one_item(self) -> tuple[float, Ints]:
        """The cheapest cover by replicas that are all alike."""
        counts = np.ceil(1 / self.capacity - TIGHT) + self.spare
        usd = np.where(self.spot & (self.kept > 0), inf, counts * self.price)
        replicas = np.zeros(len(counts), dtype=np.int64)
        if not len(usd) or np.isinf(usd.min()):
            return inf, replicas
        best = int(np.argmin(usd))
        replicas[best] = counts[best]
        return float(usd[best]), replicas

    def _divided(self) -> float:
        """What replicas cost at least that need not be whole, those to spare included."""
        if not len(self.capacity):
            return inf
        rate = self.price / self.capacity
        off_spot = float(rate[~self.spot].min(initial=inf)) if self.kept else 0.0
        rest = 1 - self.kept + self.spare * float(self.capacity.min())
        return (self.kept * off_spot + rest * float(rate.min())) * (1 - TIGHT)

    def _in_reach(self, usd: float) -> Ints:
        """Items that a cover may have which costs less, smallest first: beside one of them the rest costs something."""
        if not len(self.capacity):
            return np.arange(0)
        rate = float((self.price / self.capacity).min())
        beside = np.maximum(1 + (self.spare - 1) * self.capacity, 0.0) * rate
        order = np.argsort(self.capacity, kind="stable")
        return order[(self.price + beside < usd)[order]]

    def _is_served(self, replicas: Ints) -> bool:
        served = replicas * self.capacity
        largest = self.capacity[replicas > 0].max(initial=0.0)
        enough = served.sum() - self.spare * largest >= 1 - TIGHT
        return bool(enough and served[~self.spot].sum() >= self.kept - TIGHT)

    def _covered(self, items: Ints, grid: int, *, up: bool, most: float) -> tuple[float, Ints]:
        """The cheapest cover on a grid, capacity rounded up or down to it; infinite where none costs less than `most`.

        With replicas to spare, items are allowed one after the other, the larger ones later: with the largest allowed,
        so many of it must be served beyond the demand.
        """
        exact = np.minimum(self.capacity * grid, grid)
        cells = (np.ceil(exact) if up else np.floor(exact)).astype(np.int64)
        beyond = self.spare * (np.floor(exact) if up else np.ceil(exact)).astype(np.int64)
        kept = int(self.kept * grid) if up else ceil(self.kept * grid)
        items = items[cells[items] > 0]
        parts = self._parts(grid + int(beyond[items].max(initial=0)))
        best, allowed, off_spot = most, 0, 0
        for number, item in enumerate(items.tolist(), start=1):
            parts[int(self.spot[item])].allow(item, int(cells[item]), float(self.price[item]))
            if self.spare or number == len(items):
                total = grid + int(beyond[item])
                usd, cut = _split(parts[0].cost[: total + 1], parts[1].cost[: total + 1], kept)
                if usd < best:
                    best, allowed, off_spot = usd, number, cut
        replicas = np.zeros(len(cells), dtype=np.int64)
        if not allowed:
            return inf, replicas
        total = grid + int(beyond[items[allowed - 1]])
        if allowed < len(items):
            parts = self._parts(total)
            for item in items[:allowed].tolist():
                parts[int(self.spot[item])].allow(item, int(cells[item]), float(self.price[item]))
        for part, start in zip(parts, (off_spot, total - off_spot), strict=True):
            for item, count in part.trace(start):
                replicas[item] += count
        return best, replicas

    def _parts(self, most: int) -> tuple["_Part", "_Part"]:
        """What is served off spot, and on it."""
        return _Part(most), _Part(most)


def _split(off_spot: Floats, on_spot: Floats, kept: int) -> tuple[float, int]:
    """The least cost of as many cells as there are, at least so many of them off spot, and how many then are."""
    total = off_spot[kept:] + on_spot[: len(on_spot) - kept][::-1]
    best = int(np.argmin(total))
    return float(total[best]), best + kept


class _Part:
    """The least cost of at least so many cells, for each number up to the most, with some items alone."""

    def __init__(self, most: int) -> None:
        self.cost = np.full(most + 1, inf)
        self.cost[0] = 0.0
        self._items: list[tuple[int, int, float]] = []

    def allow(self, item: int, cells: int, usd: float) -> None:
        """Let an item be used any number of times: once, then twice, four times and so on more."""
        self._items.append((item, cells, usd))
        cost, most = self.cost, len(self.cost) - 1
        step = min(cells, most)
        while True:
            more = cost[:-step] + usd
            np.minimum(cost[1:step], usd, out=cost[1:step])
            np.minimum(cost[step:], more, out=cost[step:])
            if step >= most:
                return
            step, usd = min(2 * step, most), 2 * usd

    def trace(self, cells: int) -> list[tuple[int, int]]:
        """The items by which so many cells are reached, and how often: as often at once as costs no more."""
        items = [item for item, _, _ in self._items]
        sizes = np.array([size for _, size, _ in self._items])
        prices = np.array([usd for _, _, usd in self._items])
        found = []
        while cells > 0:
            last = int(np.argmin(self.cost[np.maximum(cells - sizes, 0)] + prices))
            size, usd, times = int(sizes[last]), float(prices[last]), 1
            most = self.cost[cells] * (1 + TIGHT)
            while 2 * times * size <= cells and self.cost[cells - 2 * times * size] + 2 * times * usd <= most:
                times *= 2
            found.append((items[last], times))
            cells -= times * size
        return found
