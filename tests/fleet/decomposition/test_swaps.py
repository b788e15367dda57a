"""Swaps of covers: by hand, and that no one or two of them gain in the end, on random ones by enumeration."""

from itertools import product
from math import inf

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from servesat.fleet.decomposition.swaps import Choice, CoverTable, swapped
from tests.strategies import SOME


def swaps(covers: CoverTable, *chosen: int) -> Choice:
    return swapped(covers, np.array(chosen), inf)


def test_the_swap_that_costs_least_for_each_unit_comes_first() -> None:
    """Two blocks use 8 of 5: the first can give up 4 for $2, or all 5 for $9, the second 3 for $6."""
    covers = CoverTable(
        used_by=np.array([[5], [1], [0], [3], [0]]),
        usd=np.array([10.0, 12.0, 19.0, 6.0, 12.0]),
        block=np.array([0, 0, 0, 1, 1]),
        available=np.array([5]),
    )
    assert swaps(covers, 0, 3).covers.tolist() == [1, 3]
    assert swaps(covers._replace(available=np.array([0])), 0, 3).covers.tolist() == [2, 4]
    assert swaps(covers._replace(available=np.array([8])), 0, 3).covers.tolist() == [0, 3]
    assert swaps(covers, 0, 3)[1:] == (0, 18.0)


def test_no_limit_is_relieved_at_the_expense_of_another() -> None:
    """The other cover uses as much of the second limit, which is full."""
    covers = CoverTable(np.array([[4, 0], [0, 4], [0, 3]]), np.zeros(3), np.array([0, 0, 1]), np.array([0, 3]))
    assert swaps(covers, 0, 2).covers.tolist() == [0, 2]


def test_two_swaps_exchange_what_neither_could_have_alone() -> None:
    """The first block gains $5 with the two units that the second has, which gives them up for $1; both are full."""
    covers = CoverTable(
        used_by=np.array([[0, 2], [2, 0], [2, 0], [0, 2]]),
        usd=np.array([9.0, 4.0, 3.0, 4.0]),
        block=np.array([0, 0, 1, 1]),
        available=np.array([2, 2]),
    )
    assert swaps(covers, 0, 2)[1:] == (0, 8.0)
    over = covers._replace(available=np.array([2, 2]), used_by=np.array([[1, 2], [2, 0], [2, 0], [0, 2]]))
    assert swaps(over, 0, 2)[1:] == (0, 8.0)  # one unit too many, which no single swap saves


def test_a_deadline_ends_them() -> None:
    covers = CoverTable(np.zeros((2, 1), dtype=np.int64), np.array([9.0, 1.0]), np.array([0, 0]), np.array([5]))
    assert swapped(covers, np.array([0]), -inf).covers.tolist() == [0]
    full = covers._replace(used_by=np.array([[9], [1]]))
    assert swapped(full, np.array([0]), -inf)[1:] == (4, 9.0)


@SOME
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_no_one_or_two_swaps_gain_in_the_end(seed: int, blocks: int, each: int, limits: int) -> None:
    random = np.random.default_rng(seed)
    covers = CoverTable(
        used_by=random.integers(0, 5, (blocks * each, limits)),
        usd=random.uniform(0, 9, blocks * each),
        block=np.repeat(np.arange(blocks), each),
        available=random.integers(0, 3 * blocks, limits),
    )
    chosen = np.arange(blocks) * each
    found = swapped(covers, chosen, inf)
    assert covers.block[found.covers].tolist() == list(range(blocks))

    def figures(choice: np.ndarray) -> tuple[int, float]:
        used = covers.used_by[choice].sum(axis=0)
        return int(np.maximum(used - covers.available, 0).sum()), float(covers.usd[choice].sum())

    excess, usd = figures(found.covers)
    assert (excess, usd) == (found.excess, found.usd)
    assert excess <= figures(chosen)[0]
    for choice in map(np.array, product(*np.split(np.arange(blocks * each), blocks))):
        if np.sum(choice != found.covers) > 2:
            continue
        other_excess, other_usd = figures(choice)
        assert other_excess >= excess
        if excess == 0 and other_excess == 0:
            assert other_usd >= usd - 1e-6
