"""The shapes of TPU slices and of the pods they are placed in, with bounds on what packs and a first-fit heuristic.

In two dimensions a pod is rigid. In three it is a cube whose faces are joined by optical switches: a slice made of
whole cubes takes any of them, and a smaller slice shares a cube with others. In the terms of bin packing, pods are the
bins and slices the items.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import permutations, product
from math import lcm, prod

import numpy as np

from servesat.catalogue.chip import CUBIC
from servesat.core.arrays import Bools
from servesat.core.dominance import undominated

Box = tuple[int, ...]
"""Chips along each axis of a pod."""


@dataclass(frozen=True, order=True)
class Slice:
    """Chips along each axis of a slice, and the axes along which its plan needs the links that close a ring."""

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
        """The sizes, and which axes must close to a ring: `8x16 with a ring of 16`."""
        rings = [str(size) for size, ring in zip(self.sizes, self.rings, strict=True) if ring]
        return (
            f"{self} with {'a ring' if len(rings) == 1 else 'rings'} of {' and '.join(rings)}" if rings else str(self)
        )


Counts = tuple[tuple[Slice, int], ...]
"""Pairs of a slice and its number, sorted."""


@dataclass(frozen=True)
class Pods:
    """Pods of one shape in one region."""

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
class Placement:
    """A slice at a position in a pod; a slice of several whole cubes has one placement per cube."""

    slice: Slice
    pod: int
    at: Box  # the corner with the smallest coordinates
    sizes: Box  # along the axes of the pod


@cache
def orientations(shape: Box, item: Slice) -> tuple[Box, ...]:
    """The orientations in which a slice fits a pod of this shape; an axis with a ring must be as long as the pod."""
    fitting = set()
    for axes in permutations(range(len(shape))):
        sizes = tuple(item.sizes[axis] for axis in axes)
        closes = all(size == room for axis, size, room in zip(axes, sizes, shape, strict=True) if item.rings[axis])
        if closes and all(size <= room for size, room in zip(sizes, shape, strict=True)):
            fitting.add(sizes)
    return tuple(sorted(fitting))


def whole_pods(shape: Box, item: Slice) -> int:
    """How many whole cubes a slice takes; 0 if it shares a cube, or if pods are rigid."""
    if len(shape) != CUBIC or any(size % room for size, room in zip(item.sizes, shape, strict=True)):
        return 0
    return item.chips // prod(shape)


def fits(shape: Box, item: Slice) -> bool:
    """Whether a slice can be placed in pods of this shape at all, given enough pods."""
    return bool(whole_pods(shape, item) or orientations(shape, item))


def contains(shape: Box, large: Slice, small: Slice) -> bool:
    """Whether the small slice can be placed wherever the large slice can."""
    cubes = whole_pods(shape, small)
    if cubes or whole_pods(shape, large):
        return max(cubes, 1) <= whole_pods(shape, large)
    return all(
        any(all(map(int.__le__, inner, outer)) for inner in orientations(shape, small))
        for outer in orientations(shape, large)
    )


def counted(slices: Iterable[tuple[Slice, int]]) -> Counts:
    """The total number of each slice, sorted, without zeros."""
    total: Counter[Slice] = Counter()
    for item, count in slices:
        total[item] += count
    return tuple(sorted((item, count) for item, count in total.items() if count))


@cache
def volumes(shape: Box, slices: tuple[Slice, ...]) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Valid inequalities of every packing: for each, the scaled volume of each slice and of a pod.

    The total scaled volume of the slices in a pod never exceeds that of the pod. One inequality counts chips. The
    others are products of dual feasible functions of the side lengths, which enlarge a side where two such sides do
    not fit next to each other (Fekete and Schepers, 2004, "A general framework for bounds for higher-dimensional
    orthogonal packing problems"). A slice counts with its orientation of the least scaled volume. Dominated
    inequalities are dropped.
    """
    sides = sorted({size for item in slices for sizes in orientations(shape, item) for size in sizes})
    axis_functions = [_undominated_rows(_dual_feasible_lengths(room, sides)) for room in shape]
    volume_rows = {
        tuple(_scaled_volume(shape, item, sides, functions) for item in slices)
        for functions in product(*axis_functions)
    }
    rows = []
    for row in _undominated_rows(volume_rows):
        pod_volume = lcm(*(share.denominator for share in row))
        rows.append((tuple(int(share * pod_volume) for share in row), pod_volume))
    return tuple(sorted(rows))


def _dual_feasible_lengths(room: int, sides: list[int]) -> set[tuple[Fraction, ...]]:
    """Dual feasible functions of the sides, as shares of an axis: sides that fit side by side sum to at most 1."""
    clipped = [min(side, room) for side in sides]
    lengths = {tuple(Fraction(side, room) for side in clipped)}
    for threshold in range(2, room // 2 + 1):
        # a side that leaves less than the threshold counts as the whole axis, a side below the threshold as nothing
        lengths.add(
            tuple(Fraction(room if s > room - threshold else s if s >= threshold else 0, room) for s in clipped)
        )
    for parts in range(1, room):  # sides rounded to multiples of 1 / parts
        scaled = [(parts + 1) * side for side in clipped]
        lengths.add(
            tuple(Fraction(s, (parts + 1) * room) if s % room == 0 else Fraction(s // room, parts) for s in scaled)
        )
    return lengths


def _scaled_volume(shape: Box, item: Slice, sides: list[int], functions: tuple[tuple[Fraction, ...], ...]) -> Fraction:
    """The share of a pod that a slice takes, given one dual feasible function per axis."""
    cubes = whole_pods(shape, item)
    if cubes:
        return Fraction(cubes)
    position = {side: index for index, side in enumerate(sides)}
    return min(
        prod((lengths[position[size]] for lengths, size in zip(functions, sizes, strict=True)), start=Fraction(1))
        for sizes in orientations(shape, item)
    )


def _undominated_rows(rows: set[tuple[Fraction, ...]]) -> list[tuple[Fraction, ...]]:
    """The rows to which no other row is at least equal in every entry."""
    ordered = sorted(rows, reverse=True)
    figures = np.array([[-share for share in row] for row in ordered], dtype=object)
    return [ordered[row] for row in undominated(figures)]


def first_fit(pods: Pods, slices: Counts) -> list[Placement] | None:
    """First-fit decreasing: place the largest slice first, each at the first free position; None if one does not fit.

    It finds a packing, if there is one, whenever every shape is composed of smaller shapes, as the slices on sale are.
    """
    taken = np.zeros((pods.count, *pods.shape), dtype=bool)
    free_chips = [prod(pods.shape)] * pods.count
    placed = []
    for item, count in sorted(slices, key=lambda pair: (-max(pair[0].sizes), -pair[0].chips)):
        for _ in range(count):
            blocks = _empty_pods(pods, item, free_chips) or _first_free_position(pods, item, taken, free_chips)
            if not blocks:
                return None
            for block in blocks:
                taken[block.pod][_cells(block)] = True
                free_chips[block.pod] -= prod(block.sizes)
            placed += blocks
    return placed


def _empty_pods(pods: Pods, item: Slice, free_chips: list[int]) -> list[Placement]:
    cubes = whole_pods(pods.shape, item)
    empty = [pod for pod, chips in enumerate(free_chips) if chips == prod(pods.shape)][:cubes]
    corner = (0,) * len(pods.shape)
    return [Placement(item, pod, corner, pods.shape) for pod in empty] if len(empty) == cubes else []


def _first_free_position(pods: Pods, item: Slice, taken: Bools, free_chips: list[int]) -> list[Placement]:
    for pod in range(pods.count):
        for sizes in orientations(pods.shape, item) if free_chips[pod] >= item.chips else ():
            windows = np.lib.stride_tricks.sliding_window_view(taken[pod], sizes)
            free = np.argwhere(~windows.any(axis=tuple(range(-len(sizes), 0))))
            if len(free):
                return [Placement(item, pod, tuple(free[0].tolist()), sizes)]
    return []


def _cells(block: Placement) -> tuple[slice, ...]:
    return tuple(slice(start, start + size) for start, size in zip(block.at, block.sizes, strict=True))


def is_valid_packing(pods: Pods, slices: Counts, placed: Iterable[Placement]) -> bool:
    """Whether the placements are exactly these slices, each in a valid orientation within a pod, without overlap."""
    chips = np.zeros((pods.count, *pods.shape), dtype=np.int64)
    blocks_placed: Counter[Slice] = Counter()
    for block in placed:
        cubes = whole_pods(pods.shape, block.slice)
        inside = all(at + size <= room for at, size, room in zip(block.at, block.sizes, pods.shape, strict=True))
        if not inside or block.sizes not in ((pods.shape,) if cubes else orientations(pods.shape, block.slice)):
            return False
        chips[block.pod][_cells(block)] += 1
        blocks_placed[block.slice] += 1
    blocks_expected = {item: count * (whole_pods(pods.shape, item) or 1) for item, count in slices}
    return bool((chips <= 1).all()) and dict(blocks_placed) == blocks_expected
