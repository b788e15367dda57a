"""The least that one workload costs in one period at given prices of a replica, for all of them.

Each is a small covering problem: whole replicas that together serve the demand, so much of it off spot chips. It is
solved by dynamic programming over a grid of the demand. Capacity rounded down to the grid gives plans that serve it;
rounded up, a bound that no plan undercuts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from servesat.arrays import Bools, Floats, Ints


@dataclass(frozen=True)
class Covers:
    """Demands, each with the same number of items, as capacities in units of the demand.

    `capacity` has the shape [blocks, items], and is 0 where a block has no such item; `spot` says which items are spot,
    [items]; `kept` is the share of the demand that must be off spot, [blocks].
    """

    capacity: Floats
    spot: Bools
    kept: Floats

    def bound(self, price: Floats, grid: int) -> Floats:
        """What no cover of a block costs less than, at prices of shape [blocks, items]; shape [blocks]."""
        cells = np.minimum(np.ceil(self.capacity * grid), grid).astype(np.int64)
        kept = np.floor(self.kept * grid).astype(np.int64)
        return np.array([split.usd for split in self._splits(cells, price, kept, grid)])

    def cheapest(self, price: Floats, grid: int) -> tuple[Floats, Ints]:
        """The cover of each block that is cheapest on the grid: its cost, and its replicas of shape [blocks, items].

        Where nothing covers a block the cost is infinite and the replicas 0.
        """
        cells = np.minimum(np.floor(self.capacity * grid), grid).astype(np.int64)
        kept = np.ceil(self.kept * grid).astype(np.int64)
        usd, replicas = np.empty(len(cells)), np.zeros(cells.shape, dtype=np.int64)
        for block, split in enumerate(self._splits(cells, price, kept, grid)):
            usd[block] = split.usd
            if np.isfinite(split.usd):
                for part, start in ((split.off_spot, split.cells), (split.on_spot, grid - split.cells)):
                    np.add.at(replicas[block], part.trace(start), 1)
        return usd, replicas

    def _splits(self, cells: Ints, price: Floats, kept: Ints, grid: int) -> Iterator["_Split"]:
        """How each block is covered at the least cost: so many cells off spot, the rest on it."""
        kinds = [np.flatnonzero(~self.spot), np.flatnonzero(self.spot)]
        undominated = [(items, _undominated(cells[:, items], price[:, items])) for items in kinds]
        for block in range(len(cells)):
            parts = []
            for items, keeps in undominated:
                own = items[keeps[block]]
                parts.append(_Part(own, cells[block, own], price[block, own], grid))
            off_spot, on_spot = parts
            total = off_spot.cost[kept[block] :] + on_spot.cost[: grid + 1 - kept[block]][::-1]
            best = int(np.argmin(total))
            yield _Split(float(total[best]), best + int(kept[block]), off_spot, on_spot)


class _Part:
    """The least cost of at least so many cells, for each number up to the grid, with some items alone."""

    def __init__(self, items: Ints, cells: Ints, price: Floats, grid: int) -> None:
        self.items, self.cells, self.price = items, cells, price
        self.cost = np.full(grid + 1, np.inf)
        self.cost[0] = 0.0
        for step, usd in zip(cells.tolist(), price.tolist(), strict=True):
            self._allow(step, usd)

    def _allow(self, step: int, usd: float) -> None:
        """Let an item be used any number of times: once, then twice, four times and so on more."""
        cost, grid = self.cost, len(self.cost) - 1
        while True:
            more = cost[:-step] + usd
            np.minimum(cost[1:step], usd, out=cost[1:step])
            np.minimum(cost[step:], more, out=cost[step:])
            if step >= grid:
                return
            step, usd = min(2 * step, grid), 2 * usd

    def trace(self, cells: int) -> list[int]:
        """The items by which so many cells are reached, one for each replica."""
        found = []
        while cells > 0:
            before = np.maximum(cells - self.cells, 0)
            last = int(np.argmin(self.cost[before] + self.price))
            found.append(int(self.items[last]))
            cells = int(before[last])
        return found


@dataclass(frozen=True)
class _Split:
    """A cover: its cost, the cells of it off spot, and both parts."""

    usd: float
    cells: int
    off_spot: _Part
    on_spot: _Part


def _undominated(cells: Ints, price: Floats) -> Bools:
    """Which items no other undercuts in price with as many cells; shape [blocks, items]."""
    order = np.lexsort((-cells, price), axis=1)
    most = np.maximum.accumulate(np.take_along_axis(cells, order, axis=1), axis=1)
    gained = np.diff(most, axis=1, prepend=0) > 0
    kept = np.empty(cells.shape, dtype=bool)
    np.put_along_axis(kept, order, gained, axis=1)
    return kept & np.isfinite(price)
