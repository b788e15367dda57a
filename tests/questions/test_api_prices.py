"""Beside an API: its price of a request, and the load at which serving a model yourself first pays."""

from math import inf, isinf, nextafter
from typing import Any

import pytest

from servesat import Spec
from servesat.catalogue.api_prices import ApiPrice, published_api_prices
from servesat.catalogue.load import model_ids
from servesat.deployment.solve import solve
from servesat.questions.api_prices import beside_apis, break_even
from servesat.questions.explain import answer
from tests.helpers import toy_spec

QWEN: dict[str, Any] = {"cost_model": "ideal",
    "model": "qwen3-32b", "workload": {"prompt_tokens": 2000, "output_tokens": 300, "requests_per_s": 20},
    "slo": {"tpot_ms": 40}, "headroom": 0.1, "utilisation": 0.8, "price_book": "all", "buy": "instances",
    "search": {"modes": ["interleaved", "chunked"]},
}  # fmt: skip


def test_a_request_costs_its_tokens_and_what_is_cached_less() -> None:
    """1,500 new tokens at $0.40 a million, 500 cached at $0.10, 300 of output at $1.20: 0.0006 + 0.00005 + 0.00036."""
    price = ApiPrice(provider="p", listed_as="m", input=0.4, output=1.2, cached_input=0.1)
    assert price.usd_per_request(1500, 500, 300) == pytest.approx(0.00101)
    assert price.model_copy(update={"cached_input": None}).usd_per_request(1500, 500, 300) == pytest.approx(0.00116)


def test_the_prices_are_of_models_in_the_catalogue() -> None:
    prices = published_api_prices()
    assert set(prices.models) <= set(model_ids())
    for offers in prices.models.values():
        assert len({offer.provider for offer in offers}) == len(offers)
        assert all(0 < offer.input + offer.output < 40 for offer in offers)
        assert all(offer.cached_input is None or offer.cached_input <= offer.input for offer in offers)


def test_the_break_even_load_of_a_toy_by_hand() -> None:
    """One toy chip for $1 an hour pays at its price over the API's price of a request: 1 / 3600 / 0.0001 = 2.78.

    Full, at batch 4,096, it serves more than that.
    """
    spec = toy_spec(workload={"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 3})
    assert break_even(spec, 1e-4) == pytest.approx(1 / 0.36)
    assert break_even(spec, 1e-9) == inf
    assert break_even(spec.constrained(["slices >= 2"]), 1e-4) is None
    assert break_even(spec.changed({"search.modes": ["disaggregated"]}), 1e-4) is None


@pytest.mark.parametrize("change", [{}, {"price_book": "aws-2026-11"}, {"buy": "share"}, {"slo.tpot_ms": 12}])
@pytest.mark.parametrize("usd", [0.0002, 0.001, 0.01])
def test_the_break_even_load_is_the_least_that_pays(change: dict[str, Any], usd: float) -> None:
    """At it the cheapest plan costs what the API does; just below, and at any lower load tried, more."""
    spec = Spec.load(QWEN).changed(change)
    load = break_even(spec, usd)
    assert load is not None
    if isinf(load):
        assert all(_usd(spec, rate) > usd * rate * 3600 for rate in (0.1, 1.0, 10.0, 100.0, 1000.0))
        return
    assert _usd(spec, nextafter(load, inf)) <= usd * load * 3600 * (1 + 1e-6)
    for share in (1 - 1e-6, 0.9, 0.5, 0.1):
        assert _usd(spec, load * share) > usd * load * share * 3600


def _usd(spec: Spec, rate: float) -> float:
    plan = solve(spec.changed({"workload.requests_per_s": rate})).plan
    assert plan is not None
    return plan.usd_per_hour


def test_an_answer_stands_beside_the_apis() -> None:
    result = answer(QWEN, limits=False)
    api = result.api
    assert api is not None
    assert api.checked == "2026-08-21"
    prices = [offer.usd_per_request for offer in api.offers]
    assert prices == sorted(prices)
    assert api.usd_per_hour == pytest.approx(prices[0] * 20 * 3600)
    load = api.break_even_requests_per_s
    assert load is not None
    assert _usd(Spec.load(QWEN), load) == pytest.approx(prices[0] * load * 3600)
    unlisted = answer({**QWEN, "model": "exaone-4.0-32b"}, limits=False)
    assert unlisted.plan is not None
    assert unlisted.api is None
    decoding = Spec.load({"cost_model": "ideal", "model": "qwen3-32b", "workload": {"context_tokens": 2000}})
    plan = solve(decoding).plan
    assert plan is not None
    assert beside_apis(decoding, plan) is None


def test_an_api_stands_beside_means_of_requests_that_differ() -> None:
    workload = {"prompt_tokens": 500, "output_tokens": 300, "requests_per_s": 5, "lengths": {"prompt_cv": 0.5}}
    search, slo = {"chips": ["h200"]}, {"percentile": "mean", "tpot_ms": 50}
    found = answer({"model": "llama-3.3-70b", "workload": workload, "slo": slo, "search": search}, limits=False)
    assert found.plan is not None
    assert found.api is not None
    assert found.api.usd_per_hour == pytest.approx(found.api.offers[0].usd_per_request * 5 * 3600)
