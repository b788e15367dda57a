import json
from math import inf
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from servesat.cli import app
from servesat.fleet.plan import plan_fleet, plan_instance
from servesat.report.documents import dumps
from servesat.report.fleet_document import fleet_document, workload_utilisation
from tests.fleet.fleets import CHAT, chat, fleet, instance_of, one_region


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
        (bill,) = one["plan"]["bills"]
        assert (bill["usd_per_chip_hour"], bill["purchase"], bill["region"]) == (price, one["purchase"], "east")


def test_the_bill_of_a_replica_names_the_instance_of_its_price() -> None:
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}, "modes": ["interleaved"]}
    raw = {
        "regions": {"us": {"quota": {"h100-sxm": 8}, "price_book": "aws-2026-11", "price_region": "us-east-1"}},
        "workloads": {"chat": {"deployment": {**CHAT, "search": search}, "demand": 1}},
    }
    (allocation,) = fleet_document(plan_fleet(raw), None)["allocations"]
    (bill,) = allocation["plan"]["bills"]
    assert (bill["cloud"], bill["region"], bill["purchase"]) == ("aws", "us-east-1", "on_demand")
    assert (bill["chips"], bill["instance_chips"]) == (1, 1)
    assert bill["instance"] == "p5.4xlarge"
    assert bill["usd_per_chip_hour"] == bill["usd_per_instance_hour"] == allocation["usd"]


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
