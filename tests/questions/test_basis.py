"""Plans of the calibrated cost model: what they rest on, what they keep from limits, and how they are written down."""

import re
from typing import Any

import pytest

from servesat import Spec, SpecError, Status
from servesat.catalogue.load import CALIBRATIONS, load_calibration, shelf_of
from servesat.core.plan import Plan
from servesat.core.result import Basis
from servesat.deployment.solve import solve
from servesat.questions.batch_curve import batch_curve
from servesat.questions.explain import answer
from servesat.report.basis_words import cost_model, errors, rests_on
from servesat.report.documents import answer_document
from servesat.spec.document import spec_document
from tests.questions.test_expected import CHAT

MEASURED: dict[str, Any] = {**CHAT, "cost_model": "calibrated", "search": {"chips": ["h100-sxm"]}}


def best(spec: dict[str, Any]) -> tuple[Plan, Basis]:
    result = answer(spec)
    assert result.plan is not None
    assert result.basis is not None
    return result.plan, result.basis


def test_a_plan_carries_the_error_of_a_version_without_measurements() -> None:
    plan, basis = best(MEASURED)
    assert (basis.chip_is_calibrated, basis.stack_is_calibrated, basis.stack) == (True, False, "vllm 0.19.0")
    known = load_calibration().errors.other_version
    assert (basis.tpot_error, basis.ttft_error) == (known.tpot, known.ttft)
    assert basis.best_calibrated is None
    assert errors(plan, basis)[0] == f" ± {plan.tpot_ms * known.tpot:.2f}"
    assert list(rests_on(plan, basis)) == ["h100-sxm; vllm 0.19.0 in place of vllm-0.32 (docs/accuracy.md)"]


def test_limits_are_kept_by_the_error_of_a_prediction() -> None:
    error = load_calibration().errors.other_version.tpot
    plan, _ = best(MEASURED)
    assert 20 / (1 + error) * 0.95 < plan.tpot_ms <= 20 / (1 + error)
    to_the_limit, _ = best({**MEASURED, "slo": {"tpot_ms": 20, "margin": 0}})
    assert 19 < to_the_limit.tpot_ms <= 20
    assert to_the_limit.usd_per_million_output_tokens < plan.usd_per_million_output_tokens
    far, _ = best({**MEASURED, "slo": {"tpot_ms": 20, "margin": 0.5}})
    assert far.tpot_ms <= 20 / 1.5


def test_a_limit_that_binds_is_said_with_its_error() -> None:
    result = solve({**MEASURED, "slo": {"tpot_ms": 20, "margin": 0.25}})
    (margin,) = (margin for margin in result.margins if margin.requirement == "tpot")
    assert result.plan is not None
    assert margin.value == pytest.approx(1.25 * result.plan.tpot_ms)
    assert (margin.limit, margin.holds) == (20, True)
    assert "tpot" in result.binding


def test_beside_a_chip_without_measurements_stands_the_best_that_has_some() -> None:
    both = {
        **MEASURED,
        "search": {"chips": ["h100-sxm", "rtx-6000-ada"]},
        "price": {"h100-sxm": 50.0, "rtx-6000-ada": 0.1},
    }
    plan, basis = best(both)
    assert (plan.chip, basis.chip_is_calibrated) == ("rtx-6000-ada", False)
    assert basis.best_calibrated is not None
    assert basis.best_calibrated.chip == "h100-sxm"
    alone, _ = best({**both, "search": {"chips": ["h100-sxm"]}})
    assert basis.best_calibrated == alone
    assert "rtx-6000-ada is not calibrated" in " ".join(rests_on(plan, basis))


def test_the_step_by_term_adds_up_to_the_time_of_a_token() -> None:
    plan, _ = best(MEASURED)
    step = plan.step_ms
    moved = step.kv_cache + step.kv_exchange + step.ici
    whole = max(step.weights, step.flops) + moved + step.head + step.launches + step.host + step.prefill
    assert plan.tpot_ms == pytest.approx(whole)
    assert min(step.head, step.launches, step.host) > 0
    assert plan.e2e_ms is not None
    output = 500
    assert plan.tokens_per_s == pytest.approx(plan.slices * plan.replicas * plan.batch * output / (plan.e2e_ms / 1e3))


def test_the_curve_of_a_step_meets_the_plan() -> None:
    spec = Spec.load({**MEASURED, "workload": {"context_tokens": 2000}})
    plan = solve(spec).plan
    assert plan is not None
    curve = batch_curve(spec, plan, plan.batch)
    assert curve.step_ms[-1] == pytest.approx(plan.tpot_ms)
    assert curve.step.weights_s[-1] * 1e3 == pytest.approx(plan.step_ms.weights)


def test_the_ideal_cost_model_keeps_no_margin_unless_told() -> None:
    plan = solve({**CHAT, "cost_model": "ideal", "slo": {"tpot_ms": 8}}).plan
    told = solve({**CHAT, "cost_model": "ideal", "slo": {"tpot_ms": 8, "margin": 0.25}}).plan
    assert plan is not None
    assert told is not None
    assert plan.tpot_ms > 6.4 >= told.tpot_ms
    assert answer({**CHAT, "cost_model": "ideal"}, limits=False).basis is None


def test_constants_of_a_file_are_read_and_written_down(tmp_path: Any) -> None:
    text = (
        (shelf_of(CALIBRATIONS) / "calibration.toml")
        .read_text()
        .replace('name = "Fitted to published measurements"', 'name = "Ours"')
    )
    (tmp_path / "mine.toml").write_text(text.replace("step_s = ", "step_s = 0.1 # "))
    spec = Spec.load({**MEASURED, "cost_model": "mine.toml", "slo": {}}, folder=tmp_path)
    assert cost_model(spec) == "cost model Ours"
    slow, usual = solve(spec).plan, solve({**MEASURED, "slo": {}}).plan
    assert slow is not None
    assert usual is not None
    assert slow.step_ms.host - usual.step_ms.host > 90
    again = Spec.load(spec_document(spec))
    assert again.calibration == spec.calibration
    assert spec_document(Spec.load(MEASURED))["cost_model"] == "calibrated"


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"ici": "pay"}, "ici: is of `cost_model: ideal`"),
        ({"prefill_mfu": 0.4}, "prefill_mfu: is of `cost_model: ideal`"),
        ({"cost_model": "measured"}, "cost_model = 'measured': expected `ideal`, `calibrated`, or the path"),
        ({"cost_model": "none.toml"}, "none.toml"),
        ({"slo": {"margin": -0.1}}, "slo.margin"),
        ({"model": {**Spec.load(CHAT).model.model_dump(exclude_none=True), "nominal_parameters": 1e6}}, "fewer than"),
    ],
)
def test_what_the_calibrated_cost_model_cannot_use_is_an_error(keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(SpecError, match=re.escape(fault)):
        Spec.load({**MEASURED, **keys})


def test_the_answer_holds_what_it_rests_on() -> None:
    spec = Spec.load(MEASURED)
    result = answer(spec)
    assert result.status is Status.OPTIMAL
    document = answer_document(spec, result)
    assert document["basis"]["stack"] == "vllm 0.19.0"
    assert document["expected"] is None
    assert Spec.load(document["spec"]) == spec
