"""Every question about whole requests, whatever the mode."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from servesat import Spec, Status
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.deployment.solve import solve
from servesat.questions import break_even, robustness
from servesat.questions.explain import answer
from servesat.questions.why_not import Decisions, why_not
from tests.whole_requests import HARD, PAIRED, in_mode, plan_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("slo", "search", "requirement", "key"),
    [
        ({"ttft_ms": 100}, {}, "ttft", "slo.ttft_ms"),
        ({"e2e_ms": 500}, {}, "e2e", "slo.e2e_ms"),
        ({"stall_ms": 2}, {}, "stall", "slo.stall_ms"),
        ({}, {"min_batch": 2000}, "min_batch", "search.min_batch"),
    ],
)
def test_a_limit_on_requests_is_corrected_to_the_first_value_that_has_a_plan(
    slo: dict[str, Any], search: dict[str, Any], requirement: str, key: str
) -> None:
    spec = Spec.load({**HARD, "slo": slo, "search": {**HARD["search"], **search}})
    result = answer(spec)
    assert result.status is Status.INFEASIBLE
    assert any(requirement in members for members in result.conflict or ())
    (change,) = next(one.changes for one in result.corrections if one.changes[0].requirement == requirement)
    assert change.key == key
    enough = solve(spec.changed({key: change.value}))
    assert enough.status is Status.OPTIMAL
    nearer = change.value * (1 - 1e-6) if key.startswith("slo") else int(change.value) + 1
    assert solve(spec.changed({key: nearer})).status is Status.INFEASIBLE


@pytest.mark.slow
def test_every_question_has_an_answer_for_whole_requests(tmp_path: Path) -> None:
    spec = Spec.load({**HARD, "search": {"chips": ["tpu-v5e", "h100-sxm"]}, "slo": {"ttft_ms": 3000}})
    result = answer(spec, top=3)
    assert result.plan is not None
    assert len(result.alternatives) == 3
    assert result.alternatives[0] == result.plan
    costs = [plan.usd_per_million_output_tokens for plan in result.alternatives]
    assert costs == sorted(costs)
    assert {value.requirement for value in result.limit_values} >= {"ttft", "hbm"}
    comparison = why_not(spec, Decisions(chip="h100-sxm", batch=8))
    assert comparison.alternative.plan is not None
    assert (comparison.alternative.plan.chip, comparison.alternative.plan.batch) == ("h100-sxm", 8)


def test_the_best_disaggregated_plans_are_those_of_each_chip() -> None:
    spec = Spec.load({**PAIRED, "slo": {"tpot_ms": 3}})
    found = answer(spec, top=3, distinct="chip").alternatives
    assert [plan.chip for plan in found] == ["tpu-v5e", "h100-sxm"]
    by_layout = answer(spec, top=4, distinct="layout").alternatives
    pairs = [(layout.chip, layout.topology, layout.tp_axes, layout.weights, layout.prefill) for layout in by_layout]
    assert len(set(map(str, pairs))) == 4
    costs = [plan.usd_per_million_output_tokens for plan in by_layout]
    assert all(one <= other * (1 + 1e-6) for one, other in pairwise(costs))


def test_what_keeps_a_disaggregated_plan_from_a_cheaper_one_says_what_it_would_save() -> None:
    for limit, requirement in (({"search.max_chips": 8}, "chips"), ({"search.max_usd_per_hour": 12.0}, "budget")):
        result = answer(Spec.load(PAIRED).changed(limit))
        saving = {value.requirement: value.saves_fraction for value in result.limit_values}
        (relaxation,) = result.relaxations
        assert (relaxation.requirement, relaxation.saves_fraction) == (requirement, pytest.approx(saving[requirement]))
        assert relaxation.saves_fraction > 0.01
        assert result.binding == ()  # 5 chips at $6 an hour leave room for another slice of either pool


def test_throughput_and_chips_of_two_pools_conflict_and_are_corrected_to_the_fewest() -> None:
    spec = Spec.load(PAIRED).changed({"slo.min_tokens_per_s": 20_000, "search.max_chips": 6})
    result = answer(spec)
    assert result.conflict == (("chips", "throughput"),)
    found = {one.changes[0].requirement: one.changes[0].value for one in result.corrections}
    assert found["chips"] == 9
    assert solve(spec.changed({"search.max_chips": 9})).status is Status.OPTIMAL
    assert solve(spec.changed({"search.max_chips": 8})).status is Status.INFEASIBLE


@pytest.mark.slow
def test_the_break_even_price_of_a_pair_is_where_its_cost_is_met() -> None:
    spec = Spec.load({**PAIRED, "slo": {"tpot_ms": 2}})
    rival = plan_of(spec.changed({"search.chips": ["tpu-v5e"]})).usd_per_million_output_tokens
    alone = spec.changed({"search.chips": ["h100-sxm"]})
    price = break_even._Search(alone, "h100-sxm").winning_price(rival)
    for factor, wins in ((0.999, True), (1.001, False)):
        plan = plan_of(alone.changed({"price.h100-sxm": price * factor}))
        assert (plan.usd_per_million_output_tokens < rival) is wins
    overtakes = why_not(spec, Decisions(chip="h100-sxm")).break_even_usd_per_chip_hour
    assert overtakes is not None
    assert overtakes == pytest.approx(price)
    for factor, own in ((0.999, "h100-sxm"), (1.001, "tpu-v5e")):
        assert plan_of(spec.changed({"price.h100-sxm": overtakes * factor})).chip == own


@pytest.mark.parametrize("mode", ["interleaved", "chunked", "decode_only"])
def test_errors_touch_prefill_too(mode: str) -> None:
    """A machine 20 % slower throughout costs 20 % more a token, whatever it does."""
    spec = Spec.load(in_mode(mode, max_batch=2, chunk_tokens=[512]))
    layouts = enumerate_layouts(spec)
    slower = robustness._with_errors(layouts, 1.2, 1.0)
    usd, more = robustness._cost_of_each(spec, layouts), robustness._cost_of_each(spec, slower)
    served = np.isfinite(usd)
    assert served.any()
    np.testing.assert_allclose(more[served] / usd[served], 1.2, rtol=1e-9)
