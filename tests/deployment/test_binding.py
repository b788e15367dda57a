"""Which limits bind, and what looser ones save, against cases worked by hand."""

from typing import Any

import pytest
from hypothesis import assume, given

from servesat import Requirement, Status
from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Kind, mask_of
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from tests.helpers import spec_of, toy_chip, toy_spec
from tests.oracles import deployment as oracle
from tests.strategies import examples, tight

LIMITS = [name for name, rule in RULES.items() if rule.kind is not Kind.STRUCTURE]


def test_both_limits_bind_that_the_next_batch_breaks() -> None:
    # 70B on 2x4: HBM holds 43.2 sequences; at 44 the step would be (70e9 + 44 · 1.342e9) / (8 · 8.2e11) = 19.67 ms
    search = {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "topologies": {"tpu-v5e": ["2x4"]}}
    result = solve(spec_of(slo={"tpot_ms": 19.6}, search=search))
    assert result.plan is not None
    assert (result.plan.batch, result.plan.tp) == (43, 8)
    assert result.binding == (Requirement.HBM, Requirement.TPOT)
    assert result.relaxations == ()  # one of them alone allows no larger batch


def test_a_limit_with_slack_does_not_bind_but_may_cost() -> None:
    """The slow chip takes 20 ms for a token of any batch; on the fast one only max_batch limits the batch."""
    chips = [toy_chip("slow", hbm_bytes_per_s=1e11, usd_per_chip_hour=0.01), toy_chip("fast")]
    spec = toy_spec(*chips, search={"modes": ["decode_only"], "max_batch": 100}, slo={"tpot_ms": 10})
    result = solve(spec)
    assert result.plan is not None
    assert (result.plan.chip, result.plan.tpot_ms < 9, result.binding) == ("fast", True, ())
    (relaxation,) = result.relaxations
    slow = solve(spec, relaxed=mask_of(Requirement.TPOT)).plan
    assert slow is not None
    assert (relaxation.requirement, relaxation.relaxed_to) == ("tpot", pytest.approx(slow.tpot_ms))
    cheaper, cost = slow.usd_per_million_output_tokens, result.plan.usd_per_million_output_tokens
    assert relaxation.usd_per_million_output_tokens == pytest.approx(cheaper)
    assert relaxation.saves_fraction == pytest.approx(1 - cheaper / cost)


def test_a_limit_that_is_reached_binds_even_where_a_looser_one_saves_nothing() -> None:
    spec = toy_spec(toy_chip(), search={"modes": ["decode_only"], "max_chips": 1, "max_batch": 4})
    result = solve(spec)
    assert (result.binding, result.relaxations) == ((Requirement.CHIPS,), ())


def test_a_budget_binds_that_leaves_no_room_for_another_slice() -> None:
    for budget, binding in ((1.99, (Requirement.BUDGET,)), (2.0, ())):
        spec = toy_spec(toy_chip(), search={"modes": ["decode_only"], "max_usd_per_hour": budget, "max_batch": 4})
        assert solve(spec).binding == binding  # one slice of the chip costs $1 an hour


def test_a_quota_of_nothing_binds() -> None:
    chips = [toy_chip("cheap", usd_per_chip_hour=0.5), toy_chip("dear")]
    spec = toy_spec(*chips, search={"modes": ["decode_only"], "quota": {"cheap": 0}, "max_batch": 100})
    result = solve(spec)
    assert result.binding == (Requirement.QUOTA,)
    (relaxation,) = result.relaxations
    assert (relaxation.requirement, relaxation.relaxed_to) == ("quota", None)
    assert relaxation.saves_fraction == pytest.approx(0.5)


def test_a_rule_that_nothing_relaxes_may_bind_but_saves_nothing() -> None:
    """A step's chunk must keep up with the prompts that arrive: without that, prompts would not be processed."""
    result = answer(toy_spec(search={"modes": ["chunked"], "chunk_tokens": [128]}), limits=True)
    assert result.binding == (Requirement.CHUNK,)
    assert result.relaxations == ()
    assert Requirement.CHUNK not in {value.requirement for value in result.limit_values}


def test_what_nobody_has_measured_is_no_saving() -> None:
    """Int4 weights would be cheaper, but nobody knows what the model loses, so no limit on the loss allows them."""
    spec = spec_of(
        model="gemma-3-27b",
        search={"chips": ["h100-sxm"], "weights": ["bf16", "int4"], "kv_cache": ["bf16"], "max_quality_loss": 0.01},
    )
    assert Requirement.QUALITY not in {relaxation.requirement for relaxation in solve(spec).relaxations}


def test_a_lower_limit_binds_that_the_next_smaller_batch_breaks() -> None:
    # the step grows with the batch, so tpot allows 100 and no more; at 99 too few sequences are served
    free = toy_spec(toy_chip(), search={"modes": ["decode_only"], "max_batch": 100})
    at_100 = solve(free).plan
    assert at_100 is not None
    assert at_100.batch == 100
    bounded = free.changed({"search.min_batch": 100})
    assert solve(bounded).binding == (Requirement.MIN_BATCH,)
    assert solve(free.changed({"search.min_batch": 99})).binding == ()


@pytest.mark.slow
@examples(60)
@given(tight())
def test_relaxations_are_the_optima_without_one_limit(spec: dict[str, Any]) -> None:
    result = solve(spec)
    assume(result.status is Status.OPTIMAL)
    assert result.plan is not None
    plans = list(oracle.enumerate_plans(spec))
    cost = min(plan["usd"] for plan, violated in plans if not violated)
    saving = {one.requirement: one.usd_per_million_output_tokens for one in result.relaxations}
    for name in LIMITS:
        least = min((plan["usd"] for plan, violated in plans if violated == {name}), default=cost)
        assert saving.get(name, cost) == pytest.approx(min(least, cost), rel=3e-6)


@pytest.mark.slow
@examples(60)
@given(tight())
def test_a_limit_binds_if_and_only_if_it_is_reached_or_the_next_batch_breaks_it(spec: dict[str, Any]) -> None:
    result = solve(spec)
    assume(result.plan is not None)
    assert result.plan is not None
    plan = result.plan
    same = {
        found["batch"]: violated
        for found, violated in oracle.enumerate_plans(spec)
        if all(
            found[name] == getattr(plan, name)
            for name in ("chip", "topology", "tp_axes", "ep_axes", "pp_axes", "weights", "draft_tokens")
        )
        and (found["kv_layout"], found["kv_cache"], found["compute"]) == (plan.kv_layout, plan.kv_cache, plan.compute)
    }
    legal = sorted(batch for batch, violated in same.items() if "kv_heads" not in violated)
    at = legal.index(plan.batch)
    above = same[legal[at + 1]] if at + 1 < len(legal) else frozenset()
    below = same[legal[at - 1]] if at else frozenset()
    reached = {
        one.requirement for one in result.margins if one.slack is not None and one.slack <= 1e-6 * (one.limit or 0)
    }
    sized = {"chips", "budget", "quota"}  # which one more slice may break too
    expected = {name for name in LIMITS if name in reached or name in (below if RULES[name].at_least else above)}
    assert set(result.binding) - sized == expected - sized
    assert expected <= set(result.binding)
