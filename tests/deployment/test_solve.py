"""Whole answers: the published ones, and enumeration's on random specs."""

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given

from servesat import SpecError, Status
from servesat.catalogue.load import model_ids
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from tests import strategies
from tests.helpers import ROOT, spec_of
from tests.oracles import deployment as oracle
from tests.strategies import examples

EXAMPLE = ROOT / "examples" / "llama-3-405b-under-15ms.yaml"


def on_v5e(model: str, **search: object) -> dict[str, object]:
    return {
        "cost_model": "ideal",
        "model": model,
        "workload": {"context_tokens": 8192},
        "slo": {"tpot_ms": 15},
        "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], **search},
    }


def test_llama_405b_under_15_ms() -> None:
    result = solve(EXAMPLE)
    plan = result.plan
    assert plan is not None
    assert result.status is Status.OPTIMAL
    assert (plan.topology, plan.tp_axes, plan.tp, plan.replicas, plan.batch) == ("8x8", (0, 1), 64, 1, 88)
    # 405e9 / (64 · 8.2e11) + 88 · 8192 · 258,048 / (64 · 8.2e11)
    assert plan.tpot_ms == pytest.approx(7.71723 + 3.54469, abs=1e-5)
    # 64 · $1.2 / 3600 · 11.26192 ms / 88
    assert plan.usd_per_million_output_tokens == pytest.approx(2.730163, abs=1e-6)
    assert result.bound_usd_per_million_output_tokens == plan.usd_per_million_output_tokens
    assert result.binding == ("ici",)
    assert plan.hbm_used_fraction == pytest.approx(0.577, abs=5e-4)


def test_llama_405b_rejects_32_chips_because_loading_takes_too_long() -> None:
    result = answer(EXAMPLE)
    rejected = next(summary for summary in result.slices if summary.plan.topology == "4x8")
    assert rejected.violated == ("tpot",)
    assert rejected.plan.step_ms.weights == pytest.approx(405e9 / (32 * 8.2e11) * 1e3)
    assert rejected.plan.step_ms.weights > 15


def test_llama_405b_at_32k_is_bound_by_tpot() -> None:
    result = solve({**on_v5e("llama-3-405b"), "workload": {"context_tokens": 32768}})
    assert result.plan is not None
    assert (result.plan.topology, result.plan.batch, result.binding) == ("8x8", 40, ("tpot",))


def test_llama_405b_on_at_most_32_chips_conflicts() -> None:
    result = solve(on_v5e("llama-3-405b", max_chips=32))
    assert result.status is Status.INFEASIBLE
    assert result.plan is None
    assert result.conflict == (("tpot", "chips"),)


def test_llama_70b_takes_the_fastest_of_the_plans_that_tie() -> None:
    spec = on_v5e("llama-3-70b", weights=["bf16", "int8", "int4"]) | {"slo": {"tpot_ms": 20}}
    plan = solve(spec).plan
    assert plan is not None
    assert (plan.topology, plan.weights, plan.batch) == ("4x4", "int4", 62)
    # beyond the critical batch: 16 · $1.2 / 3600 · (2 · 70e9 / (16 · 1.97e14) + 163,840 · 8192 / (16 · 8.2e11)) a token
    assert plan.usd_per_million_output_tokens == pytest.approx(0.782487, abs=1e-6)
    assert plan.tpot_ms == pytest.approx(9.0964, abs=1e-4)


def test_paying_for_ici_costs_no_more_than_forbidding_it_where_it_is_hidden() -> None:
    forbid = solve(on_v5e("llama-3-405b")).plan
    pay = solve({**on_v5e("llama-3-405b"), "ici": "pay"}).plan
    assert forbid is not None
    assert pay is not None
    assert forbid.step_ms.ici == 0
    # four collectives of 2 · B · 16,384 bytes in each of 126 layers over two axes of 90 GB/s
    assert pay.step_ms.ici == pytest.approx(126 * 4 * 2 * pay.batch * 16_384 / 1.8e11 * 1e3)


def test_prompt_and_output_make_the_context() -> None:
    decoding = on_v5e("llama-3-70b", modes=["decode_only"])
    plan = solve({**decoding, "workload": {"prompt_tokens": 8000, "output_tokens": 192}}).plan
    assert plan is not None
    # holds 8,192 tokens of a sequence, reads 8,096 of them on average
    assert plan.kv_cache_bytes == plan.batch * 8192 * 163_840
    assert plan.step_ms.kv_cache == pytest.approx(plan.batch * 8096 * 163_840 / (plan.tp * 8.2e11) * 1e3)
    fixed = {"prompt_tokens": 8000, "output_tokens": 192, "context_tokens": 8192}
    whole = solve(on_v5e("llama-3-70b")).plan
    both = solve({**decoding, "workload": fixed}).plan
    assert whole is not None
    assert both is not None
    assert both.tpot_ms == whole.tpot_ms


def test_a_time_limit_too_short_is_unknown_or_says_its_gap() -> None:
    result = solve(
        {"cost_model": "ideal", "model": "llama-3-70b", "workload": {"context_tokens": 8192}},
        Settings(time_limit_s=1e-6),
    )
    assert result.status in {Status.UNKNOWN, Status.FEASIBLE}
    assert (result.plan is None) == (result.status is Status.UNKNOWN)
    assert result.conflict is None


def test_a_malformed_spec_is_no_result() -> None:
    with pytest.raises(SpecError, match=r"workload is missing"):
        solve({"model": "llama-3-70b"})


@pytest.mark.slow
@examples(250)
@given(strategies.specs())
def test_agrees_with_enumeration(spec: dict[str, Any]) -> None:
    agrees(spec)


@pytest.mark.slow
@examples(50)
@given(strategies.specs().flatmap(strategies.under_engines))
def test_agrees_with_enumeration_under_engines(spec: dict[str, Any]) -> None:
    agrees(spec)


@pytest.mark.slow
@examples(50)
@given(strategies.specs().flatmap(strategies.with_or_without_engines).flatmap(strategies.calibrated))
def test_agrees_with_enumeration_as_measured(spec: dict[str, Any]) -> None:
    agrees(spec)


def agrees(spec: dict[str, Any]) -> None:
    result = solve(spec)
    expected, conflicts = oracle.solve(spec)
    if expected is None:
        assert result.status is Status.INFEASIBLE
        assert {frozenset(map(str, members)) for members in result.conflict or ()} == conflicts
        return
    assert result.status is Status.OPTIMAL
    assert result.plan is not None
    found = asdict(result.plan)
    names = ("chip", "topology", "tp_axes", "ep_axes", "kv_layout", "weights", "kv_cache", "compute", "batch")
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}
    if spec.get("engine", "none") != "none":
        assert found["engine"] == spec["engine"][expected["engine"]]["name"]
    assert found["usd_per_million_output_tokens"] == pytest.approx(expected["usd"], rel=1e-9)
    assert found["tpot_ms"] == pytest.approx(expected["step_s"] * 1e3, rel=1e-9)


@pytest.mark.parametrize("model", ["deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "gemma-3-27b", "llama-4-maverick"])
def test_published_architectures_solve_over_every_chip(model: str) -> None:
    spec = {
        "cost_model": "ideal",
        "model": model,
        "workload": {"prompt_tokens": 4096, "output_tokens": 1024},
        "slo": {"tpot_ms": 50},
    }
    result = solve(spec)
    assert result.status is Status.OPTIMAL
    assert result.plan is not None
    assert result.plan.tpot_ms <= 50
    assert all(margin.holds for margin in result.margins)
    assert 0.01 < result.plan.usd_per_million_output_tokens < 5


@pytest.mark.slow
def test_every_model_of_the_catalogue_has_a_plan_but_for_those_that_no_engine_serves() -> None:
    """The check, which reads engines apart, refuses none of the plans that are chosen."""
    whole = {"workload": {"prompt_tokens": 2000, "output_tokens": 500}, "search": {"chips": ["b200"]}}
    without = {model for model in model_ids() if solve({"model": model, **whole}).plan is None}
    assert without == {"falcon-180b", "gpt-j-6b", "minimax-m1", "opt-175b", "opt-66b"}


def test_an_open_axis_halves_the_batch_that_the_interconnect_allows() -> None:
    """405B on 8x8: 88 sequences with rings (92.6, in multiples of 8); without, at most half of 92.6."""
    open_ended = solve(spec_of(model="llama-3-405b", slo={"tpot_ms": 15}, wraparound="exact")).plan
    assert open_ended is not None
    assert (open_ended.topology, open_ended.batch) != ("8x8", 88)
    only = {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "topologies": {"tpu-v5e": ["8x8"]}}
    plan = solve(spec_of(model="llama-3-405b", slo={"tpot_ms": 15}, wraparound="exact", search=only)).plan
    assert plan is not None
    assert plan.batch == 40
