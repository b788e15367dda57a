"""The cheapest cover of each block, one workload in one period, at given prices of its replicas.

The pricing problem of a block is a small covering problem: integer replicas that serve the demand, a minimum share of
it off spot, and that still serve it when redundant replicas fail. Dynamic programming over cells of the demand solves
it. Capacities rounded up to whole cells give a lower bound on every cover; if the cover found that way serves the
demand without the rounding, it is optimal.
"""

from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.dominance import undominated_in_each_row
from servesat.fleet.decomposition.coarse_covers import coarse_covers

SUM_RTOL = 1e-12
"""How much of a demand a cover may miss because of rounding in floating-point sums; one unit is more than that."""

MAX_COARSE_REPLICAS = 40
"""Replicas of the cheapest item alone up to which a coarse grid is tried: rounding each up, it would tell nothing."""


@dataclass(frozen=True)
class Covers:
    """The covering problems of many blocks with the same number of items.

    `capacity`, of shape [blocks, items], is in multiples of the block's demand, and 0 where a block lacks an item;
    `spot` says which items are on spot, [items]; `min_non_spot_share` is the share of the demand that must be served
    off spot, and `redundant_replicas` how many replicas of any one item in use may fail while the rest serves the
    demand, both [blocks].
    """

    capacity: Floats
    spot: Bools
    min_non_spot_share: Floats
    redundant_replicas: Ints

    def of(self, blocks: Ints) -> "Covers":
        """The problems of some blocks."""
        return replace(
            self,
            capacity=self.capacity[blocks],
            min_non_spot_share=self.min_non_spot_share[blocks],
            redundant_replicas=self.redundant_replicas[blocks],
        )

    def cheapest(self, price: Floats, grid_cells: tuple[int, ...]) -> tuple[Floats, Floats, Ints]:
        """A lower bound on the cost of each block's covers, the cost of the best one, and its replicas.

        Prices and replicas have the shape [blocks, items]. The grids are tried in turn until bound and cost agree. If a
        block has no cover, both are infinite and its replicas 0.
        """
        candidates = self._undominated_items(price)
        lower_bound, usd, replicas = self._on_one_grid(np.where(candidates, price, np.inf))
        for block in np.flatnonzero(lower_bound < usd * (1 - SUM_RTOL)).tolist():
            items = np.flatnonzero(candidates[block])
            problem = _CoverProblem(
                self.capacity[block, items],
                price[block, items],
                self.spot[items],
                float(self.min_non_spot_share[block]),
                int(self.redundant_replicas[block]),
            )
            lower_bound[block], usd[block], counts = problem.cheapest(grid_cells)
            replicas[block] = 0
            replicas[block, items] = counts
        return lower_bound, usd, replicas

    def _on_one_grid(self, price: Floats) -> tuple[Floats, Floats, Ints]:
        """Bound, cost and replicas of a cover of each block, of all blocks at once; they agree for most.

        Not for those with redundant replicas, nor of so many replicas that cells are too few to tell: their bound is 0.
        """
        count = np.ceil(1 / np.maximum(self.capacity, SUM_RTOL) - SUM_RTOL)
        needs_others = self.spot & (self.min_non_spot_share > 0)[:, None]
        alone = np.where(needs_others | ~np.isfinite(price), np.inf, count * np.where(np.isfinite(price), price, 0.0))
        item = np.argmin(alone, axis=1)
        lower_bound, usd = np.zeros(len(price)), np.take_along_axis(alone, item[:, None], axis=1)[:, 0]
        replicas = np.zeros(price.shape, dtype=np.int64)
        few = np.take_along_axis(count, item[:, None], axis=1)[:, 0] <= MAX_COARSE_REPLICAS
        rows = np.flatnonzero((self.redundant_replicas == 0) & few & np.isfinite(usd))
        replicas[rows, item[rows]] = count[rows, item[rows]]
        of_rows = self.capacity[rows], price[rows], self.spot, self.min_non_spot_share[rows]
        bound, found = coarse_covers(*of_rows)
        served = found * self.capacity[rows]
        is_cover = served.sum(axis=1) >= 1 - SUM_RTOL
        is_cover &= served[:, ~self.spot].sum(axis=1) >= self.min_non_spot_share[rows] - SUM_RTOL
        better = rows[is_cover & (bound < usd[rows])]
        replicas[better] = found[is_cover & (bound < usd[rows])]
        usd[better] = bound[is_cover & (bound < usd[rows])]
        lower_bound[rows] = np.minimum(bound, usd[rows])
        return lower_bound, usd, replicas

    def _undominated_items(self, price: Floats) -> Bools:
        """Items that no other item of the same kind, spot or not, undercuts in price with at least equal capacity.

        Blocks with redundant replicas keep all their items, since there larger replicas are not always better.
        """
        real = (self.capacity > 0) & np.isfinite(price)
        undominated = np.zeros(real.shape, dtype=bool)
        for kind in (np.flatnonzero(~self.spot), np.flatnonzero(self.spot)):
            undominated[:, kind] = undominated_in_each_row(np.minimum(self.capacity[:, kind], 1.0), price[:, kind])
        return real & (undominated | (self.redundant_replicas > 0)[:, None])


@dataclass(frozen=True)
class _CoverProblem:
    """The covering problem of one block, with a demand of 1; arrays of shape [items]."""

    capacity: Floats
    price: Floats
    spot: Bools
    min_non_spot_share: float
    redundant_replicas: int

    def cheapest(self, grid_cells: tuple[int, ...]) -> tuple[float, float, Ints]:
        """A lower bound on the cost of a cover, the cost of the best cover found, and its replicas."""
        usd, replicas = self._single_item_cover()
        items = self._useful_items(usd)
        lower_bound = min(self._fractional_bound(), usd)
        for cells in grid_cells:
            grid_usd, grid_replicas = self._solve_on_grid(items, cells, round_up=True, max_usd=usd)
            lower_bound = max(lower_bound, min(grid_usd, usd))
            if grid_usd < usd and self._is_cover(grid_replicas):
                usd, replicas = grid_usd, grid_replicas
            if lower_bound >= usd * (1 - SUM_RTOL):
                return lower_bound, usd, replicas
        grid_usd, grid_replicas = self._solve_on_grid(items, grid_cells[-1], round_up=False, max_usd=usd)
        if grid_usd < usd and self._is_cover(grid_replicas):
            usd, replicas = grid_usd, grid_replicas
        return lower_bound, usd, replicas

    def _single_item_cover(self) -> tuple[float, Ints]:
        """The cheapest cover whose replicas are all of one item."""
        counts = np.ceil(1 / self.capacity - SUM_RTOL) + self.redundant_replicas
        usd = np.where(self.spot & (self.min_non_spot_share > 0), inf, counts * self.price)
        replicas = np.zeros(len(counts), dtype=np.int64)
        if not len(usd) or np.isinf(usd.min()):
            return inf, replicas
        best = int(np.argmin(usd))
        replicas[best] = counts[best]
        return float(usd[best]), replicas

    def _fractional_bound(self) -> float:
        """The cost of a cover of fractional replicas, redundant ones included: a lower bound."""
        if not len(self.capacity):
            return inf
        rate = self.price / self.capacity
        off_spot_rate = float(rate[~self.spot].min(initial=inf)) if self.min_non_spot_share else 0.0
        rest = 1 - self.min_non_spot_share + self.redundant_replicas * float(self.capacity.min())
        return (self.min_non_spot_share * off_spot_rate + rest * float(rate.min())) * (1 - SUM_RTOL)

    def _useful_items(self, max_usd: float) -> Ints:
        """The items that a cover cheaper than `max_usd` may contain, smallest first.

        One replica of an item and a fractional cover of the remaining demand must cost less than that.
        """
        if not len(self.capacity):
            return np.arange(0)
        rate = float((self.price / self.capacity).min())
        remaining_usd = np.maximum(1 + (self.redundant_replicas - 1) * self.capacity, 0.0) * rate
        order = np.argsort(self.capacity, kind="stable")
        return order[(self.price + remaining_usd < max_usd)[order]]

    def _is_cover(self, replicas: Ints) -> bool:
        served = replicas * self.capacity
        largest = self.capacity[replicas > 0].max(initial=0.0)
        serves_demand = served.sum() - self.redundant_replicas * largest >= 1 - SUM_RTOL
        return bool(serves_demand and served[~self.spot].sum() >= self.min_non_spot_share - SUM_RTOL)

    def _solve_on_grid(self, items: Ints, cells: int, *, round_up: bool, max_usd: float) -> tuple[float, Ints]:
        """The cheapest cover with capacities rounded to cells; its cost is infinite if none costs less than `max_usd`.

        With redundant replicas, items are allowed one after the other in order of size. When an item is the largest one
        allowed, its redundant replicas must be served in excess of the demand. At least one replica of it is in use,
        with its capacity rounded, so one of the redundant ones is rounded in the same way; the others are rounded up,
        as the rest serves a whole number of cells.
        """
        exact = np.minimum(self.capacity * cells, cells)
        item_cells = (np.ceil(exact) if round_up else np.floor(exact)).astype(np.int64)
        excess = np.zeros_like(item_cells)
        if self.redundant_replicas:
            others = np.ceil((self.redundant_replicas - 1) * exact * (1 - SUM_RTOL)).astype(np.int64)
            excess = item_cells + others
        non_spot_cells = int(self.min_non_spot_share * cells) if round_up else ceil(self.min_non_spot_share * cells)
        items = items[item_cells[items] > 0]
        max_cells = cells + int(excess[items].max(initial=0))
        tables = _KnapsackTable(max_cells), _KnapsackTable(max_cells)  # off spot, on spot
        best_usd, best_allowed, best_off_spot = max_usd, 0, 0
        for allowed, item in enumerate(items.tolist(), start=1):
            tables[int(self.spot[item])].allow(item, int(item_cells[item]), float(self.price[item]))
            if self.redundant_replicas or allowed == len(items):
                total = cells + int(excess[item])
                usd, off_spot = _cheapest_split(
                    tables[0].cost[: total + 1], tables[1].cost[: total + 1], non_spot_cells
                )
                if usd < best_usd:
                    best_usd, best_allowed, best_off_spot = usd, allowed, off_spot
        replicas = np.zeros(len(item_cells), dtype=np.int64)
        if not best_allowed:
            return inf, replicas
        total = cells + int(excess[items[best_allowed - 1]])
        if best_allowed < len(items):  # rebuild the tables without the larger items
            tables = _KnapsackTable(total), _KnapsackTable(total)
            for item in items[:best_allowed].tolist():
                tables[int(self.spot[item])].allow(item, int(item_cells[item]), float(self.price[item]))
        for table, start in zip(tables, (best_off_spot, total - best_off_spot), strict=True):
            for item, count in table.trace(start):
                replicas[item] += count
        return best_usd, replicas


def _cheapest_split(off_spot: Floats, on_spot: Floats, min_off_spot: int) -> tuple[float, int]:
    """The least cost of all cells with a minimum number of them off spot, and how many are then off spot."""
    total = off_spot[min_off_spot:] + on_spot[: len(on_spot) - min_off_spot][::-1]
    best = int(np.argmin(total))
    return float(total[best]), best + min_off_spot


class _KnapsackTable:
    """The least cost of covering at least n cells with the items allowed so far, for every n up to a maximum."""

    def __init__(self, max_cells: int) -> None:
        self.cost = np.full(max_cells + 1, inf)
        self.cost[0] = 0.0
        self._items: list[tuple[int, int, float]] = []

    def allow(self, item: int, cells: int, usd: float) -> None:
        """Allow any number of an item, by doubling: first one more, then two more, four more and so on."""
        self._items.append((item, cells, usd))
        cost, max_cells = self.cost, len(self.cost) - 1
        step = min(cells, max_cells)
        while True:
            with_step = cost[:-step] + usd
            np.minimum(cost[1:step], usd, out=cost[1:step])
            np.minimum(cost[step:], with_step, out=cost[step:])
            if step >= max_cells:
                return
            step, usd = min(2 * step, max_cells), 2 * usd

    def trace(self, cells: int) -> list[tuple[int, int]]:
        """The items that cover a number of cells at least cost, with their counts; the counts are found by doubling."""
        items = [item for item, _, _ in self._items]
        sizes = np.array([size for _, size, _ in self._items])
        prices = np.array([usd for _, _, usd in self._items])
        counts = []
        while cells > 0:
            last = int(np.argmin(self.cost[np.maximum(cells - sizes, 0)] + prices))
            size, usd, times = int(sizes[last]), float(prices[last]), 1
            max_usd = self.cost[cells] * (1 + SUM_RTOL)
            while 2 * times * size <= cells and self.cost[cells - 2 * times * size] + 2 * times * usd <= max_usd:
                times *= 2
            counts.append((items[last], times))
            cells -= times * size
        return counts
