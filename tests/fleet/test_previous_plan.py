import copy
from pathlib import Path
from typing import Any

import pytest

from servesat import SpecError, Status
from servesat.fleet.plan import plan_fleet
from servesat.fleet.result import FleetResult
from servesat.report.documents import dumps
from servesat.report.fleet_document import fleet_document
from tests.fleet.fleets import chat, fleet


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


def test_replicas_in_another_dtype_are_started_anew(tmp_path: Path) -> None:
    today = tmp_path / "today.json"
    result = plan_fleet(fleet(workloads=chat(10)))
    today.write_text(dumps(fleet_document(result, None)))
    assert {one.option.configuration.name for one in result.allocations} == {
        "tpu-v5e 1x1, int8/int8/bf16, interleaved, batch 47"
    }
    again = plan_fleet(fleet(workloads=chat(10, search={"kv_cache": ["bf16"]})), earlier=today)
    assert again.changes == 2 + sum(one.replicas for one in again.allocations)


def test_what_runs_may_go_on_though_another_batch_is_the_best_now(tmp_path: Path) -> None:
    """At 8.5 ms a token the best batch is 116, on eight chips at once; 44 on four keeps that limit as well."""
    loose = spec_at(8.5)
    today = saved(plan_fleet(spec_at(8.0)), tmp_path)
    stayed = plan_fleet(loose, earlier=today, max_changes=0)
    assert (stayed.total_usd, stayed.changes) == (pytest.approx(9.6), 0)
    assert {one.option.configuration.name for one in stayed.allocations} == {
        "tpu-v5e 2x2, int8/int8/bf16, interleaved, batch 44"
    }
    assert plan_fleet(loose, earlier=today, usd_per_change=1000.0).total_usd == pytest.approx(9.6)


def test_what_breaks_a_limit_may_not_go_on(tmp_path: Path) -> None:
    """44 sequences take 7.946 ms a token, and those two replicas stop."""
    today = saved(plan_fleet(spec_at(8.0)), tmp_path)
    moved = plan_fleet(spec_at(7.9), earlier=today)
    assert moved.changes == 2 + sum(one.replicas for one in moved.allocations)
    stopped = ("w", "tpu-v5e 2x2, int8/int8/bf16, interleaved, batch 44", "a")
    assert moved.instance.no_longer_possible() == [stopped]
    assert fleet_document(moved, None)["no_longer_possible"] == [
        {"workload": "w", "configuration": stopped[1], "region": "a"}
    ]


def test_replicas_that_sizes_share_may_go_on(tmp_path: Path) -> None:
    def sizes(tpot_ms: float) -> dict[str, Any]:
        lengths = {
            "short": {"prompt_tokens": 500, "output_tokens": 100, "demand": 20},
            "long": {"prompt_tokens": 2000, "output_tokens": 200, "demand": 5},
        }
        return spec_at(tpot_ms, sizes=lengths)

    today = plan_fleet(sizes(8.0))
    stayed = plan_fleet(sizes(8.5), earlier=saved(today, tmp_path), max_changes=0)
    assert (stayed.changes, stayed.total_usd) == (0, pytest.approx(today.total_usd))
    again = plan_fleet(sizes(8.5))
    assert {one.option.configuration.name for one in again.allocations}.isdisjoint(
        {one.option.configuration.name for one in today.allocations}
    )


@pytest.mark.soak
def test_replicas_at_random_go_on_at_the_rate_of_their_replays(tmp_path: Path) -> None:
    """Eight sequences where more are the best now."""

    def of_at_most(max_batch: int) -> dict[str, Any]:
        return spec_at(9.0, {"topologies": {"tpu-v5e": ["2x2"]}, "max_batch": max_batch}, percentile=0.95)

    today = plan_fleet(of_at_most(8))
    stayed = plan_fleet(of_at_most(64), earlier=saved(today, tmp_path), max_changes=0)
    assert (stayed.changes, stayed.total_usd) == (0, today.total_usd)
    assert [one.option.requests_per_s for one in stayed.allocations] == [
        one.option.requests_per_s for one in today.allocations
    ]
    assert stayed.instance.options[0].configuration.name != stayed.allocations[0].option.configuration.name


def spec_at(tpot_ms: float, search: dict[str, Any] | None = None, **workload: Any) -> dict[str, Any]:
    """A fleet of v5e chips at $1.20, with a limit on the time per token."""
    deployment = {
        "cost_model": "ideal", "model": "llama-3-8b", "slo": {"tpot_ms": tpot_ms},
        "workload": {"prompt_tokens": 1000, "output_tokens": 200},
        "search": {"chips": ["tpu-v5e"], "modes": ["interleaved"], **(search or {})},
    }  # fmt: skip
    demand = {} if "sizes" in workload else {"demand": 30}
    if "sizes" in workload:
        del deployment["workload"]
    regions = {"a": {"quota": {"tpu-v5e": 100}, "price": {"tpu-v5e": {"on_demand": 1.2}}}}
    return {"regions": regions, "workloads": {"w": {"deployment": deployment, **demand, **workload}}}


def test_a_plan_that_was_changed_by_hand_is_named(tmp_path: Path) -> None:
    today = saved(plan_fleet(spec_at(8.0)), tmp_path)
    today.write_text(today.read_text().replace('"topology": "2x2"', '"topology": "abc"'))
    with pytest.raises(SpecError, match=r"allocations\[0\]\.plan: .*abc"):
        plan_fleet(spec_at(8.0), earlier=today)


def saved(result: FleetResult, folder: Path) -> Path:
    path = folder / "today.json"
    path.write_text(dumps(fleet_document(result, None)))
    return path


ALLOCATION = (
    '{"periods": 1, "allocations": [{"workload": "a", "configuration": "c", "region": "r", "period": 0, "replicas": 1, '
    "%s}]}"
)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "malformed JSON"),
        ('{"periods": 1, "allocations": [], "allocations": []}', "'allocations' is listed twice"),
        (
            '{"allocations": [{"workload": "a", "configuration": "c", "region": "r", "period": true, "replicas": 1}],'
            ' "periods": 1}',
            r"allocations\[0\].period = True: expected a whole number, 0 to 0",
        ),
        ("[]", "key allocations"),
        (ALLOCATION % '"plan": ["x"]', r"allocations\[0\]\.plan = \['x'\]: expected a plan"),
        (ALLOCATION % '"plans": ["x"]', r"allocations\[0\]\.plans = \['x'\]: expected a plan for each size"),
        (ALLOCATION % '"plans": {"short": {}}', r"allocations\[0\]\.plans\.short: chip, topology, .* is missing"),
        ('{"allocations": [], "periods": 2}', "periods = 2: expected 1"),
        ('{"allocations": [{"workload": "chat"}], "periods": 1}', r"allocations\[0\]: expected workload"),
        (
            '{"allocations": [{"workload": "a", "configuration": "c", "region": "r", "period": 1, "replicas": 1}],'
            ' "periods": 1}',
            r"allocations\[0\].period = 1: expected a whole number, 0 to 0",
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
