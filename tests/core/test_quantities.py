"""Figures as text."""

import pytest

from servesat.core.quantities import dollars, number, quantity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(999.96), "1,000"),
        (number(999.94), "999.9"),
        (number(12_340.4), "12,340"),
        (dollars(9.9996), "$10.00"),
        (dollars(0.99996), "$1.000"),
        (dollars(1234.56), "$1,234.56"),
        (quantity(999_960, "B"), "1 MB"),
        (quantity(999_940, "B"), "999.9 kB"),
        (quantity(0.01722, "s"), "17.22 ms"),
    ],
)
def test_the_unit_and_the_decimals_follow_the_rounded_figure(text: str, expected: str) -> None:
    assert text == expected
