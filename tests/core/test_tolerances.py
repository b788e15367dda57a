import numpy as np
import pytest

from servesat.core.tolerances import (
    is_at_least,
    is_at_most,
    round_down,
    round_to_loose_side,
    round_up,
    snap,
    whole_units,
)


@pytest.mark.parametrize(
    ("value", "limit", "met"), [(15.0, 15.0, True), (15.0 * (1 + 5e-10), 15.0, True), (15.0 * (1 + 2e-9), 15.0, False)]
)
def test_a_limit_missed_by_rounding_is_met(value: float, limit: float, met: bool) -> None:
    assert is_at_most(value, limit) == met
    assert is_at_least(limit, value) == met


@pytest.mark.parametrize(
    ("count", "up", "down"),
    [(21.0, 21, 21), (21.0 + 1e-9, 21, 21), (21.0 - 1e-9, 21, 21), (21.1, 22, 21), (20.9, 21, 20), (0.0, 0, 0)],
)
def test_a_count_is_whole_but_for_rounding(count: float, up: int, down: int) -> None:
    assert (round_up(count), round_down(count)) == (up, down)
    assert round_up(np.array([count])).tolist() == [up]


@pytest.mark.parametrize(
    ("figure", "above", "below"),
    [
        (0.1, 0.1, 0.1), (0.3, 0.3, 0.3), (21.0, 21.0, 21.0), (1.2345678901, 1.234567891, 1.23456789),
        (1.2345678909, 1.234567891, 1.23456789), (-0.5000000001, -0.5, -0.500000001),
    ],
)  # fmt: skip
def test_a_limit_is_rounded_to_where_the_figure_meets_it(figure: float, above: float, below: float) -> None:
    assert round_to_loose_side(figure, at_least=False) == above >= figure
    assert round_to_loose_side(figure, at_least=True) == below <= figure


def test_a_product_is_snapped_to_the_whole_number_that_it_misses_by_rounding_alone() -> None:
    assert 12800 * 0.58 != 7424
    assert snap(12800 * 0.58) == 7424
    assert snap(7423.9) == 7423.9


def test_whole_units_are_rounded_down_without_tolerance() -> None:
    assert whole_units(np.array([0.99, 1.0, 1.01, 1 - 1e-12]), 0.5).tolist() == [1, 2, 2, 1]
