"""Pareto dominance: the rows that no other row equals or beats in every figure; lower figures are better."""

from typing import Any

import numpy as np
import numpy.typing as npt

from servesat.core.arrays import Bools, Floats, Ints

MAX_PEELED = 256
"""Of three figures, the most rows that are peeled off before the rest is swept."""

MAX_COMPARED = 100
"""Groups of up to this many rows are compared pairwise."""


def undominated(figures: npt.NDArray[Any], rank: Ints | None = None, *, max_peeled: int = MAX_PEELED) -> Ints:
    """Positions, ascending, of the rows that no other equals or beats in all figures; of equal rows the first by rank.

    `figures` has the shape [rows, figures] and holds anything that can be ordered; `rank` has the shape [rows] and
    defaults to the position. Two figures form a staircase. For more figures, peeling takes the row with the lowest sum
    of ordinals, which nothing dominates, and drops the rows that it dominates, until no row remains. With three figures
    peeling stops after `max_peeled` rows, and a sweep along the figure with the fewest values handles the rest.
    """
    rank = np.arange(len(figures)) if rank is None else rank
    if figures.shape[1] == 2 and figures.dtype != object:
        return np.sort(_staircase(figures, rank))
    ordinals = np.zeros(figures.shape, dtype=np.int64)
    for axis, column in enumerate(figures.T):
        ordinals[:, axis] = np.unique(column, return_inverse=True)[1]
    can_sweep = figures.shape[1] == 3
    remaining = np.lexsort((rank, ordinals.sum(axis=1)))
    peeled: list[Any] = []
    while len(remaining) and not (can_sweep and len(peeled) >= max_peeled):
        peeled.append(remaining[0])
        remaining = remaining[np.any(ordinals[remaining] < ordinals[remaining[0]], axis=1)]
    swept = remaining[_swept(ordinals[remaining], rank[remaining])] if len(remaining) else remaining
    return np.sort(np.concatenate([np.array(peeled, dtype=np.int64), swept]))


def undominated_in_groups(group: Ints, figures: Floats) -> Ints:
    """Positions, ascending, of the rows that no other of their group equals or beats in all figures.

    Of equal rows the first stays. `group` has the shape [rows], `figures` [rows, figures]; lower figures are better.
    """
    order = np.argsort(group, kind="stable")
    kept = []
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows) > MAX_COMPARED:
            kept.append(rows[undominated(figures[rows])])
        elif len(rows) > 1:
            of_rows = figures[rows]
            beaten_by = np.all(of_rows[:, None] >= of_rows, axis=2)
            beaten_by &= ~(beaten_by.T & np.tri(len(rows), dtype=np.bool_).T)
            kept.append(rows[~beaten_by.any(axis=1)])
        else:
            kept.append(rows)
    return np.sort(np.concatenate(kept))


def undominated_in_each_row(capacity: Floats, price: Floats) -> Bools:
    """Which items of a row no other item matches in capacity at a lower or equal price; all arrays [rows, items]."""
    order = np.lexsort((-capacity, price), axis=1)
    largest = np.maximum.accumulate(np.take_along_axis(capacity, order, axis=1), axis=1)
    is_larger = np.diff(largest, axis=1, prepend=0) > 0
    is_undominated = np.empty(capacity.shape, dtype=bool)
    np.put_along_axis(is_undominated, order, is_larger, axis=1)
    return is_undominated


def _staircase(figures: npt.NDArray[Any], rank: Ints) -> Ints:
    """`undominated` of two figures: sorted by the first, the rows whose second is lower than in every row before."""
    order = np.lexsort((rank, figures[:, 1], figures[:, 0]))
    second = figures[order, 1]
    lowest = np.minimum.accumulate(second)
    return order[np.append(True, second[1:] < lowest[:-1])] if len(order) else order


def _swept(ordinals: Ints, rank: Ints) -> Ints:
    """`undominated` of three figures: for each value of a figure, compare with the staircase of the values before."""
    values = [len(np.unique(column)) for column in ordinals.T]
    swept = int(np.argmin(values))
    others = np.delete(ordinals, swept, axis=1)
    order = np.argsort(ordinals[:, swept], kind="stable")
    starts = np.flatnonzero(np.diff(ordinals[order, swept])) + 1
    staircase, undominated_rows = np.zeros((0, 2), dtype=np.int64), []
    for members in np.split(order, starts):
        step = np.searchsorted(staircase[:, 0], others[members, 0], side="right") - 1
        dominated = (
            (step >= 0) & (staircase[step, 1] <= others[members, 1]) if len(staircase) else np.zeros(len(members), bool)
        )
        new = members[~dominated]
        new = new[_staircase(others[new], rank[new])]
        undominated_rows.append(new)
        joined = np.concatenate([staircase, others[new]])
        staircase = joined[_staircase(joined, np.arange(len(joined)))]
    return np.concatenate(undominated_rows)
