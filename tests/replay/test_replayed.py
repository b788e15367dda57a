import numpy as np
import pytest

from servesat.replay.percentiles import RequestTimes, estimate, percentile
from servesat.replay.replayed import Limit, within


def test_a_request_is_good_within_the_longest_limit_of_each_time() -> None:
    times = RequestTimes(ttft_s=np.array([0.1, 0.5, 3.0]), tpot_s=np.array([0.01, 0.01, 0.01]), e2e_s=np.zeros(3))
    limits = [Limit("ttft", 0.99, 2.0), Limit("ttft", 0.5, 0.2), Limit("tpot", 0.95, 0.02)]
    assert within(limits, times).tolist() == [True, True, False]


def test_percentiles_and_their_confidence_by_hand() -> None:
    """Of 1 … 20 the 95th percentile is 19; of 1, 2, 3 the mean is 2 ± 4.303 · 1 / √3."""
    assert percentile(np.arange(1.0, 21.0), 0.95) == 19.0
    found = estimate([1.0, 2.0, 3.0])
    assert (found.value, round(found.within, 4)) == (2.0, round(4.303 / 3**0.5, 4))
    assert estimate([1.0]).within == float("inf")
    runs = np.random.default_rng(0).normal(size=32)
    assert estimate(runs.tolist()).within == pytest.approx(2.0395 * runs.std(ddof=1) / 32**0.5, rel=2e-3)
    runs = np.random.default_rng(0).normal(size=64)
    assert estimate(runs.tolist()).within == pytest.approx(1.9983 * runs.std(ddof=1) / 8, rel=2e-3)
