"""What a limit costs, against enumeration without it."""

from typing import Any

import pytest
from hypothesis import assume, given

from servesat import Requirement
from servesat.candidates.rule import REQUIREMENT_BIT
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from tests import strategies
from tests.helpers import ON_32_CHIPS, nearly_flat
from tests.oracles import deployment as oracle
from tests.questions.limits import KEYS, with_key
from tests.strategies import SOME


@pytest.mark.soak
@SOME
@given(strategies.specs())
def test_a_limit_costs_what_solving_without_it_saves(spec: dict[str, Any]) -> None:
    result = answer(spec)
    assume(result.plan is not None)
    assert result.plan is not None
    values = {str(value.requirement): value for value in result.limit_values}
    for requirement, (part, key) in KEYS.items():
        if spec.get(part, {}).get(key) is None:
            assert requirement not in values
            continue
        free, _ = oracle.solve(with_key(spec, requirement, None))
        assert free is not None
        cost = result.plan.usd_per_million_output_tokens
        saved = cost - free["usd"]
        tie = 2e-6 * cost
        assert values[requirement].saves_usd_per_million_output_tokens == pytest.approx(saved, abs=tie)
        if values[requirement].saves_fraction:
            used = {
                "tpot": free["step_s"] * 1e3, "chips": free["chips"],
                "budget": free["usd_per_hour"], "throughput": free["tokens_per_s"],
            }[requirement]  # fmt: skip
            assert values[requirement].relaxed_to == pytest.approx(used, rel=1e-9)


def test_without_a_throughput_the_fastest_plan_that_ties_counts() -> None:
    """Where cost falls by less than a tie over many batches, the plan without the limit is the smallest of them."""
    free = solve(nearly_flat()).plan
    full = solve(nearly_flat(), batch=4096).plan
    assert free is not None
    assert full is not None
    assert free.batch < 4000
    wanted = nearly_flat(slo={"min_tokens_per_s": full.tokens_per_s})
    assert solve(wanted).plan == full
    assert solve(wanted, relaxed=int(REQUIREMENT_BIT[Requirement.THROUGHPUT])).plan == free


def test_what_headroom_costs() -> None:
    spec = {**ON_32_CHIPS, "search": {**ON_32_CHIPS["search"], "max_chips": 64}, "headroom": 0.5}
    result = answer(spec)
    value = next(one for one in result.limit_values if one.requirement == "hbm")
    free = solve({**spec, "headroom": 0.0}).plan
    assert free is not None
    assert result.plan is not None
    assert value.relaxed_to == pytest.approx(1 - free.hbm_used_fraction)
    assert value.saves_fraction == pytest.approx(
        1 - free.usd_per_million_output_tokens / result.plan.usd_per_million_output_tokens
    )
    assert value.then_binding == ("ici", "chips")  # it takes all 64 chips
