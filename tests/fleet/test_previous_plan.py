import copy
from pathlib import Path

import pytest

from servesat import SpecError, Status
from servesat.fleet.plan import plan_fleet
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
