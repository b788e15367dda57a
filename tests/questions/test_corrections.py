"""Corrections of specs without a plan: each makes one exist, and the next nearer value does not."""

from typing import Any

import pytest
from hypothesis import assume, given

from servesat import Spec, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions import corrections as module
from servesat.questions.corrections import corrections
from servesat.questions.explain import answer
from tests.helpers import ON_32_CHIPS
from tests.oracles import deployment as oracle
from tests.questions.limits import with_key
from tests.strategies import SOME, tight


def test_405b_on_32_chips_is_corrected_by_15_76_ms_or_64_chips() -> None:
    found = {correction.changes[0].requirement: correction for correction in answer(ON_32_CHIPS).corrections}
    assert all(len(correction.changes) == 1 for correction in found.values())
    slower, wider = found["tpot"], found["chips"]
    # 405e9 / (32 · 8.2e11) + 4 · 8192 · 258,048 / (32 · 8.2e11)
    assert slower.changes[0].value == pytest.approx(15.434451 + 0.322245, abs=1e-6)
    assert (slower.plan.topology, slower.plan.batch) == ("4x8", 4)
    assert wider.changes[0].value == 64
    assert (wider.plan.topology, wider.plan.batch) == ("8x8", 88)
    assert found["weights"].changes[0].value == "int4"
    assert found["chip"].plan.chip != "tpu-v5e"
    assert set(found) == {"tpot", "chips", "chip", "weights"}


@pytest.mark.parametrize(
    ("spec", "requirement", "key", "value", "unit"),
    [
        ({"headroom": 0.6, "slo": {"tpot_ms": 30}}, "hbm", "headroom", 1 - 70e9 / 128e9 - 163_840 * 8192 / 128e9, ""),
        ({"search": {"topologies": {"tpu-v5e": ["2x2"]}}}, "topology", "search.topologies.tpu-v5e", "2x4", ""),
        ({"search": {"max_usd_per_hour": 4.8}}, "budget", "search.max_usd_per_hour", 9.6, "$/h"),
        (
            {"search": {"topologies": {"tpu-v5e": ["2x4"]}}, "slo": {"min_tokens_per_s": 9e9}},
            "throughput",
            "slo.min_tokens_per_s",
            43 / ((70e9 + 43 * 163_840 * 8192) / (8 * 8.2e11)),
            "tokens/s",
        ),
    ],
)
def test_a_correction_of_each_kind(
    spec: dict[str, Any], requirement: str, key: str, value: float | str, unit: str
) -> None:
    search = {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "topologies": {"tpu-v5e": ["2x4"]}}
    spec = {"cost_model": "ideal",
        "model": "llama-3-70b", "workload": {"context_tokens": 8192}, **spec,
        "search": search | spec.get("search", {}),
    }  # fmt: skip
    found = {c.changes[0].requirement: c.changes[0] for c in answer(spec).corrections}
    assert found[requirement].key == key
    assert found[requirement].value == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9))
    assert found[requirement].unit == unit


def test_the_interconnect_can_be_paid_for() -> None:
    # 64 ways over the network between nodes hide no more than 6.2 sequences, and need 8 to shard the KV cache
    spec = {"cost_model": "ideal",
        "model": "llama-3-405b",
        "workload": {"context_tokens": 8192},
        "slo": {"tpot_ms": 5},
        "search": {
            "chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x8"]}, "weights": ["int8"], "kv_cache": ["int8"],
        },
    }  # fmt: skip
    result = answer(spec)
    assert result.conflict == (("tpot", "ici", "kv_heads"),)
    found = {c.changes[0].requirement: c for c in result.corrections}
    assert (found["ici"].changes[0].key, found["ici"].changes[0].value) == ("ici", "pay")
    plan = found["ici"].plan
    assert plan.tp == 64
    assert plan.step_ms.ici == pytest.approx(126 * 4 * 2 * plan.batch * 16_384 / 50e9 * 1e3)


def test_two_changes_where_no_single_one_suffices() -> None:
    spec = {**ON_32_CHIPS, "slo": {"tpot_ms": 1e-3}, "search": {**ON_32_CHIPS["search"], "max_chips": 1}}
    found = answer(spec).corrections
    for correction in found:
        assert [change.requirement for change in correction.changes] == ["tpot", "chips"]
        keys = {change.key: change.value for change in correction.changes}
        assert solve(Spec.load(spec).changed(keys)).plan == correction.plan
    # the cheapest plan has the smallest 2D torus that fits; twice the chips take the least time at four times the cost
    assert [correction.plan.chips for correction in found] == [64, 128]
    least = found[1].changes[0].value
    any_chips = {"search.max_chips": None, "slo.tpot_ms": 0.999 * least}
    assert solve(Spec.load(spec).changed(any_chips)).status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("spec", "search", "requirements", "usd"),
    [
        # headroom 0 and a 4x4 at $19.2: the KV cache fills the memory, 70B costs what it does on v5e at batch 138
        (
            {
                "cost_model": "ideal",
                "model": "llama-3-70b",
                "headroom": 0.9,
                "price_book": "scaling-book-2025-02",
            },
            {"topologies": {"tpu-v5e": ["4x4"]}, "max_usd_per_hour": 5, "max_batch": 400},
            {"budget", "hbm"},
            0.7825,
        ),
    ],
)
def test_the_cheapest_pair(spec: dict[str, Any], search: dict[str, Any], requirements: set[str], usd: float) -> None:
    base = {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"]}
    result = answer({"workload": {"context_tokens": 8192}, **spec, "search": base | search})
    correction, smallest = result.corrections
    assert {change.requirement for change in correction.changes} == requirements
    assert {change.requirement for change in smallest.changes} == requirements
    assert correction.plan.usd_per_million_output_tokens == pytest.approx(usd, abs=5e-5)


def test_the_limits_of_a_pair_go_no_further_than_its_plan() -> None:
    """Cost is flat beyond the critical batch: the pair asks for the latency of the fastest plan there."""
    spec = {"cost_model": "ideal",
        "model": "llama-3-8b", "workload": {"context_tokens": 128}, "slo": {"tpot_ms": 0.001},
        "search": {"chips": ["tpu-v5e"], "weights": ["bf16"], "kv_cache": ["bf16"], "max_usd_per_hour": 0.5},
    }  # fmt: skip
    correction, _ = answer(spec).corrections
    values = {change.requirement: change.value for change in correction.changes}
    assert values["tpot"] == correction.plan.tpot_ms
    assert solve(Spec.load(spec).changed({change.key: change.value for change in correction.changes})).plan == (
        correction.plan
    )


def test_two_limits_move_no_further_than_they_have_to() -> None:
    """What the cheapest plan needs of two limits on time is beside the pair that moves both by the smallest factor."""
    spec = {"cost_model": "ideal",
        "model": "llama-3.1-405b", "workload": {"prompt_tokens": 2000, "output_tokens": 500},
        "slo": {"tpot_ms": 1, "ttft_ms": 20},
        "search": {"chips": ["mi300x"], "weights": ["fp8"], "kv_cache": ["fp8"], "modes": ["chunked"]},
    }  # fmt: skip
    loaded = Spec.load(spec)
    cheapest, smallest = corrections(loaded, Settings())
    moved = [{c.requirement: c.value for c in correction.changes} for correction in (cheapest, smallest)]
    assert cheapest.plan.usd_per_million_output_tokens < smallest.plan.usd_per_million_output_tokens
    factors = [max(values["tpot"] / 1, values["ttft"] / 20) for values in moved]
    assert factors[1] < factors[0]
    tighter = {"slo.tpot_ms": 1 * factors[1] * 0.99, "slo.ttft_ms": 20 * factors[1] * 0.99}
    assert solve(loaded.changed(tighter)).status is Status.INFEASIBLE


def test_another_engine_is_no_change_where_it_has_no_checkpoint() -> None:
    """Eight chips cut blocks of Qwen3-235B's fp8 checkpoint, which vLLM can make itself, and TensorRT-LLM cannot."""
    spec = {
        "model": "qwen3-235b-a22b", "workload": {"prompt_tokens": 2000, "output_tokens": 500}, "slo": {"tpot_ms": 12},
        "engine": "vllm", "search": {"chips": ["l40s"]},
    }  # fmt: skip
    found = {c.changes[0].requirement for c in corrections(Spec.load(spec), Settings())}
    assert "tpot" in found
    assert "engine" not in found


def test_a_larger_batch_can_be_what_is_missing() -> None:
    search = {**ON_32_CHIPS["search"], "max_chips": 64, "topologies": {"tpu-v5e": ["8x8"]}, "max_batch": 4}
    result = answer({**ON_32_CHIPS, "search": search})
    assert ("kv_heads",) in {conflict[-1:] for conflict in result.conflict or ()}
    found = {c.changes[0].requirement: c for c in result.corrections}
    assert (found["max_batch"].changes[0].key, found["max_batch"].changes[0].value) == ("search.max_batch", 8)
    assert found["max_batch"].plan.batch == 8


@pytest.mark.slow
@SOME
@given(tight())
def test_corrections_are_complete_and_tight_on_both_sides(spec: dict[str, Any]) -> None:
    loaded = Spec.load(spec)
    assume(solve(loaded).status is Status.INFEASIBLE)
    found = corrections(loaded, Settings())
    single = {c.changes[0].requirement: c for c in found if len(c.changes) == 1}
    plans = list(oracle.enumerate_plans(spec))
    measures = {
        "tpot": lambda plan: plan["step_s"] * 1e3,
        "chips": lambda plan: plan["chips"],
        "budget": lambda plan: plan["usd_per_hour"],
        "throughput": lambda plan: -plan["tokens_per_s"],
    }
    for requirement, measure in measures.items():
        allowed = [measure(plan) for plan, violated in plans if violated == {requirement}]
        assert (requirement in single) == bool(allowed)
        if allowed:
            value = single[requirement].changes[0].value
            assert isinstance(value, int | float)
            assert value == pytest.approx(abs(min(allowed)), rel=1e-9)
            assert solve(with_key(spec, requirement, value)).plan == single[requirement].plan
            short = (
                value - 1 if requirement == "chips" else value * (1 + (1e-6 if requirement == "throughput" else -1e-6))
            )
            if short > 0:
                assert solve(with_key(spec, requirement, short)).status is Status.INFEASIBLE


def test_native_weights_are_a_correction() -> None:
    spec = {
        "cost_model": "ideal",
        "model": "gpt-oss-120b",
        "workload": {"context_tokens": 4096},
        "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}, "weights": ["bf16"]},
    }
    changes = {c.changes[0].key: c.changes[0].value for c in answer(spec).corrections}
    assert changes["search.weights"] == "mxfp4"


def test_corrections_are_the_same_however_many_slices_are_evaluated_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answer(ON_32_CHIPS).corrections
    assert {correction.changes[0].requirement for correction in whole} >= {"tpot", "chips"}
    monkeypatch.setattr(module, "SLICES_AT_A_TIME", 1)
    assert answer(ON_32_CHIPS).corrections == whole
