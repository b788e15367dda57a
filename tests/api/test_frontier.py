import pytest

import servesat
from servesat import SpecError
from tests.cli.commands import EXAMPLE


def test_a_frontier_is_of_two_or_three_figures() -> None:
    frontier = servesat.frontier(EXAMPLE, ("chips", "tpot_ms", "batch"))
    assert frontier.to_pandas()["chips"].is_monotonic_increasing
    with pytest.raises(SpecError, match="axes = 'tpot_ms': expected two or three figures"):
        servesat.frontier(EXAMPLE, "tpot_ms")
    with pytest.raises(SpecError, match="by = 'colour': expected chip or topology"):
        servesat.frontier(EXAMPLE, by="colour")  # type: ignore[arg-type]
