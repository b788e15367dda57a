"""Scenarios that are evaluated together, against a solve of each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec, SpecError, solve
from servesat.questions.scenarios import Factor, Scenarios
from servesat.questions.shared_evaluation import can_share, solve_together
from tests import strategies
from tests.helpers import nearly_flat, searching
from tests.strategies import examples
from tests.whole_requests import small_specs

CHIPS = ["tpu-v5e", "tpu-v6e", "h100-sxm", "gh200"]
PROMPTS = {"prompt_tokens": 1024, "output_tokens": 256}


def agrees(base: Spec, *factors: Factor) -> int:
    """The number of scenarios answered together; each has the answer of `solve`, and a plan."""
    scenarios = Scenarios(factors)
    assert can_share(base, scenarios)
    found = solve_together(base, scenarios, range(len(scenarios)))
    for number, result in found.items():
        alone = solve(scenarios.applied(base, number))
        assert result.status == alone.status == "optimal"
        assert (result.plan, result.binding) == (alone.plan, alone.binding)
    return len(found)


TPOT = Factor("slo.tpot_ms", (6, 9, 15.5, 40))
PRICE = Factor("price.tpu-v5e", (0.1, 0.6, 1.2))


def test_limits_and_prices_of_a_decoding_search() -> None:
    assert agrees(searching(chips=CHIPS), TPOT, PRICE, Factor("price.h100-sxm", (0.5, 4.0))) == 4 * 3 * 2


def test_what_else_varies_makes_groups() -> None:
    """Of three dtypes of weights each has four limits; two of these leave too few to share."""
    base = searching(chips=CHIPS)
    weights = Factor("search.weights", ("int8", ["int8", "int4"], "bf16"))
    assert agrees(base, TPOT, weights) == agrees(base, weights, TPOT) > 8
    assert not can_share(base, Scenarios((weights, Factor("slo.tpot_ms", (10, 20)))))
    assert agrees(base, Factor("slo.tpot_ms", (10, 20)), weights, Factor("price.tpu-v5e", (0.5, 1.0))) > 8


def test_groups_of_other_chips_and_refused_values() -> None:
    base = searching(chips=CHIPS)
    chips = Factor("search.chips", (["tpu-v5e"], ["h100-sxm", "gh200"]))
    assert agrees(base, chips, Factor("slo.tpot_ms", (9, 15.5, 40, 80)), PRICE) > 12
    batches = Factor("search.max_batch", (-1, 64))
    assert set(solve_together(base, Scenarios((batches, TPOT)), range(8))) <= {4, 5, 6, 7}
    whole = Factor("slo", ({"tpot_ms": 10}, {"tpot_ms": 20}))
    assert not can_share(base, Scenarios((whole, TPOT)))


def test_groups_whose_answers_are_replayed_are_left_out() -> None:
    base = searching(chips=["h100-sxm"]).changed(
        {"workload": {**PROMPTS, "requests_per_s": 1}, "search.modes": ["interleaved"], "engine": "vllm"}
    )
    models = Factor("cost_model", ("ideal", "calibrated"))
    limits = Factor("slo.tpot_ms", (20, 30, 40, 50))
    assert set(solve_together(base, Scenarios((models, limits)), range(8))) == {0, 1, 2, 3}


ONE_POOL = {"search.modes": ["interleaved", "chunked"]}


def test_whole_requests_with_one_pool() -> None:
    base = searching(chips=CHIPS).changed({"workload": PROMPTS, **ONE_POOL, "slo.ttft_ms": 2000})
    assert agrees(base, TPOT, PRICE, Factor("slo.e2e_ms", (3000, 9000))) == 4 * 3 * 2


def test_a_demand_and_a_budget() -> None:
    workload = {"workload": {**PROMPTS, "requests_per_s": 10}}
    base = searching(chips=CHIPS).changed({**workload, **ONE_POOL, "search.max_usd_per_hour": 150})
    assert 0 < agrees(base, TPOT, PRICE) <= 12


def test_batches_whose_costs_tie() -> None:
    assert agrees(nearly_flat(), Factor("slo.tpot_ms", (500, 4000)), Factor("price.big", (0.5, 2.0))) == 4


def test_scenarios_that_two_pools_may_win_are_left_out() -> None:
    base = searching(chips=CHIPS).changed({"workload": PROMPTS})
    together = agrees(base, Factor("slo.tpot_ms", (6, 40)), PRICE)
    pooled = [
        solve(base.changed({"slo.tpot_ms": tpot, "price.tpu-v5e": usd})) for tpot in (6, 40) for usd in PRICE.values
    ]
    assert together <= sum(one.plan is not None and one.plan.prefill is None for one in pooled)


def test_scenarios_without_a_plan_and_refused_values_are_left_out() -> None:
    assert agrees(searching(chips=CHIPS), Factor("slo.tpot_ms", (1e-6, 15))) == 1
    for values in ((-1, 15), (15, -1)):
        assert solve_together(searching(), Scenarios((Factor("slo.tpot_ms", values),)), range(2)) == {}


@pytest.mark.parametrize(
    ("factor", "changes"),
    [
        (Factor("slo.tpot_ms", (10, None)), {}),
        (Factor("search.max_chips", (8, 16)), {}),
        (TPOT, {"constraints": ["batch % 8 == 0"]}),
        (
            TPOT,
            {"workload": {**PROMPTS, "requests_per_s": 1}, "cost_model": "calibrated", "search.chips": ["h100-sxm"]},
        ),
        (TPOT, {"workload": PROMPTS, "search.modes": ["disaggregated"]}),
    ],
)
def test_other_scenarios_share_nothing(factor: Factor, changes: dict[str, Any]) -> None:
    assert not can_share(searching(chips=CHIPS).changed(changes), Scenarios((factor,)))


@pytest.mark.slow
@examples(100)
@given(
    strategies.specs() | small_specs(["interleaved", "chunked", "disaggregated"], 64),
    st.lists(st.sampled_from([0.1, 0.5, 1, 3, 20, 400, 1e6]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([0.5, 1, 1.5, 40]), min_size=1, max_size=3, unique=True),
    st.integers(0, 3),
)
def test_random_specs(document: dict[str, Any], limits: list[float], prices: list[float], at: int) -> None:
    try:
        base = Spec.load(document)
    except SpecError:
        return
    factors = [Factor("slo.tpot_ms", tuple(limits)), Factor(f"price.{base.chips[0].id}", tuple(prices))]
    factors[at:at] = [Factor("search.max_batch", (8, 64))] if at < 3 else []
    if can_share(base, Scenarios(tuple(factors))):
        agrees(base, *factors)
