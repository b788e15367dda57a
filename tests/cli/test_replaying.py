import json
from pathlib import Path

from tests.cli.commands import run

SPEC = """
model: llama-3.1-8b
workload: {prompt_tokens: 1000, output_tokens: 100, requests_per_s: 20}
slo: {ttft_ms: 300}
engine: vllm
search: {chips: [h100-sxm], topologies: {h100-sxm: [1x1]}, weights: [fp8], kv_cache: [fp8], modes: [interleaved]}
price: {h100-sxm: 2.0}
"""


def test_a_spec_and_its_result_are_replayed_alike(tmp_path: Path) -> None:
    spec, result, figure = tmp_path / "spec.yaml", tmp_path / "result.json", tmp_path / "course.svg"
    spec.write_text(SPEC)
    solved = run("solve", str(spec), "--json")
    result.write_text(solved.stdout)
    assert json.loads(solved.stdout)["replayed"]["limits"][0]["holds"] is True
    told = [run("replay", str(file), "--requests", "2000", "--seeds", "2") for file in (spec, result)]
    assert told[0].stdout == told[1].stdout
    assert "limit   ttft p95 at most 300 ms: " in told[0].stdout
    assert "replay  1,800 requests after 200 to warm up, poisson, 2 seeds: " in told[0].stdout
    document = json.loads(run("replay", str(result), "--requests", "2000", "--json", "--out", str(figure)).stdout)
    assert document["requests_per_s"] == 20
    assert (document["replayed"]["requests"], document["warm_up_requests"]) == (1800, 200)
    assert len(document["moments"]) == 60
    assert figure.stat().st_size > 1000


def test_a_replay_says_what_is_wrong(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.replace(", requests_per_s: 20", ""))
    assert "nothing arrives: give workload.requests_per_s, a rate, or a trace" in run("replay", str(spec)).stderr
    assert run("replay", str(spec), "--rate", "20", "--requests", "1000").exit_code == 0
    spec.write_text(SPEC.replace("ttft_ms: 300", "ttft_ms: 1"))
    told = run("replay", str(spec), "--json")
    assert (told.exit_code, json.loads(told.stdout)["status"]) == (3, "infeasible")
