"""Both sides of every requirement's edge, on fixed assignments."""

from dataclasses import replace
from typing import Any

import pytest

from servesat import Requirement, SolverError, Spec
from servesat.deployment.check.plan import rederive
from tests.helpers import AT, searching, spec_of

STEP_MS = (70e9 + 32 * 163_840 * 8192) / (16 * 8.2e11) * 1e3


def margin(spec: Spec, requirement: Requirement, **decisions: Any):
    _, margins = rederive(spec, replace(AT, **decisions))
    return next(margin for margin in margins if margin.requirement is requirement)


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


def test_replicas_share_a_slice_without_changing_the_cost() -> None:
    alone, _ = rederive(spec_of(), replace(AT, topology="2x4", batch=8))
    shared, _ = rederive(spec_of(), replace(AT, topology="4x8", tp_axes=(1,), batch=8))
    assert (alone.replicas, shared.replicas) == (1, 4)
    assert shared.usd_per_million_output_tokens == pytest.approx(alone.usd_per_million_output_tokens)
    assert shared.tokens_per_s == pytest.approx(4 * alone.tokens_per_s)


def test_hbm_edge() -> None:
    # (256e9 - 70e9) / (163,840 · 8192) = 138.58 sequences; with 20 % headroom 100.4
    assert margin(spec_of(), Requirement.HBM, batch=138).holds
    assert not margin(spec_of(), Requirement.HBM, batch=140).holds
    assert margin(spec_of(headroom=0.2), Requirement.HBM, batch=100).holds
    assert not margin(spec_of(headroom=0.2), Requirement.HBM, batch=102).holds


def test_hbm_filled_to_the_last_byte_holds() -> None:
    chip = {
        "name": "exact", "vendor": "test", "hbm_bytes": 70e9 + 163_840 * 8192, "hbm_bytes_per_s": 1e12,
        "flop_per_s": {"bf16": 1e15}, "axes": [{"name": "x", "bytes_per_s": 1e11}], "topologies": ["1"],
        "usd_per_chip_hour": 1.0,
    }  # fmt: skip
    spec = searching(chips=[chip])
    at = replace(AT, chip="exact", topology="1", tp_axes=())
    assert all(margin.holds for margin in rederive(spec, replace(at, batch=1))[1])
    assert not all(margin.holds for margin in rederive(spec, replace(at, batch=2))[1])


def test_tpot_edge() -> None:
    assert margin(spec_of(slo={"tpot_ms": STEP_MS}), Requirement.TPOT).holds
    assert not margin(spec_of(slo={"tpot_ms": STEP_MS * 0.9999}), Requirement.TPOT).holds


def test_ici_edge() -> None:
    # 405B on 8x8, worked problem 3: F · W_ici · m · b_w / (b_a · Y · W_hbm) = 91.3 sequences
    spec = spec_of(model="llama-3-405b")
    at = {"topology": "8x8", "tp_axes": (0, 1)}
    assert margin(spec, Requirement.ICI, batch=91, **at).holds
    assert not margin(spec, Requirement.ICI, batch=92, **at).holds
    _, margins = rederive(spec_of(model="llama-3-405b", ici="pay"), replace(AT, batch=92, **at))
    assert Requirement.ICI not in {margin.requirement for margin in margins}


def test_ici_compute_bound_edge() -> None:
    # 70B on v5e: F · m / alpha = 28,672 · 2 / 2188.9 = 26.2 ways at any batch
    assert margin(spec_of(), Requirement.ICI, batch=4096).holds  # 16 ways
    assert not margin(spec_of(), Requirement.ICI, batch=4096, topology="4x8").holds  # 32 ways


def test_heads_edge() -> None:
    spec = spec_of(model="llama-2-13b")  # 40 heads
    assert margin(spec, Requirement.HEADS, topology="2x4").holds
    assert not margin(spec, Requirement.HEADS, topology="4x4").holds


def test_kv_heads_edge() -> None:
    assert margin(spec_of(), Requirement.KV_HEADS, batch=32).holds
    assert not margin(spec_of(), Requirement.KV_HEADS, batch=33).holds
    assert margin(spec_of(), Requirement.KV_HEADS, batch=33, topology="2x4").holds


def test_dtypes_edge() -> None:
    spec = searching(weights=["bf16", "int8"], compute=["bf16", "int8"])
    assert margin(spec, Requirement.DTYPES, compute="int8").holds
    assert not margin(spec, Requirement.DTYPES, compute="int8", weights="bf16").holds


def test_chips_edge() -> None:
    assert margin(searching(max_chips=16), Requirement.CHIPS).holds
    assert not margin(searching(max_chips=15), Requirement.CHIPS).holds


def test_budget_edge() -> None:
    assert margin(searching(max_usd_per_hour=19.2), Requirement.BUDGET).holds
    assert not margin(searching(max_usd_per_hour=19.19), Requirement.BUDGET).holds


def test_throughput_edge() -> None:
    reached = 32 / STEP_MS * 1e3
    assert margin(spec_of(slo={"min_tokens_per_s": reached}), Requirement.THROUGHPUT).holds
    assert not margin(spec_of(slo={"min_tokens_per_s": reached * 1.0001}), Requirement.THROUGHPUT).holds


@pytest.mark.parametrize(
    "decision",
    [
        {"chip": "tpu-v5p"},
        {"topology": "4x5"},
        {"tp_axes": (0, 0)},
        {"topology": "1x1", "tp_axes": (0,)},
        {"weights": "bf16"},
        {"kv_cache": "int4"},
        {"compute": "fp8"},
        {"batch": 0},
        {"batch": 4097},
    ],
)
def test_an_assignment_that_is_not_on_offer_is_refused(decision: dict[str, Any]) -> None:
    with pytest.raises(SolverError, match="not on offer"):
        rederive(spec_of(), replace(AT, **decision))
