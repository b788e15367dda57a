from math import inf
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from typer.testing import CliRunner

from servesat import Status
from servesat.cli import app
from servesat.fleet import conflict
from servesat.fleet.conflict import minimal_conflict
from servesat.fleet.plan import plan_fleet, plan_instance
from servesat.report.fleet_words import correction_words
from tests.fleet.fleets import (
    CHAT,
    chat,
    conflict_is_true_and_minimal,
    fleet,
    in_small_pods,
    instance_of,
    one_region,
    small_fleets,
)
from tests.strategies import examples


@pytest.mark.slow
@examples(60)
@given(small_fleets())
def test_conflicts_are_true_and_minimal(raw: dict[str, Any]) -> None:
    conflict_is_true_and_minimal(raw)


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
    monkeypatch.setattr(conflict, "MAX_PODS", 11)
    raw = fleet(regions=one_region(100), workloads=chat(1.0, {"topologies": {"tpu-v5e": ["1x1"]}}))
    rate = plan_fleet(raw).allocations[0].option.requests_per_s
    raw["workloads"]["chat"]["demand"] = 11 * rate
    raw["regions"]["east"]["pods"] = {"tpu-v5e": {"count": 3, "shape": "1x1"}}
    (pods,) = [one for one in plan_fleet(raw).corrections if one.unit == "pods"]
    assert pods.value == 11


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


def test_a_budget_below_the_cheapest_bill_is_a_conflict_and_is_corrected() -> None:
    cheapest = plan_fleet(fleet()).total_usd
    assert cheapest is not None
    result = plan_fleet(fleet(budget_usd=cheapest / 2))
    assert result.status is Status.INFEASIBLE
    assert {limit.kind for limit in result.conflict or ()} == {"demand", "budget"}
    (money,) = [one for one in result.corrections if one.limit.kind == "budget"]
    assert money.value == pytest.approx(cheapest)


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


def test_a_share_a_little_above_a_ten_thousandth_is_rounded_up() -> None:
    """Of a demand of 2 a region has a replica of 0.9999999, so the other needs a share of 0.50000005."""
    raw: dict[str, Any] = {
        "hours": [1.0],
        "needs": [{"name": "a", "demand": [2.0], "n_plus": 0, "max_share_per_region": 0.4, "max_spot_share": 1.0}],
        "options": [
            {"workload": "a", "name": region, "chip": "x", "region": region, "purchase": "on_demand", "rate": rate,
             "chips": 1, "usd": 1.0}
            for region, rate in (("east", 0.9999999), ("west", 2.0))
        ],
        "quotas": {("east", "x"): 1, ("west", "x"): 1}, "budget": None,
    }  # fmt: skip
    (share,) = [one for one in plan_instance(instance_of(raw), inf).corrections if one.limit.kind == "region_share"]
    assert share.value == pytest.approx(0.5001)
    raw["needs"][0]["max_share_per_region"] = share.value
    assert plan_instance(instance_of(raw), inf).status is Status.OPTIMAL


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


def test_spare_replicas_conflict_only_with_a_demand_to_meet() -> None:
    """One replica may fail and there is a chip for one: only with the demand do both rule out every fleet."""
    raw = {
        "hours": [1.0],
        "needs": [{"name": "a", "demand": [1.0], "n_plus": 1, "max_share_per_region": None, "max_spot_share": 1.0}],
        "options": [
            {"workload": "a", "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 2.0,
             "chips": 1, "usd": 1.0}
        ],
        "quotas": {("r", "x"): 1},
        "budget": None,
    }  # fmt: skip
    assert {limit.kind for limit in minimal_conflict(instance_of(raw))} == {"demand", "n_plus", "quota"}


def test_a_limit_on_configurations_conflicts_and_is_corrected() -> None:
    """Two chips of each type: either configuration alone serves half of the demand."""
    raw = {
        "hours": [1.0],
        "needs": [
            {"name": "a", "demand": [4.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0,
             "max_configurations": 1}
        ],
        "options": [
            {"workload": "a", "name": f"on {chip}", "chip": chip, "region": "r", "purchase": "on_demand", "rate": 1.0,
             "chips": 1, "usd": 1.0}
            for chip in ("x", "y")
        ],
        "quotas": {("r", "x"): 2, ("r", "y"): 2},
        "budget": None,
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert {limit.kind for limit in result.conflict or ()} >= {"demand", "max_configurations"}
    (wider,) = [one for one in result.corrections if one.limit.kind == "max_configurations"]
    assert (wider.value, correction_words(wider)) == (2, "max_configurations of a at 2")


def test_conflicts_that_one_change_does_not_mend_are_all_told() -> None:
    """The quota of the east serves no 100 requests/s, and one region is all that `lone` may stand in."""
    lone = {"deployment": CHAT, "demand": 5, "regions": ["west"], "max_share_per_region": 0.5}
    given = fleet(workloads={"chat": {"deployment": CHAT, "demand": 1000, "regions": ["east"]}, "lone": lone})
    result = plan_fleet(given)
    assert result.corrections == ()
    told = [{(limit.kind, limit.of) for limit in members} for members in (result.conflict, *result.further_conflicts)]
    of_quota = {("demand", ("chat",)), ("quota", ("east", "tpu-v5e"))}
    of_share = {("region_share", ("lone",))}
    assert told in ([of_quota, of_share], [of_share, of_quota])
