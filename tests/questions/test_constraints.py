"""Questions about specs with constraints, against enumeration under the same constraints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import Requirement, Spec, SpecError, Status, what_if
from servesat.deployment.certificate import certify, write_certificate
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.deployment.verification import verify
from servesat.questions.cost_of_limits import limit_values
from servesat.questions.explain import answer
from servesat.questions.k_best import Distinct, alternatives
from servesat.questions.pareto import trace_frontier
from servesat.questions.robustness import assess_robustness
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
        expected = oracle.frontier(oracle.enumerate_plans(raw), axes)
        found = trace_frontier(spec, axes)
        points = sorted((plan.tpot_ms, plan.usd_per_million_output_tokens) for plan in found.points)
        assert found.status is (Status.OPTIMAL if expected else Status.INFEASIBLE)
        assert points == [pytest.approx(score, rel=1e-8) for score in sorted(next(iter(expected.values()), []))]


@pytest.mark.slow
@FEW
@given(specs(), constraints())
def test_what_each_constraint_costs_is_the_optimum_without_it(raw: dict[str, Any], stated: list[Constraint]) -> None:
    with constrained(raw, stated) as spec:
        result = solve(spec)
        assume(result.plan is not None)
        assert result.plan is not None
        values = {value.requirement: value for value in limit_values(spec, result, Settings())}
    for one in stated:
        others = [other for other in stated if other is not one]
        best, _ = oracle.settled(enumerated(PLANS(raw), others), oracle.best)
        cost = result.plan.usd_per_million_output_tokens
        assert values[one.text].saves_usd_per_million_output_tokens == pytest.approx(
            cost - best["usd"], abs=3e-6 * cost
        )


@pytest.mark.soak
@FEW
@given(specs(), st.integers(1, 8), st.integers(1, 40))
def test_a_constraint_that_sets_a_limit_is_moved_no_further_than_needed(
    raw: dict[str, Any], tp: int, least: int
) -> None:
    spec = Spec.load({**raw, "constraints": [f"tp >= {tp}", f"batch >= {least}"]})
    plans = [plan for plan, violated in PLANS(raw) if not violated]
    ways = {id(plan): _ways(plan) for plan in plans}
    assume(plans and not any(ways[id(plan)] >= tp and plan["batch"] >= least for plan in plans))
    result = answer(spec)
    assert result.status is Status.INFEASIBLE
    moved = {one.changes[0].value for one in result.corrections if len(one.changes) == 1}
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
    assert set(what_if(spec, {"slo.tpot_ms": [20, 60]}).to_pandas()["batch"] % 8) == {3}
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


CHAT = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 4096}, "slo": {"tpot_ms": 40}}


def test_a_varied_price_is_paid_where_it_was() -> None:
    spec = {**CHAT, "search": {"chips": ["h100-sxm", "rtx-6000-ada"]}, "constraints": ["cloud in [aws, verda]"]}
    asked = Spec.load(spec)
    offer = asked.offers[1]
    assert offer.price is not None
    varied = asked.changed({"price.rtx-6000-ada": 0.5})
    assert solve(asked).plan == solve(asked.changed({"price.rtx-6000-ada": offer.usd_per_chip_hour})).plan
    plan = solve(varied).plan
    assert plan is not None
    assert (plan.chip, plan.bills[0].cloud, plan.usd_per_chip_hour) == ("rtx-6000-ada", offer.price.cloud, 0.5)
    own = solve({**spec, "price": {"rtx-6000-ada": 0.5}}).plan  # a price of one's own is of no cloud
    assert own is not None
    assert own.chip == "h100-sxm"


def test_a_product_with_a_difference_may_grow_either_way() -> None:
    """Taken for growing, `(4 - tp) * batch` gave two conflicts, one of which had a plan."""
    spec = {
        **CHAT,
        "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x1"]}},
        "constraints": [
            "(4 - tp) * batch + hbm_used_fraction <= -31",
            "(4 - tp) * batch + hbm_used_fraction >= -33",
            "tp == 8",
            "weights == fp8",
        ],
    }
    assert solve(spec).conflict == (("weights == fp8",),)
    plan = solve({**spec, "constraints": spec["constraints"][:3]}).plan
    assert plan is not None
    assert (plan.tp, plan.batch) == (8, 8)


def test_many_conditions_on_the_batch_take_no_more_memory_than_every_batch() -> None:
    conditions = [f"batch % {k} == {k - 1}" for k in range(2, 12)]
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}, "max_batch": 512}
    result = solve({**CHAT, "search": search, "constraints": conditions})
    assert result.status is Status.INFEASIBLE
    in_conflict = {frozenset(members) for members in result.conflict or ()}
    assert frozenset(conditions[-1:]) not in in_conflict  # batch 10 is one below a multiple of 11
    assert all(len(members) > 1 for members in in_conflict)


@pytest.mark.soak
def test_an_infeasible_answer_stays_one_where_its_corrections_are_too_many_to_tabulate() -> None:
    result = answer(
        {
            "cost_model": "ideal",
            "model": "llama-3-70b",
            "workload": {"prompt_tokens": 1024, "output_tokens": 256, "requests_per_s": 5},
            "slo": {"tpot_ms": 30},
            "search": {"chips": ["h100-sxm"], "modes": ["interleaved"], "max_batch": 256},
            "constraints": ["tokens_per_s >= 1000000"],
        }
    )
    assert result.status is Status.INFEASIBLE
    assert ("tokens_per_s >= 1000000",) in (result.conflict or ())


def test_a_constraint_on_slices_compares_pools_that_match_in_pace() -> None:
    """With four slices of the smaller pool at most, five slices were said to cost $27.21 at least."""
    spec = Spec.load("examples/llama-3-70b-prefill-and-decode.yaml").constrained(["slices == 5"])
    assert any("16 slices of the smaller one" in note for note in spec.notes)
    plan = solve(spec).plan
    assert plan is not None
    assert plan.prefill is not None
    assert plan.slices == 5
    assert plan.prefill.slices in (20, 21)
    assert plan.usd_per_million_output_tokens <= 12.75


@pytest.mark.parametrize(
    ("constraint", "complaint"),
    [
        ("slo.tpotms >= tpot_ms", "slo.tpotms: no such key of the spec; did you mean 'tpot_ms'"),
        ("slo.tpot_ms.real == 40", "slo.tpot_ms.real: no such key"),
        ("search == 1", "search is not a number"),
        ("slo.ttft_ms >= tpot_ms", "slo.ttft_ms is not given"),
        ("batch / workload.prefix_cache_hit > 1", "divides by workload.prefix_cache_hit, which is 0"),
    ],
)
def test_a_key_without_a_number_is_named(constraint: str, complaint: str) -> None:
    with pytest.raises(SpecError) as fault:
        Spec.load({**CHAT, "constraints": [constraint]})
    assert "constraints.0 = " in str(fault.value)
    assert complaint in str(fault.value)


def test_a_mode_that_is_asked_for_is_no_dearer_than_the_search_of_it_alone() -> None:
    """A chunk that holds the prompt is as interleaved, and left out beside it: but not where the mode is named."""
    spec = {
        "cost_model": "ideal", "model": "llama-3.1-8b", "workload": {"prompt_tokens": 1000, "output_tokens": 200},
        "slo": {"tpot_ms": 20, "ttft_ms": 800}, "search": {"chips": ["h100-sxm"]}, "price": {"h100-sxm": 3.0},
    }  # fmt: skip
    asked = solve({**spec, "constraints": ["mode == chunked"]}).plan
    alone = solve({**spec, "search": {"chips": ["h100-sxm"], "modes": ["chunked"]}}).plan
    assert asked is not None
    assert alone is not None
    assert (asked.chunk_tokens, asked.batch) == (alone.chunk_tokens, alone.batch)


def test_an_upper_limit_on_throughput_is_kept_by_smaller_batches() -> None:
    """At its largest batch every layout has more, on the fewest slices."""
    spec = {
        "model": "llama-3.1-8b", "cost_model": "ideal",
        "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 3.0},
        "search": {"chips": ["h100-sxm", "l40s"], "max_batch": 64},
    }  # fmt: skip
    costs = []
    for limit in ("tokens_per_s <= 302", "tokens_per_s * 1 <= 302", "tokens_per_s < 302"):
        plan = solve(Spec.load({**spec, "constraints": [limit]})).plan
        assert plan is not None
        assert plan.tokens_per_s <= 302
        costs.append(plan.usd_per_million_output_tokens)
    assert costs == pytest.approx([costs[0]] * 3)
