import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from servesat.cli import app
from servesat.report.documents import dumps
from tests.fleet.fleets import chat, fleet, one_region


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
