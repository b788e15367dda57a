"""Questions about specs with constraints, against enumeration under the same constraints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import Requirement, Spec, SpecError, Status, answer, solve
from servesat.deployment.certificate import certify, write_certificate
from servesat.deployment.settings import Settings
from servesat.deployment.verification import verify
from servesat.questions.k_best import Distinct, alternatives
from servesat.questions.pareto import trace_frontier
from servesat.questions.robustness import assess_robustness
from servesat.questions.whatif import what_if
from servesat.questions.why_not import Decisions, why_not
from tests.constraints import Constraint, constraints, enumerated
from tests.helpers import spec_of
from tests.oracles import deployment as oracle
from tests.strategies import examples, specs

FEW = examples(6)
PLANS = oracle.enumerate_plans


@contextmanager
def constrained(raw: dict[str, Any], stated: list[Constraint]) -> Iterator[Spec]:
    """The spec under constraints, with an oracle that knows them."""
    try:
        spec = Spec.load({**raw, "constraints": [one.text for one in stated]})
    except SpecError:  # it names a chip that the spec has not, or is never true
        assume(False)
        raise
    with patch.object(oracle, "enumerate_plans", lambda given: enumerated(PLANS(given), stated)):
        yield spec


@pytest.mark.slow
@examples(20)
@given(specs(), constraints())
def test_the_k_best_chips_under_constraints(raw: dict[str, Any], stated: list[Constraint]) -> None:
    with constrained(raw, stated) as spec:
        expected = oracle.k_best(raw, 3, lambda plan: plan["chip"])
        found = alternatives(spec, 3, Distinct.CHIP)
        assert [(plan.chip, plan.topology, plan.batch) for plan in found] == [
            (plan["chip"], plan["topology"], plan["batch"]) for plan in expected
        ]


@pytest.mark.slow
@examples(20)
@given(specs(), constraints())
def test_a_frontier_under_constraints(raw: dict[str, Any], stated: list[Constraint]) -> None:
    axes = ["tpot_ms", "usd_per_million_output_tokens"]
    with constrained(raw, stated) as spec:
        expected = oracle.frontier(raw, axes)
        found = trace_frontier(spec, axes)
        points = sorted((plan.tpot_ms, plan.usd_per_million_output_tokens) for plan in found.points)
        assert found.status is (Status.OPTIMAL if expected else Status.INFEASIBLE)
        assert points == [pytest.approx(score, rel=1e-8) for score in sorted(next(iter(expected.values()), []))]


@pytest.mark.slow
@FEW
@given(specs(), constraints())
def test_what_each_constraint_costs_is_the_optimum_without_it(raw: dict[str, Any], stated: list[Constraint]) -> None:
    with constrained(raw, stated) as spec:
        result = answer(spec)
        assume(result.plan is not None)
        assert result.plan is not None
        values = {value.requirement: value for value in result.limit_values}
    for one in stated:
        others = [other for other in stated if other is not one]
        best, _ = oracle.settled(enumerated(PLANS(raw), others), oracle.best)
        cost = result.plan.usd_per_million_output_tokens
        assert values[one.text].saves_usd_per_million_output_tokens == pytest.approx(
            cost - best["usd"], abs=3e-6 * cost
        )


@pytest.mark.slow
@FEW
@given(specs(), st.integers(1, 8), st.integers(1, 40))
def test_a_constraint_that_sets_a_limit_is_moved_no_further_than_needed(
    raw: dict[str, Any], tp: int, least: int
) -> None:
    spec = Spec.load({**raw, "constraints": [f"tp >= {tp}", f"batch >= {least}"]})
    plans = [plan for plan, violated in PLANS(raw) if not violated]
    result = answer(spec)
    assume(result.status is Status.INFEASIBLE and plans)
    moved = {one.changes[0].value for one in result.corrections if len(one.changes) == 1}
    ways = {id(plan): _ways(plan) for plan in plans}
    enough = [plan for plan in plans if ways[id(plan)] >= tp]
    if enough:
        assert f"batch >= {max(plan['batch'] for plan in enough)}" in moved
    large = [ways[id(plan)] for plan in plans if plan["batch"] >= least]
    if large:
        assert f"tp >= {max(large)}" in moved


def _ways(plan: dict[str, Any]) -> int:
    sizes, ways = [int(side) for side in plan["topology"].split("x")], 1
    for axis in plan["tp_axes"]:
        ways *= sizes[axis]
    return ways


def test_every_question_holds_the_constraints(tmp_path: Path) -> None:
    spec = spec_of(constraints=["batch % 8 == 3", "tp <= 8"], search={"chips": ["tpu-v5e", "tpu-v6e"]})
    result = answer(spec, top=3)
    assert result.plan is not None
    plans = [result.plan, *result.alternatives, *(summary.plan for summary in result.slices if not summary.violated)]
    plans += [survival.plan for survival in assess_robustness(spec, 0.1, samples=5).survivals]
    plans += [found.plan for found in (why_not(spec, Decisions(chip="tpu-v6e")).alternative,) if found.plan]
    plans += trace_frontier(spec).points
    assert len(plans) > 8
    assert {plan.batch % 8 for plan in plans} == {3}
    assert max(plan.tp for plan in plans) <= 8
    assert set(what_if(spec, {"slo.tpot_ms": [20, 60]})["batch"] % 8) == {3}
    write_certificate(certify(spec, result, Settings()), tmp_path / "certificate.json")
    assert verify(tmp_path / "certificate.json").failed == ()


def test_conflicts_mix_constraints_and_limits() -> None:
    result = answer(spec_of(constraints=["tp <= 2", "batch >= 3"], slo={"tpot_ms": 5}, search={"chips": ["tpu-v5e"]}))
    assert result.status is Status.INFEASIBLE
    assert result.conflict is not None
    assert any({"tp <= 2"} < set(members) and len(members) > 1 for members in result.conflict)
    moved = [change.value for one in result.corrections for change in one.changes]
    assert any(str(value).startswith("tp <= ") for value in moved)


def test_a_limit_binds_beside_a_constraint() -> None:
    result = solve(spec_of(constraints=["batch <= 60"]))
    assert result.plan is not None
    assert result.plan.batch == 60
    assert result.binding == ("batch <= 60",)
    assert Requirement.HBM not in result.binding
