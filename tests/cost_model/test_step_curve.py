from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.cost_model.decode import Replica, mlp_matmuls
from servesat.cost_model.step_curve import AffineTime, StepTime, WeightLoadTime, hidden_tokens
from servesat.cost_model.storage import Storage
from tests.helpers import moe_model

SECONDS = st.floats(1e-6, 1e-1)


@st.composite
def shapes(draw: Any) -> StepTime:
    kept = draw(st.sampled_from([0.0, 0.5, 0.75, 31 / 32, 255 / 256]))
    load = WeightLoadTime(draw(SECONDS | st.just(0.0)), draw(SECONDS), kept, draw(st.sampled_from([0.0, 64.0])))
    lines = [AffineTime(draw(SECONDS | st.just(0.0)), draw(SECONDS) / 1000) for _ in range(2)]
    return StepTime(load, lines[0], lines[1], draw(SECONDS) / 1000)


BATCHES = np.arange(1.0, 5001.0)


@given(shapes())
def test_a_step_grows_with_the_batch_and_its_share_falls(shape: StepTime) -> None:
    times = np.asarray(shape.at(BATCHES))
    assert np.all(np.diff(times) >= 0)
    assert np.all(np.diff(times / BATCHES) <= 1e-12 * times[:-1])


@given(shapes(), st.floats(1e-5, 1.0))
def test_the_largest_batch_within_a_limit_is_that_of_enumeration(shape: StepTime, limit_s: float) -> None:
    within = BATCHES[np.asarray(shape.at(BATCHES)) <= limit_s * (1 + 1e-12)]
    found = float(np.floor(np.asarray(shape.largest_batch_within(limit_s)) * (1 + 1e-12)))
    assert max(min(found, 5000), 0) == (within.max() if len(within) else 0)


@given(shapes(), st.floats(10.0, 1e5))
def test_the_least_batch_for_a_rate_is_that_of_enumeration(shape: StepTime, sequences_per_s: float) -> None:
    enough = BATCHES[BATCHES / np.asarray(shape.at(BATCHES)) >= sequences_per_s * (1 - 1e-12)]
    least = float(np.asarray(shape.smallest_batch_for(sequences_per_s)))
    if len(enough):
        assert max(np.ceil(least * (1 - 1e-12)), 1) == enough.min()
    else:
        assert least > 5000 * (1 - 1e-12)


@pytest.mark.parametrize("ep", [1.0, 8.0])
@pytest.mark.parametrize("bandwidth", [1e9, 2e10, 1e12])
def test_the_tokens_that_hide_the_interconnect_are_those_of_enumeration(ep: float, bandwidth: float) -> None:
    model = moe_model()
    replica = Replica(
        tp=4.0, ep=ep, hbm_bytes_per_s=1e12, flop_per_s=1e14, tp_bytes_per_s=bandwidth, ep_bytes_per_s=bandwidth * 8,
        weights=Storage(model).weights("fp8"), kv_token_bytes=256.0,
    )  # fmt: skip
    matmuls = [mlp_matmuls(model, replica, batch) for batch in BATCHES]
    hidden = [all(one.ici_s <= one.hidden_s for one in kinds) for kinds in matmuls]
    expected = BATCHES[hidden].max() if any(hidden) else 0
    found = float(np.floor(np.asarray(hidden_tokens(model, replica, 0.0)).clip(0, 5000)))
    assert found == expected


# Weights in 2 ms; FLOPs of 1 us a sequence on a chunk of 0.5 ms; KV cache of 0.1 ms a sequence.
DENSE = StepTime(WeightLoadTime(2e-3, 0.0, 0.0), AffineTime(5e-4, 1e-6), AffineTime(0.0, 0.0), 1e-4)


@pytest.mark.parametrize(("batch", "seconds"), [(1, 2.1e-3), (10, 3e-3), (2000, 2.5e-3 + 0.2)])
def test_a_step_is_its_longest_term_and_the_cache(batch: float, seconds: float) -> None:
    assert DENSE.at(batch) == pytest.approx(seconds)


def test_the_largest_batch_of_a_dense_step() -> None:
    assert DENSE.largest_batch_within(3e-3) == pytest.approx(10)  # 2 ms and ten caches
    assert DENSE.largest_batch_within(0.2025 + 1e-9) == pytest.approx(2000, rel=1e-6)  # 0.5 ms, FLOPs and caches
    assert DENSE.largest_batch_within(1e-3) < 1


def test_the_smallest_batch_for_a_rate_of_a_dense_step() -> None:
    # 5,000 sequences a second leave 0.2 ms for each: 0.1 ms of cache, so that 2 ms of weights need 20 of them
    assert DENSE.smallest_batch_for(5000.0) == pytest.approx(20)
    assert DENSE.smallest_batch_for(10_000.0) == np.inf  # the cache alone takes all of the time


def test_visited_experts_level_off() -> None:
    load = WeightLoadTime(1.0, 8.0, 0.75)
    assert load.at(1.0) == pytest.approx(1 + 8 / 4)
    assert load.at(2.0) == pytest.approx(1 + 8 * 7 / 16)
    assert WeightLoadTime(1.0, 8.0, 0.75, chunk_tokens=1.0).at(1.0) == load.at(2.0)
    assert load.largest_batch_hiding(np.array(3.0)) == 1  # 3 · 1 ≤ 3, and 3 · 2 > 4.5
