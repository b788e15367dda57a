from io import StringIO
from math import inf
from time import perf_counter
from typing import Any

import pytest
from rich.console import Console

from servesat import Status
from servesat.fleet import check
from servesat.fleet.cheapest import cheapest
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance_from_spec import fleet_instance
from servesat.fleet.plan import plan_fleet, plan_instance
from servesat.fleet.policies import compared
from servesat.fleet.spec import FleetSpec
from servesat.report.fleet import print_fleet
from tests.fleet.fleets import CHAT, chat, fleet, instance_of, one_region


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


def test_a_bill_whose_instances_are_not_recounted_in_time_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 slices of four chips and 80 of three stand in 40 instances of ten, and by first fit in 47."""
    raw: dict[str, Any] = {
        "hours": [1.0],
        "needs": [
            {"name": name, "demand": [count], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
            for name, count in (("a", 40.0), ("b", 80.0))
        ],
        "options": [
            {"workload": name, "name": name, "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
             "chips": chips, "usd": 1.0, "machine": (10, 10.0)}
            for name, chips in (("a", 4), ("b", 3))
        ],
        "quotas": {}, "budget": None,
    }  # fmt: skip
    found = plan_instance(instance_of(raw), inf)
    assert (found.status, found.total_usd, found.bound_usd) == (Status.OPTIMAL, 400, 400)
    monkeypatch.setattr(check, "filled_instances", lambda chips, pieces: None)
    short = plan_instance(instance_of(raw), inf)
    assert (short.status, short.total_usd) == (Status.FEASIBLE, 470)
    assert short.bound_usd == pytest.approx(400)
    assert not any(policy.proved for policy in compared(short).policies[:-1])  # the last plans them apart


@pytest.mark.parametrize("limit", [{"max_spot_share": 0.3}, {"max_share_per_region": 0.5}, {"max_spot_share": 0.7}])
def test_shares_hold_of_the_demand_that_is_served(limit: dict[str, float]) -> None:
    """One chip, in one region on demand: it serves the workload of the first priority, and nothing of the other."""
    both = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"prompt_tokens": 1024, "output_tokens": 256}}
    workloads = {
        "important": {"deployment": both, "demand": 5, "priority": 1},
        "other": {"deployment": both, "demand": 3, "priority": 2, **limit},
    }
    found = plan_fleet(fleet(regions=one_region(1, 1.2), workloads=workloads), degrade=True)
    assert found.status is Status.OPTIMAL
    assert {one.workload for one in found.allocations} == {"important"}
    assert found.unserved == {"important": (0.0,), "other": (3.0,)}


def test_a_workload_of_one_chip_may_run_on_none() -> None:
    idle = plan_fleet(fleet(workloads=chat(10) | {"idle": {"deployment": CHAT, "demand": 0, "one_chip": True}}))
    assert (idle.status, idle.total_usd) == (Status.OPTIMAL, plan_fleet(fleet(workloads=chat(10))).total_usd)
    elsewhere = {**CHAT, "search": {**CHAT["search"], "chips": ["h100-sxm"]}}
    given = chat(3) | {"none": {"deployment": elsewhere, "demand": 3, "one_chip": True, "priority": 2}}
    found = plan_fleet(fleet(regions=one_region(8), workloads=given), degrade=True)
    assert (found.status, found.unserved) == (Status.OPTIMAL, {"chat": (0.0,), "none": (3.0,)})


def test_a_share_of_the_demand_survives_the_loss_of_a_region() -> None:
    spread = plan_fleet(fleet(workloads={"chat": {"deployment": CHAT, "demand": 10, "max_share_per_region": 0.5}}))
    served = dict.fromkeys(("east", "west"), 0.0)
    for one in spread.allocations:
        served[one.region] += one.replicas * one.option.requests_per_s
    assert min(served.values()) >= 5


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


@pytest.mark.parametrize("usd", [1e-9, 1.0, 1e9])
def test_the_cheapest_fleet_is_found_at_any_price(usd: float) -> None:
    """At a price below what a solver takes for nothing, the bill must not vanish while later goals are minimised."""
    regions = one_region(100_000, usd)
    result = plan_fleet(fleet(regions=regions, periods_h=[1, 1], workloads=chat([10_000, 100])))
    assert [one.replicas for one in result.allocations] == [1613, 17]  # of 6.2007 requests/s each
    assert result.total_usd == pytest.approx(1630 * usd)
    assert result.bound_usd == result.total_usd


def test_a_later_goal_does_not_raise_a_bill_that_is_nothing_beside_another_price() -> None:
    """Chips in the west cost 10¹² times as much: in the east any number of them is nothing in comparison."""
    regions = one_region(100_000, 1e-9) | {"west": one_region(100_000, 1e3)["east"]}
    result = plan_fleet(fleet(regions=regions, periods_h=[1, 1], workloads=chat([10_000, 100])))
    assert [(one.region, one.replicas) for one in result.allocations] == [("east", 1613), ("east", 17)]


def test_periods_left_open_are_planned_once_more_in_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second period is not found at first: it takes what the others leave."""
    whole, tries = FleetModel.solve, []

    def late(self: FleetModel, objective: object, time_limit_s: float | None, **keys: Any) -> FleetSolution:
        tries.append(self.instance.workloads[0].demand)
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


def test_a_workload_that_nobody_asks_for_takes_nothing() -> None:
    result = plan_fleet(fleet(regions=one_region(4), workloads=chat(0)))
    assert (result.status, result.total_usd) == (Status.OPTIMAL, 0.0)


def two_sizes(**keys: Any) -> dict[str, Any]:
    """Two hours of 3 and 1 requests/s on replicas of 2 requests/s for $3 and of 1 for $2 an hour."""
    return {
        "hours": [1.0, 1.0],
        "needs": [
            {"name": "a", "demand": [3.0, 1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
        ],
        "options": [
            {"workload": "a", "name": name, "chip": "x", "region": "r", "purchase": "on_demand", "rate": rate,
             "chips": 1, "usd": usd}
            for name, rate, usd in (("large", 2.0, 3.0), ("small", 1.0, 2.0))
        ],
        "quotas": {},
        "budget": None,
        **keys,
    }  # fmt: skip


def test_few_configurations_are_asked_for_by_workload_and_region() -> None:
    free = plan_instance(instance_of(two_sizes()), inf)
    assert free.total_usd == 3 + 2 + 2  # one of each, then the small one
    raw = two_sizes()
    raw["needs"][0]["max_configurations"] = 1
    limited = plan_instance(instance_of(raw), inf)
    assert limited.total_usd == 3 * 2 + 2  # small ones alone; large ones alone take $9
    assert {one.option.configuration.name for one in limited.allocations} == {"small"}


def test_changes_between_periods_at_a_price_are_part_of_the_bill() -> None:
    for usd, total, changes in ((0.0, 7.0, 1), (2.9, 9.9, 1), (3.5, 10.0, 0)):
        result = plan_instance(instance_of(two_sizes(usd_per_change=usd)), inf)
        assert (result.total_usd, result.period_changes) == (pytest.approx(total), changes)


def test_a_fleet_says_how_often_replicas_start_or_stop() -> None:
    raw = fleet(periods_h=[1, 1], workloads=chat([20, 10], max_configurations=1), usd_per_change=0.01)
    result = plan_fleet(raw)
    assert [one.replicas for one in result.allocations] == [4, 2]
    assert (result.period_changes, result.total_usd) == (2, pytest.approx(4 + 2 + 2 * 0.01))
    file = StringIO()
    print_fleet(Console(file=file, width=160), result, compared(result))
    assert "2 replicas start or stop between periods, at $0.01000 each" in file.getvalue()


def test_a_comparison_says_what_one_configuration_of_each_workload_would_cost() -> None:
    policies = {
        policy.name: policy.total_usd for policy in compared(plan_instance(instance_of(two_sizes()), inf)).policies
    }
    assert policies["one configuration of each workload in a region"] == 8


def test_reserved_chips_of_larger_instances_are_paid_at_their_own_price() -> None:
    """By the hour, g6e.12xlarge has an L40S for $1.65259 reserved, g6e.xlarge for $1.17243; 4 and 1 are needed."""
    east = {"price_cloud": "aws", "price_region": "us-east-1", "quota": {"l40s": 16}, "purchases": ["reserved"]}

    def workload(topology: str, demand: float) -> dict[str, Any]:
        search = {"topologies": {"l40s": [topology]}}
        chat = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"prompt_tokens": 1024, "output_tokens": 256}}
        return {"deployment": {**chat, "slo": {"tpot_ms": 30}, "search": search}, "demand": demand}

    for names in (["big", "small"], ["small", "big"]):
        of = {"big": workload("4x1", 40), "small": workload("1x1", 5)}
        result = plan_fleet(
            {
                "buy": "share",
                "periods_h": [8760],
                "regions": {"east": east},
                "workloads": {name: of[name] for name in names},
            }
        )
        assert result.total_usd == pytest.approx((4 * 1.65259 + 1.17243) * 8760, rel=1e-5)
        assert [(one.chips, one.usd) for one in result.reservations] == [(5, pytest.approx(result.total_usd))]


def test_the_time_limit_counts_while_configurations_are_found() -> None:
    """At once no workload is begun; once all are found, the plan is made however late it is."""
    begun: list[str] = []
    late = plan_fleet(fleet(), time_limit_s=-1.0, on_progress=begun.append)
    assert (late.status, late.engine, late.instance.workloads, begun) == (Status.UNKNOWN, "", (), [])
    stream = StringIO()
    print_fleet(Console(file=stream, width=200), late, None)
    assert "over with the configurations of 0 workloads; raise it" in stream.getvalue()
    assert plan_fleet(fleet(), time_limit_s=0.01).status is Status.OPTIMAL
