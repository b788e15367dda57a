import pytest
from hypothesis import given

from servesat import Status
from servesat.fleet.pods.packing import collision, pack
from servesat.fleet.pods.slices import Counts, Pods, counted, is_valid_packing
from tests.fleet.pods.packings import by_enumeration, pods_and_slices, some
from tests.strategies import examples


@pytest.mark.slow
@examples(150)
@given(pods_and_slices())
def test_slices_stand_where_enumeration_puts_them_down(case: tuple[Pods, Counts]) -> None:
    pods, slices = case
    found = pack(pods, slices)
    assert found.status is (Status.OPTIMAL if by_enumeration(pods, slices) else Status.INFEASIBLE)
    if found.status is Status.OPTIMAL:
        assert is_valid_packing(pods, slices, found.placed)
        assert collision(pods, slices) is None


@pytest.mark.slow
@examples(150)
@given(pods_and_slices())
def test_of_a_collision_nothing_can_be_left_out(case: tuple[Pods, Counts]) -> None:
    pods, slices = case
    found = collision(pods, slices)
    if found is None:
        return
    clash, proved = found
    assert proved
    assert not by_enumeration(pods, clash)
    for one, _ in clash:
        assert by_enumeration(pods, counted([*clash, (one, -1)]))


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
    assert is_valid_packing(pinwheels, some(_2x3=200, _1x1=50), found.placed)
    assert pack(pinwheels, some(_2x3=201)).status is Status.INFEASIBLE


def test_a_collision_is_told_before_it_is_minimal_when_time_is_up() -> None:
    pods, slices = Pods((7, 11), 30), some(_2x4=225, _2x2=3)
    assert collision(pods, slices, until=0.0) == (slices, True)


def test_single_chips_take_what_the_others_leave() -> None:
    pods, slices = Pods((4, 4), 1), some(_3x3=1, _1x4=1, _1x1=3)
    found = pack(pods, slices)
    assert found.status is Status.OPTIMAL
    assert is_valid_packing(pods, slices, found.placed)
    assert pack(pods, some(_3x3=1, _1x4=1, _1x1=4)).status is Status.INFEASIBLE
