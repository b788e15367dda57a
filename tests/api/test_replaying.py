import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import servesat
from servesat import NoPlanError, SpecError
from tests.api.test_answer import without_times
from tests.cli.commands import run
from tests.cli.test_replaying import SPEC
from tests.helpers import ROOT

FEW: dict[str, Any] = {"requests": 1000, "seeds": 2}


def test_a_replay_is_what_the_command_says(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    solution = servesat.solve(path)
    replay = servesat.replay(solution, **FEW)
    printed = json.loads(run("replay", str(path), "--requests", "1000", "--seeds", "2", "--json").stdout)
    assert without_times(replay.to_dict()) == without_times(printed)
    assert servesat.replay(path, **FEW).replayed == replay.replayed
    table = replay.to_pandas()
    assert len(table) == 60
    assert table["time_s"].is_monotonic_increasing
    assert "h100-sxm 1x1 at 20 requests/s" in repr(replay)
    replay.draw(tmp_path / "course.svg")
    assert (tmp_path / "course.svg").stat().st_size > 1000


def test_more_requests_wait_longer() -> None:
    solution = servesat.solve(yaml.safe_load(SPEC))
    slow, fast = (servesat.replay(solution, requests_per_s=rate, **FEW).replayed.ttft_ms.p99 for rate in (1, 40))
    assert slow < fast


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"router": "fair"}, "router = 'fair': expected random, round_robin, least_load"),
        ({"seeds": 1}, "seeds = 1: expected at least 2"),
        ({"requests": 5}, "requests = 5: expected at least 100"),
        ({"slices": 0}, "slices = 0: expected at least 1"),
        ({"requests_per_s": -1.0}, "workload.requests_per_s = -1.0: expected a number greater than 0"),
        ({"trace": "none.csv"}, "none.csv: no such file"),
    ],
)
def test_an_option_that_cannot_be_is_an_error(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        servesat.replay(yaml.safe_load(SPEC), **options)


def test_what_has_no_plan_or_no_requests_says_so() -> None:
    spec = yaml.safe_load(SPEC)
    with pytest.raises(NoPlanError, match="infeasible: no plan to replay"):
        servesat.replay({**spec, "slo": {"ttft_ms": 1}})
    with pytest.raises(SpecError, match="is a fleet: replay the deployments of its workloads"):
        servesat.replay(ROOT / "examples" / "fleet-starter.yaml")
    with pytest.raises(SpecError, match="nothing arrives"):
        servesat.replay({**spec, "workload": {"prompt_tokens": 1000, "output_tokens": 100}})


def test_requests_that_servers_would_refuse_are_noted(tmp_path: Path) -> None:
    """Prompts of 1,000 and answers of 200 tokens: servers are started for 1,200, and one request has 9,100."""
    spec = {**yaml.safe_load(SPEC), "workload": {"prompt_tokens": 1000, "output_tokens": 200, "requests_per_s": 5}}
    solution = servesat.solve(spec)
    (tmp_path / "trace.csv").write_text("time,prompt_tokens,output_tokens\n0,100,10\n1,9000,100\n2,100,10\n")
    replay = servesat.replay(solution, trace=tmp_path / "trace.csv", **FEW)
    (note,) = replay.notes
    assert note.startswith("requests have up to 9,100 tokens, and `servesat launch` starts its servers for 1,200")
    assert servesat.replay(solution, **FEW).notes == ()


def test_limits_on_means_are_said_to_be_held_to_a_share() -> None:
    spec = {**yaml.safe_load(SPEC), "slo": {"ttft_ms": 1000, "percentile": "mean"}}
    (note,) = servesat.replay(spec, **FEW).notes
    assert note.startswith("the spec's limits are on means; here each is to hold for 95% of the requests")
    assert servesat.replay({**spec, "slo": {"ttft_ms": 1000}}, **FEW).notes == ()
