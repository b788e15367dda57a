import json
from pathlib import Path

import pytest

import servesat
from servesat import SpecError
from tests.cli.test_launching import FLEET
from tests.helpers import ROOT


def test_the_rows_sum_to_the_bill_and_the_plan_can_be_kept_near(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    planned = servesat.fleet(path, compare=True)
    assert planned.to_pandas()["usd"].sum() == pytest.approx(planned.total_usd)
    assert planned.comparison is not None
    assert len(planned.to_dict()["policies"]) == len(planned.comparison.policies) > 0
    planned.draw(tmp_path / "fleet.html")
    assert "<html" in (tmp_path / "fleet.html").read_text()[:200]
    (tmp_path / "earlier.json").write_text(json.dumps(planned.to_dict()))
    assert servesat.fleet(path, earlier=tmp_path / "earlier.json", max_changes=0).changes == 0


def test_what_cannot_be_asked_of_a_fleet_is_an_error(tmp_path: Path) -> None:
    path = ROOT / "examples" / "fleet-too-little.yaml"
    with pytest.raises(SpecError, match="give earlier"):
        servesat.fleet(path, max_changes=1)
    with pytest.raises(SpecError, match="time_limit_s = -1: expected a number of seconds, more than 0"):
        servesat.fleet(path, time_limit_s=-1)
    with pytest.raises(SpecError, match="nothing to write: the result is infeasible"):
        servesat.fleet(path).draw(tmp_path / "fleet.html")
    with pytest.raises(SpecError, match="is a deployment"):
        servesat.fleet(ROOT / "examples" / "llama-3-70b-chat.yaml")
