"""What slices are bought in: worked cases, and every offer and packing against enumeration."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import SpecError, Status
from servesat.candidates.purchases import Purchase, SharedLimit, Units, no_units
from servesat.deployment.solve import solve
from tests.oracles import purchases as oracle
from tests.strategies import examples
from tests.whole_requests import small_specs


def units(slice_chips: list[int], instance_chips: int, usd: float = 8.0, offer: int = 0) -> Units:
    sizes = np.array(slice_chips)
    whole = np.ones_like(sizes)
    return Units(
        offer=offer * whole,
        slice_chips=sizes,
        slices=np.maximum(instance_chips // sizes, 1),
        chips=np.maximum(instance_chips, sizes),
        instances=np.maximum(sizes // instance_chips, 1),
        usd_per_hour=usd * np.maximum(sizes // instance_chips, 1.0),
    )


def test_slices_of_one_pool_fill_instances() -> None:
    """Of 8 chips: 7 slices of 2 take 2 instances, 3 of 4 take 2, 2 of 16 take 4, and 3 of 3 take 2 (two fit)."""
    purchase = Purchase(units([2, 4, 16, 3], 8), no_units(4))
    count, of_pool = purchase.counted(np.array([7, 3, 2, 3]), np.zeros(4))
    assert (count * purchase.units.instances).tolist() == [2, 2, 4, 2]
    assert of_pool.tolist() == [0, 0, 0, 0]
    assert purchase.usd_per_hour(np.array([7, 3, 2, 3]), np.zeros(4)).tolist() == [16.0, 16.0, 32.0, 16.0]


def test_pools_share_instances_of_one_offer() -> None:
    """3 slices of 2 and 1 of 4 are 10 of 16 chips; of an instance with 6, one of 4 leaves room for one of 2."""
    shared = Purchase(units([2, 2], 8), units([4, 4], 8))
    assert shared.counted(np.array([3, 2]), np.array([1, 1]))[0].tolist() == [2, 1]
    six = Purchase(units([2, 2], 6), units([4, 4], 6))
    assert six.counted(np.array([1, 2]), np.array([1, 1]))[0].tolist() == [1, 2]
    apart = Purchase(units([2], 8), units([4], 8, offer=1))
    assert [count.tolist() for count in apart.counted(np.array([3]), np.array([1]))] == [[1.0], [1.0]]


def test_slices_that_do_not_nest_take_instances_of_their_own() -> None:
    purchase = Purchase(units([2], 8), units([3], 8))
    assert [count.tolist() for count in purchase.counted(np.array([1]), np.array([2]))] == [[1.0], [1.0]]


@pytest.mark.parametrize("instance", [4, 6, 8])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 2), (2, 4), (4, 1), (4, 2), (3, 1), (2, 2)])
def test_what_fits_is_what_packing_by_trial_says(sizes: tuple[int, int], instance: int) -> None:
    """The units of any two numbers of slices, and the most that fit beside a pool, against every filling."""
    purchase = Purchase(units([sizes[0]], instance), units([sizes[1]], instance))
    largest, smallest = max(sizes), min(sizes)
    for slices in range(13):
        for pool_slices in range(7):
            of = {sizes[0]: 0, sizes[1]: 0}
            of[sizes[0]] += slices
            of[sizes[1]] += pool_slices
            pair = (of[largest], of[smallest] if smallest != largest else 0)
            fewest = oracle.packed(instance, largest, pair[0], smallest, pair[1])
            assert purchase.counted(np.array([slices]), np.array([pool_slices]))[0].tolist() == [fewest]
    for count in range(5):
        for pool_slices in range(7):
            most = purchase.slices_within(np.ones(1), np.zeros(1), float(count), pool_slices)[0]
            fits = purchase.counted(np.array([most, most + 1]).T, np.array([pool_slices]))[0]
            assert fits[1] > count
            assert fits[0] <= count or most == 0


def test_a_limit_counts_what_is_bought() -> None:
    """Of at most 20 chips in instances of 8, two instances; 8 slices of 2, of which 2 of 4 take half."""
    purchase = Purchase(units([2], 8), units([4], 8))
    limit = SharedLimit(20, purchase.units.chips, purchase.pool.chips, purchase)
    assert limit.slices_left_by(2).tolist() == [4]
    assert limit.pool_slices_left_by(4).tolist() == [2]
    assert limit.is_exceeded_by(np.array([4]), np.array([2])).tolist() == [False]
    assert limit.is_exceeded_by(np.array([5]), np.array([2])).tolist() == [True]
    none = SharedLimit(
        20, 0 * purchase.units.chips, purchase.pool.chips, Purchase(units([2], 8), units([4], 8, offer=1))
    )
    assert none.slices_left_by(1).tolist() == [np.inf]


def sold(spec: dict[str, Any]):
    """The spec with random offers in place of the prices of its chips."""
    chips = [
        {key: value for key, value in chip.items() if key != "usd_per_chip_hour"} for chip in spec["search"]["chips"]
    ]
    names = [chip["name"] for chip in chips]
    prices = st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 8.0, 9.0])
    usd = st.one_of(prices, st.dictionaries(st.sampled_from(["east", "west"]), prices, min_size=1))

    def instance(number: int):
        return st.fixed_dictionaries(
            {
                "chip": st.sampled_from(names),
                "chips": st.sampled_from([1, 2, 4, 8, 6]),
                "source": st.just("random"),
            },
            optional={
                "network_bytes_per_s": st.sampled_from([1e9, 1e11, 1e13]),
                "link_chips": st.sampled_from([16]),
            },
        ).map(lambda machine: (f"machine{number}", machine))

    def offers(machines: list[tuple[str, dict[str, Any]]]):
        of_machines = [
            st.fixed_dictionaries(
                {
                    "instance": st.just(name),
                    "cloud": st.sampled_from(["alpha", "beta"]),
                    "purchase": st.sampled_from(["on_demand", "on_demand", "spot"]),
                    "usd_per_instance_hour": usd,
                    "source": st.just("random"),
                }
            )
            for name, _ in machines
        ]
        of_chip = st.fixed_dictionaries(
            {
                "chip": st.sampled_from(names),
                "cloud": st.sampled_from(["alpha", "beta"]),
                "purchase": st.just("on_demand"),
                "usd_per_chip_hour": usd,
                "source": st.just("random"),
            }
        )
        some_of_chip = st.lists(of_chip, max_size=1)
        return st.builds(
            lambda listed, by_chip: {
                "name": "random",
                "instances": dict(machines),
                "offers": [*listed, *by_chip],
            },
            st.tuples(*of_machines).map(list),
            some_of_chip,
        )

    book = st.integers(1, 4).flatmap(lambda count: st.tuples(*map(instance, range(count))).map(list)).flatmap(offers)
    how = st.fixed_dictionaries(
        {"buy": st.sampled_from(["instances", "instances", "share"])},
        optional={
            "purchase": st.sampled_from([["on_demand", "spot"], ["spot"]]),
            "cloud": st.sampled_from([["alpha"]]),
            "region": st.sampled_from([["east"]]),
            "spot_capacity": st.sampled_from([0.5, 0.8]),
        },
    )
    limits = st.fixed_dictionaries(
        {}, optional={"max_instances": st.sampled_from([1, 3, 40]), "max_slices": st.sampled_from([2, 5, 60])}
    )

    def put_together(prices: dict[str, Any], bought: dict[str, Any], limit: dict[str, int]) -> dict[str, Any]:
        if bought["buy"] == "share":  # then there are no whole instances to limit
            limit.pop("max_instances", None)
        return {**spec, **bought, "price_book": prices, "search": {**spec["search"], **limit, "chips": chips}}

    return st.builds(put_together, book, how, limits)


def can_be_bought(spec: dict[str, Any]) -> bool:
    """Whether the places that the spec names have a price, and some offer holds some slice."""
    every = list(oracle.offers_in({**spec, "cloud": ["alpha", "beta"], "region": ["east", "west"],
                                   "purchase": ["on_demand", "spot"]}))  # fmt: skip
    places = {offer["cloud"] for offer in every}, {offer["region"] for offer in every}
    named = set(spec.get("cloud", [])) <= places[0] and set(spec.get("region", [])) <= places[1]
    return named and any(oracle.Sold(spec).offers_of(lay) for lay in oracle.Sold(spec).machines)


def agrees(spec: dict[str, Any]) -> None:
    assume(can_be_bought(spec))
    result = solve(spec)
    expected, conflicts = oracle.solve(spec)
    if expected is None:
        assert result.status is Status.INFEASIBLE
        assert {frozenset(map(str, members)) for members in result.conflict or ()} == conflicts
        return
    assert result.status is Status.OPTIMAL
    plan = result.plan
    assert plan is not None
    assume(max(plan.slices, plan.prefill.slices if plan.prefill else 0) <= oracle.MOST)
    assert plan.usd_per_million_output_tokens == pytest.approx(expected["usd"], rel=1e-6)
    assert plan.tpot_ms == pytest.approx(expected["tpot_s"] * 1e3, rel=1e-6)
    assert plan.chips == expected["chips"]
    billed = sum(
        (bill.instances or 0) * bill.usd_per_instance_hour
        if bill.usd_per_instance_hour is not None
        else bill.chips * bill.usd_per_chip_hour
        for bill in plan.bills
    )
    assert billed == pytest.approx(plan.usd_per_hour, rel=1e-9)


@pytest.mark.slow
@examples(60)
@given(small_specs(["interleaved", "chunked"], 8).flatmap(sold))
def test_plans_of_one_pool_are_bought_as_enumerated(spec: dict[str, Any]) -> None:
    spec["search"].setdefault("chunk_tokens", [256, 2000])
    agrees(spec)


CONSTRAINTS = {
    "cloud == alpha": lambda plan: plan["offer"]["cloud"] == "alpha",
    "region != east": lambda plan: plan["offer"]["region"] != "east",
    "instance in (machine0, none)": lambda plan: plan["offer"]["instance"] in {"machine0", None},
    "purchase == on_demand implies slices >= 2": lambda plan: (
        plan["offer"]["purchase"] != "on_demand" or plan["slices"] >= 2
    ),
    "instances == 1": lambda plan: plan["instances"] == 1,
    "instances >= 2 or chips <= 3": lambda plan: plan["instances"] >= 2 or plan["chips"] <= 3,
    "usd_per_hour >= 3": lambda plan: plan["usd_per_hour"] >= 3 - 1e-9,
    "usd_per_hour <= 8": lambda plan: plan["usd_per_hour"] <= 8 + 1e-9,
    "slices % 2 == 0": lambda plan: plan["slices"] % 2 == 0,
}
"""Constraints on what is bought, as the oracle tells them."""

COUNTING = ("slices", "instances", "chips", "usd_per_hour")


@pytest.mark.slow
@examples(60)
@given(
    small_specs(["interleaved"], 6).flatmap(sold),
    st.lists(st.sampled_from(sorted(CONSTRAINTS)), min_size=1, max_size=3, unique=True),
)
def test_constraints_on_what_is_bought_hold_as_enumerated(spec: dict[str, Any], constraints: list[str]) -> None:
    assume(can_be_bought(spec))
    counts = any(name in text for text in constraints for name in COUNTING)
    every = oracle.enumerate_plans({**spec, "any_number": counts})
    plans = [plan for plan, violated in every if not violated and all(CONSTRAINTS[text](plan) for text in constraints)]
    try:
        result = solve({**spec, "constraints": constraints})
    except SpecError:  # a constraint names what no offer of the book has
        return
    if not plans:
        assert result.status is Status.INFEASIBLE
        return
    assert result.plan is not None
    expected = oracle.best(plans)
    assert result.plan.usd_per_million_output_tokens == pytest.approx(expected["usd"], rel=1e-6)
    assert result.plan.tpot_ms == pytest.approx(expected["tpot_s"] * 1e3, rel=1e-6)
    assert result.plan.chips == expected["chips"]


@pytest.mark.slow
@examples(14)
@given(small_specs(["disaggregated"], 3).flatmap(sold))
def test_plans_of_two_pools_are_bought_as_enumerated(spec: dict[str, Any]) -> None:
    agrees(spec)
