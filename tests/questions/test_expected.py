"""What to expect of a plan in practice, against the row of a benchmark that it is."""

from typing import Any

import pytest

from servesat import Spec
from servesat.catalogue.load import load_calibration
from servesat.catalogue.measurements import Measurement
from servesat.core.plan import Plan
from servesat.deployment.solve import solve
from servesat.questions.accuracy import predict
from servesat.questions.expected import expected
from servesat.questions.explain import answer
from servesat.report.basis_words import broken_in_practice, in_practice

CHAT: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "qwen3-32b",
    "workload": {"prompt_tokens": 2000, "output_tokens": 500},
    "slo": {"tpot_ms": 20},
    "engine": "vllm",
    "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["2x1"]}},
}


def planned(**keys: Any) -> tuple[Spec, Plan]:
    spec = Spec.load({**CHAT, **keys})
    plan = solve(spec).plan
    assert plan is not None
    return spec, plan


def test_a_plan_is_expected_to_measure_what_its_row_would_be_predicted_to() -> None:
    spec, plan = planned()
    found = expected(spec, plan)
    row = Measurement(
        number=1,
        model=spec.model,
        chip=spec.chips[0],
        engine="vllm",
        engine_version="0.32",
        harness="",
        weights=plan.weights,
        kv_cache=plan.kv_cache,
        compute=plan.compute,
        tp=2,
        dp=1,
        spreads_experts=False,
        concurrency=float(plan.batch),
        requests_per_s=None,
        prompt_tokens=2000,
        output_tokens=500,
        measured={"tpot_ms": 1.0, "ttft_ms": 1.0, "tokens_per_s": 1.0},
    )
    predicted = predict(row, load_calibration())
    assert found is not None
    assert not isinstance(predicted, str)
    assert found.tpot_ms == pytest.approx(predicted.figures["tpot_ms"])
    assert found.ttft_ms == pytest.approx(predicted.figures["ttft_ms"])
    assert found.tokens_per_s == pytest.approx(predicted.figures["tokens_per_s"], rel=1e-3)
    assert (found.chip_is_calibrated, found.stack_is_calibrated) == (True, False)
    assert found.stack == "vllm 0.19.0"


def test_it_is_said_beside_the_plan_with_the_limits_that_it_would_break() -> None:
    spec, plan = planned()
    found = expected(spec, plan)
    assert found is not None
    assert in_practice(found).endswith("taken for vllm 0.19.0")
    (broken,) = broken_in_practice(spec, found)
    assert broken.startswith("tpot ≤ 20 ms, and ")
    assert list(broken_in_practice(Spec.load({**CHAT, "slo": {"tpot_ms": 200}}), found)) == []
    assert answer(spec).expected == found


def test_several_replicas_put_out_together_what_each_does() -> None:
    spec, plan = planned(workload={**CHAT["workload"], "requests_per_s": 60})
    many, one = expected(spec, plan), expected(*planned(constraints=[f"batch == {plan.batch}"]))
    assert many is not None
    assert one is not None
    assert many.tokens_per_s == pytest.approx(plan.slices * one.tokens_per_s)


def test_nothing_is_expected_of_what_nothing_starts_nor_yet_of_pools() -> None:
    assert expected(*planned(engine="none")) is None
    search = {**CHAT["search"], "modes": ["disaggregated"]}
    assert expected(*planned(search=search, workload={**CHAT["workload"], "requests_per_s": 5})) is None


def test_without_prompts_a_token_takes_a_step() -> None:
    found = expected(*planned(workload={"context_tokens": 2250}))
    assert found is not None
    assert found.ttft_ms is None
    _, plan = planned(workload={"context_tokens": 2250})
    assert found.tokens_per_s == pytest.approx(plan.replicas * plan.batch / found.tpot_ms * 1e3)


def test_a_demand_that_would_be_missed_is_said() -> None:
    spec, plan = planned(workload={**CHAT["workload"], "requests_per_s": 14}, slo={})
    found = expected(spec, plan)
    assert found is not None
    assert found.tokens_per_s < 14 * 500 <= plan.tokens_per_s
    (missed,) = broken_in_practice(spec, found)
    assert missed.startswith("14 requests/s are asked, and ")
