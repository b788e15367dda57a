from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import Status
from servesat.fleet.check import check
from servesat.fleet.decomposition.column_generation import ColumnGeneration, decomposes, plan_by_decomposition
from servesat.fleet.decomposition.options import ColumnGenerationOptions
from servesat.fleet.decomposition.pricing import DualPrices
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, ReservedChips
from servesat.fleet.plan import plan_instance
from servesat.fleet.result import DECOMPOSITION
from tests.fleet.fleets import fleets_of_two_sizes, instance_of, small_fleets
from tests.oracles import fleet as fleet_oracle
from tests.strategies import examples


@pytest.mark.slow
@examples(80)
@given(st.one_of(small_fleets(), fleets_of_two_sizes()))
def test_a_decomposed_fleet_is_between_its_bound_and_what_it_could_cost(raw: dict[str, Any]) -> None:
    raw |= {"budget": None, "earlier": None, "pods": {}, "usd_per_change": 0.0}
    for need in raw["needs"]:
        need["max_configurations"] = None
    assume(any(any(need["demand"]) for need in raw["needs"]))
    best = fleet_oracle.goals(raw)
    assume(best is not None)
    assert best is not None
    instance = instance_of(raw)
    assume(not instance.unservable() and not instance.reserves_instances)
    found = plan_by_decomposition(instance, perf_counter() + 20)
    assert found.status is not Status.INFEASIBLE
    assert found.bound <= best[0] * (1 + 1e-9) + 1e-6
    if found.status is not Status.UNKNOWN:  # integers may not fit where a mixture does
        assert check(instance, found) >= best[0] - 2e-6


@pytest.mark.slow
@examples(60)
@given(small_fleets())
def test_without_quotas_each_cover_stands_alone_and_the_plan_is_the_best(raw: dict[str, Any]) -> None:
    for need in raw["needs"]:
        need |= {"max_share_per_region": None, "max_spot_share": 1.0, "max_configurations": None}
    for option in raw["options"]:
        option |= {"purchase": "on_demand", "machine": None}
    raw |= {"budget": None, "earlier": None, "pods": {}, "quotas": {}, "usd_per_change": 0.0}
    assume(any(any(need["demand"]) for need in raw["needs"]))
    best = fleet_oracle.goals(raw)
    assume(best is not None)
    assert best is not None
    found = plan_by_decomposition(instance_of(raw), perf_counter() + 20)
    assert found.status is Status.FEASIBLE
    assert found.objective == pytest.approx(best[0], abs=2e-6)  # the oracle rounds to millionths
    assert found.bound == pytest.approx(best[0], abs=2e-6)  # all capacities are whole cells


def test_covers_of_several_sizes_pay_shares_of_instances() -> None:
    """Two chips at $1 by the chip, beside the same in instances of 4: the bound is below $2, not $4."""
    need = {
        "name": "a", "demand": [2.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0,
        "shares": [(0.5, 0.5)],
    }  # fmt: skip
    option = {
        "workload": "a", "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0, "chips": 1,
        "usd": 1.0, "rates": (1.0, 1.0),
    }  # fmt: skip
    whole = {**option, "machine": (4, 4.0)}
    raw = {"hours": [1.0], "needs": [need], "options": [whole, option], "quotas": {}, "budget": None}
    found = plan_by_decomposition(instance_of(raw), perf_counter() + 20)
    assert (found.objective, found.bound) == (pytest.approx(2.0), pytest.approx(2.0))


@pytest.mark.slow
def test_what_ties_workloads_or_periods_together_in_other_ways_is_not_decomposed() -> None:
    need = {"name": "a", "demand": [1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
    option = {
        "workload": "a", "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0, "chips": 1,
        "usd": 1.0,
    }  # fmt: skip

    def instance(copies: int = 20_000, **changes: Any) -> FleetInstance:
        """A fleet with so many copies of one option."""
        raw = {"hours": [1.0], "needs": [need], "options": [option], "quotas": {}, "budget": None, **changes}
        one = instance_of(raw)
        return replace(one, options=one.options * copies)

    assert decomposes(instance())
    assert not decomposes(instance(1))
    assert not decomposes(instance(budget=5.0))
    assert not decomposes(instance(pods={("r", "x"): ((4, 4), 1)}))
    assert decomposes(instance(needs=[{**need, "n_plus": 1}]))
    whole = {**option, "machine": (8, 8.0)}
    assert decomposes(instance(options=[whole]))
    assert not decomposes(instance(options=[{**whole, "purchase": "reserved"}]))
    shared = {**need, "max_share_per_region": 0.5}
    assert not decomposes(instance(needs=[shared]))
    assert decomposes(instance(100_000, needs=[shared]))
    for limit in ({"one_chip": True}, {"max_configurations": 2}):
        limited = replace(instance().workloads[0], **limit)
        assert not decomposes(replace(instance(), workloads=(limited,)))
    assert not decomposes(replace(instance(), usd_per_change=1.0))


def alike(
    workloads: int, demand: list[float], options: list[dict[str, Any]], quotas: dict[tuple[str, str], int]
) -> dict[str, Any]:
    """A fleet of so many workloads with the same demand and the same options, of a chip x in a region r."""
    names = [f"w{number}" for number in range(workloads)]
    common = {"n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
    option = {"chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0, "chips": 1, "usd": 1.0}
    return {
        "hours": [1.0] * len(demand),
        "needs": [{"name": name, "demand": demand, **common} for name in names],
        "options": [{"workload": name, "name": "c", **option, **one} for name in names for one in options],
        "quotas": quotas,
        "budget": None,
    }


def large(demand: float, quota: int) -> dict[str, Any]:
    """A fleet of so many workloads that it is decomposed, each with one option, on one quota."""
    return alike(100, [demand], [{"name": f"c{number}"} for number in range(200)], {("r", "x"): quota})


@pytest.mark.soak
def test_a_large_fleet_without_room_is_infeasible_and_its_quota_in_conflict() -> None:
    raw = large(2.0, 150)
    raw["options"] = raw["options"][::100]
    result = plan_instance(instance_of(raw), inf, options=ColumnGenerationOptions(min_variables=100))
    assert result.status is Status.INFEASIBLE
    assert ("quota", ("r", "x")) in {(limit.kind, limit.of) for limit in result.conflict or ()}


def test_a_large_fleet_that_nobody_asks_for_costs_nothing() -> None:
    result = plan_instance(instance_of(large(0.0, 10)), inf)
    assert (result.status, result.total_usd) == (Status.OPTIMAL, 0.0)


def test_no_time_is_no_plan_or_one_that_holds() -> None:
    result = plan_instance(instance_of(large(2.0, 300)), perf_counter() - 1)
    assert result.status is Status.UNKNOWN or result.total_usd == pytest.approx(200)


def test_a_fleet_is_sampled_for_its_first_prices() -> None:
    """Every second of the workloads, in half of the quota; the plan is none the worse."""
    raw = large(2.0, 210)
    raw["options"] = [
        {**one, "chip": chip, "usd": usd, "name": chip}
        for one in raw["options"][::200]
        for chip, usd in (("x", 1.0), ("y", 3.0))
    ]
    raw["quotas"] = {("r", "x"): 100}
    options = ColumnGenerationOptions(sample_workloads=50)
    found = plan_by_decomposition(instance_of(raw), perf_counter() + 20, options=options)
    assert found.objective == pytest.approx(100 * 1 + 100 * 3)
    assert found.bound == pytest.approx(400, rel=2e-3)


def test_where_reserved_chips_are_idle_one_round_still_finds_covers_that_fit_them() -> None:
    """At a price of nothing eight chips are no dearer than one, but there are ten for ten workloads."""
    sizes = [{"name": f"x{chips}", "purchase": "reserved", "chips": chips} for chips in (8, 1)]
    raw = alike(10, [1.0, 0.9], sizes, {("r", "x"): 10})
    search = ColumnGeneration(instance_of(raw))
    paid_at_peak = DualPrices(np.zeros((2, 2)), np.array([[0.0, 0.0], [2.0, 0.0]]))
    gap = search.run(paid_at_peak, perf_counter() + 20, gap=0.0, target_gap=1.0)
    assert search.lower_bound == pytest.approx(20)
    assert gap == pytest.approx(0, abs=1e-3)


def test_reservations_without_a_quota_have_a_tight_bound_too() -> None:
    """Five chips each are reserved for both hours, $6, and five rented at the peak, $5; at first all cost $0.6."""
    purchases = [{"purchase": name, "rate": 0.1, "usd": usd} for name, usd in (("reserved", 0.6), ("on_demand", 1.0))]
    raw = alike(30, [1.0, 0.5], purchases, {})
    found = plan_by_decomposition(instance_of(raw), perf_counter() + 20)
    assert found.objective == pytest.approx(30 * 11)
    assert found.bound == pytest.approx(30 * 11, rel=2e-3)


def decomposed(raw: dict[str, Any], seconds: float = 20.0) -> FleetSolution:
    return plan_by_decomposition(instance_of(raw), perf_counter() + seconds)


@pytest.mark.parametrize("quota", [30, 100_000, 10**9])
def test_a_quota_that_is_far_from_full_changes_nothing(quota: int) -> None:
    found = decomposed(alike(10, [1.0], [{}], {("r", "x"): quota}))
    assert (found.objective, found.bound) == (pytest.approx(10), pytest.approx(10, rel=2e-3))


def test_prices_may_be_tiny() -> None:
    purchases = [{"usd": 1.0}, {"usd": 3.0, "region": "s"}, {"usd": 0.6, "purchase": "reserved"}]
    tiny = [{**one, "usd": 1e-6 * one["usd"]} for one in purchases]
    usual, small = (decomposed(alike(20, [2.0, 1.0], one, {("r", "x"): 25})) for one in (purchases, tiny))
    assert small.objective == pytest.approx(1e-6 * usual.objective, rel=5e-3)
    assert small.bound == pytest.approx(1e-6 * usual.bound, rel=5e-3)


def test_where_nothing_covers_a_workload_there_is_no_plan() -> None:
    raw = alike(10, [1.0], [{"purchase": "spot"}], {})
    for need in raw["needs"]:
        need["max_spot_share"] = 0.5
    assert decomposed(raw).status is Status.INFEASIBLE


@pytest.mark.parametrize("share", [None, 1.0])
def test_many_small_replicas_may_have_to_spare_a_large_one(share: float | None) -> None:
    """The large one serves half off spot; three of it may fail, of one there is, so 300 small ones make up for them."""
    sizes = [{"name": "large", "usd": 0.01}, {"name": "small", "chip": "y", "purchase": "spot", "rate": 0.01}]
    raw = alike(1, [1.0], sizes, {("r", "x"): 1})
    raw["needs"][0] |= {"n_plus": 3, "max_spot_share": 0.5, "max_share_per_region": share}
    assert decomposed(raw).objective == pytest.approx(300.01)


def test_a_short_peak_is_served_by_chips_that_are_reserved_throughout() -> None:
    raw = alike(1, [0.0, 10.0], [{"purchase": "reserved"}], {})
    raw["hours"] = [1000.0, 1.0]
    found = decomposed(raw)
    assert found.objective == pytest.approx(10 * 1001)
    assert found.bound == pytest.approx(10 * 1001, rel=2e-3)


def test_a_search_does_not_end_while_something_is_not_served() -> None:
    """A replica is reserved for each workload, and nine more for an hour, which as many on demand would cost $4500."""
    raw = alike(30, [1.0, 10.0], [{"purchase": "reserved"}, {"usd": 500.0}], {})
    raw["hours"] = [167.0, 1.0]
    found = decomposed(raw)
    assert found.objective == pytest.approx(30 * 10 * 168)
    assert found.bound == pytest.approx(found.objective, rel=2e-3)


def test_reservations_are_rounded_so_that_a_plan_exists() -> None:
    """The first workload has four chips of a scarce type or four reserved, of which the mixture wants one."""
    raw = alike(51, [1.0], [{"chip": "z"}], {("r", "x"): 3})
    first = {**raw["options"][0], "chips": 4}
    reserved = {**first, "chip": "y", "usd": 2.0, "purchase": "reserved"}
    raw["options"] = [*raw["options"][1:], {**first, "chip": "x"}, reserved]
    found = decomposed(raw)
    assert found.objective == pytest.approx(50 + 4 * 2)
    assert found.reserved == {ReservedChips("r", "y", 2.0): 4}


def test_no_plan_is_sought_when_the_time_is_up() -> None:
    instance = instance_of(alike(10, [1.0], [{}, {"chip": "y"}], {("r", "x"): 5}))
    late = plan_instance(instance, perf_counter() - 1, options=ColumnGenerationOptions(min_variables=10))
    assert (late.status, late.engine) == (Status.UNKNOWN, DECOMPOSITION)
