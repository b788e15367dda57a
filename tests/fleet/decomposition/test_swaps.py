"""Swaps of covers: by hand, and that they keep what they must on random ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from servesat.fleet.decomposition.swaps import swapped
from tests.strategies import SOME


def test_the_swap_that_costs_least_for_each_unit_comes_first() -> None:
    """Two blocks use 8 of 5: the first can give up 4 for $2, or all 5 for $9, the second 3 for $6."""
    used_by = np.array([[5], [1], [0], [3], [0]])
    usd = np.array([10.0, 12.0, 19.0, 6.0, 12.0])
    block, chosen = np.array([0, 0, 0, 1, 1]), np.array([0, 3])
    assert swapped(used_by, usd, block, chosen, np.array([5])).tolist() == [1, 3]
    assert swapped(used_by, usd, block, chosen, np.array([0])).tolist() == [2, 4]
    assert swapped(used_by, usd, block, chosen, np.array([8])).tolist() == [0, 3]


def test_no_limit_is_relieved_at_the_expense_of_another() -> None:
    """The other cover uses as much of the second limit, which is full."""
    used_by, usd, block = np.array([[4, 0], [0, 4], [0, 3]]), np.zeros(3), np.array([0, 0, 1])
    assert swapped(used_by, usd, block, np.array([0, 2]), np.array([0, 3])).tolist() == [0, 2]


@SOME
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.integers(1, 3))
def test_the_excess_falls_and_blocks_keep_covers_of_their_own(seed: int, blocks: int, each: int, limits: int) -> None:
    random = np.random.default_rng(seed)
    block = np.repeat(np.arange(blocks), each)
    used_by, usd = random.integers(0, 5, (blocks * each, limits)), random.uniform(0, 9, blocks * each)
    chosen, available = np.arange(blocks) * each, random.integers(0, 3 * blocks, limits)
    found = swapped(used_by, usd, block, chosen, available)
    assert block[found].tolist() == list(range(blocks))

    def excess(covers: np.ndarray) -> int:
        return int(np.maximum(used_by[covers].sum(axis=0) - available, 0).sum())

    assert excess(found) <= excess(chosen)
    single = [excess(np.where(np.arange(blocks) == block[other], other, found)) for other in range(blocks * each)]
    assert excess(found) == 0 or min(single) >= excess(found)
