import json
from pathlib import Path
from typing import Any

import pytest

from servesat import SpecError, Status
from servesat.fleet.plan import plan_fleet
from servesat.fleet.spec import FleetSpec
from servesat.report.documents import dumps
from tests.fleet.fleets import CHAT, chat, fleet, one_region
from tests.helpers import ROOT

ARRIVING = {**CHAT, "workload": {"prompt_tokens": 1024, "output_tokens": 256, "arrivals": "poisson"}}


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
        ({"periods_h": 24}, "periods_h = 24: expected a list of hours, as in [8, 16]"),
        ({"workloads": {"chat": {"demand": 1}}}, "workloads.chat.deployment is missing"),
        (in_pods({"tpu-v5f": {"count": 1}}), "regions.east: no chip 'tpu-v5f'; did you mean"),
        (in_pods({"h100-sxm": {"count": 1}}), "regions.east.pods.h100-sxm: the slices of h100-sxm are not blocks"),
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
                    "chat": {
                        "deployment": {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 5}},
                        "demand": 1,
                    }
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


def test_demand_comes_from_a_column_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "day.csv").write_text("hour,chat\n0,10\n1,20\n")
    path = tmp_path / "fleet.yaml"
    spec = fleet(
        periods_h=[12, 12],
        workloads={"chat": {"deployment": CHAT, "demand": {"csv": "day.csv", "column": "chat"}}},
    )
    path.write_text(json.dumps(spec))
    assert plan_fleet(path).instance.workloads[0].requests_per_s == (10.0, 20.0)
    path.write_text(json.dumps(spec).replace('"column": "chat"', '"column": "chatt"'))
    with pytest.raises(SpecError, match=r"has no column 'chatt'; did you mean 'chat'"):
        plan_fleet(path)


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
        (
            {"workloads": {"chat": {"deployment": {**CHAT, "purchase": "spot"}, "demand": 5}}},
            "workloads.chat.deployment.purchase: expected none; regions say where chips are rented, and how",
        ),
        (
            {"workloads": {"chat": {"deployment": ARRIVING, "demand": 5}}},
            "workloads.chat.deployment.workload.arrivals: expected none; the fleet's demand says what arrives",
        ),
        (
            {"workloads": {"chat": {"deployment": CHAT, "demand": 5, "regions": []}}},
            "workloads.chat: regions: expected at least one; leave it out for all",
        ),
        ({"periods_h": [1e15]}, "periods_h.0 = 1000000000000000.0: expected at most 1000000.0"),
        ({"workloads": chat({"csv": "a\0b.csv", "column": "x"})}, "cannot be read"),
    ],
)
def test_what_a_fleet_cannot_mean_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as fault:
        plan_fleet(fleet(**change))
    assert complaint in str(fault.value)


def test_a_file_of_demand_is_read_with_its_marks_and_its_faults(tmp_path: Path) -> None:
    (tmp_path / "demand.csv").write_text("\ufeffchat,other\n5,1,,\nmany,2\n", encoding="utf-8")
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(fleet(periods_h=[1, 1], workloads=chat({"csv": "demand.csv", "column": "chat"}))))
    with pytest.raises(SpecError, match=r"demand.csv, line 3: chat = 'many': expected a number"):
        plan_fleet(path)
    for text, fault in (
        ("chat,other\n5,1\n1_0,2\n", "line 3: chat = '1_0': expected a number, 0 to 1e12"),
        ("chat,other\n5,1\n-1,2\n", "line 3: chat = '-1': expected a number, 0 to 1e12"),
        ("chat,other\n5,1\n1,500,2\n", "line 3: expected 2 cells as in the header, not 3"),
        ("chat,chat\n5,1\n6,2\n", "the column 'chat' is written twice"),
    ):
        (tmp_path / "demand.csv").write_text(text)
        with pytest.raises(SpecError, match=fault):
            plan_fleet(path)
    (tmp_path / "demand.csv").write_text("chat,other\n5,1\n")
    path.write_text(dumps(fleet(periods_h=[1, 1], workloads=chat({"csv": "demand.csv", "column": "chta"}))))
    with pytest.raises(SpecError, match="no column 'chta'; did you mean 'chat'"):
        plan_fleet(path)


def test_ways_to_buy_without_a_price_are_noted() -> None:
    region = {"quota": {"tpu-v5e": 4, "h100-sxm": 8}, "purchases": ["on_demand", "reserved"]}
    region["price"] = {"tpu-v5e": {"on_demand": 1.0, "reserved": 0.6}, "h100-sxm": {"on_demand": 2.0}}
    region["price_book"] = "list-2026-11"
    (note,) = FleetSpec.load(fleet(regions={"east": region})).notes
    assert note.startswith("regions.east.purchases: h100-sxm cannot be bought as reserved")
    assert FleetSpec.load(fleet()).notes == ()


def test_a_way_to_buy_that_a_regions_own_price_leaves_out_is_noted() -> None:
    region = {"price": {"h100-sxm": {"on_demand": 3.0}}, "purchases": ["on_demand", "spot"], "price_book": "all"}
    assert (
        "regions.east.price.h100-sxm states no spot: all has the price"
        in FleetSpec.load(fleet(regions={"east": region})).notes
    )


def test_a_deployment_written_out_finds_its_model_beside_the_fleet(tmp_path: Path) -> None:
    source = (ROOT / "models" / "llama-3-8b.toml").read_text()
    (tmp_path / "mine.toml").write_text(source.replace("Llama 3 8B", "Mine"))
    given = fleet(regions=one_region(16), workloads=chat(10))
    given["workloads"]["chat"]["deployment"]["model"] = "mine.toml"
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(given))
    assert plan_fleet(path).total_usd == pytest.approx(2)


def test_a_file_of_demand_is_bounded_and_does_not_show_what_is_in_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("password=hunter2,other\n1,2\n")
    for csv, complaint in (("/dev/zero", "is a device"), (str(secret), "has no column 'chat'; expected one of")):
        workloads = {"chat": {"deployment": CHAT, "demand": {"csv": csv, "column": "chat"}}}
        with pytest.raises(SpecError, match=complaint) as error:
            plan_fleet(fleet(workloads=workloads))
        assert "hunter2" not in str(error.value)


def test_replicas_are_planned_for_less_than_their_capacity_under_the_calibrated_cost_model() -> None:
    def loaded(**keys: Any) -> float:
        deployment = {"model": "llama-3-8b", "workload": {"prompt_tokens": 100, "output_tokens": 10}, **keys}
        fleet = FleetSpec.load(
            {
                "periods_h": [1],
                "regions": {"here": {"quota": {"h100-sxm": 8}, "price": {"h100-sxm": {"on_demand": 2.0}}}},
                "workloads": {"chat": {"deployment": deployment, "demand": [1]}},
            }
        )
        return fleet.workloads["chat"].deployment.utilisation

    assert (loaded(), loaded(utilisation=1.0), loaded(cost_model="ideal")) == (0.85, 1.0, 1.0)
