import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.fleet.formulation.mixes import best_mix
from tests.oracles import fleet as fleet_oracle
from tests.strategies import examples


@examples(100)
@given(
    st.lists(st.tuples(st.floats(0.5, 50), st.floats(0.5, 50), st.integers(0, 5)), min_size=1, max_size=4),
    st.floats(-9, 0),
)
def test_the_best_mix_of_two_sizes_is_that_of_their_comparative_advantage(
    replicas: list[tuple[float, float, int]], magnitude: float
) -> None:
    share = 0.5 * 10**magnitude
    counts: dict[tuple[float, ...], int] = {}
    for *rates, count in replicas:
        counts[tuple(rates)] = counts.get(tuple(rates), 0) + count
    expected = fleet_oracle.mixed(list(counts.items()), (share, 1 - share))
    assert best_mix(counts, (share, 1 - share)).sum() == pytest.approx(expected, rel=1e-9)


def test_the_best_mix_of_very_many_replicas_is_found() -> None:
    served = best_mix({(1.0, 1.0): 99_999_999, (2.0, 1.0): 100_000_000, (3.0, 0.0): 0}, (1.0, 1.0))
    assert served.sum(axis=0) == pytest.approx([4e8 / 3] * 2, rel=1e-6)
