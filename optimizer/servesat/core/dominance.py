"""Pareto dominance: the rows that no other row equals or beats in every figure. Less is better in each of them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from servesat.core.arrays import Bools, Floats, Ints

MAX_PEELED = 256
"""Rows of three figures that are taken off one by one before the rest is swept."""


def undominated(figures: npt.NDArray[Any], rank: Ints | None = None, *, max_peeled: int = MAX_PEELED) -> Ints:
    """Positions, ascending, of the rows that no other equals or beats in all figures; of equal rows the first by rank.

    `figures` has the shape [rows, figures], of numbers or of anything that can be ordered; `rank` has the shape [rows]
    and is the position unless given. Two figures are a staircase. Otherwise the row with the least sum of places is
    taken off, with all that it dominates: no other row dominates such a row. With three figures that ends after
    `max_peeled` rows, and the rest is swept along the figure with fewest values.
    """
    rank = np.arange(len(figures)) if rank is None else rank
    if figures.shape[1] == 2 and figures.dtype != object:
        return np.sort(_staircase(figures, rank))
    places = np.zeros(figures.shape, dtype=np.int64)
    for axis, column in enumerate(figures.T):
        places[:, axis] = np.unique(column, return_inverse=True)[1]
    sweeps = figures.shape[1] == 3
    left = np.lexsort((rank, places.sum(axis=1)))
    found: list[Any] = []
    while len(left) and not (sweeps and len(found) >= max_peeled):
        first, found = places[left[0]], [*found, left[0]]
        left = left[np.any(places[left] < first, axis=1)]
    rest = left[_swept(places[left], rank[left])] if len(left) else left
    return np.sort(np.concatenate([np.array(found, dtype=np.int64), rest]))


def undominated_in_each_row(capacity: Floats, price: Floats) -> Bools:
    """Which items of a row no other item undercuts in price with as much capacity; all of shape [rows, items]."""
    order = np.lexsort((-capacity, price), axis=1)
    largest = np.maximum.accumulate(np.take_along_axis(capacity, order, axis=1), axis=1)
    gained = np.diff(largest, axis=1, prepend=0) > 0
    kept = np.empty(capacity.shape, dtype=bool)
    np.put_along_axis(kept, order, gained, axis=1)
    return kept


def _staircase(figures: npt.NDArray[Any], rank: Ints) -> Ints:
    """`undominated` of two figures, sorted by the first: the rows whose second is less than any before."""
    order = np.lexsort((rank, figures[:, 1], figures[:, 0]))
    second = figures[order, 1]
    least = np.minimum.accumulate(second)
    return order[np.append(True, second[1:] < least[:-1])] if len(order) else order


def _swept(codes: Ints, rank: Ints) -> Ints:
    """`undominated` of three figures: a value of one figure at a time, against the staircase of the values before."""
    values = [len(np.unique(column)) for column in codes.T]
    swept = int(np.argmin(values))
    others = np.delete(codes, swept, axis=1)
    order = np.argsort(codes[:, swept], kind="stable")
    starts = np.flatnonzero(np.diff(codes[order, swept])) + 1
    staircase, found = np.zeros((0, 2), dtype=np.int64), []
    for members in np.split(order, starts):
        step = np.searchsorted(staircase[:, 0], others[members, 0], side="right") - 1
        beaten = (
            (step >= 0) & (staircase[step, 1] <= others[members, 1]) if len(staircase) else np.zeros(len(members), bool)
        )
        new = members[~beaten]
        new = new[_staircase(others[new], rank[new])]
        found.append(new)
        joined = np.concatenate([staircase, others[new]])
        staircase = joined[_staircase(joined, np.arange(len(joined)))]
    return np.concatenate(found)
