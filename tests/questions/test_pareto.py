"""Frontiers against enumeration, to the last point, and each point against CP-SAT under its own limit."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec, SpecError, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.pareto import AXES, trace_frontier
from tests import strategies
from tests.helpers import searching, spec_of
from tests.oracles import deployment as oracle
from tests.strategies import examples

GROUPS = {
    None: lambda plan: None,
    "chip": lambda plan: plan["chip"],
    "topology": lambda plan: (plan["chip"], plan["topology"]),
}


@pytest.mark.slow
@examples(60)
@given(
    strategies.specs(),
    st.lists(st.sampled_from(sorted(set(AXES) - {"ttft_ms"})), min_size=2, max_size=3, unique=True),
    st.sampled_from(list(GROUPS)),
)
def test_a_frontier_is_that_of_enumeration(spec: dict[str, Any], axes: list[str], by: str | None) -> None:
    found = trace_frontier(spec, axes, by)
    enumerated = list(oracle.enumerate_plans(spec))
    expected = oracle.frontier(enumerated, axes, GROUPS[by])
    if not expected:
        assert found.status is Status.INFEASIBLE
        assert {frozenset(map(str, members)) for members in found.conflict or ()} == oracle.settled(
            enumerated, oracle.best
        )[1]
        return
    points: dict[Any, list[tuple[float, ...]]] = {}
    for plan in found.points:
        group = {None: None, "chip": plan.chip, "topology": (plan.chip, plan.topology)}[by]
        # to ten digits, as the oracle has them: what is flat in theory differs in the last ones, and would sort by them
        scores = tuple(float(f"{oracle.WANTED.get(axis, 1) * getattr(plan, axis):.9e}") for axis in axes)
        points.setdefault(group, []).append(scores)
    assert set(points) == set(expected)
    for group, found_scores in points.items():
        np.testing.assert_allclose(sorted(found_scores), expected[group], rtol=2e-9)


@pytest.mark.parametrize("context", [2048, 8192, 32768])
def test_each_point_is_what_cp_sat_proves_cheapest_within_its_tpot(context: int) -> None:
    spec = searching(weights=["int8", "int4"]).changed({"workload.context_tokens": context})
    points = trace_frontier(spec).points
    assert len(points) >= 9
    for point in points:
        plan = solve(spec.changed({"slo.tpot_ms": point.tpot_ms})).plan
        assert plan is not None
        cost = plan.usd_per_million_output_tokens
        assert point.usd_per_million_output_tokens <= cost <= point.usd_per_million_output_tokens * (1 + 1e-6)
    # between two neighbours nothing is cheaper than the faster one
    for point, following in pairwise(points):
        between = solve(spec.changed({"slo.tpot_ms": following.tpot_ms * (1 - 1e-6)})).plan
        assert between is not None
        assert between.usd_per_million_output_tokens == pytest.approx(point.usd_per_million_output_tokens, rel=1e-6)


def test_405b_under_15_ms_is_sorted_by_the_first_axis_and_ends_at_its_optimum() -> None:
    spec = spec_of(model="llama-3-405b", slo={"tpot_ms": 15})
    found = trace_frontier(spec)
    times = [plan.tpot_ms for plan in found.points]
    assert times == sorted(times)
    assert found.points[-1] == solve(spec).plan
    by_cost = trace_frontier(spec, ["usd_per_million_output_tokens", "tpot_ms"]).points
    assert list(by_cost) == list(found.points)[::-1]


def test_equal_figures_are_one_point_the_first_by_the_order_of_ties() -> None:
    # 16 chips as two replicas serve a token for what 8 do; the smaller slice stands for both
    found = trace_frontier(searching(topologies={"tpu-v5e": ["2x4", "4x4"]}))
    assert len({(plan.tpot_ms, plan.usd_per_million_output_tokens) for plan in found.points}) == len(found.points)
    assert all(plan.replicas == 1 for plan in found.points)


@pytest.mark.parametrize("axes", [["tpot_ms"], ["tpot_ms", "tpot_ms"], ["tpot_ms", "chips", "batch", "usd_per_hour"]])
def test_two_or_three_different_axes(axes: list[str]) -> None:
    with pytest.raises(SpecError, match="expected two or three different ones"):
        trace_frontier(spec_of(), axes)


def test_an_unknown_axis_is_named_with_its_nearest() -> None:
    with pytest.raises(SpecError, match="axis 'tpot': no such figure; did you mean 'tpot_ms'"):
        trace_frontier(spec_of(), ["tpot", "chips"])


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": "llama-3-8b",
            "workload": {"context_tokens": 4096},
            "search": {"chips": ["tpu-v6e"]},
        }
    )
    whole = trace_frontier(spec, ["tpot_ms", "usd_per_million_output_tokens", "chips"])
    monkeypatch.setattr("servesat.candidates.evaluation.TABLE_BLOCK", 500)
    blocks = trace_frontier(spec, ["tpot_ms", "usd_per_million_output_tokens", "chips"])
    assert (blocks.points, blocks.compared) == (whole.points, whole.compared)


def test_a_group_that_is_none_is_refused() -> None:
    with pytest.raises(SpecError, match="by = 'nope': expected chip or topology"):
        trace_frontier(spec_of(), by="nope")


def test_a_time_limit_that_strikes_leaves_the_frontier_exact() -> None:
    assert trace_frontier(spec_of(), settings=Settings(time_limit_s=1e-9)).points == trace_frontier(spec_of()).points


def test_more_plans_than_can_be_compared_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("servesat.candidates.evaluation.MAX_TABLE", 100)
    with pytest.raises(SpecError, match="plans to compare, expected at most 100; narrow the search"):
        trace_frontier(spec_of())


def test_the_time_to_the_first_token_is_traded_where_there_is_one() -> None:
    whole = Spec.load(
        {"cost_model": "ideal", "model": "llama-3-70b", "workload": {"prompt_tokens": 8192, "output_tokens": 512}}
    )
    points = trace_frontier(whole, ["ttft_ms", "usd_per_million_output_tokens"]).points
    assert all(point.mode != "disaggregated" for point in points)
    for point in points[:: max(1, len(points) // 8)]:
        limited = whole.changed({"slo.ttft_ms": point.ttft_ms, "search.modes": ["interleaved", "chunked"]})
        plan = solve(limited).plan
        assert plan is not None
        assert plan.usd_per_million_output_tokens == pytest.approx(point.usd_per_million_output_tokens, rel=2e-6)
    with pytest.raises(SpecError, match="decode_only has no first token"):
        trace_frontier(spec_of(), ["ttft_ms", "chips"])
