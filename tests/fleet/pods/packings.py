"""Pods and the slices in them, written briefly, and small ones to enumerate."""

from typing import Any

from hypothesis import strategies as st

from servesat.fleet.pods.slices import Counts, Pods, Slice, counted
from tests.oracles import pods as pods_oracle


def some(**counts: int) -> Counts:
    """Slices by shape: `some(_2x4=3)` is three of them."""
    return counted((shaped(name[1:]), count) for name, count in counts.items())


def shaped(text: str, rings: tuple[bool, ...] | None = None) -> Slice:
    sizes = tuple(map(int, text.split("x")))
    return Slice(sizes, rings or (False,) * len(sizes))


def by_enumeration(pods: Pods, slices: Counts) -> bool:
    every = tuple((one.sizes, one.rings) for one, count in slices for _ in range(count))
    return pods_oracle.packs(pods.shape, pods.count, every)


@st.composite
def pods_and_slices(draw: Any) -> tuple[Pods, Counts]:
    """Small pods, and slices that fill them to a chip or two, by count."""
    shapes = {
        (4, 4): ["1x1", "2x2", "2x4", "4x4", "1x3", "3x3", "2x3", "1x4"],
        (3, 5): ["2x2", "1x5", "2x3", "3x3", "1x1", "4x1"],
        (2, 2, 2): ["1x1x2", "2x2x1", "2x2x2", "2x2x4", "1x1x1", "1x2x3"],
        (3, 3, 3): ["1x3x3", "2x2x3", "2x2x2", "1x2x3", "3x3x3", "3x3x6"],
    }
    shape = draw(st.sampled_from(sorted(shapes)))
    count = draw(st.integers(1, 2 if len(shape) == 2 else 3))
    room, slices = count * shape[0] * shape[1] * (shape[2] if len(shape) == 3 else 1), []
    spare = draw(st.sampled_from([0, 0, 2, 4, -1]))
    while room > spare and len(slices) < 9:
        one = draw(st.sampled_from(shapes[shape]).map(shaped))
        if draw(st.integers(0, 9)) == 9:
            one = Slice(one.sizes, (True, *one.rings[1:]))
        if one.chips <= room - spare:
            slices.append((one, 1))
            room -= one.chips
        elif draw(st.booleans()):
            break
    return Pods(shape, count), counted(slices)
