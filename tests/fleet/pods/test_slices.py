import pytest
from hypothesis import given

from servesat.fleet.pods.packing import pack
from servesat.fleet.pods.slices import (
    Counts,
    Pods,
    contains,
    counted,
    first_fit,
    is_valid_packing,
    orientations,
    volumes,
)
from tests.fleet.pods.packings import by_enumeration, pods_and_slices, shaped, some
from tests.strategies import examples


@pytest.mark.slow
@examples(150)
@given(pods_and_slices())
def test_what_contains_another_can_give_way_to_it(case: tuple[Pods, Counts]) -> None:
    pods, slices = case
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
    assert is_valid_packing(Pods((16, 16), 2), full, placed)


def test_a_slice_is_named_with_its_rings() -> None:
    assert shaped("8x16").name == "8x16"
    assert shaped("8x16", (False, True)).name == "8x16 with a ring of 16"
    assert shaped("4x4x8", (True, False, True)).name == "4x4x8 with rings of 4 and 8"


def test_a_ring_spans_the_pod() -> None:
    along_y = shaped("2x4", (False, True))
    assert orientations((4, 8), along_y) == ((4, 2),)
    assert orientations((4, 8), shaped("2x4")) == ((2, 4), (4, 2))
    assert orientations((8, 8), along_y) == ()


def test_what_overlaps_or_is_missing_does_not_stand() -> None:
    pods, slices = Pods((4, 4), 1), some(_2x4=2)
    placed = list(pack(pods, slices).placed)
    assert is_valid_packing(pods, slices, placed)
    assert not is_valid_packing(pods, slices, placed[:1])
    assert not is_valid_packing(pods, slices, [placed[0], placed[0]])
