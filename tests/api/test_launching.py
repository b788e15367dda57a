from pathlib import Path

import pytest

import servesat
from servesat import LaunchError, NoPlanError
from tests.cli.commands import run
from tests.cli.test_launching import FLEET
from tests.helpers import ROOT

SPEC = ROOT / "examples" / "qwen3-32b-fp8-two-h100.yaml"


def test_a_solution_is_started_as_its_spec_and_its_result_are(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    result.write_text(run("solve", str(SPEC), "--json").stdout)
    sources = (SPEC, servesat.Spec.load(SPEC), servesat.solve(SPEC), result)
    texts = [dict(servesat.launch(source, to="compose").files) for source in sources]
    assert texts[0] == texts[1] == texts[2]
    assert set(texts[3]) == set(texts[0]) == {"compose.yaml", "benchmark.sh"}


def test_a_certificate_of_any_name_is_started(tmp_path: Path) -> None:
    servesat.solve(SPEC).certify(tmp_path / "plan.cert")
    assert set(servesat.launch(tmp_path / "plan.cert", to="compose").files) == {"compose.yaml", "benchmark.sh"}


def test_files_are_written_and_scripts_can_be_run(tmp_path: Path) -> None:
    paths = servesat.launch(SPEC, to="kubernetes").write(tmp_path / "deep" / "er")
    assert [path.name for path in paths] == ["manifests.yaml", "benchmark.sh"]
    assert [bool(path.stat().st_mode & 0o111) for path in paths] == [False, True]


def test_a_fleet_is_started_from_its_file_or_its_plan(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    assert servesat.launch(servesat.fleet(path)).files == servesat.launch(path).files
    with pytest.raises(LaunchError, match="checkpoint names the weights of one model"):
        servesat.launch(path, checkpoint="a/b")


def test_a_spec_without_an_engine_is_searched_under_all_and_says_so() -> None:
    spec = servesat.Spec.load(ROOT / "examples" / "llama-3-70b-chat.yaml")
    assert servesat.launch(spec).notes == ("the spec names no engine: any of the catalogue is searched",)
    with pytest.raises(LaunchError, match="the plan is of the ideal machine"):
        servesat.launch(servesat.solve(spec))


def test_what_cannot_be_started_says_why() -> None:
    with pytest.raises(LaunchError, match="to = 'nomad': no such target"):
        servesat.launch(SPEC, to="nomad")
    with pytest.raises(NoPlanError, match="infeasible: no plan to start") as fault:
        servesat.launch(servesat.Spec.load(SPEC, {"search.kv_cache": ["nvfp4"]}))
    assert fault.value.status == "infeasible"
    no_engine = {"model": "llama-3-8b", "workload": {"context_tokens": 2048}, "search": {"chips": ["gaudi2"]}}
    with pytest.raises(NoPlanError, match="infeasible: no plan to start under any engine, and the spec names none"):
        servesat.launch({**no_engine, "price": {"gaudi2": 1.0}, "cost_model": "ideal"})
    no_fleet = ROOT / "examples" / "fleet-too-little.yaml"
    with pytest.raises(NoPlanError, match="infeasible: no fleet to start"):
        servesat.launch(no_fleet)


def test_an_answer_without_servers_is_refused() -> None:
    with pytest.raises(LaunchError, match="Listing has no servers to start: expected a solution, a fleet or a spec"):
        servesat.launch(servesat.models())
