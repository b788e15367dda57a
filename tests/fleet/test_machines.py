"""What instances hold: worked cases, and the fewest against every way to fill them."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.catalogue.price_book import Price
from servesat.fleet.machines import Machine, fewest_instances, fillings, nest

PRICE = Price(instance="m", instance_chips=8, usd_per_instance_hour=8.0, source="test")


@pytest.mark.parametrize(
    ("chips", "pieces", "fewest"),
    [
        (8, {1: 8}, 1),
        (8, {4: 1, 2: 3}, 2),  # 10 of 16 chips
        (8, {8: 2, 1: 1}, 3),
        (6, {4: 2, 2: 2}, 2),  # one of each in both
        (6, {4: 2, 1: 5}, 3),
        (8, {3: 3}, 2),
        (8, {3: 2, 2: 1}, 1),
        (8, {5: 1, 3: 3, 2: 1}, 2),  # 5 + 3 and 3 + 3 + 2
        (8, {}, 0),
        (8, {2: 400_001}, 100_001),
    ],
)
def test_the_fewest_instances(chips: int, pieces: dict[int, int], fewest: int) -> None:
    assert fewest_instances(chips, pieces) == fewest


@given(st.integers(1, 9), st.dictionaries(st.integers(1, 9), st.integers(0, 5), max_size=3))
def test_the_fewest_instances_are_as_searched(chips: int, pieces: dict[int, int]) -> None:
    held = {size: count for size, count in pieces.items() if size <= chips}

    @cache
    def place(left: tuple[tuple[int, int], ...], room: int) -> int:
        """Instances opened for what is left, one piece at a time, in any order."""
        if not any(count for _, count in left):
            return 0
        best = 10**9
        for at, (size, count) in enumerate(left):
            if count:
                rest = tuple((s, c - (i == at)) for i, (s, c) in enumerate(left))
                opened = 0 if size <= room else 1
                best = min(best, opened + place(rest, (room if size <= room else chips) - size))
        return best

    assert fewest_instances(chips, held) == place(tuple(sorted(held.items())), 0)


def test_sizes_nest_or_do_not() -> None:
    assert nest([1, 2, 4, 8])
    assert nest([3, 6])
    assert nest([5])
    assert not nest([2, 3])


def test_fillings_leave_no_room_for_another_piece() -> None:
    assert fillings(8, ((5, 9), (3, 9))) == [(1, 1), (0, 2)]
    assert fillings(8, ((4, 1), (2, 9))) == [(1, 2), (0, 4)]


def test_a_wide_slice_takes_whole_instances() -> None:
    machine = Machine("east", "h100-sxm", "on_demand", 8, 8.0, PRICE)
    assert machine.pieces([(16, 3), (8, 1), (2, 5)]) == ((2, 5), (8, 7))
