from dataclasses import replace
from math import inf
from typing import Any

import pytest

from servesat import Status
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.plan import plan_fleet, plan_instance
from servesat.fleet.pods.slices import Slice
from servesat.fleet.policies import compared
from tests.fleet.fleets import CHAT, fleet, instance_of


def test_one_workload_after_another_finds_the_pods_as_those_before_it_left_them() -> None:
    raw = {
        "hours": [1.0],
        "needs": [
            {"name": name, "demand": [1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
            for name in ("a", "b")
        ],
        "options": [
            {
                "workload": name, "name": name, "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
                "chips": 4, "slice": (2, 2), "usd": 1.0,
            }
            for name in ("a", "b")
        ],
        "quotas": {},
        "budget": None,
        "pods": {("r", "x"): ((3, 3), 2)},
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert result.total_usd == pytest.approx(8)
    greedy = compared(result).policies[-1]
    assert (greedy.name, greedy.total_usd) == ("greedy, one workload after another", pytest.approx(8))
    alone = FleetModel(replace(result.instance, occupied_slices={("r", "x"): (((Slice((2, 2), (False, False)), 1),),)}))
    assert alone.solve(alone.usd(), None).status is Status.INFEASIBLE


def test_simpler_policies_cost_no_less() -> None:
    prices = {"tpu-v5e": {"on_demand": 1.0, "reserved": 0.6, "spot": 0.4}, "tpu-v6e": {"on_demand": 2.5}}
    regions = {
        "east": {
            "quota": {"tpu-v5e": 16, "tpu-v6e": 8},
            "purchases": ["on_demand", "reserved", "spot"],
            "price": prices,
            "price_book": "list-2026-11",
        }
    }
    workloads = {"chat": {"deployment": CHAT, "demand": [90, 20, 60], "max_spot_share": 0.5}}
    result = plan_fleet(fleet(regions=regions, workloads=workloads, periods_h=[8, 8, 8]))
    assert result.total_usd is not None
    beside = compared(result)
    costs = {one.name: one.total_usd for one in beside.policies}
    assert list(costs) == [
        "one type of chip, tpu-v5e",
        "a static fleet, sized for the peak",
        "one configuration of each workload in a region",
        "no reservations",
        "greedy, one workload after another",
    ]
    assert all(usd is None or usd >= result.total_usd * (1 - 1e-9) for usd in costs.values())
    for one in beside.quotas:
        assert one.quota == max(result.chips_taken[one.region, one.chip])


def test_one_workload_after_another_stands_in_the_same_machine() -> None:
    """Three slices of two chips on a machine of eight, which is $20."""
    raw: dict[str, Any] = {
        "hours": [1.0],
        "needs": [
            {"name": name, "demand": [1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
            for name in "abc"
        ],
        "options": [
            {"workload": name, "name": name, "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
             "chips": 2, "usd": 2.5, "machine": (8, 20.0)}
            for name in "abc"
        ],
        "quotas": {}, "budget": None,
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert result.total_usd == pytest.approx(20)
    assert compared(result).policies[-1].total_usd == pytest.approx(20)


def test_simpler_policies_change_as_dearly_and_share_quotas_by_the_period() -> None:
    needs = [
        {"name": name, "demand": demand, "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
        for name, demand in (("a", [1.0, 3.0]), ("b", [3.0, 1.0]))
    ]
    options = [
        {"workload": name, "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0, "chips": 1,
         "usd": 1.0}
        for name in ("a", "b")
    ]  # fmt: skip
    raw: dict[str, Any] = {
        "hours": [1.0, 1.0], "needs": needs, "options": options, "quotas": {("r", "x"): 4}, "budget": None,
    }  # fmt: skip
    bills = {one.name: one.total_usd for one in compared(plan_instance(instance_of(raw), inf)).policies}
    assert bills["greedy, one workload after another"] == pytest.approx(8)
    raw["quotas"] = {}
    raw["earlier"] = {"replicas": {("z", "c", "r"): [1, 1]}, "max_changes": None, "usd_per_change": 5.0}
    result = plan_instance(instance_of(raw), inf)
    assert result.total_usd == pytest.approx(8 + 5 * 10)
    bills = {one.name: one.total_usd for one in compared(result).policies}
    assert bills["greedy, one workload after another"] == pytest.approx(58)
    assert bills["a static fleet, sized for the peak"] == pytest.approx(12 + 5 * 14)
    raw["budget"] = 10.0
    del raw["earlier"]
    assert compared(plan_instance(instance_of(raw), inf)).policies[-1].total_usd == pytest.approx(8)
    raw["quotas"], raw["budget"] = {("r", "x"): 3}, None
    short = plan_instance(instance_of(raw), inf, degrade=True)
    bills = {one.name: one.total_usd for one in compared(short).policies}
    assert short.total_usd == pytest.approx(6)
    assert bills["greedy, one workload after another"] == pytest.approx(6)
