"""What a fleet's workloads could run in: the offers of each region, and the instances that replicas stand in."""

from math import fsum
from typing import Any

import pytest

from servesat import Status
from servesat.fleet.instance_from_spec import fleet_instance
from servesat.fleet.plan import plan_fleet
from servesat.fleet.spec import FleetSpec
from servesat.report.fleet_document import bill_rows, bills, fleet_document

QWEN = {"cost_model": "ideal",
    "model": "qwen3-32b", "workload": {"prompt_tokens": 2000, "output_tokens": 300}, "utilisation": 0.7,
    "headroom": 0.1,
}  # fmt: skip


def on_aws(**keys: Any) -> dict[str, Any]:
    """Qwen3 32B over two periods on 8 H200 and 8 A100 of AWS in us-east-1."""
    region = {"price_book": "aws-2026-11", "price_region": "us-east-1", "quota": {"h200": 8, "a100-80gb": 8}}
    workloads = {"chat": {"deployment": QWEN, "demand": [2, 6]}}
    return {"periods_h": [12, 12], "regions": {"east": region}, "workloads": workloads, **keys}


def test_a_fleet_pays_for_whole_machines() -> None:
    """As shares 2 A100 and 1 H200 cost $259.63; one p4de.24xlarge for 24 hours at $27.44705 costs $658.73."""
    result = plan_fleet(on_aws())
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(24 * 27.44705)
    assert [(one.machine.name, one.period, one.instances, one.chips) for one in result.rentals] == [
        ("p4de.24xlarge", 0, 1, 8), ("p4de.24xlarge", 1, 1, 8),
    ]  # fmt: skip
    shared = plan_fleet(on_aws(buy="share"))
    assert shared.total_usd == pytest.approx(259.63, abs=0.005)
    assert shared.rentals == ()


def test_what_is_idle_is_a_line_of_the_bill() -> None:
    """With one slice of 2 chips at a time, an instance of 8 is a quarter used."""
    two = {**QWEN, "search": {"topologies": {"a100-80gb": ["2x1"]}, "modes": ["interleaved"]}}
    result = plan_fleet(on_aws(workloads={"chat": {"deployment": two, "demand": [1, 0], "chips": ["a100-80gb"]}}))
    assert result.total_usd == pytest.approx(12 * 27.44705)
    (rental,) = result.rentals
    assert (rental.instances, rental.chips_used, rental.chips) == (1, 2, 8)
    assert dict(bills(result)["workload"]) == {
        "chat": pytest.approx(3 * 27.44705), "(idle)": pytest.approx(9 * 27.44705),
    }  # fmt: skip
    assert fsum(row["usd"] for row in bill_rows(result)) == pytest.approx(result.total_usd, rel=1e-9)
    (instances,) = fleet_document(result, None)["instances"]
    assert instances["cloud"] == "aws"
    assert instances["usd"] == pytest.approx(instances["instances"] * 12 * instances["usd_per_instance_hour"], rel=1e-9)
    assert result.chips_taken["east", "a100-80gb"] == [8, 0]


def test_workloads_share_machines() -> None:
    """Two replicas of 2 chips and one of 4 stand in one machine of 8."""
    search = {"modes": ["interleaved"], "weights": ["int8"], "kv_cache": ["int8"]}
    of_two = {**QWEN, "search": {**search, "topologies": {"a100-80gb": ["2x1"]}}}
    of_four = {**QWEN, "search": {**search, "topologies": {"a100-80gb": ["4x1"]}}}
    workloads = {
        name: {"deployment": deployment, "demand": [1, 1], "chips": ["a100-80gb"]}
        for name, deployment in {"a": of_two, "b": of_two, "c": of_four}.items()
    }
    result = plan_fleet(on_aws(workloads=workloads))
    assert result.total_usd == pytest.approx(24 * 27.44705)
    assert [rental.chips_used for rental in result.rentals] == [8, 8]


def test_reserved_machines_are_kept() -> None:
    """Ten hours a day on demand cost less than all day reserved; both prices are of one machine of the book."""
    prices = {
        "name": "test",
        "instances": {"m": {"chip": "h100-sxm", "chips": 8, "source": "test"}},
        "offers": [
            {"instance": "m", "usd_per_instance_hour": 10.0, "source": "test"},
            {"instance": "m", "usd_per_instance_hour": 6.0, "purchase": "reserved", "term": "1 year", "source": "test"},
        ],
    }
    region = {"price_book": prices, "purchases": ["on_demand", "reserved"]}
    small = {**QWEN, "model": "llama-3-8b"}
    workloads = {"chat": {"deployment": small, "demand": [1, 1], "chips": ["h100-sxm"]}}

    def bill(hours: list[float], demand: list[float]) -> float | None:
        given = {"periods_h": hours, "regions": {"r": region}}
        return plan_fleet({**given, "workloads": {"chat": {**workloads["chat"], "demand": demand}}}).total_usd

    assert bill([10, 14], [1, 0]) == pytest.approx(100)  # against 144 reserved
    assert bill([16, 8], [1, 0]) == pytest.approx(144)  # against 160 on demand
    assert bill([16, 8], [1, 1]) == pytest.approx(144)


def test_a_slice_stands_only_where_it_is_held() -> None:
    """p5.4xlarge has one H100, so of its options only slices of one chip stand in it."""
    raw = on_aws(
        regions={"east": {"price_book": "aws-2026-11", "price_region": "us-east-1", "quota": {"h100-sxm": 99}}}
    )
    instance = fleet_instance(FleetSpec.load(raw))
    sizes = {(option.machine.name, option.chips) for option in instance.options if option.machine is not None}
    assert {chips for name, chips in sizes if name == "p5.4xlarge"} == {1}
    assert {1, 2, 4, 8} <= {chips for name, chips in sizes if name == "p5.48xlarge"}
    assert all(option.machine is not None for option in instance.options)
