"""The cheapest covers of many blocks at once, on one coarse grid: most blocks need no finer one.

Dynamic programming over the cells of a demand of 1, as in `covers.py`, a cell of all blocks at a time. Capacities are
rounded up to whole cells, so that the cost is a lower bound; replicas that serve the demand without the rounding are
the cheapest cover.
"""

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints

CELLS = 400
"""Cells of a demand; a capacity is rounded up by at most one of them."""

BLOCKS_AT_A_TIME = 2000
"""Blocks whose tables are filled together: 13 MB."""


def coarse_covers(capacity: Floats, price: Floats, spot: Bools, min_non_spot_share: Floats) -> tuple[Floats, Ints]:
    """A lower bound on the cost of each block's covers, and the replicas that reach it on the grid.

    Arrays have the shape [blocks, items], `spot` [items], the share that must be served off spot and the bound
    [blocks]. Items without a finite price are not available; without any cover the bound is infinite.
    """
    bounds, replicas = np.full(len(capacity), np.inf), np.zeros(capacity.shape, dtype=np.int64)
    for first in range(0, len(capacity), BLOCKS_AT_A_TIME):
        some = slice(first, first + BLOCKS_AT_A_TIME)
        tables = [_Tables(capacity[some][:, kind], price[some][:, kind]) for kind in (~spot, spot)]
        off_spot = np.arange(CELLS + 1)[:, None]
        usd = tables[0].cost + tables[1].cost[::-1]
        usd[off_spot < (min_non_spot_share[some] * CELLS).astype(np.int64)] = np.inf
        best = np.argmin(usd, axis=0)
        bounds[some] = np.take_along_axis(usd, best[None], axis=0)[0]
        found = np.isfinite(bounds[some])
        for kind, table, cells in zip((~spot, spot), tables, (best, CELLS - best), strict=True):
            replicas[some, kind] = table.replicas(np.where(found, cells, 0))
    return bounds, replicas


class _Tables:
    """The least cost of covering at least n cells of each block with items of one kind; shape [cells, blocks]."""

    def __init__(self, capacity: Floats, price: Floats) -> None:
        self._shape, real = price.shape, np.isfinite(price)
        most = int(real.sum(axis=1).max(initial=0))
        self._order = np.argsort(~real, axis=1, kind="stable")[:, :most]
        self._price = np.take_along_axis(price, self._order, axis=1).T.copy()
        share = np.take_along_axis(np.minimum(capacity, 1.0), self._order, axis=1)
        self._cells = np.maximum(np.ceil(share.T * CELLS).astype(np.int64), 1)
        self.cost = np.full((CELLS + 1, len(price)), np.inf)
        self.cost[0] = 0.0
        if most:
            self._fill()

    def _fill(self) -> None:
        """One cell after another: the cheapest last replica, and what is left before it; all, where it serves more."""
        blocks, table = len(self._order), self.cost.ravel()
        none_left = np.arange(blocks)
        before, usd = none_left - self._cells * blocks, np.empty_like(self._price)
        at = np.empty_like(before)
        for cost in self.cost[1:]:
            before += blocks
            np.maximum(before, none_left, out=at)
            table.take(at, out=usd, mode="clip")
            usd += self._price
            usd.min(axis=0, out=cost)

    def replicas(self, cells: Ints) -> Ints:
        """The replicas that cover so many cells of each block at least cost; shape [blocks, items]."""
        counts = np.zeros_like(self._order)
        left, block = cells.copy(), np.flatnonzero(cells > 0)
        while len(block):
            before = np.maximum(left[block] - self._cells[:, block], 0)
            last = np.argmin(self.cost[before, block] + self._price[:, block], axis=0)
            counts[block, last] += 1
            left[block] = before[last, np.arange(len(block))]
            block = block[left[block] > 0]
        found = np.zeros(self._shape, dtype=np.int64)
        np.put_along_axis(found, self._order, counts, axis=1)
        return found
