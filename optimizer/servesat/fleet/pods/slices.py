"""The floor: pods of chips in which each slice of a torus stands as a contiguous block.

In two dimensions a pod is rigid. In three it is a cube whose faces are joined by optical switches: a slice of whole
cubes takes any of them, a smaller one shares a cube.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import permutations, product
from math import lcm, prod

import numpy as np

from servesat.core.arrays import Bools
from servesat.core.dominance import undominated

CUBIC = 3
"""Axes of the pods that are joined by optical switches."""

Box = tuple[int, ...]
"""Chips along each axis of a pod."""


@dataclass(frozen=True, order=True)
class Slice:
    """Chips along each axis of a slice, and along which of them its plan needs the links that close a ring."""

    sizes: Box
    rings: tuple[bool, ...]

    @property
    def chips(self) -> int:
        """Chips of the slice."""
        return prod(self.sizes)

    def __str__(self) -> str:
        return "x".join(map(str, self.sizes))

    @property
    def name(self) -> str:
        """Its sizes, and where it must close to a ring: `8x16 with a ring of 16`."""
        rings = [str(size) for size, ring in zip(self.sizes, self.rings, strict=True) if ring]
        return (
            f"{self} with {'a ring' if len(rings) == 1 else 'rings'} of {' and '.join(rings)}" if rings else str(self)
        )


Counts = tuple[tuple[Slice, int], ...]
"""Slices, each with how many of it, in order."""


@dataclass(frozen=True)
class Pods:
    """Pods of one shape, in one region."""

    shape: Box
    count: int

    @property
    def chips(self) -> int:
        """Chips of all pods."""
        return self.count * prod(self.shape)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{self.count} {'pod' if self.count == 1 else 'pods'} of {shape}"


@dataclass(frozen=True)
class Placed:
    """A block on the floor: a slice, or one of the whole cubes it takes."""

    slice: Slice
    pod: int
    at: Box
    sizes: Box  # along the axes of the pod


@cache
def orientations(shape: Box, one: Slice) -> tuple[Box, ...]:
    """The ways a slice stands in a pod of a shape: turned, and with every axis that is a ring as long as the pod."""
    found = set()
    for axes in permutations(range(len(shape))):
        sizes = tuple(one.sizes[axis] for axis in axes)
        closes = all(size == room for axis, size, room in zip(axes, sizes, shape, strict=True) if one.rings[axis])
        if closes and all(size <= room for size, room in zip(sizes, shape, strict=True)):
            found.add(sizes)
    return tuple(sorted(found))


def whole_pods(shape: Box, one: Slice) -> int:
    """How many whole cubes a slice takes; 0 where it shares one, or pods are rigid."""
    if len(shape) != CUBIC or any(size % room for size, room in zip(one.sizes, shape, strict=True)):
        return 0
    return one.chips // prod(shape)


def fits(shape: Box, one: Slice) -> bool:
    """Whether a slice can stand in pods of a shape at all, given enough of them."""
    return bool(whole_pods(shape, one) or orientations(shape, one))


def contains(shape: Box, large: Slice, small: Slice) -> bool:
    """Whether the small slice can stand wherever the large one does."""
    cubes = whole_pods(shape, small)
    if cubes or whole_pods(shape, large):
        return max(cubes, 1) <= whole_pods(shape, large)
    return all(
        any(all(map(int.__le__, inner, outer)) for inner in orientations(shape, small))
        for outer in orientations(shape, large)
    )


def counted(slices: Iterable[tuple[Slice, int]]) -> Counts:
    """Slices gathered and put in order."""
    total: Counter[Slice] = Counter()
    for one, count in slices:
        total[one] += count
    return tuple(sorted((one, count) for one, count in total.items() if count))


@cache
def volumes(shape: Box, slices: tuple[Slice, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
    """What each slice takes of a pod, and what a pod has, by several measures; every packing keeps to all of them.

    One measure is the number of chips. The others are products of dual feasible functions of the sides, which give
    a side more than its length where two of them cannot stand beside each other (Fekete and Schepers, 2004, "A general
    framework for bounds for higher-dimensional orthogonal packing problems"). Of the ways to turn a slice the least
    counts. A measure that another never falls below is left out.
    """
    sides = sorted({size for one in slices for sizes in orientations(shape, one) for size in sizes})
    of_axis = [_largest(_lengths(room, sides)) for room in shape]
    found = {tuple(_share(shape, one, sides, chosen) for one in slices) for chosen in product(*of_axis)}
    rows = []
    for row in _largest(found):
        whole = lcm(*(share.denominator for share in row))
        rows.append((tuple(int(share * whole) for share in row), whole))
    return tuple(sorted(rows))


def _lengths(room: int, sides: list[int]) -> set[tuple[Fraction, ...]]:
    """Dual feasible functions of sides, as shares of an axis: whatever fits beside each other sums to at most 1."""
    own = [min(side, room) for side in sides]
    found = {tuple(Fraction(side, room) for side in own)}
    for least in range(2, room // 2 + 1):  # sides that leave less than this free take all, shorter ones nothing
        found.add(tuple(Fraction(room if s > room - least else s if s >= least else 0, room) for s in own))
    for parts in range(1, room):  # sides rounded to what so many beside each other leave
        steps = [(parts + 1) * side for side in own]
        found.add(
            tuple(Fraction(s, (parts + 1) * room) if s % room == 0 else Fraction(s // room, parts) for s in steps)
        )
    return found


def _share(shape: Box, one: Slice, sides: list[int], lengths: tuple[tuple[Fraction, ...], ...]) -> Fraction:
    """What a slice takes of a pod by one measure of each axis."""
    cubes = whole_pods(shape, one)
    if cubes:
        return Fraction(cubes)
    place = {side: position for position, side in enumerate(sides)}
    turned = orientations(shape, one)
    return min(
        prod((own[place[size]] for own, size in zip(lengths, sizes, strict=True)), start=Fraction(1))
        for sizes in turned
    )


def _largest(rows: set[tuple[Fraction, ...]]) -> list[tuple[Fraction, ...]]:
    """The rows that no other is at least as large as in every entry."""
    ordered = sorted(rows, reverse=True)
    figures = np.array([[-share for share in row] for row in ordered], dtype=object)
    return [ordered[row] for row in undominated(figures)]


def first_fit(pods: Pods, slices: Counts) -> list[Placed] | None:
    """Slices put down one after another, the largest first, each in the first place that is free; None if one is left.

    Finds the packing wherever every shape is made of smaller ones, as the slices on sale are.
    """
    taken = np.zeros((pods.count, *pods.shape), dtype=bool)
    left = [prod(pods.shape)] * pods.count
    placed = []
    for one, count in sorted(slices, key=lambda pair: (-max(pair[0].sizes), -pair[0].chips)):
        for _ in range(count):
            blocks = _whole(pods, one, left) or _first_free(pods, one, taken, left)
            if not blocks:
                return None
            for block in blocks:
                taken[block.pod][_cells(block)] = True
                left[block.pod] -= prod(block.sizes)
            placed += blocks
    return placed


def _whole(pods: Pods, one: Slice, left: list[int]) -> list[Placed]:
    cubes = whole_pods(pods.shape, one)
    empty = [pod for pod, chips in enumerate(left) if chips == prod(pods.shape)][:cubes]
    corner = (0,) * len(pods.shape)
    return [Placed(one, pod, corner, pods.shape) for pod in empty] if len(empty) == cubes else []


def _first_free(pods: Pods, one: Slice, taken: Bools, left: list[int]) -> list[Placed]:
    for pod in range(pods.count):
        for sizes in orientations(pods.shape, one) if left[pod] >= one.chips else ():
            windows = np.lib.stride_tricks.sliding_window_view(taken[pod], sizes)
            free = np.argwhere(~windows.any(axis=tuple(range(-len(sizes), 0))))
            if len(free):
                return [Placed(one, pod, tuple(free[0].tolist()), sizes)]
    return []


def _cells(block: Placed) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(block.at, block.sizes, strict=True))


def stands(pods: Pods, slices: Counts, placed: Iterable[Placed]) -> bool:
    """Whether blocks are all of some slices, each in one of its shapes within a pod, and no two share a chip."""
    chips = np.zeros((pods.count, *pods.shape), dtype=np.int64)
    found: Counter[Slice] = Counter()
    for block in placed:
        cubes = whole_pods(pods.shape, block.slice)
        inside = all(at + size <= room for at, size, room in zip(block.at, block.sizes, pods.shape, strict=True))
        if not inside or block.sizes not in ((pods.shape,) if cubes else orientations(pods.shape, block.slice)):
            return False
        chips[block.pod][_cells(block)] += 1
        found[block.slice] += 1
    wanted = {one: count * (whole_pods(pods.shape, one) or 1) for one, count in slices}
    return bool((chips <= 1).all()) and dict(found) == wanted
