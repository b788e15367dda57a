"""The offers worth trying: none is left out that could be part of a best plan, and none is kept that could not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec
from servesat.candidates.undominated_offers import held_slices
from servesat.catalogue.chip import chips_in
from servesat.catalogue.load import model_ids
from servesat.deployment.solve import solve
from tests.strategies import examples

CHAT: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "llama-3-8b",
    "workload": {"prompt_tokens": 2000, "output_tokens": 300},
}
ONE_POOL = {"modes": ["interleaved"]}


def book(*offers: tuple[str, str, int, float], **fields: Any) -> dict[str, Any]:
    """A price book of instances of H100: (cloud, region, chips, dollars an hour) each."""
    return {
        "name": "test",
        "instances": {
            f"m{number}": {"chip": "h100-sxm", "chips": chips, "source": "test", **fields}
            for number, (_, _, chips, _) in enumerate(offers)
        },
        "offers": [
            {
                "instance": f"m{number}", "cloud": cloud, "source": "test",
                "usd_per_instance_hour": {region: usd} if region else usd,
            }
            for number, (cloud, region, _, usd) in enumerate(offers)
        ],
    }  # fmt: skip


def kept(spec: dict[str, Any], topology: str) -> list[str]:
    return [each.offer.place[3] for each in held_slices(Spec.load({**CHAT, **spec})) if each.topology == topology]


def test_the_cheapest_offer_that_holds_a_slice_is_left() -> None:
    prices = book(("a", "east", 1, 2.0), ("a", "west", 1, 3.0), ("b", "east", 8, 20.0), ("b", "east", 8, 24.0))
    share = {"price_book": prices, "search": ONE_POOL}
    assert kept(share, "1x1") == ["m0"]
    assert kept(share, "8x1") == ["m2"]


def test_larger_instances_stay_where_they_cost_less_a_chip() -> None:
    """One chip for $2; 8 for $12, which is less for 7 and more for 1; 4 for $8, which is as much as 4 of one."""
    prices = book(("a", "east", 1, 2.0), ("b", "east", 8, 12.0), ("a", "east", 4, 8.0))
    assert kept({"price_book": prices, "buy": "instances", "search": ONE_POOL}, "1x1") == ["m1", "m0"]
    assert kept({"price_book": prices, "buy": "instances", "search": ONE_POOL}, "4x1") == ["m1", "m2"]


def test_a_throughput_keeps_the_offers_that_hold_more() -> None:
    """Without a demand a plan is one unit: 8 chips put out what one does not, at more a chip."""
    prices = book(("a", "east", 1, 2.0), ("b", "east", 8, 24.0))
    spec = {**CHAT, "price_book": prices, "buy": "instances", "search": {**ONE_POOL, "topologies": {"h100-sxm": "1x1"}}}
    one = solve(spec).plan
    assert one is not None
    assert (one.slices, one.usd_per_hour) == (1, 2.0)
    eight = solve({**spec, "slo": {"min_tokens_per_s": 5 * one.tokens_per_s}}).plan
    assert eight is not None
    assert (eight.slices, eight.usd_per_hour) == (8, 24.0)


def test_a_network_that_is_not_stated_is_that_of_the_chip() -> None:
    """The dearer machines' network is not stated, and then as fast as an H100's: the only pools in time."""
    slow, fast = book(("a", "east", 8, 16.0), network_bytes_per_s=8e9), book(("a", "east", 8, 24.0))
    both = {
        "name": "test",
        "instances": {"slow": slow["instances"]["m0"], "fast": fast["instances"]["m0"]},
        "offers": [{**slow["offers"][0], "instance": "slow"}, {**fast["offers"][0], "instance": "fast"}],
    }
    search = {"modes": ["disaggregated"], "topologies": {"h100-sxm": "1x1"}, "weights": "int8", "kv_cache": "int8"}
    pools = {**CHAT, "price_book": both, "search": search}
    assert [each.offer.place[3] for each in held_slices(Spec.load(pools))] == ["slow", "fast"]
    plan = solve(pools).plan
    assert plan is not None
    assert plan.instance == "slow"
    limited = solve({**pools, "slo": {"ttft_ms": (plan.ttft_ms or 0.0) - (plan.transfer_ms or 0.0) / 2}}).plan
    assert limited is not None
    assert limited.instance == "fast"


def test_a_constraint_keeps_the_offers_that_it_tells_apart() -> None:
    prices = book(("a", "east", 1, 2.0), ("a", "west", 1, 3.0), ("b", "east", 1, 4.0))
    spec = {"price_book": prices, "search": ONE_POOL}
    assert kept({**spec, "constraints": "region != east"}, "1x1") == ["m0", "m1"]
    assert kept({**spec, "constraints": "cloud == b"}, "1x1") == ["m0", "m2"]
    assert kept({**spec, "constraints": "usd_per_hour >= 3.5"}, "1x1") == ["m0", "m1", "m2"]
    assert kept({**spec, "constraints": "usd_per_hour <= 3.5"}, "1x1") == ["m0"]
    plan = solve({**CHAT, **spec, "constraints": ["region != east", "usd_per_hour >= 3.0"]}).plan
    assert plan is not None
    assert (plan.region, plan.usd_per_chip_hour) == ("west", 3.0)


def test_a_site_stays_for_pools_where_it_has_the_best_of_some_offer() -> None:
    """West is dearer for both; north is dearer for one chip and cheaper for eight."""
    prices = book(
        ("a", "east", 1, 2.0), ("a", "east", 8, 20.0), ("a", "west", 1, 2.5), ("a", "west", 8, 21.0),
        ("a", "north", 1, 2.2), ("a", "north", 8, 16.0),
    )  # fmt: skip
    pools = {"price_book": prices, "buy": "instances", "search": {"modes": ["disaggregated"]}}
    regions = {each.offer.place[1] for each in held_slices(Spec.load({**CHAT, **pools}))}
    assert regions == {"east", "north"}


@pytest.mark.parametrize("model", model_ids())
def test_no_plan_of_one_pool_is_bought_as_an_offer_that_cannot_hold_it(model: str) -> None:
    is_held({"cost_model": "ideal", "model": model, "buy": "instances", "search": {"modes": ["interleaved"]}})


@pytest.mark.slow
@examples(30)
@given(
    st.sampled_from(model_ids()),
    st.sampled_from(["share", "instances"]),
    st.sampled_from([0.5, 30.0, 2000.0]),
    st.sampled_from([["on_demand"], ["spot"], ["reserved", "on_demand"]]),
)
def test_no_plan_is_bought_as_an_offer_that_cannot_hold_it(
    model: str, buy: str, requests_per_s: float, purchase: list[str]
) -> None:
    lengths = {"prompt_tokens": 500, "output_tokens": 100, "requests_per_s": requests_per_s}
    is_held({"cost_model": "ideal", "model": model, "buy": buy, "workload": lengths, "purchase": purchase})


def is_held(given: dict[str, Any]) -> None:
    """Over every offer of the catalogue: a slice is inside an instance, or takes whole ones; and the bill adds up."""
    search = {"weights": ["int4", "int8"], "kv_cache": ["int8"], **given.get("search", {})}
    workload = {"prompt_tokens": 500, "output_tokens": 100, "requests_per_s": 30}
    plan = solve({"workload": workload, "price_book": "all", **given, "search": search}).plan
    assert plan is not None
    for side in (plan, plan.prefill):
        if side is None or side.instance is None:
            continue
        bill = next(bill for bill in plan.bills if bill.instance == side.instance)
        assert bill.instance_chips is not None
        chips = chips_in(side.topology)
        assert chips <= bill.instance_chips or chips % bill.instance_chips == 0
        if given["buy"] == "instances":
            assert isinstance(bill.instances, int)
            assert bill.chips == bill.instances * bill.instance_chips >= bill.chips_used
    paid = [
        bill.usd_per_instance_hour * bill.instances
        if isinstance(bill.instances, int) and bill.usd_per_instance_hour is not None
        else bill.usd_per_chip_hour * bill.chips
        for bill in plan.bills
    ]
    assert plan.usd_per_hour == pytest.approx(sum(paid), rel=1e-9)
