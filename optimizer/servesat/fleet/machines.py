"""The instances that a fleet rents: what stands in one, and the fewest that hold some slices.

Slices of all workloads share the instances of one offer in a region. Where their sizes nest, each a multiple of the
next smaller one, filling instances with the largest first is optimal.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from servesat.catalogue.price_book import Price, Purchase

Pieces = tuple[tuple[int, int], ...]
"""Slices that stand in instances: pairs of their chips and their number."""

MAX_SEARCHED_PIECES = 60
"""Pieces up to which the fewest instances are searched for where sizes do not nest; more are placed first-fit."""


@dataclass(frozen=True)
class Machine:
    """An instance with its chips, as a region sells it; `price` has where it is rented."""

    region: str
    chip: str
    purchase: Purchase
    chips: int
    usd_per_hour: float
    price: Price = field(compare=False)

    @property
    def name(self) -> str:
        """What the cloud calls it."""
        return self.price.instance or ""

    def pieces(self, slices: Iterable[tuple[int, int]]) -> Pieces:
        """What slices take of it: themselves, or, of wider ones, several whole instances each."""
        taken: Counter[int] = Counter()
        for chips, count in slices:
            wide = max(1, chips // self.chips)
            taken[min(chips, self.chips)] += count * wide
        return tuple(sorted(taken.items()))


def nest(sizes: Iterable[int]) -> bool:
    """Whether each size is a multiple of the next smaller one."""
    return all(larger % smaller == 0 for smaller, larger in pairwise(sorted(set(sizes))))


def fewest_instances(chips: int, pieces: Mapping[int, int]) -> int:
    """The fewest instances of so many chips that hold some pieces, by their chips.

    Exact where sizes nest, or where there are at most MAX_SEARCHED_PIECES of them; otherwise first-fit, largest first.
    """
    counts = {size: count for size, count in pieces.items() if count}
    if not nest(counts) and sum(counts.values()) <= MAX_SEARCHED_PIECES:
        return _searched(chips, tuple(sorted(counts.items(), reverse=True)))
    free: Counter[int] = Counter()  # instances by the chips that are left in them
    for size in sorted(counts, reverse=True):
        left = counts[size]
        for room in sorted(room for room in free if room >= size):
            filled = min(free[room], left // (room // size))
            left -= _fill(free, room, room // size * size, filled) * (room // size)
            if free[room] and 0 < left < room // size:
                _fill(free, room, left * size, 1)
                left = 0
        whole, left = divmod(left, chips // size)
        free[chips - chips // size * size] += whole
        if left:
            free[chips - left * size] += 1
    return sum(free.values())


def _fill(free: Counter[int], room: int, chips: int, count: int) -> int:
    """Take chips of some instances that have so much room; how many instances."""
    free[room] -= count
    free[room - chips] += count
    return count


@cache
def _searched(chips: int, pieces: Pieces) -> int:
    """The fewest instances, over every filling of the first one that leaves no room for a further piece."""
    if not any(count for _, count in pieces):
        return 0
    return 1 + min(
        _searched(chips, tuple((size, count - taken) for (size, count), taken in zip(pieces, filling, strict=True)))
        for filling in fillings(chips, pieces)
    )


def fillings(chips: int, pieces: Pieces) -> list[tuple[int, ...]]:
    """The numbers of pieces of each size that fill an instance: no piece that is left fits into the rest."""
    if not pieces:
        return [()]
    (size, count), *others = pieces
    found = []
    for taken in range(min(count, chips // size), -1, -1):
        room = chips - taken * size
        is_full = taken == count or room < size
        found += [
            (taken, *rest)
            for rest in fillings(room, tuple(others))
            if is_full or room - sum(n * other for n, (other, _) in zip(rest, others, strict=True)) < size
        ]
    return found
