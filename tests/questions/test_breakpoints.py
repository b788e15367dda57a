from typing import Any

import pytest
from hypothesis import given

from servesat import Spec, SpecError, Status
from servesat.deployment.solve import solve
from servesat.questions.breakpoints import BRACKET_RTOL, find_breakpoints
from servesat.questions.why_not import Decisions, why_not
from tests import strategies
from tests.helpers import searching, spec_of
from tests.oracles import deployment as oracle
from tests.strategies import examples

CHAT: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "llama-3-70b",
    "workload": {"context_tokens": 2048},
    "slo": {"tpot_ms": 30},
    "search": {"chips": ["h100-sxm", "tpu-v5e", "tpu-v6e"]},
}


def test_a_price_breaks_where_why_says_that_the_chip_wins() -> None:
    (change,) = find_breakpoints(CHAT, "price.h100-sxm", [1, 7])
    wins_below = why_not(Spec.load(CHAT), Decisions(chip="h100-sxm")).break_even_usd_per_chip_hour
    assert change.below == pytest.approx(wins_below, rel=2e-6)  # within the tie band
    assert 0 < change.above - change.below <= BRACKET_RTOL * change.above
    assert change.before.plan is not None
    assert change.after.plan is not None
    assert (change.before.plan.chip, change.after.plan.chip) == ("h100-sxm", "tpu-v6e")


def test_both_sides_are_the_answers_there() -> None:
    base = searching(weights=["int8", "int4"])
    found = find_breakpoints(base, "slo.tpot_ms", [0.1, 3, 10, 30])
    assert len(found) >= 3
    for change in found:
        for value, result in ((change.below, change.before), (change.above, change.after)):
            assert result.status in {Status.OPTIMAL, Status.INFEASIBLE}
            assert solve(base.changed({"slo.tpot_ms": value})).plan == result.plan
    # the first change is from no plan to one: the fastest step there is
    fastest = oracle_fastest()
    assert found[0].before.status is Status.INFEASIBLE
    assert found[0].above == pytest.approx(fastest, rel=2e-9)


def oracle_fastest() -> float:
    """35 GB of int4 weights and 8 sequences of 8,192 tokens over 64 chips [ms]."""
    return 1e3 * (35e9 + 8 * 8192 * 163_840) / (64 * 8.2e11)


def test_whole_numbers_close_in_to_neighbours() -> None:
    base = spec_of(slo={"tpot_ms": 10})
    found = find_breakpoints(base, "workload.context_tokens", [1000, 100_000])
    assert found
    for change in found:
        assert change.above - change.below == 1
        assert isinstance(change.above, int)


@pytest.mark.slow
@examples(25)
@given(strategies.specs())
def test_between_breakpoints_enumeration_finds_the_same_layout(spec: dict[str, Any]) -> None:
    name = spec["search"]["chips"][0]["name"]
    found = find_breakpoints(spec, f"price.{name}", [0.1, 0.7, 5.0, 40.0])
    edges = [0.1, *(value for change in found for value in (change.below, change.above)), 40.0]
    for value in edges:
        plan, _ = oracle.solve({**spec, "price": {name: value}})
        result = solve({**spec, "price": {name: value}})
        assert (result.plan is None) == (plan is None)
        if plan is not None and result.plan is not None:
            assert (result.plan.chip, result.plan.topology, result.plan.weights) == (
                plan["chip"], plan["topology"], plan["weights"],
            )  # fmt: skip


@pytest.mark.parametrize("values", [[10], [10, 10], ["a", "b"], [None, 3], [["l40s"], ["h100-sxm"]]])
def test_two_numbers_at_least(values: list[Any]) -> None:
    with pytest.raises(SpecError, match="two numbers at least"):
        find_breakpoints(spec_of(), "slo.tpot_ms", values)


def test_no_change_is_an_answer() -> None:
    assert find_breakpoints(spec_of(), "price.tpu-v5e", [0.5, 5]) == ()
