from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.cost_model.decode import Replica, mlp_matmuls
from servesat.cost_model.step_curve import AffineTime, StepTime, WeightLoadTime, hidden_tokens
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
    within = BATCHES[np.asarray(shape.at(BATCHES)) <= limit_s]
    found = float(np.floor(np.asarray(shape.largest_batch_within(limit_s)) * (1 + 1e-12)))
    assert max(min(found, 5000), 0) == (within.max() if len(within) else 0)


@given(shapes(), st.floats(10.0, 1e5))
def test_the_least_batch_for_a_rate_is_that_of_enumeration(shape: StepTime, sequences_per_s: float) -> None:
    enough = BATCHES[BATCHES / np.asarray(shape.at(BATCHES)) >= sequences_per_s]
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
        weights_value_bytes=1.0, expert_value_bytes=1.0, kv_cache_value_bytes=1.0,
    )  # fmt: skip
    matmuls = [mlp_matmuls(model, replica, batch) for batch in BATCHES]
    hidden = [all(one.ici_s <= one.hidden_s for one in kinds) for kinds in matmuls]
    expected = BATCHES[hidden].max() if any(hidden) else 0
    found = float(np.floor(np.asarray(hidden_tokens(model, replica, 0.0)).clip(0, 5000)))
    assert found == expected
