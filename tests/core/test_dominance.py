"""Dominance against plain loops over pairs of rows."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.core.dominance import undominated, undominated_in_each_row, undominated_in_groups
from tests.strategies import examples


def expected(figures, rank) -> list[int]:
    def beaten(row: int) -> bool:
        return any(
            all(figures[other] <= figures[row]) and (any(figures[other] < figures[row]) or rank[other] < rank[row])
            for other in range(len(figures))
            if other != row
        )

    return [row for row in range(len(figures)) if not beaten(row)]


@examples(400)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_any_number_of_figures_and_of_rows_peeled(axes: int, rows: int, values: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    figures, rank = random.integers(0, values, (rows, axes)), random.permutation(rows)
    for max_peeled in (0, 2, 256):
        assert undominated(figures, rank, max_peeled=max_peeled).tolist() == expected(figures, rank)


@examples(200)
@given(st.integers(1, 4), st.integers(1, 250), st.integers(1, 6), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_rows_are_compared_with_those_of_their_group(axes: int, rows: int, groups: int, values: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    figures, group = random.integers(0, values, (rows, axes)).astype(float), random.integers(0, groups, rows)
    members = [np.flatnonzero(group == each) for each in range(groups)]
    kept = [of_it[expected(figures[of_it], np.arange(len(of_it)))] for of_it in members]
    assert undominated_in_groups(group, figures).tolist() == sorted(np.concatenate(kept).tolist())


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_no_rows_leave_none(axes: int) -> None:
    assert undominated(np.zeros((0, axes))).tolist() == []
    assert undominated_in_groups(np.zeros(0, dtype=np.int64), np.zeros((0, axes))).tolist() == []


def test_without_figures_all_rows_are_equal() -> None:
    assert undominated(np.zeros((3, 0)), np.array([2, 0, 1])).tolist() == [1]


def test_of_equal_rows_the_first_by_rank_stays() -> None:
    figures = np.array([[1, 1], [1, 1], [2, 0], [2, 1]])
    assert undominated(figures).tolist() == [0, 2]
    assert undominated(figures, np.array([3, 0, 2, 1])).tolist() == [1, 2]


def test_fractions_are_compared_exactly() -> None:
    third, half = Fraction(1, 3), Fraction(1, 2)
    rows = np.array([[third, half], [half, third], [half, half]], dtype=object)
    assert undominated(rows).tolist() == [0, 1]


@examples(200)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_each_row_keeps_the_items_that_no_other_undercuts(rows: int, items: int, values: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    capacity, price = (random.integers(1, values + 1, (rows, items)).astype(float) for _ in range(2))
    for kept, own, usd in zip(undominated_in_each_row(capacity, price), capacity, price, strict=True):
        front = {(-own[item], usd[item]) for item in expected(np.column_stack([-own, usd]), np.arange(items))}
        assert {(-own[item], usd[item]) for item in np.flatnonzero(kept)} == front
        assert np.count_nonzero(kept) == len(front)
