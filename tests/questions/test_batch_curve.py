from dataclasses import replace

import numpy as np
import pytest

from servesat.core.plan import KvLayout
from servesat.deployment.check.plan import rederive
from servesat.questions.batch_curve import batch_curve
from tests.helpers import AT, spec_of


def test_a_sweep_is_the_plan_at_every_batch() -> None:
    spec = spec_of()
    curve = batch_curve(spec, AT, 200)
    assert curve.batch.tolist() == [1, *range(2, 201, 2)]  # 16 ways over 8 KV heads: even batches, and a split one
    for batch in (2, 120, 138):
        plan, _ = rederive(spec, replace(AT, batch=batch))
        here = curve.batch.tolist().index(batch)
        assert curve.step_ms[here] == pytest.approx(plan.tpot_ms)
        assert curve.tokens_per_s_per_chip[here] == pytest.approx(plan.tokens_per_s_per_chip)
        assert curve.usd_per_million[here] == pytest.approx(plan.usd_per_million_output_tokens)


def test_batches_too_small_to_share_out_split_each_sequence() -> None:
    """On 8x8 the KV cache is shared out over batches of 8; the 7 below split sequences and exchange results."""
    spec = spec_of()
    at = replace(AT, topology="8x8")
    curve = batch_curve(spec, at, 16)
    assert curve.batch.tolist() == [*range(1, 9), 16]
    split = spec_of(
        search={"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "kv_layouts": ["sequence"]}
    )
    plan, _ = rederive(split, replace(at, batch=3, kv_layout=KvLayout.SEQUENCE))
    assert curve.step_ms[2] == pytest.approx(plan.tpot_ms)
    assert batch_curve(spec, at, 7).batch.tolist() == list(range(1, 8))


def test_a_sweep_knows_what_fits_and_what_is_compute_bound() -> None:
    curve = batch_curve(spec_of(), AT, 200)
    assert curve.max_batch_in_hbm == 138
    assert curve.critical_batch == pytest.approx(120.12, abs=0.01)
    flat = curve.tokens_per_s_per_chip[curve.batch > curve.critical_batch]
    assert np.allclose(flat, flat[0])
    assert batch_curve(spec_of(headroom=0.2), AT, 200).max_batch_in_hbm == 100


def test_the_critical_batch_with_experts_counts_all_weights_for_those_of_a_token() -> None:
    """DeepSeek-V3: 671 GB of fp8 for 37.55 billion parameters a token, at 1,979 TFLOP/s and 4.8 TB/s of an H200."""
    spec = spec_of(model="deepseek-v3", search={"chips": ["h200"], "weights": ["fp8"], "compute": ["fp8"]})
    layout = replace(AT, chip="h200", topology="8x1", weights="fp8", compute="fp8", tp_axes=(0,))
    critical = batch_curve(spec, replace(layout, kv_layout=KvLayout.COPIES), 16).critical_batch
    assert critical == pytest.approx(671e9 / 37.55e9 * 1.979e15 / (2 * 4.8e12), rel=0.01)
