"""Fleets to start from: written as in a file, and small ones to enumerate."""

from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import strategies as st

from servesat import Status
from servesat.catalogue.price_book import Price
from servesat.fleet.configurations import Configuration
from servesat.fleet.conflict import minimal_conflict
from servesat.fleet.instance import RESOLUTION, FleetInstance, ReplicaOption, WorkloadDemand
from servesat.fleet.machines import Machine
from servesat.fleet.plan import plan_instance
from servesat.fleet.pods.slices import Pods, Slice
from servesat.fleet.previous_plan import PreviousPlan
from tests.oracles import fleet as fleet_oracle

CHAT = {
    "cost_model": "ideal",
    "model": "llama-3-8b",
    "workload": {"prompt_tokens": 1024, "output_tokens": 256},
    "slo": {"tpot_ms": 30},
    "search": {"weights": ["int8"], "kv_cache": ["int8"], "modes": ["interleaved"]},
}


def fleet(**keys: Any) -> dict[str, Any]:
    """A fleet of one workload in two regions, with keys in place of its own."""
    base: dict[str, Any] = {
        "regions": {
            "east": {"quota": {"tpu-v5e": 16}, "price": {"tpu-v5e": {"on_demand": 1.0}}},
            "west": {"quota": {"tpu-v5e": 16}, "price": {"tpu-v5e": {"on_demand": 1.5}}},
        },
        "workloads": {"chat": {"deployment": CHAT, "demand": 10}},
    }
    return base | keys


def one_region(quota: int, usd: float = 1.0, **keys: Any) -> dict[str, Any]:
    """A region with v5e chips."""
    return {"east": {"quota": {"tpu-v5e": quota}, "price": {"tpu-v5e": {"on_demand": usd}}, **keys}}


def chat(demand: Any, search: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """A workload on single v5e chips, each of which serves 6.2007 requests/s."""
    asked = {**CHAT["search"], "topologies": {"tpu-v5e": ["1x1"]}, **(search or {})}  # type: ignore[dict-item]
    return {"chat": {"deployment": {**CHAT, "search": asked}, "demand": demand, **keys}}


def in_small_pods(count: int, search: dict[str, Any], **workload: Any) -> dict[str, Any]:
    """A fleet on so many pods of 4x4 chips."""
    regions = one_region(1000)
    regions["east"]["pods"] = {"tpu-v5e": {"count": count, "shape": "4x4"}}
    deployment = {
        "cost_model": "ideal",
        "model": "llama-3-70b",
        "workload": {"prompt_tokens": 4096, "output_tokens": 512},
        "slo": {"tpot_ms": 8},
        "search": {"chips": ["tpu-v5e"], **search},
    }
    return {"regions": regions, "workloads": {"a": {"deployment": deployment, "demand": 20, **workload}}}


@st.composite
def small_fleets(draw: Any) -> dict[str, Any]:
    hours = draw(st.sampled_from([[1.0], [8.0, 16.0]]))
    names = draw(st.sampled_from([["a"], ["a", "b"]]))
    needs = [
        {
            "name": name,
            "demand": [draw(st.sampled_from([2.0, 1.0, 0.0])) for _ in hours],
            "n_plus": draw(st.sampled_from([0, 0, 1])),
            "max_share_per_region": draw(st.sampled_from([None, None, None, 0.5, 0.75])),
            "max_spot_share": draw(st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.0])),
            "max_configurations": draw(st.sampled_from([None, None, None, 1])),
        }
        for name in names
    ]
    count = draw(st.integers(len(names), 3 if len(hours) > 1 else 4))
    options = [
        {
            "workload": names[position % len(names)],
            "name": f"config{draw(st.integers(0, 1))}",
            "chip": draw(st.sampled_from(["x", "y"])),
            "region": draw(st.sampled_from(["east", "west"])),
            "purchase": draw(st.sampled_from(["on_demand", "spot", "reserved"])),
            "rate": draw(st.sampled_from([1.0, 2.0, 1.5])),
            "chips": draw(st.sampled_from([1, 2, 4, 3])),
            "usd": 0.0,
        }
        for position in range(count)
    ]
    price = {
        (region, chip, purchase): draw(st.sampled_from([1.0, 2.0, 0.5, 3.5]))
        for region in ("east", "west")
        for chip in ("x", "y")
        for purchase in ("on_demand", "spot", "reserved")
    }
    whole = {place: draw(st.sampled_from([None, None, 4, 8, 2, 6, 5])) for place in price}
    discount = draw(st.sampled_from([1.0, 0.7]))
    for option in options:
        of_chips = {1: [(1, 1)], 2: [(1, 2)], 3: [(1, 3)], 4: [(2, 2), (1, 4)]}
        option["slice"] = draw(st.sampled_from(of_chips[option["chips"]]))
        sold = (option["region"], option["chip"], option["purchase"])
        option["usd"], chips = price[sold], whole[sold]
        if chips is not None and (option["chips"] <= chips or option["chips"] % chips == 0):
            option["machine"] = (chips, chips * option["usd"] * discount)
            option["usd"] *= discount
        elif option["purchase"] == "reserved":
            option["usd"] *= draw(st.sampled_from([1.0, 1.0, 1.5]))
    places = sorted({(option["region"], option["chip"]) for option in options})
    quotas = {place: draw(st.sampled_from([8, 4, 16, 32, 2, 0])) for place in places if draw(st.booleans())}
    pods = {}
    if draw(st.integers(0, 2)) == 2:
        pods = {place: (draw(st.sampled_from([(2, 3), (3, 3), (1, 4)])), draw(st.integers(0, 2))) for place in places}
    budget = draw(st.sampled_from([None, None, None, 20.0, 300.0]))
    fleet = {"hours": hours, "needs": needs, "options": options, "quotas": quotas, "budget": budget, "earlier": None}
    fleet["pods"] = pods
    fleet["usd_per_change"] = draw(st.sampled_from([0.0, 0.0, 0.0, 1.5, 30.0]))
    if draw(st.integers(0, 3)) == 3:
        runs = {(option["workload"], option["name"], option["region"]) for option in options}
        gone = draw(st.sampled_from([set(), {("z", "config0", "east")}]))
        fleet["earlier"] = {
            "replicas": {one: [draw(st.integers(0, 2)) for _ in hours] for one in sorted(runs | gone)},
            "max_changes": draw(st.sampled_from([None, 0, 2, 5])),
            "usd_per_change": draw(st.sampled_from([0.0, 0.5, 4.0])),
        }
    return fleet


@st.composite
def fleets_of_two_sizes(draw: Any) -> dict[str, Any]:
    raw = draw(small_fleets())
    for need in raw["needs"]:
        need["shares"] = [draw(st.sampled_from([(0.5, 0.5), (0.9, 0.1), (0.0, 1.0)])) for _ in raw["hours"]]
    for option in raw["options"]:
        of_each = [(1.0, 1.0), (2.0, 1.0), (4.0, 1.5), (1.0, 3.0), (3.0, 0.0), (0.0, 2.0)]
        option["rates"] = draw(st.sampled_from(of_each))
    return raw


def machine_of(option: dict[str, Any]) -> Machine | None:
    if option.get("machine") is None:
        return None
    chips, usd = option["machine"]
    price = Price(instance="machine", instance_chips=chips, usd_per_instance_hour=usd, source="test")
    return Machine(option["region"], option["chip"], option["purchase"], chips, usd, price)


def instance_of(raw: dict[str, Any]) -> FleetInstance:
    unit = 1 / RESOLUTION
    needs = tuple(
        WorkloadDemand(
            name=need["name"],
            demand=tuple(round(rate / unit) for rate in need["demand"]),
            requests_per_s=tuple(need["demand"]),
            unit=unit,
            redundant_replicas=need["n_plus"],
            max_share_per_region=need["max_share_per_region"],
            max_spot_share=need["max_spot_share"],
            one_chip=need.get("one_chip", False),
            priority=1,
            sizes=("first", "second", "third", "fourth")[: len(need.get("shares", [[]])[0])],
            size_shares=tuple(map(tuple, need.get("shares", []))),
            max_configurations=need.get("max_configurations"),
        )
        for need in raw["needs"]
    )
    options = tuple(
        ReplicaOption(
            workload=option["workload"],
            configuration=Configuration(
                option["name"],
                option["chip"],
                option["chips"],
                option["rate"],
                slices=((Slice(option.get("slice", (1, option["chips"])), (False, False)), 1),),
            ),
            region=option["region"],
            purchase=option["purchase"],
            usd_per_chip_hour=option["usd"],
            requests_per_s=option["rate"],
            capacity=round(option["rate"] / unit),
            size_rates=tuple(option.get("rates", ())),
            machine=machine_of(option),
        )
        for option in raw["options"]
    )
    given_before = raw.get("earlier")
    before = given_before and PreviousPlan(
        {place: tuple(counts) for place, counts in given_before["replicas"].items()},
        given_before["max_changes"],
        given_before["usd_per_change"],
    )
    pods = {place: Pods(shape, count) for place, (shape, count) in raw.get("pods", {}).items()}
    return FleetInstance(
        needs,
        options,
        tuple(raw["hours"]),
        raw["quotas"],
        raw["budget"],
        before,
        pods,
        usd_per_change=raw.get("usd_per_change", 0.0),
    )


def is_that_of_enumeration(raw: dict[str, Any]) -> None:
    instance = instance_of(raw)
    result, best = plan_instance(instance, inf), fleet_oracle.goals(raw)
    if best is None:
        assert result.status is Status.INFEASIBLE
        return
    usd, moves, used, moved = best
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(usd, abs=2e-6)
    assert (result.changes or 0) == moves
    assert result.bound_usd == result.total_usd
    assert len({(one.workload, one.option.configuration.name) for one in result.allocations}) == used
    replicas = [[0] * len(raw["hours"]) for _ in raw["options"]]
    for one in result.allocations:
        replicas[next(i for i, o in enumerate(instance.options) if o is one.option)][one.period] = one.replicas
    assert sum(abs(b - a) for counts in replicas for a, b in pairwise(counts)) == moved


def conflict_is_true_and_minimal(raw: dict[str, Any]) -> None:
    if fleet_oracle.goals(raw) is not None:
        return
    conflict = {(limit.kind, *limit.of) for limit in minimal_conflict(instance_of(raw))}
    assert not fleet_oracle.has_fleet(raw, conflict)
    assert all(fleet_oracle.has_fleet(raw, conflict - {limit}) for limit in conflict)
