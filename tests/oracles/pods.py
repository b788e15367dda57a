"""Packing by enumeration: every place of every slice, one after another, in plain loops.

Takes plain tuples and imports nothing from servesat.
"""

from functools import cache
from itertools import permutations, product
from math import prod


def cubes(shape, sizes):
    """Whole pods that a slice of three axes takes; 0 where it shares one."""
    if len(shape) != 3 or any(size % room for size, room in zip(sizes, shape, strict=True)):
        return 0
    return sizes[0] * sizes[1] * sizes[2] // (shape[0] * shape[1] * shape[2])


@cache
def places(shape, sizes, rings):
    """Every set of chips of one pod that a slice can take, a bit for each chip."""
    bit = {cell: 1 << number for number, cell in enumerate(product(*map(range, shape)))}
    found = set()
    for order in permutations(range(len(shape))):
        turned = [sizes[axis] for axis in order]
        if any(rings[axis] and size != room for axis, size, room in zip(order, turned, shape, strict=True)):
            continue
        for corner in product(*(range(room - size + 1) for room, size in zip(shape, turned, strict=True))):
            cells = product(*(range(at, at + size) for at, size in zip(corner, turned, strict=True)))
            found.add(sum(bit[cell] for cell in cells))
    return sorted(found)


def packs(shape, count, slices):
    """Whether slices, each as (sizes, rings), stand in so many pods; every one is tried everywhere."""
    whole = [cubes(shape, sizes) for sizes, _ in slices]
    shared = sorted((one for one, taken in zip(slices, whole, strict=True) if not taken), reverse=True)
    left = count - sum(whole)
    if sum(prod(sizes) for sizes, _ in shared) > left * prod(shape):
        return False
    return _put_down(shape, tuple(shared), (0,) * left)


@cache
def _put_down(shape, left, pods):
    """Whether the slices that are left go into pods, of each of which some chips are taken."""
    if not left:
        return True
    (sizes, rings), *rest = left
    for number, taken in enumerate(pods):
        for cells in places(shape, sizes, rings):
            filled = tuple(sorted((*pods[:number], taken | cells, *pods[number + 1 :])))
            if not cells & taken and _put_down(shape, tuple(rest), filled):
                return True
    return False
