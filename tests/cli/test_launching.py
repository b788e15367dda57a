import json
from pathlib import Path
from typing import get_args

import pytest

from servesat.cli.launching import Targets
from servesat.launch.targets import TARGETS
from tests.cli.commands import run
from tests.helpers import ROOT

QWEN = str(ROOT / "examples" / "qwen3-32b-fp8-two-h100.yaml")
FLEET = """
periods_h: [12, 12]
regions:
  here: {quota: {h100-sxm: 64}, price: {h100-sxm: {on_demand: 2.0}}}
workloads:
  chat:
    deployment:
      cost_model: ideal
      model: qwen3-32b
      workload: {prompt_tokens: 2000, output_tokens: 500}
      slo: {tpot_ms: 30}
      engine: vllm
    demand: [10, 40]
"""


def test_a_spec_is_printed_as_what_starts_it() -> None:
    text = run("launch", QWEN).stdout
    assert "# ==> serve.sh <==" in text
    assert "exec vllm serve Qwen/Qwen3-32B-FP8" in text
    assert "# proof      no plan of the spec costs less" in text


def test_files_go_into_a_folder_and_scripts_can_be_run(tmp_path: Path) -> None:
    done = run("launch", QWEN, "--to", "kubernetes", "--out", str(tmp_path / "deep" / "er"))
    assert done.exit_code == 0
    assert done.stdout == ""
    files = {path.name: path for path in (tmp_path / "deep" / "er").iterdir()}
    assert set(files) == {"manifests.yaml", "benchmark.sh"}
    assert files["benchmark.sh"].stat().st_mode & 0o111
    assert not files["manifests.yaml"].stat().st_mode & 0o111


def test_json_has_the_files() -> None:
    document = json.loads(run("launch", QWEN, "--to", "compose", "--json").stdout)
    assert document["to"] == "compose"
    assert "services:" in document["files"]["compose.yaml"]


@pytest.mark.parametrize("how", ["--json", "--certificate"])
def test_a_result_is_started_as_its_spec_is(how: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    if how == "--json":
        path.write_text(run("solve", QWEN, "--json").stdout)
    else:
        run("solve", QWEN, how, str(path))
    told = run("launch", str(path)).stdout
    assert "# proof      optimal, as result.json says; not solved again" in told
    solved = run("launch", QWEN).stdout
    assert [line for line in told.splitlines() if "proof" not in line] == [
        line for line in solved.splitlines() if "proof" not in line
    ]


def test_figures_of_a_result_that_are_others_now_are_told(tmp_path: Path) -> None:
    document = json.loads(run("solve", QWEN, "--json").stdout)
    now = document["plan"]["usd_per_hour"]
    document["plan"]["usd_per_hour"] = 0.01
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    told = run("launch", str(path)).stdout
    said = f"solve it again, as figures differ: usd_per_hour 0.01, now {now:.4g}"
    assert f"# proof      optimal, as result.json says; {said}" in told
    for strange, shown in ((True, "True"), (10**400, "1000"), ("4", "'4'")):
        path.write_text(json.dumps({**document, "plan": {**document["plan"], "usd_per_hour": strange}}))
        assert f"figures differ: usd_per_hour {shown}" in run("launch", str(path)).stdout


def test_a_changed_result_is_refused(tmp_path: Path) -> None:
    document = json.loads(run("solve", QWEN, "--json").stdout)
    document["plan"]["batch"] = 1000
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    done = run("launch", str(path))
    assert done.exit_code == 1
    assert "result.json: the plan breaks hbm, tpot, ttft: solve the spec again" in done.stderr
    path.write_text(json.dumps({**document, "status": "infeasible"}))
    assert "has no plan: the result is infeasible" in run("launch", str(path)).stderr
    for text, message in (
        ("{}", "model is missing"),
        ('{"plan": null}', "expected the JSON of `servesat solve`"),
        ('{"spec": {}, "status": "infeasible", "plan": null}', "has no plan: the result is infeasible"),
    ):
        path.write_text(text)
        assert message in run("launch", str(path)).stderr


def test_a_spec_without_an_engine_is_searched_under_all() -> None:
    done = run("launch", str(ROOT / "examples" / "llama-3-70b-chat.yaml"))
    assert done.exit_code == 0
    assert "note: the spec names no engine: any of the catalogue is searched" in done.stderr
    assert "# ==> serve.sh <==" in done.stdout
    assert "exec python3 -m sglang.launch_server" in run("launch", QWEN, "--engine", "sglang").stdout


def test_every_configuration_of_a_fleet_is_started(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET)
    planned = json.loads(run("fleet", str(fleet), "--json").stdout)
    most = max(one["replicas"] for one in planned["allocations"])
    files = json.loads(run("launch", str(fleet), "--to", "kubernetes", "--json").stdout)["files"]
    texts = "".join(files.values())
    assert f"replicas: {most}" in texts
    assert "# fleet      replicas in each period: " in texts
    busiest = next(one for one in planned["allocations"] if one["replicas"] == most)
    assert f"# price      ${2 * busiest['chips']:.2f} an hour" in texts  # $2 a chip, of all servers


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((QWEN, "--engine", "vlm"), 1, "engine = 'vlm': no engine 'vlm' in the catalogue; did you mean 'vllm-0.32'?"),
        ((QWEN, "--engine", "vllm-0.31"), 1, "did you mean 'vllm-0.32' or"),
        (
            (QWEN, "--to", "kserve", "--engine", "sglang"),
            1,
            "--to kserve: cannot start SGLang 0.5.23; try --to command",
        ),
        ((QWEN, "--to", "nomad"), 2, "nomad"),
        ((QWEN, "--set", "search.kv_cache=nvfp4"), 3, "infeasible: no plan to start; servesat solve says why"),
        (("nowhere.json",), 1, "nowhere.json"),
        (("nowhere.yaml",), 1, "nowhere.yaml"),
    ],
)
def test_a_bad_input_is_one_line(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run("launch", *arguments)
    assert done.exit_code == code
    assert message in done.stderr


def test_no_plan_is_a_document_with_json(tmp_path: Path) -> None:
    done = run("launch", QWEN, "--set", "search.kv_cache=nvfp4", "--json")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (3, "infeasible")
    result = tmp_path / "result.json"
    result.write_text(run("solve", QWEN, "--set", "search.kv_cache=nvfp4", "--json").stdout)
    for command in ("launch", "replay"):
        done = run(command, str(result), "--json")
        assert (done.exit_code, json.loads(done.stdout)["status"]) == (3, "infeasible")


def test_a_fleet_of_the_ideal_machine_is_refused(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET.replace("      engine: vllm\n", ""))
    done = run("launch", str(fleet))
    assert "workloads.chat.deployment.engine is missing: name an engine, as in engine: any" in done.stderr
    assert "--engine changes a spec" in run("launch", str(fleet), "--engine", "vllm").stderr


def test_targets_of_the_command_line_are_those_that_there_are() -> None:
    assert get_args(Targets) == tuple(TARGETS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("topology", "abc", "the plan is malformed: "),
        ("mode", "fast", "plan: 'fast' is not a valid Mode"),
        ("batch", "8", "plan: the decisions"),
        ("engine", "sglang-0.5.23", "engine = sglang-0.5.23: not one of the spec's"),
    ],
)
def test_a_malformed_plan_is_one_line(tmp_path: Path, key: str, value: str, message: str) -> None:
    document = json.loads(run("solve", QWEN, "--json", "--engine", "vllm").stdout)
    document["plan"][key] = value
    path = tmp_path / "result.json"
    path.write_text(json.dumps(document))
    done = run("launch", str(path))
    assert done.exit_code == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_workloads_of_a_fleet_have_names_that_clusters_take(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET.replace("  chat:", "  ../../Evil Chat:"))
    files = json.loads(run("launch", str(fleet), "--to", "kubernetes", "--json").stdout)["files"]
    assert all(name.startswith("evil-chat-") or "/" not in name for name in files)
    assert "name: evil-chat-1" in "".join(files.values())


def test_a_spec_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    asked = {
        "cost_model": "ideal",
        "model": "qwen3-8b",
        "workload": {"prompt_tokens": 500, "output_tokens": 100},
        "engine": "sglang",
    }
    path.write_text(json.dumps({**asked, "search": {"chips": ["l40s"]}}))
    assert "exec python3 -m sglang.launch_server --model-path Qwen/Qwen3-8B" in run("launch", str(path)).stdout


AT_RANDOM = {"workload.requests_per_s": 2, "slo.percentile": 0.95, "speculative": "none"}


def test_what_a_replay_told_is_what_a_benchmark_should_measure(tmp_path: Path) -> None:
    """At the rate of the spec, not at a full batch; of a stored result too."""
    sets = [word for key, value in AT_RANDOM.items() for word in ("--set", f"{key}={value}")]
    path = tmp_path / "plan.json"
    path.write_text(run("solve", QWEN, "--json", "--engine", "vllm", *sets).stdout)
    document = json.loads(path.read_text())
    ttft, tpot = (document["replayed"][name] for name in ("ttft_ms", "tpot_ms"))
    told = (
        f"# should measure TTFT p50 {ttft['p50']:.4g} ms, p95 {ttft['p95']:.4g} ms, "
        f"TPOT p50 {tpot['p50']:.4g} ms, p95 {tpot['p95']:.4g} ms, 1,000 output tokens/s at 2 requests/s"
    )
    assert told in run("launch", str(path), "--to", "command").stdout
    assert told in run("launch", QWEN, "--to", "command", "--engine", "vllm", *sets).stdout
    document["replayed"]["ttft_ms"] = {"p50": 3}
    path.write_text(json.dumps(document))
    refused = run("launch", str(path), "--to", "command")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "expected ttft_ms and tpot_ms" in refused.stderr
