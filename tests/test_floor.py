from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servesat import Status
from servesat.fleet.pods.packing import collision, pack
from servesat.fleet.pods.slices import Counts, Pods, Slice, contains, counted, first_fit, orientations, stands, volumes
from tests import floor_oracle


def some(**counts: int) -> Counts:
    """Slices by shape: `some(_2x4=3)` is three of them."""
    return counted((shaped(name[1:]), count) for name, count in counts.items())


def shaped(text: str, rings: tuple[bool, ...] | None = None) -> Slice:
    sizes = tuple(map(int, text.split("x")))
    return Slice(sizes, rings or (False,) * len(sizes))


def by_enumeration(pods: Pods, slices: Counts) -> bool:
    every = tuple((one.sizes, one.rings) for one, count in slices for _ in range(count))
    return floor_oracle.packs(pods.shape, pods.count, every)


@st.composite
def floors(draw: Any) -> tuple[Pods, Counts]:
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


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(floors())
def test_slices_stand_where_enumeration_puts_them_down(floor: tuple[Pods, Counts]) -> None:
    pods, slices = floor
    found = pack(pods, slices)
    assert found.status is (Status.OPTIMAL if by_enumeration(pods, slices) else Status.INFEASIBLE)
    if found.status is Status.OPTIMAL:
        assert stands(pods, slices, found.placed)
        assert collision(pods, slices) is None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(floors())
def test_of_a_collision_nothing_can_be_left_out(floor: tuple[Pods, Counts]) -> None:
    pods, slices = floor
    found = collision(pods, slices)
    if found is None:
        return
    clash, proved = found
    assert proved
    assert not by_enumeration(pods, clash)
    for one, _ in clash:
        assert by_enumeration(pods, counted([*clash, (one, -1)]))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(floors())
def test_what_contains_another_can_give_way_to_it(floor: tuple[Pods, Counts]) -> None:
    pods, slices = floor
    if not by_enumeration(pods, slices):
        return
    kinds = [one for one, _ in slices]
    for large in kinds:
        for small in kinds:
            if contains(pods.shape, large, small):
                assert by_enumeration(pods, counted([*slices, (large, -1), (small, 1)]))


def test_slices_on_sale_stand_wherever_there_are_chips_enough() -> None:
    on_sale = tuple(shaped(one) for one in ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"))
    assert volumes((16, 16), on_sale) == ((tuple(one.chips for one in on_sale), 256),)
    full = some(_16x16=1, _8x16=1, _8x8=1, _4x8=1, _4x4=1, _2x4=1, _2x2=1, _1x1=4)
    placed = first_fit(Pods((16, 16), 2), full)
    assert placed is not None
    assert stands(Pods((16, 16), 2), full, placed)


@pytest.mark.parametrize(
    ("pods", "slices", "clash"),
    [
        (Pods((8, 8), 2), some(_8x16=1), some(_8x16=1)),  # 128 chips, in no pod
        (Pods((12, 16), 10), some(_8x8=21, _2x2=3), some(_8x8=21)),  # 1,344 of 1,920 chips
        (Pods((16, 16), 4), some(_3x3=101), some(_3x3=101)),  # 909 of 1,024 chips
        (Pods((4, 4, 4), 1), some(_1x4x4=1, _2x2x4=3), some(_1x4x4=1, _2x2x4=3)),  # 64 of 64 chips
        (  # 128 of 128 chips
            Pods((4, 4, 4), 2),
            some(_4x4x4=1, _1x4x4=1, _2x2x4=3),
            some(_4x4x4=1, _1x4x4=1, _2x2x4=3),
        ),
    ],
)
def test_what_fits_by_count_and_not_by_shape_is_caught(pods: Pods, slices: Counts, clash: Counts) -> None:
    assert sum(one.chips * count for one, count in slices) <= pods.chips
    assert collision(pods, slices) == (clash, True)


def test_pods_that_are_alike_are_decided_one_by_one() -> None:
    seven = Pods((7, 11), 30)  # 9 of 2x4 have 72 of its 77 chips, and only 7 stand
    assert collision(seven, some(_2x4=225)) == (some(_2x4=211), True)
    assert pack(seven, some(_2x4=210)).status is Status.OPTIMAL
    pinwheels = Pods((5, 5), 50)  # four around one
    found = pack(pinwheels, some(_2x3=200, _1x1=50))
    assert stands(pinwheels, some(_2x3=200, _1x1=50), found.placed)
    assert pack(pinwheels, some(_2x3=201)).status is Status.INFEASIBLE


def test_a_collision_is_told_before_it_is_minimal_when_time_is_up() -> None:
    pods, slices = Pods((7, 11), 30), some(_2x4=225, _2x2=3)
    assert collision(pods, slices, until=0.0) == (slices, True)


def test_a_slice_is_named_with_its_rings() -> None:
    assert shaped("8x16").name == "8x16"
    assert shaped("8x16", (False, True)).name == "8x16 with a ring of 16"
    assert shaped("4x4x8", (True, False, True)).name == "4x4x8 with rings of 4 and 8"


def test_single_chips_take_what_the_others_leave() -> None:
    pods, slices = Pods((4, 4), 1), some(_3x3=1, _1x4=1, _1x1=3)
    found = pack(pods, slices)
    assert found.status is Status.OPTIMAL
    assert stands(pods, slices, found.placed)
    assert pack(pods, some(_3x3=1, _1x4=1, _1x1=4)).status is Status.INFEASIBLE


def test_a_ring_spans_the_pod() -> None:
    along_y = shaped("2x4", (False, True))
    assert orientations((4, 8), along_y) == ((4, 2),)
    assert orientations((4, 8), shaped("2x4")) == ((2, 4), (4, 2))
    assert orientations((8, 8), along_y) == ()


def test_what_overlaps_or_is_missing_does_not_stand() -> None:
    pods, slices = Pods((4, 4), 1), some(_2x4=2)
    placed = list(pack(pods, slices).placed)
    assert stands(pods, slices, placed)
    assert not stands(pods, slices, placed[:1])
    assert not stands(pods, slices, [placed[0], placed[0]])
