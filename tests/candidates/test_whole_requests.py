"""Whole requests: each mode's formulas and published figures."""

from typing import Any

import pytest
from hypothesis import assume, given

from servesat import Spec, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from tests.oracles import requests as requests_oracle
from tests.oracles.machine import machines
from tests.strategies import SOME, calibrated, examples, under_engines, with_or_without_engines
from tests.whole_requests import ATTENTION_S, BOOK, MATMULS_S, agrees, in_mode, plan_of, small_specs


def test_the_books_prompt_takes_0_91_s_and_attention_7_percent_more() -> None:
    assert pytest.approx(0.91, abs=1e-3) == MATMULS_S
    plan = plan_of(in_mode("interleaved", max_batch=43))
    assert plan.prefill_ms == pytest.approx((MATMULS_S + ATTENTION_S) * 1e3)
    assert pytest.approx(1.0767, abs=1e-3) == 1 + ATTENTION_S / MATMULS_S


def test_32k_prompts_stall_decoding_for_3_64_s_and_attention_longer() -> None:
    whole = {**in_mode("interleaved"), "workload": {"prompt_tokens": 32768, "output_tokens": 512}}
    plan = plan_of({**whole, "search": {**whole["search"], "weights": ["int8"], "kv_cache": ["int8"]}})
    assert plan.stall_ms == pytest.approx((4 * MATMULS_S + 16 * ATTENTION_S) * 1e3)
    assert pytest.approx(3.64, abs=2e-3) == 4 * MATMULS_S


def test_a_chunk_of_512_costs_57_ms_not_half_a_millisecond() -> None:
    spec = Spec.load({**in_mode("chunked", weights=["int8"], kv_cache=["int8"], chunk_tokens=[512], max_batch=2)})
    plan = plan_of(spec)
    chunk_ms = (MATMULS_S + ATTENTION_S) / 16 * 1e3
    assert chunk_ms == pytest.approx(61.2, abs=0.1)  # 56.9 of them matmuls
    assert plan.step_ms.flops == pytest.approx(chunk_ms + 2 * 70e9 * 2 / (16 * 1.97e14) * 1e3)


@pytest.mark.slow
@SOME
@given(small_specs(["interleaved", "chunked", "disaggregated"], 12))
def test_no_mode_beats_the_roofline(spec: dict[str, Any]) -> None:
    """The FLOPs of a request cannot be had for less than the cheapest FLOPs there are, nor its loads at full batch."""
    plan = solve(spec).plan
    assume(plan is not None)
    assert plan is not None
    world = requests_oracle.World(spec)
    dollars = [chip["usd_per_chip_hour"] / 3600 / max(chip["flop_per_s"].values()) for chip in spec["search"]["chips"]]
    machine = world.machines[0]
    flop = world.prompt_flop(machine) + 2 * machine.active * world.output
    assert (plan.usd_per_request or 0.0) >= min(dollars) * flop * (1 - 1e-9)
    assert plan.tpot_ms >= plan.step_ms.flops * (1 - 1e-9)
    assert plan.tpot_ms >= plan.step_ms.weights * (1 - 1e-9)


def test_a_demand_takes_whole_slices_and_says_what_is_left() -> None:
    spec = Spec.load({**BOOK, "workload": {"prompt_tokens": 8192, "output_tokens": 512, "requests_per_s": 10}})
    for utilisation in (1.0, 0.7):
        plan = plan_of(spec.changed({"utilisation": utilisation}))
        assert plan.load_fraction is not None
        assert plan.load_fraction <= utilisation + 1e-9
        assert plan.requests_per_s == pytest.approx(10 / plan.load_fraction)
        sold = 10 * 512
        assert plan.usd_per_million_output_tokens == pytest.approx(plan.usd_per_hour / 3600 / sold * 1e6)
        assert plan.usd_per_million_tokens == pytest.approx(plan.usd_per_hour / 3600 / (10 * 8704) * 1e6)


def test_no_time_to_solve_is_no_answer() -> None:
    result = solve(in_mode("disaggregated"), Settings(time_limit_s=1e-9))
    assert (result.status, result.plan, result.conflict) == (Status.UNKNOWN, None, None)


@pytest.mark.slow
@examples(24)
@given(small_specs(["interleaved", "chunked"], 8).flatmap(under_engines))
def test_one_pool_agrees_with_enumeration_under_engines(spec: dict[str, Any]) -> None:
    assume(len(list(machines(spec))) <= 40)
    agrees(spec)


@pytest.mark.slow
@examples(24)
@given(small_specs(["disaggregated"], 3).flatmap(under_engines))
def test_two_pools_agree_with_enumeration_under_engines(spec: dict[str, Any]) -> None:
    assume(len(list(machines(spec))) <= 10)
    agrees(spec)


@pytest.mark.slow
@examples(40)
@given(small_specs(["interleaved", "chunked"], 8).flatmap(with_or_without_engines).flatmap(calibrated))
def test_one_pool_agrees_with_enumeration_as_measured(spec: dict[str, Any]) -> None:
    assume(len(list(machines(spec))) <= 40)
    agrees(spec)


@pytest.mark.slow
@examples(40)
@given(small_specs(["disaggregated"], 3).flatmap(with_or_without_engines).flatmap(calibrated))
def test_two_pools_agree_with_enumeration_as_measured(spec: dict[str, Any]) -> None:
    assume(len(list(machines(spec))) <= 10)
    agrees(spec)
