from itertools import product
from math import ceil, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.fleet.decomposition.coarse_covers import CELLS, coarse_covers
from servesat.fleet.decomposition.covers import Covers
from servesat.fleet.decomposition.options import DEFAULT_OPTIONS
from tests.strategies import examples

GRIDS = (10, 100)


def cheapest(capacity: list[float], spot: list[bool], kept: float, spare: int, price: list[float]) -> float:
    """The least cost of whole replicas that serve a demand of 1, so much of it off spot, by trying all."""
    best = float("inf")
    for counts in product(range(7 + 3 * spare), repeat=len(capacity)):
        served = sum(c * n for c, n in zip(capacity, counts, strict=True))
        off_spot = sum(c * n for c, n, s in zip(capacity, counts, spot, strict=True) if not s)
        largest = max((c for c, n in zip(capacity, counts, strict=True) if n), default=0.0)
        if served - spare * largest >= 1 - 1e-12 and off_spot >= kept - 1e-12:
            best = min(best, sum(p * n for p, n in zip(price, counts, strict=True) if n))
    return best


@examples(60)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.2, 0.25, 0.37, 0.5, 0.61, 1.0, 2.3]), st.sampled_from([1.0, 1.5, 2.0, 3.3])),
        min_size=3,
        max_size=3,
    ),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([0, 1, 2]),
)
def test_a_cover_serves_and_its_bound_is_none_too_high(
    items: list[tuple[float, float]], kept: float, spare: int
) -> None:
    capacity, price = (np.array([one]) for one in zip(*items, strict=True))
    spot = np.array([False, True, False])
    best = cheapest(capacity[0].tolist(), spot.tolist(), kept, spare, price[0].tolist())
    covers = Covers(capacity, spot, np.array([kept]), np.array([spare]))
    for grids in ((7,), GRIDS):
        (least,), (usd,), (replicas,) = covers.cheapest(price, grids)
        assert least <= best * (1 + 1e-12) <= usd * (1 + 2e-12)
        assert usd == pytest.approx(float((replicas * price[0]).sum()))
        served = replicas * capacity[0]
        assert served.sum() - spare * capacity[0][replicas > 0].max() >= 1 - 1e-12
        assert served[~spot].sum() >= kept - 1e-12
    if spare < 2:  # larger replicas than the demand count as the demand, which is exact for up to one to spare
        assert least == usd == pytest.approx(best)  # all capacities are whole hundredths, so the second grid is exact


def test_redundant_replicas_of_no_whole_number_of_cells_are_rounded_with_those_in_use() -> None:
    """Five of the small one serve 1.25 - 0.25 at $5; with a large one four small ones must serve it all, at $6."""
    covers = Covers(np.array([[0.71, 0.25]]), np.array([False, False]), np.array([0.0]), np.array([1]))
    (lower_bound,), (usd,), (replicas,) = covers.cheapest(np.array([[2.0, 1.0]]), (10,))
    assert (lower_bound, usd, replicas.tolist()) == (5, 5, [0, 5])


@pytest.mark.slow
@examples(300)
@given(
    st.lists(st.tuples(st.floats(0.3, 1.5), st.floats(1.0, 4.0)), min_size=3, max_size=3),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([(5,), (7,), (10,), (25,)]),
)
def test_a_cover_on_any_grid_serves_and_its_bound_is_none_too_high(
    items: list[tuple[float, float]], redundant: int, grid: tuple[int, ...]
) -> None:
    capacity, price = (np.array([one]) for one in zip(*items, strict=True))
    spot = np.array([False, False, False])
    best = cheapest(capacity[0].tolist(), spot.tolist(), 0.0, redundant, price[0].tolist())
    (lower_bound,), (usd,), (replicas,) = Covers(capacity, spot, np.zeros(1), np.array([redundant])).cheapest(
        price, grid
    )
    assert lower_bound <= best * (1 + 1e-9)
    assert best <= usd * (1 + 1e-9)
    served = replicas * capacity[0]
    assert served.sum() - redundant * capacity[0][replicas > 0].max() >= 1 - 1e-9


def test_what_cannot_be_served_has_no_cover() -> None:
    covers = Covers(np.array([[0.5, 0.0]]), np.array([True, False]), np.array([0.5]), np.array([0]))
    (least,), (usd,), (replicas,) = covers.cheapest(np.array([[1.0, np.inf]]), GRIDS)
    assert (least, usd, replicas.tolist()) == (np.inf, np.inf, [0, 0])


@pytest.mark.parametrize("replicas", [1000.7, 20_000.7, 1_000_000.7])
def test_a_cover_of_many_replicas_has_a_tight_bound(replicas: float) -> None:
    capacity = np.array([[1 / replicas, 0.55 / replicas]])
    covers = Covers(capacity, np.array([False, False]), np.array([0.0]), np.array([0]))
    (least,), (usd,), counts = covers.cheapest(np.array([[1.0, 0.56]]), DEFAULT_OPTIONS.grid_cells)
    assert usd == pytest.approx(counts @ [1.0, 0.56])
    assert replicas * (1 - 1e-9) <= least <= usd <= replicas + 1


@examples(40)
@given(st.integers(0, 2**32 - 1))
def test_the_coarse_grid_of_many_blocks_at_once_is_that_of_each(seed: int) -> None:
    """Against a table filled in plain loops over cells, and never above the cheapest of all covers."""
    random = np.random.default_rng(seed)
    blocks, items = 5, 4
    capacity = random.uniform(0.15, 1.3, (blocks, items))
    price = np.where(random.random((blocks, items)) < 0.2, np.inf, random.uniform(1.0, 4.0, (blocks, items)))
    spot, share = np.array([False, True, False, True]), random.choice([0.0, 0.3, 1.0], blocks)
    bounds, replicas = coarse_covers(capacity, price, spot, share)
    for block in range(blocks):
        tables = []
        for kind in (False, True):
            table = [0.0] + [inf] * CELLS
            for cell in range(1, CELLS + 1):
                for item in np.flatnonzero(spot == kind).tolist():
                    step = ceil(min(capacity[block, item], 1.0) * CELLS)
                    table[cell] = min(table[cell], table[max(cell - step, 0)] + price[block, item])
            tables.append(table)
        splits = range(int(share[block] * CELLS), CELLS + 1)
        assert bounds[block] == pytest.approx(min(tables[0][cell] + tables[1][CELLS - cell] for cell in splits))
        if np.isfinite(bounds[block]):
            used = replicas[block] > 0
            assert (replicas[block][used] * price[block][used]).sum() == pytest.approx(bounds[block])
            args = capacity[block].tolist(), spot.tolist(), share[block], 0, price[block].tolist()
            assert bounds[block] <= cheapest(*args) * (1 + 1e-12)
        else:
            assert not replicas[block].any()
