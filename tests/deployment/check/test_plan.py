"""A plan put together again from its decisions, by hand, and what is refused."""

from dataclasses import replace

import pytest

from servesat import SolverError
from servesat.core.plan import Assignment, KvLayout, Mode, PrefillPool
from servesat.deployment.check.plan import rederive
from servesat.deployment.solve import solve
from tests.helpers import AT, spec_of, toy_spec
from tests.whole_requests import ATTENTION_S, MATMULS_S, in_mode, plan_of

STEP_MS = (70e9 + 32 * 163_840 * 8192) / (16 * 8.2e11) * 1e3


def test_figures_are_rederived() -> None:
    plan, margins = rederive(spec_of(), AT)
    assert all(margin.holds for margin in margins)
    assert (plan.tp, plan.replicas, plan.chips, plan.kv_batch_shards) == (16, 1, 16, 2)
    assert plan.tpot_ms == pytest.approx(STEP_MS)
    assert plan.tokens_per_s == pytest.approx(32 / STEP_MS * 1e3)
    assert plan.tokens_per_s_per_chip == pytest.approx(2 / STEP_MS * 1e3)
    assert plan.usd_per_hour == pytest.approx(19.2)
    assert plan.usd_per_million_output_tokens == pytest.approx(19.2 / 3600 * STEP_MS / 1e3 / 32 * 1e6)
    assert plan.weights_bytes == 70e9
    assert plan.kv_cache_bytes == 32 * 163_840 * 8192
    assert plan.hbm_used_fraction == pytest.approx((70e9 + 32 * 163_840 * 8192) / 256e9)


def test_decoding_alone_is_counted_in_requests() -> None:
    """32 sequences of 8,192 tokens that make 512 each: 1 / 16 of a sequence ends a step, and 512 tokens with it."""
    workload = {"context_tokens": 8192, "output_tokens": 512}
    plan, _ = rederive(spec_of(workload=workload), AT)
    assert plan.mode is Mode.DECODE_ONLY
    assert plan.requests_per_s == pytest.approx(32 / STEP_MS * 1e3 / 512)
    assert plan.sequences_finished_per_step == pytest.approx(1 / 16)
    assert plan.kv_tokens_evicted_per_step == pytest.approx(512)
    assert (plan.load_fraction, plan.usd_per_request, plan.ttft_ms) == (None, None, None)
    result = solve(spec_of(workload={**workload, "requests_per_s": 100}))
    asked = result.plan
    assert asked is not None
    assert asked.load_fraction == pytest.approx(100 * 512 / asked.tokens_per_s)
    assert 1 - 1 / asked.slices < asked.load_fraction <= 1


def test_replicas_share_a_slice_without_changing_the_cost() -> None:
    alone, _ = rederive(spec_of(), replace(AT, topology="2x4", kv_layout=KvLayout.HEADS, batch=8))
    shared, _ = rederive(spec_of(), replace(AT, topology="4x8", tp_axes=(1,), kv_layout=KvLayout.HEADS, batch=8))
    assert (alone.replicas, shared.replicas) == (1, 4)
    assert shared.usd_per_million_output_tokens == pytest.approx(alone.usd_per_million_output_tokens)
    assert shared.tokens_per_s == pytest.approx(4 * alone.tokens_per_s)


TOY = Assignment(
    chip="toy", topology="1", tp_axes=(), weights="bf16", kv_cache="bf16", compute="bf16", batch=100,
    mode=Mode.INTERLEAVED,
)  # fmt: skip
PROMPT_MS = 2 + 4 * 10 * 40 * 10 * 1000**2 / 2 / 1e12
STEP_OF_100_MS = 2 + 0.0084 * 100


def test_an_interleaved_plan_bears_a_hundredth_of_a_prompt_for_each_sequence_and_token() -> None:
    plan, _ = rederive(toy_spec(), TOY)
    assert plan.tpot_ms == pytest.approx(STEP_OF_100_MS + 100 / 100 * PROMPT_MS)
    assert plan.step_ms.prefill == pytest.approx(PROMPT_MS)
    assert plan.ttft_ms == pytest.approx(PROMPT_MS)
    assert plan.e2e_ms == pytest.approx(PROMPT_MS + 99 * plan.tpot_ms)
    assert plan.stall_ms == pytest.approx(max(STEP_OF_100_MS, PROMPT_MS))
    assert plan.requests_per_s == pytest.approx(100 / plan.tpot_ms * 1e3 / 100)
    assert plan.usd_per_request == pytest.approx(1 / 3600 / (plan.requests_per_s or 0.0))
    assert plan.usd_per_million_tokens == pytest.approx((plan.usd_per_request or 0.0) / 1100 * 1e6)


def test_a_chunked_plan_takes_a_step_for_each_chunk() -> None:
    spec = toy_spec(search={"modes": ["chunked"], "chunk_tokens": [300]})
    plan, _ = rederive(spec, replace(TOY, mode=Mode.CHUNKED, chunk_tokens=300, batch=20))
    flops_ms = 0.002 * 20 + 0.3 * PROMPT_MS
    assert plan.step_ms.flops == pytest.approx(flops_ms)
    assert plan.tpot_ms == pytest.approx(max(2, flops_ms) + 0.0084 * 20)
    assert plan.ttft_ms == pytest.approx(4 * plan.tpot_ms)  # 300, 300, 300 and 100 tokens


def test_a_hit_rate_that_floats_cannot_hold_leaves_a_whole_number_of_chunks() -> None:
    """12,800 tokens at a hit rate of 0.58 are 21 chunks of 256, though 12,800 · 0.58 is 7,423.999999999999."""
    spec = toy_spec(
        workload={"prompt_tokens": 12_800, "output_tokens": 100, "prefix_cache_hit": 0.58},
        search={"modes": ["chunked"], "chunk_tokens": [256]},
    )
    plan, _ = rederive(spec, replace(TOY, mode=Mode.CHUNKED, chunk_tokens=256, batch=1))
    assert plan.ttft_ms == pytest.approx(21 * plan.tpot_ms)
    limited = solve(spec.changed({"slo.ttft_ms": 21.5 * plan.tpot_ms, "search.max_batch": 1})).plan
    assert limited is not None
    assert limited.ttft_ms == plan.ttft_ms


def test_two_pools_put_out_what_the_slower_does() -> None:
    pool = PrefillPool(chip="toy", topology="1", tp_axes=(), weights="bf16", compute="bf16", slices=1)
    spec = toy_spec(search={"modes": ["disaggregated"]})
    plan, _ = rederive(spec, replace(TOY, mode=Mode.DISAGGREGATED, prefill=pool, slices=1))
    decodes, prefills = 1e3 / STEP_OF_100_MS, 1e3 / PROMPT_MS  # requests/s: 100 sequences in 100 steps, one prompt
    assert plan.requests_per_s == pytest.approx(min(decodes, prefills))
    assert plan.transfer_ms == pytest.approx(1000 * 8000 / 1e10 * 1e3)
    assert plan.ttft_ms == pytest.approx(PROMPT_MS + 0.8)
    assert (plan.chips, plan.usd_per_hour) == (2, 2.0)


@pytest.mark.parametrize(("slices", "complaint"), [(2, "too few"), (4, "3 meet the demand")])
def test_a_number_of_slices_that_does_not_follow_from_the_demand_is_refused(slices: int, complaint: str) -> None:
    alone, _ = rederive(toy_spec(), TOY)
    demand = 3 * (alone.requests_per_s or 0.0)
    spec = toy_spec(workload={"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": demand})
    assert rederive(spec, replace(TOY, slices=3))[0].load_fraction == pytest.approx(1)
    with pytest.raises(SolverError, match=complaint):
        rederive(spec, replace(TOY, slices=slices))


@pytest.mark.parametrize(
    ("formula", "batch"),
    [
        ("servesat.cost_model.decode.weights_load_s", 100),  # a step that loads the weights
        ("servesat.cost_model.decode.active_parameters", 2000),  # a step that computes
        ("servesat.cost_model.decode.kv_read_bytes", 100),
        ("servesat.cost_model.prefill.attention_flop", 100),
        ("servesat.candidates.columns.replica_kv_bytes", 100),
    ],
)
def test_a_fault_of_the_cost_model_is_found_by_the_check(
    formula: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = formula.rpartition(".")
    right = getattr(__import__(module, fromlist=[name]), name)
    monkeypatch.setattr(formula, lambda *arguments, **keys: 1.001 * right(*arguments, **keys))
    with pytest.raises(SolverError, match="the chosen plan fails its check"):
        solve(toy_spec(search={"modes": ["interleaved"], "min_batch": batch, "max_batch": batch}))


def test_utilisation_by_hand() -> None:
    """Of AT 2 · 70e9 · 32 FLOPs a step, bound by memory alone; of requests the FLOPs of a prompt for 512 tokens too."""
    plan, _ = rederive(spec_of(), AT)
    assert plan.mfu == pytest.approx(2 * 70e9 * 32 / (STEP_MS / 1e3) / (16 * 1.97e14))
    assert plan.mbu == pytest.approx(1.0)
    served = plan_of(in_mode("interleaved", max_batch=43))
    flop = 2 * 70e9 + (MATMULS_S + ATTENTION_S) * 0.4 * 16 * 1.97e14 / 512
    assert served.mfu == pytest.approx(served.tokens_per_s * flop / (16 * 1.97e14))
    assert served.mbu == pytest.approx((140e9 + served.kv_cache_bytes) / (served.tpot_ms / 1e3 * 16 * 8.2e11))
