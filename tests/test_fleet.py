import copy
import json
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from servesat import SpecError, Status
from servesat.cli import app
from servesat.fleet import conflict
from servesat.fleet.configurations import Configuration, configurations
from servesat.fleet.conflict import minimal_conflict
from servesat.fleet.decomposition.covers import Covers
from servesat.fleet.formulation import pod_cuts
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.formulation.pod_cuts import Floor
from servesat.fleet.instance import RESOLUTION, FleetInstance, ReplicaOption, WorkloadDemand, fleet_instance
from servesat.fleet.plan import cheapest, plan_fleet, plan_instance
from servesat.fleet.pods.slices import Pods, Slice
from servesat.fleet.policies import compared
from servesat.fleet.previous_plan import Earlier
from servesat.fleet.spec import FleetSpec
from servesat.report.documents import dumps
from servesat.report.fleet_document import fleet_document, workload_utilisation
from servesat.spec.spec import Spec
from tests import fleet_oracle

CHAT = {
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
            "chips": draw(st.sampled_from([1, 2, 4])),
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
    for option in options:
        of_chips = {1: [(1, 1)], 2: [(1, 2)], 4: [(2, 2), (1, 4)]}
        option["slice"] = draw(st.sampled_from(of_chips[option["chips"]]))
        option["usd"] = price[option["region"], option["chip"], option["purchase"]]
    places = sorted({(option["region"], option["chip"]) for option in options})
    quotas = {place: draw(st.sampled_from([8, 4, 16, 32, 2, 0])) for place in places if draw(st.booleans())}
    pods = {}
    if draw(st.integers(0, 2)) == 2:
        pods = {place: (draw(st.sampled_from([(2, 3), (3, 3), (1, 4)])), draw(st.integers(0, 2))) for place in places}
    budget = draw(st.sampled_from([None, None, None, 20.0, 300.0]))
    fleet = {"hours": hours, "needs": needs, "options": options, "quotas": quotas, "budget": budget, "earlier": None}
    fleet["pods"] = pods
    if draw(st.integers(0, 3)) == 3:
        runs = {(option["workload"], option["name"], option["region"]) for option in options}
        gone = draw(st.sampled_from([set(), {("z", "config0", "east")}]))
        fleet["earlier"] = {
            "replicas": {one: [draw(st.integers(0, 2)) for _ in hours] for one in sorted(runs | gone)},
            "max_changes": draw(st.sampled_from([None, 0, 2, 5])),
            "usd_per_change": draw(st.sampled_from([0.0, 0.5, 4.0])),
        }
    return fleet


def instance_of(raw: dict[str, Any]) -> FleetInstance:
    unit = 1 / RESOLUTION
    needs = tuple(
        WorkloadDemand(
            name=need["name"],
            demand=tuple(round(rate / unit) for rate in need["demand"]),
            requests_per_s=tuple(need["demand"]),
            unit=unit,
            n_plus=need["n_plus"],
            max_share_per_region=need["max_share_per_region"],
            max_spot_share=need["max_spot_share"],
            one_chip=False,
            priority=1,
            sizes=("first", "second", "third", "fourth")[: len(need.get("shares", [[]])[0])],
            shares=tuple(map(tuple, need.get("shares", []))),
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
            of_size=tuple(option.get("rates", ())),
        )
        for option in raw["options"]
    )
    given_before = raw.get("earlier")
    before = given_before and Earlier(
        {place: tuple(counts) for place, counts in given_before["replicas"].items()},
        given_before["max_changes"],
        given_before["usd_per_change"],
    )
    pods = {place: Pods(shape, count) for place, (shape, count) in raw.get("pods", {}).items()}
    return FleetInstance(needs, options, tuple(raw["hours"]), raw["quotas"], raw["budget"], before, pods)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(small_fleets())
def test_a_fleet_is_that_of_enumeration(raw: dict[str, Any]) -> None:
    is_that_of_enumeration(raw)


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


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(small_fleets())
def test_conflicts_are_true_and_minimal(raw: dict[str, Any]) -> None:
    conflict_is_true_and_minimal(raw)


def conflict_is_true_and_minimal(raw: dict[str, Any]) -> None:
    if fleet_oracle.goals(raw) is not None:
        return
    conflict = {(limit.kind, *limit.of) for limit in minimal_conflict(instance_of(raw))}
    assert not fleet_oracle.has_fleet(raw, conflict)
    assert all(fleet_oracle.has_fleet(raw, conflict - {limit}) for limit in conflict)


@st.composite
def fleets_in_pods(draw: Any) -> dict[str, Any]:
    """Two workloads, each with its slices, in pods that they about fill by count."""
    shape, sizes = draw(
        st.sampled_from(
            [
                ((3, 3), [(2, 2), (1, 3), (1, 1), (2, 3), (1, 2)]),
                ((4, 4), [(1, 4), (2, 2), (3, 3), (2, 3), (1, 3)]),
                ((3, 5), [(2, 2), (1, 5), (2, 3), (1, 4)]),
            ]
        )
    )
    rates = st.sampled_from([1.0, 1.5, 0.5, 0.75])
    options = [
        {
            "workload": name, "name": f"config{number}", "chip": "x", "region": "east", "purchase": "on_demand",
            "slice": one, "chips": one[0] * one[1], "rate": one[0] * one[1] * draw(rates),
            "usd": 1.0,
        }
        for name in ("a", "b")
        for number, one in enumerate(draw(st.lists(st.sampled_from(sizes), min_size=1, max_size=2, unique=True)))
    ]  # fmt: skip
    hours = [1.0] * (2 if len(options) == 2 else 1)
    rate = {name: [option["rate"] for option in options if option["workload"] == name] for name in ("a", "b")}
    needs = [
        {
            "name": name,
            "demand": [
                min(draw(st.sampled_from([1.0, 2.0, 0.5, 1.5])) * max(rate[name]), fleet_oracle.MOST * min(rate[name]))
                for _ in hours
            ],
            "n_plus": 0,
            "max_share_per_region": None,
            "max_spot_share": 1.0,
        }
        for name in ("a", "b")
    ]
    pods = {("east", "x"): (shape, draw(st.integers(1, 2)))}
    return {"hours": hours, "needs": needs, "options": options, "quotas": {}, "budget": None, "pods": pods}


@pytest.mark.parametrize("measured", [True, False])
def test_a_fleet_in_pods_is_that_of_joint_enumeration(measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every measure of what packs as a row, and with the number of chips alone, so that collisions decide."""
    rounds = []
    forbid = Floor.forbid_collisions
    monkeypatch.setattr(Floor, "forbid_collisions", lambda *given: rounds.append(forbid(*given)) or rounds[-1])
    if not measured:
        monkeypatch.setattr(
            pod_cuts, "measures", lambda shape, slices: ((tuple(one.chips for one in slices), shape[0] * shape[1]),)
        )

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(fleets_in_pods())
    def agrees(raw: dict[str, Any]) -> None:
        result, best = plan_instance(instance_of(raw), inf), fleet_oracle.goals(raw)
        if best is None:
            conflict = {(limit.kind, *limit.of) for limit in result.conflict or ()}
            assert not fleet_oracle.has_fleet(raw, conflict)
            assert all(fleet_oracle.has_fleet(raw, conflict - {limit}) for limit in conflict)
        else:
            assert result.status is Status.OPTIMAL
            assert result.total_usd == pytest.approx(best[0], abs=2e-6)

    agrees()
    assert any(rounds) or measured


def test_slices_that_do_not_stand_are_named_with_the_pods_that_would_do(tmp_path: Path) -> None:
    """Three 4x8 slices are 96 chips of 96, but a pod of 4x12 holds one."""
    deployment = {**CHAT, "model": "llama-3-70b", "search": {**CHAT["search"], "topologies": {"tpu-v5e": ["4x8"]}}}
    region: dict[str, Any] = {"quota": {"tpu-v5e": 96}, "price": {"tpu-v5e": {"on_demand": 1.0}}}
    given = fleet(regions={"east": region}, workloads={"chat": {"deployment": deployment, "demand": 1}})
    one = plan_fleet(given).allocations[0].option.requests_per_s
    given["workloads"]["chat"]["demand"] = 2.5 * one
    assert plan_fleet(given).total_usd == pytest.approx(96)
    region["pods"] = {"tpu-v5e": {"count": 2, "shape": "4x12"}}
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(given))
    ran = CliRunner().invoke(app, ["fleet", str(path)])
    assert ran.exit_code == 3
    assert "the 2 pods of 4x12 tpu-v5e in east" in ran.stdout
    assert "3 of 4x8 do not stand together in 2 pods of 4x12 tpu-v5e in east" in ran.stdout
    assert "80.0% of every demand, and no more\n  3 pods of tpu-v5e in east" in ran.stdout
    document = json.loads(CliRunner().invoke(app, ["fleet", str(path), "--json"]).stdout)
    assert document["collisions"] == [{"region": "east", "chip": "tpu-v5e", "slices": {"4x8": 3}, "proved": True}]
    region["pods"]["tpu-v5e"]["count"] = 3
    path.write_text(dumps(given))
    document = json.loads(CliRunner().invoke(app, ["fleet", str(path), "--json", "--compare"]).stdout)
    assert document["total_usd"] == pytest.approx(96)
    assert [(one["pod"], one["sizes"]) for one in document["floors"][0]["slices"]] == [(n, [4, 8]) for n in range(3)]
    assert [one["one_more_saves_usd"] for one in document["pods"]] == [0.0]


def in_small_pods(count: int, search: dict[str, Any], **workload: Any) -> dict[str, Any]:
    """A fleet on so many pods of 4x4 chips."""
    regions = one_region(1000)
    regions["east"]["pods"] = {"tpu-v5e": {"count": count, "shape": "4x4"}}
    deployment = {
        "model": "llama-3-70b",
        "workload": {"prompt_tokens": 4096, "output_tokens": 512},
        "slo": {"tpot_ms": 8},
        "search": {"chips": ["tpu-v5e"], **search},
    }
    return {"regions": regions, "workloads": {"a": {"deployment": deployment, "demand": 20, **workload}}}


def test_two_pools_are_those_that_stand_in_the_pods() -> None:
    """The best of any shape take a 4x8, which stands in no pod of 4x4."""
    anywhere = plan_fleet(in_small_pods(8, {"modes": ["disaggregated"]}))
    small = {"tpu-v5e": ["1x1", "2x2", "2x4", "4x4"]}
    narrowed = plan_fleet(in_small_pods(8, {"modes": ["disaggregated"], "topologies": small}))
    assert anywhere.status is Status.OPTIMAL
    assert anywhere.total_usd == narrowed.total_usd == pytest.approx(104)


def test_slices_that_collide_are_those_that_would_be_used() -> None:
    """Two workloads in conflict over pods, in which none of the larger slices stand."""
    raw = in_small_pods(2, {}) | {"periods_h": [1, 1]}
    raw["workloads"]["a"]["demand"] = [40, 10]
    raw["workloads"]["a"]["deployment"] |= {"slo": {"tpot_ms": 25}}
    result = plan_fleet(raw)
    assert result.status is Status.INFEASIBLE
    shapes = [one.sizes for collision in result.collisions for one, _ in collision.slices]
    assert shapes
    assert all(max(sizes) <= 4 for sizes in shapes)


def test_pods_may_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflict, "MOST_PODS", 11)
    raw = fleet(regions=one_region(100), workloads=chat(1.0, {"topologies": {"tpu-v5e": ["1x1"]}}))
    rate = plan_fleet(raw).allocations[0].option.requests_per_s
    raw["workloads"]["chat"]["demand"] = 11 * rate
    raw["regions"]["east"]["pods"] = {"tpu-v5e": {"count": 3, "shape": "1x1"}}
    (pods,) = [one for one in plan_fleet(raw).corrections if one.unit == "pods"]
    assert pods.value == 11


def test_a_packing_that_is_not_decided_is_told_apart_from_a_time_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pod_cuts, "collision", lambda pods, slices, until: (slices, False) if slices else None)
    raw = in_small_pods(8, {"modes": ["chunked"]})
    result = plan_fleet(raw)
    assert (result.status, result.undecided) == (Status.UNKNOWN, True)
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(raw))
    told = CliRunner().invoke(app, ["fleet", str(tmp_path / "fleet.yaml")])
    assert "it was not decided whether the slices stand in their pods" in told.output


def test_a_shape_that_no_pod_holds_is_not_rented() -> None:
    """One 4x4 serves 16.4 requests/s, one 2x4 6.5; strips of 2x16 hold only those."""
    region: dict[str, Any] = {"quota": {"tpu-v5e": 64}, "price": {"tpu-v5e": {"on_demand": 1.0}}}
    deployment = {**CHAT, "model": "llama-3-70b"}
    given = fleet(regions={"east": region}, workloads={"chat": {"deployment": deployment, "demand": 16}})
    assert plan_fleet(given).total_usd == pytest.approx(16)
    region["pods"] = {"tpu-v5e": {"count": 2, "shape": "2x16"}}
    result = plan_fleet(given)
    assert result.total_usd == pytest.approx(24)
    assert [str(block.slice) for _, block in result.floors[0].placed] == ["2x4"] * 3


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
    alone = FleetModel(replace(result.instance, standing={("r", "x"): (((Slice((2, 2), (False, False)), 1),),)}))
    assert alone.solve(alone.usd(), None).status is Status.INFEASIBLE


def test_a_configuration_is_the_best_of_its_slice() -> None:
    spec = Spec.load(CHAT)
    found = configurations(spec, ["tpu-v5e"], keep_dominated=True)
    assert [one.chips for one in found] == [1, 4, 8, 16, 32, 64, 128, 256][: len(found)]
    for one in found:
        assert one.plan is not None
        assert one.requests_per_s == one.plan.requests_per_s
        assert one.plan.tpot_ms <= 30
    few = configurations(spec, ["tpu-v5e"])
    assert set(few) <= set(found)
    assert [one.requests_per_s for one in few] == sorted(one.requests_per_s for one in few)


def test_the_cheaper_region_fills_up_first() -> None:
    result = plan_fleet(fleet())
    assert result.status is Status.OPTIMAL
    assert {one.region for one in result.allocations} == {"east"}
    more = plan_fleet(fleet(workloads={"chat": {"deployment": CHAT, "demand": 200}}))
    assert {one.region for one in more.allocations} == {"east", "west"}
    assert max(more.chips_taken["east", "tpu-v5e"]) <= 16
    assert more.total_usd is not None
    assert result.total_usd is not None
    assert more.total_usd > result.total_usd


def test_a_share_of_the_demand_survives_the_loss_of_a_region() -> None:
    spread = plan_fleet(fleet(workloads={"chat": {"deployment": CHAT, "demand": 10, "max_share_per_region": 0.5}}))
    served = dict.fromkeys(("east", "west"), 0.0)
    for one in spread.allocations:
        served[one.region] += one.replicas * one.option.requests_per_s
    assert min(served.values()) >= 5


def test_too_little_capacity_is_explained_and_degraded_by_priority() -> None:
    short = fleet(
        workloads={
            "first": {"deployment": CHAT, "demand": 100, "priority": 1},
            "second": {"deployment": CHAT, "demand": 300, "priority": 2},
        }
    )
    result = plan_fleet(short)
    assert result.status is Status.INFEASIBLE
    assert {limit.kind for limit in result.conflict or ()} == {"demand", "quota"}
    assert {one.limit.kind for one in result.corrections} >= {"demand"}
    least = plan_fleet(short, degrade=True)
    assert least.status is Status.OPTIMAL
    assert least.unserved is not None
    assert least.unserved["first"] == (0.0,)
    assert 0 < least.unserved["second"][0] < 300


def test_a_corrected_fleet_exists_and_one_chip_less_does_not() -> None:
    short = fleet(workloads={"chat": {"deployment": CHAT, "demand": 1000}})
    changes = [one for one in plan_fleet(short).corrections if one.limit.kind == "quota"]
    assert changes
    for one in changes:
        region, chip = one.limit.of
        for count, status in ((int(one.value), Status.OPTIMAL), (int(one.value) - 1, Status.INFEASIBLE)):
            regions = {name: dict(given) for name, given in short["regions"].items()}
            regions[region]["quota"] = {chip: count}
            assert plan_fleet({**short, "regions": regions}).status is status


def test_a_plan_stays_as_near_to_todays_as_is_asked(tmp_path: Path) -> None:
    spec = fleet()
    today = tmp_path / "today.json"
    result = plan_fleet(spec)
    today.write_text(dumps(fleet_document(result, None)))
    replicas = sum(one.replicas for one in result.allocations)
    dearer = copy.deepcopy(spec)
    dearer["regions"]["east"]["price"]["tpu-v5e"]["on_demand"] = 1.6  # west is the cheaper one now
    assert result.total_usd is not None
    moved = plan_fleet(dearer, earlier=today)
    assert moved.changes == 2 * replicas
    assert moved.total_usd == pytest.approx(1.5 * result.total_usd)
    stayed = plan_fleet(dearer, earlier=today, max_changes=0)
    assert (stayed.changes, stayed.total_usd) == (0, pytest.approx(1.6 * result.total_usd))
    assert plan_fleet(dearer, earlier=today, usd_per_change=100.0).changes == 0
    more = copy.deepcopy(spec)
    more["workloads"]["chat"]["demand"] = 30
    refused = plan_fleet(more, earlier=today, max_changes=0)
    assert refused.conflict is not None
    assert {limit.kind for limit in refused.conflict} == {"demand", "max_changes"}
    correction = next(one for one in refused.corrections if one.limit.kind == "max_changes")
    least = round(correction.value)
    assert plan_fleet(more, earlier=today, max_changes=least).status is Status.OPTIMAL
    assert plan_fleet(more, earlier=today, max_changes=least - 1).status is Status.INFEASIBLE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "cannot be read"),
        ("[]", "key allocations"),
        ('{"allocations": [], "periods": 2}', "periods = 2: expected 1"),
        ('{"allocations": [{"workload": "chat"}], "periods": 1}', r"allocations\[0\]: expected workload"),
        (
            '{"allocations": [{"workload": "a", "configuration": "c", "region": "r", "period": 1, "replicas": 1}],'
            ' "periods": 1}',
            r"allocations\[0\].period = 1: expected 0 to 0",
        ),
        (
            '{"allocations": [{"workload": "a", "configuration": "c", "region": "r", "period": 0, "replicas": -1}],'
            ' "periods": 1}',
            r"allocations\[0\].replicas = -1: expected a whole number",
        ),
    ],
)
def test_a_malformed_earlier_plan_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "today.json").write_text(text)
    with pytest.raises(SpecError, match=complaint):
        plan_fleet(fleet(), earlier=tmp_path / "today.json")


def test_utilisation_is_demand_over_the_capacity_rented() -> None:
    raw = {
        "hours": [1.0, 1.0],
        "needs": [
            {"name": "a", "demand": [3.0, 0.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
        ],
        "options": [
            {"workload": "a", "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 2.0, "chips": 4,
             "usd": 1.0}
        ],
        "quotas": {("r", "x"): 10},
        "budget": None,
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert workload_utilisation(result) == {"a": [pytest.approx(0.75), None]}
    assert fleet_document(result, None)["utilisation"]["quotas"] == [
        {"region": "r", "chip": "x", "quota": 10, "chips": [8, 0]}
    ]


def test_simpler_policies_cost_no_less() -> None:
    prices = {"tpu-v5e": {"on_demand": 1.0, "reserved": 0.6, "spot": 0.4}, "tpu-v6e": {"on_demand": 2.5}}
    regions = {
        "east": {
            "quota": {"tpu-v5e": 16, "tpu-v6e": 8},
            "purchases": ["on_demand", "reserved", "spot"],
            "price": prices,
        }
    }
    workloads = {"chat": {"deployment": CHAT, "demand": [90, 20, 60], "max_spot_share": 0.5}}
    result = plan_fleet(fleet(regions=regions, workloads=workloads, periods_h=[8, 8, 8]))
    assert result.total_usd is not None
    beside = compared(result)
    costs = {one.name: one.total_usd for one in beside.policies}
    assert len(costs) == 4
    assert all(usd is None or usd >= result.total_usd * (1 - 1e-9) for usd in costs.values())
    for one in beside.quotas:
        assert one.quota == max(result.chips_taken[one.region, one.chip])


def in_pods(pods: dict[str, Any]) -> dict[str, Any]:
    """A region with pods."""
    return {"regions": {"east": {"price": {"tpu-v5e": {"on_demand": 1.0}}, "pods": pods}}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"workloads": {}}, "workloads"),
        ({"periods_h": [1, 2]}, None),
        (
            {"workloads": {"chat": {"deployment": CHAT, "demand": [1, 2]}}},
            "2 numbers, expected 1, one a period",
        ),
        (
            {"workloads": {"chat": {"deployment": CHAT, "demand": -1}}},
            "demand.0 = -1.0: expected at least 0",
        ),
        ({"workloads": {"chat": {"deployment": CHAT, "demand": float("nan")}}}, "workloads.chat.demand.0 = nan"),
        ({"workloads": {"chat": {"deployment": CHAT, "demand": "many"}}}, "demand = 'many': expected a number, a list"),
        (
            {"workloads": {"chat": {"deployment": CHAT, "demand": 1, "regions": ["est"]}}},
            "workloads.chat.regions: no region 'est'; did you mean",
        ),
        ({"regions": {"east": {"quota": {"tpu-v5f": 1}}}}, "regions.east: no chip 'tpu-v5f'; did you mean"),
        ({"workloads": {"chat": {"demand": 1}}}, "workloads.chat.deployment is missing"),
        (in_pods({"tpu-v5f": {"count": 1}}), "regions.east: no chip 'tpu-v5f'; did you mean"),
        (in_pods({"h100-sxm": {"count": 1}}), "regions.east.pods.h100-sxm: the slices of h100-sxm are no blocks"),
        (in_pods({"tpu-v5e": {"count": 1, "shape": "16"}}), "pods.tpu-v5e.shape = 16: expected 2 sizes"),
        (in_pods({"tpu-v5e": {"count": 1, "shape": "16xa"}}), "pods.tpu-v5e.shape = '16xa': expected chips along"),
        (in_pods({"tpu-v5p": {"count": 1, "shape": "4x4x8"}}), "pods.tpu-v5p.shape = 4x4x8: expected a cube"),
        (in_pods({"tpu-v5e": {"count": 1, "shape": "16x65"}}), "expected at most 64 chips along an axis"),
        (
            {"regions": {"west": {"quota": {"tpu-v5e": 4}, "pods": {"tpu-v6e": {"count": 1}}}}},
            "regions.west.pods.tpu-v6e: the quota lists none of them; did you mean 'tpu-v5e'?",
        ),
        (in_pods({"tpu-v5e": {"count": -1}}), "regions.east.pods.tpu-v5e.count = -1: expected at least 0"),
        (
            {
                "workloads": {
                    "chat": {"deployment": {"model": "llama-3-8b", "workload": {"context_tokens": 5}}, "demand": 1}
                }
            },
            "deployment.workload.prompt_tokens is missing: a fleet serves whole requests",
        ),
    ],
)
def test_a_malformed_fleet_is_named(change: dict[str, Any], complaint: str | None) -> None:
    if complaint is None:
        assert plan_fleet(fleet(**change)).status is Status.OPTIMAL
        return
    with pytest.raises(SpecError) as error:
        plan_fleet(fleet(**change))
    assert complaint in str(error.value)


def test_a_budget_below_the_cheapest_bill_is_a_conflict_and_is_corrected() -> None:
    cheapest = plan_fleet(fleet()).total_usd
    assert cheapest is not None
    result = plan_fleet(fleet(budget_usd=cheapest / 2))
    assert result.status is Status.INFEASIBLE
    assert {limit.kind for limit in result.conflict or ()} == {"demand", "budget"}
    (money,) = [one for one in result.corrections if one.limit.kind == "budget"]
    assert money.value == pytest.approx(cheapest)


def test_demand_comes_from_a_column_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("hour,chat\n0,10\n1,20\n")
    path = tmp_path / "fleet.yaml"
    spec = fleet(
        periods_h=[12, 12],
        workloads={"chat": {"deployment": CHAT, "demand": {"csv": "day.csv", "column": "chat"}}},
    )
    path.write_text(json.dumps(spec))
    assert plan_fleet(path).instance.needs[0].requests_per_s == (10.0, 20.0)
    path.write_text(json.dumps(spec).replace('"column": "chat"', '"column": "chatt"'))
    with pytest.raises(SpecError, match=r"has no column 'chatt'; did you mean 'chat'"):
        plan_fleet(path)


def test_the_command_prints_writes_and_exits(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(json.dumps(fleet()))
    run = CliRunner()
    found = run.invoke(app, ["fleet", str(path), "--json", "--compare"])
    assert found.exit_code == 0
    document = json.loads(found.stdout)
    assert document["status"] == "optimal"
    assert document["total_usd"] == document["bound_usd"]
    assert sum(one["usd"] for one in document["allocations"]) == pytest.approx(document["total_usd"])
    assert {one["plan"]["chip"] for one in document["allocations"]} == {"tpu-v5e"}
    assert {one["name"] for one in document["policies"]} >= {"a static fleet, sized for the peak"}
    text = run.invoke(app, ["fleet", str(path)]).stdout
    assert "optimal: proved that no fleet costs less" in text
    for name in ("out.csv", "out.parquet", "out.html"):
        assert run.invoke(app, ["fleet", str(path), "--out", str(tmp_path / name)]).exit_code == 0
        assert (tmp_path / name).stat().st_size > 100
    assert "chat,0,east,on_demand,tpu-v5e" in (tmp_path / "out.csv").read_text()
    path.write_text(json.dumps(fleet(workloads={"chat": {"deployment": CHAT, "demand": 10**6}})))
    infeasible = run.invoke(app, ["fleet", str(path)])
    assert infeasible.exit_code == 3
    assert "the tpu-v5e quota of 16 in east" in " ".join(infeasible.stdout.split())


@pytest.mark.parametrize(("rate", "usd", "counts"), [(4.3, 8.35, (1, 2)), (6.3, 12.02, (1, 3))])
def test_two_types_of_gpu_beat_one_as_in_melange(rate: float, usd: float, counts: tuple[int, int]) -> None:
    """Mélange (arXiv 2404.14527), figure 9: A10G at $1.01 and 0.37 requests/s, A100 at $3.67 and 2.0."""
    raw = {
        "hours": [1.0],
        "needs": [
            {"name": "a", "demand": [rate], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0},
        ],
        "options": [
            {"workload": "a", "name": name, "chip": name, "region": "r", "purchase": "on_demand", "rate": each,
             "chips": 1, "usd": price}
            for name, each, price in (("a10g", 0.37, 1.01), ("a100", 2.0, 3.67))
        ],
        "quotas": {},
        "budget": None,
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(usd)
    assert tuple(one.replicas for one in result.allocations) == counts


def one_region(quota: int, usd: float = 1.0, **keys: Any) -> dict[str, Any]:
    """A region with v5e chips."""
    return {"east": {"quota": {"tpu-v5e": quota}, "price": {"tpu-v5e": {"on_demand": usd}}, **keys}}


def chat(demand: Any, search: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """A workload on single v5e chips, each of which serves 6.2007 requests/s."""
    asked = {**CHAT["search"], "topologies": {"tpu-v5e": ["1x1"]}, **(search or {})}  # type: ignore[dict-item]
    return {"chat": {"deployment": {**CHAT, "search": asked}, "demand": demand, **keys}}


def test_spare_replicas_for_a_large_one_may_be_many_small_ones() -> None:
    """Two of the large one may fail, whatever serves: 14 small ones beside one large one make up for it."""
    raw = {
        "hours": [1.0],
        "needs": [{"name": "a", "demand": [2.0], "n_plus": 2, "max_share_per_region": 0.0, "max_spot_share": 1.0}],
        "options": [
            {"workload": "a", "name": "small", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
             "chips": 1, "usd": 1.0},
            {"workload": "a", "name": "large", "chip": "y", "region": "q", "purchase": "on_demand", "rate": 6.0,
             "chips": 1, "usd": 20.0},
        ],
        "quotas": {("q", "y"): 1},
        "budget": None,
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert result.total_usd == pytest.approx(20 + 8)  # 8 + 6 - 2 * 6 is the demand


def test_a_fleet_on_which_presolve_fails_is_explained() -> None:
    """The example with too little, with its demand cut to what it has room for, but for a rounding."""
    raw = yaml.safe_load((Path(__file__).parents[1] / "examples" / "fleet-too-little.yaml").read_text())
    share = 0.5680722568072256
    for workload in raw["workloads"].values():
        workload["demand"] *= share * 1.0000001
    assert plan_fleet(raw).status is Status.INFEASIBLE


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.05, 8), st.floats(0.7, 1.6)), min_size=3, max_size=24),
    st.sampled_from([0.3, 1.0, 5.0, 30.0, 1000.0]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_replicas_of_any_size_are_the_cheapest_cover(
    sizes: list[tuple[float, float]], replicas: float, spare: int, kept: float
) -> None:
    """One workload alone, against the dynamic program: large numbers must not blur what is optimal."""
    unit = max(RESOLUTION / max(replicas, 1), 1e5)  # of a replica of size 1
    demand = round(unit * replicas)
    need = WorkloadDemand("w", (demand,), (1.0,), 1.0, spare, None, 1 - kept, False, 1)
    options = tuple(
        ReplicaOption(
            workload="w",
            configuration=Configuration(f"c{number}", f"x{number}", 1, 1.0),
            region="r",
            purchase="spot" if number % 2 else "on_demand",
            usd_per_chip_hour=size * usd,
            requests_per_s=1.0,
            capacity=int(size * unit),
        )
        for number, (size, usd) in enumerate(sizes)
    )
    model = FleetModel(FleetInstance((need,), options, (1.0,), {}, None))
    capacity = np.array([[option.capacity / demand for option in options]])
    spot = np.array([option.purchase == "spot" for option in options])
    covers = Covers(capacity, spot, np.array([kept]), np.array([spare]))
    price = np.array([[option.usd_per_chip_hour for option in options]])
    (least,), (usd,), _ = covers.cheapest(price, (4000, 32_000))
    found = model.solve(model.usd(), None)
    assert found.status is Status.OPTIMAL
    assert least * (1 - 1e-9) <= found.objective <= usd * (1 + 1e-9)


def test_periods_that_nothing_joins_are_planned_one_by_one_and_told() -> None:
    told: list[str] = []
    raw = fleet(periods_h=[1, 2, 3], regions=one_region(100), workloads=chat([10.0, 40.0, 25.0]))
    result = plan_fleet(raw, on_progress=told.append)
    assert [what for what in told if what.startswith("period")] == [f"period {n} of 3" for n in (1, 2, 3)]
    assert told[0] == "configurations of chat, workload 1 of 1"
    alone = [plan_fleet({**raw, "periods_h": [h], "workloads": chat(d)}) for h, d in ((1, 10.0), (2, 40.0), (3, 25.0))]
    assert result.total_usd == pytest.approx(sum(one.total_usd or 0.0 for one in alone))
    assert result.proved == {"usd": True, "configurations": True, "changes": True}
    raw["budget_usd"] = 1e6
    told.clear()
    assert plan_fleet(raw, on_progress=told.append).total_usd == result.total_usd
    assert not any(what.startswith("period") for what in told)


@pytest.mark.parametrize("one_chip", [False, True])
def test_reserved_replicas_go_on_where_they_need_not_be_stopped(one_chip: bool) -> None:
    """Ten are reserved for the first period, so that as many cost nothing more in the second."""
    east = {"quota": {"tpu-v5e": 100}, "purchases": ["reserved"], "price": {"tpu-v5e": {"reserved": 1.0}}}
    workloads = chat([60, 1], one_chip=one_chip)
    result = plan_fleet(fleet(periods_h=[12, 12], regions={"east": east}, workloads=workloads))
    assert [(one.period, one.replicas) for one in result.allocations] == [(0, 10), (1, 10)]
    assert result.proved == {"usd": True, "configurations": True, "changes": True}


def test_periods_left_open_are_planned_once_more_in_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second period is not found at first: it takes what the others leave."""
    whole, tries = FleetModel.solve, []

    def late(self: FleetModel, objective: object, time_limit_s: float | None, **keys: Any) -> FleetSolution:
        tries.append(self.instance.needs[0].demand)
        if tries.count(tries[-1]) == 1 and len(tries) == 2:
            return FleetSolution(Status.UNKNOWN)
        return whole(self, objective, time_limit_s, **keys)

    raw = fleet(periods_h=[1, 2, 3], regions=one_region(100), workloads=chat([10.0, 40.0, 25.0]))
    expected = plan_fleet(raw)
    monkeypatch.setattr(FleetModel, "solve", late)
    found = cheapest(fleet_instance(FleetSpec.load(raw)), perf_counter() + 30)
    assert len(tries) == 4
    assert tries[3] == tries[1]
    assert (found.status, found.objective) == (Status.OPTIMAL, pytest.approx(expected.total_usd))


def test_a_model_that_is_not_built_in_time_is_unknown() -> None:
    raw = fleet()
    instance = fleet_instance(FleetSpec.load(raw))
    late = FleetModel(instance, deadline=0.0)
    assert late.solve(late.usd(), None).status is Status.UNKNOWN
    assert minimal_conflict(replace(instance, quotas=dict.fromkeys(instance.quotas, 0)), 0.0) is None
    assert plan_fleet(raw, time_limit_s=1e-9).status is Status.UNKNOWN


@pytest.mark.parametrize(("demand", "replicas"), [(3, 3), (1000, 1000), (1e5, 100_000), (0.25, 1), (1e-9, 1)])
def test_a_demand_of_whole_replicas_takes_as_many(demand: float, replicas: int) -> None:
    rate = plan_fleet(fleet(regions=one_region(10), workloads=chat(1.0))).allocations[0].option.requests_per_s
    result = plan_fleet(fleet(regions=one_region(replicas), workloads=chat(demand * rate)))
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(replicas)


@pytest.mark.parametrize(("usd", "most", "total"), [(10.0, 4.0, None), (0.5, 2.0, 2.0)])
def test_what_a_replica_may_cost_is_at_the_price_of_its_region(usd: float, most: float, total: float | None) -> None:
    """31 requests/s are five single chips, or one 2x2."""
    asked = {"topologies": {"tpu-v5e": ["1x1", "2x2"]}, "max_usd_per_hour": most}
    result = plan_fleet(fleet(regions=one_region(100, usd), workloads=chat(31, asked)))
    assert result.total_usd == (None if total is None else pytest.approx(total))


def test_less_demand_is_a_correction_only_where_it_makes_a_plan_exist() -> None:
    whole = plan_fleet(fleet(regions=one_region(16), workloads=chat(198.7)))
    (share,) = [one for one in whole.corrections if one.limit.kind == "demand"]
    assert share.value == pytest.approx(16 * 6.2007 / 198.7, rel=1e-4)
    alone = plan_fleet(fleet(regions=one_region(16), workloads=chat(10, max_share_per_region=0.5)))
    (share,) = alone.corrections
    assert (share.limit.kind, share.value) == ("region_share", 1)
    poor = plan_fleet(fleet(regions=one_region(16), workloads=chat(10), budget_usd=1.0))
    (share,) = [one for one in poor.corrections if one.limit.kind == "demand"]
    assert share.value == pytest.approx(0.62007, rel=1e-4)


def test_the_least_share_that_makes_a_plan_exist_is_a_correction(tmp_path: Path) -> None:
    """Of 48 chips' demand 16 stand in one region and 32 in the other, or in spot."""
    rate = plan_fleet(fleet(regions=one_region(1), workloads=chat(1.0))).allocations[0].option.requests_per_s
    two = one_region(32) | {"west": one_region(16)["east"]}
    result = plan_fleet(fleet(regions=two, workloads=chat(48 * rate, max_share_per_region=0.5)))
    (share,) = [one for one in result.corrections if one.limit.kind == "region_share"]
    assert share.value == pytest.approx(2 / 3, abs=1e-4)
    for value, exists in ((share.value, True), (share.value - 2e-4, False)):
        again = plan_fleet(fleet(regions=two, workloads=chat(48 * rate, max_share_per_region=value)))
        assert (again.status is Status.OPTIMAL) is exists
    spot = one_region(48, purchases=["spot"])
    spot["east"]["price"]["tpu-v5e"]["spot"] = 0.5
    raw = fleet(regions=spot, workloads=chat(48 * rate, max_spot_share=0.25))
    (share,) = plan_fleet(raw).corrections
    assert (share.limit.kind, share.value) == ("spot_share", 1)
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(raw))
    assert "max_spot_share of chat at 1" in CliRunner().invoke(app, ["fleet", str(tmp_path / "fleet.yaml")]).output


def test_what_a_chip_costs_is_the_regions_to_say() -> None:
    """The L4 has no list price; a deployment of its own that names it is refused."""
    region = {"east": {"price": {"l4": {"on_demand": 0.7}}, "quota": {"l4": 8}}}
    deployment = {**CHAT, "slo": {"tpot_ms": 200}, "search": {"chips": ["l4"], "weights": ["int8"]}}
    with pytest.raises(SpecError, match="l4 has no price"):
        Spec.load(deployment)
    malformed = {"chat": {"deployment": {**deployment, "price": 5}, "demand": 0.1}}
    with pytest.raises(SpecError, match=r"workloads.chat.deployment: spec: price = 5: expected a mapping"):
        plan_fleet(fleet(regions=region, workloads=malformed))
    for search in (deployment["search"], {"weights": ["int8"]}):
        workloads = {"chat": {"deployment": {**deployment, "search": search}, "demand": 0.1}}
        assert plan_fleet(fleet(regions=region, workloads=workloads)).total_usd == pytest.approx(0.7)


def test_what_is_written_adds_up_to_the_bill(tmp_path: Path) -> None:
    region = one_region(100, purchases=["on_demand", "reserved"])
    region["east"]["price"]["tpu-v5e"]["reserved"] = 0.5
    raw = fleet(regions=region, workloads=chat([10.0, 30.0]), periods_h=[20.0, 4.0])
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(raw))
    table, document = tmp_path / "fleet.csv", None
    ran = CliRunner().invoke(app, ["fleet", str(tmp_path / "fleet.yaml"), "--out", str(table), "--json"])
    document = json.loads(ran.stdout)
    assert document["reservations"]
    assert pd.read_csv(table)["usd"].sum() == pytest.approx(document["total_usd"])
    for one in document["allocations"]:
        price = 0.5 if one["purchase"] == "reserved" else 1.0
        assert one["plan"]["usd_per_chip_hour"] == price
        assert one["plan"]["usd_per_hour"] == price * one["chips"] / one["replicas"]


def test_with_degrade_demand_is_in_no_conflict() -> None:
    instance = instance_of(
        {
            "hours": [1.0],
            "needs": [{"name": "a", "demand": [1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}],
            "options": [
                {"workload": "a", "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
                 "chips": 1, "usd": 1.0}
            ],
            "quotas": {("r", "x"): 4},
            "budget": None,
            "earlier": {"replicas": {("z", "c", "r"): [3]}, "max_changes": 2, "usd_per_change": 0.0},
        }
    )  # fmt: skip
    result = plan_instance(instance, inf, degrade=True)
    assert [limit.kind for limit in result.conflict or ()] == ["max_changes"]
    assert [(one.limit.kind, one.value) for one in result.corrections] == [("max_changes", 3)]


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


def test_a_workload_that_nobody_asks_for_takes_nothing() -> None:
    result = plan_fleet(fleet(regions=one_region(4), workloads=chat(0)))
    assert (result.status, result.total_usd) == (Status.OPTIMAL, 0.0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"workloads": chat(1, {"quota": {"tpu-v5e": 1}})}, "workloads.chat.deployment.search.quota: expected none"),
        (
            {"regions": one_region(4, price_region="us-centrall")},
            "regions.east.price_region = 'us-centrall': no price in",
        ),
        (
            {"regions": one_region(4, price_book="nobook")},
            "regions.east.price_book: no price book 'nobook' in the catalogue",
        ),
        ({"workloads": chat(10**400)}, "expected at most 1e12"),
        ({"periods_h": [1e15]}, "periods_h.0 = 1000000000000000.0: expected at most 1000000.0"),
        ({"workloads": chat({"csv": "a\0b.csv", "column": "x"})}, "cannot be read"),
    ],
)
def test_what_a_fleet_cannot_mean_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as fault:
        plan_fleet(fleet(**change))
    assert complaint in str(fault.value)


def test_a_file_of_demand_is_read_with_its_marks_and_its_faults(tmp_path: Path) -> None:
    (tmp_path / "demand.csv").write_text("\ufeffchat,other\n5,1,9\nmany,2\n", encoding="utf-8")
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(fleet(periods_h=[1, 1], workloads=chat({"csv": "demand.csv", "column": "chat"}))))
    with pytest.raises(SpecError, match=r"demand.csv, line 3: chat = 'many': expected a number"):
        plan_fleet(path)
    path.write_text(dumps(fleet(periods_h=[1, 1], workloads=chat({"csv": "demand.csv", "column": "chta"}))))
    with pytest.raises(SpecError, match="no column 'chta'; did you mean 'chat'"):
        plan_fleet(path)


def test_a_deployment_written_out_finds_its_model_beside_the_fleet(tmp_path: Path) -> None:
    source = Path("models/llama-3-8b.toml").read_text()
    (tmp_path / "mine.toml").write_text(source.replace("Llama 3 8B", "Mine"))
    given = fleet(regions=one_region(16), workloads=chat(10))
    given["workloads"]["chat"]["deployment"]["model"] = "mine.toml"
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(given))
    assert plan_fleet(path).total_usd == pytest.approx(2)


def test_a_week_is_printed_a_day_at_a_time_and_names_are_no_markup(tmp_path: Path) -> None:
    given = fleet(periods_h=[1] * 60, regions=one_region(16), workloads={"[/red]<b>": chat(10)["chat"]})
    path, page = tmp_path / "fleet.yaml", tmp_path / "page.html"
    path.write_text(dumps(given))
    ran = CliRunner().invoke(app, ["fleet", str(path), "--out", str(page)])
    assert ran.exit_code == 0
    for first, last in ((0, 23), (24, 47), (48, 59)):
        assert f"replicas in periods {first} to {last}" in ran.stdout
    assert ran.stdout.count(" 2 2 2 2 2 2 2 2 2 2 2 2") >= 3
    text = page.read_text()
    assert "[/red]&lt;b&gt;" in text
    assert "[/red]<b>" not in text


@pytest.mark.parametrize(
    ("regions", "search", "said", "stands"),
    [
        (one_region(0), {}, "its regions have none of the chips it may use", ([], [], [])),
        (
            one_region(8, purchases=["reserved"]),
            {"chips": ["tpu-v5e"]},
            "its regions have no price for tpu-v5e as they may be bought",
            ([], ["tpu-v5e"], []),
        ),
        (
            one_region(8),
            {"min_batch": 4000},
            "tpot ≤ 30 ms and batch ≥ 4000 cannot hold together on tpu-v5e",
            (["tpu-v5e"], [], [["hbm", "min_batch"], ["tpot", "min_batch"]]),
        ),
        (
            one_region(8, 10.0),
            {"max_usd_per_hour": 1.0},
            "each replica costs more than search.max_usd_per_hour",
            (["tpu-v5e"], [], []),
        ),
    ],
)
def test_nothing_to_run_on_is_said_with_its_reason(
    tmp_path: Path, regions: Any, search: dict[str, Any], said: str, stands: tuple[Any, ...]
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(fleet(regions=regions, workloads=chat(1, search))))
    ran = CliRunner().invoke(app, ["fleet", str(path)])
    assert ran.exit_code == 3
    assert "chat has nothing to run on: " in ran.stdout
    assert said in " ".join(ran.stdout.split())
    (one,) = json.loads(CliRunner().invoke(app, ["fleet", str(path), "--json"]).stdout)["stranded"]
    assert (one["sold"], one["unsold"], one["conflict"]) == stands
