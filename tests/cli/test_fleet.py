import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from servesat.cli import app
from servesat.fleet.plan import plan_fleet
from servesat.report.documents import dumps
from tests.fleet.fleets import CHAT, fleet


def test_slices_that_do_not_stand_are_named_with_the_pods_that_would_do(tmp_path: Path) -> None:
    """Three 4x8 slices are 96 chips of 96, but a pod of 4x12 holds one."""
    deployment = {
        "cost_model": "ideal",
        **CHAT,
        "model": "llama-3-70b",
        "search": {**CHAT["search"], "topologies": {"tpu-v5e": ["4x8"]}},
    }
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
