"""Shell scripts: golden texts of the examples, syntax, and words that the engines take."""

import shutil
import subprocess
from pathlib import Path

import pytest

from servesat import Spec
from servesat.catalogue.load import load_model
from servesat.launch.targets import written
from tests.launch.launches import CHAT, SPLIT, SPREAD, WIDE, commands, example, launch, read
from tests.launch.test_flags import EXAMPLES

GOLDEN = Path(__file__).parent / "golden"
SEVERAL = {"workload": {**CHAT["workload"], "requests_per_s": 5}, "constraints": ["slices == 3"]}
"""What CHAT asks for in three servers."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_of_an_example_is_the_golden_one(name: str) -> None:
    text = written(example(name), "command")["serve.sh"]
    assert text == (GOLDEN / f"{name}.sh").read_text()


@pytest.mark.parametrize("spec", [CHAT, SPLIT, WIDE, SPREAD, {**SPLIT, "engine": "sglang"}], ids=range(5))
def test_scripts_are_shell(spec: dict[str, object], tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for name, text in written(launch(spec), "command").items():
        (tmp_path / name).write_text(text)
        subprocess.run([bash, "-n", tmp_path / name], check=True)


@pytest.mark.parametrize(
    ("spec", "engine"), [(WIDE, "vllm"), (SPREAD, "vllm"), ({**WIDE, "engine": "sglang"}, "sglang")]
)
def test_nodes_are_told_their_place(spec: dict[str, object], engine: str) -> None:
    files = written(launch(spec), "command")
    (first,), (other,) = (commands(files[name]) for name in ("serve.sh", "serve-node.sh"))
    assert read(first, engine).port == 8000
    ranked = [word.replace("$(($rank * 8))", "8").replace("$rank", "1") for word in other]
    assert getattr(read(ranked, engine), "port", None) is None
    assert "rank=${2:?" in files["serve-node.sh"]


def test_servers_of_one_machine_take_chips_and_ports_of_their_own(tmp_path: Path) -> None:
    busy = {**CHAT, "workload": {**CHAT["workload"], "requests_per_s": 100}}  # seven slices of two chips
    files = written(launch(busy), "command")
    stub = tmp_path / "vllm"
    stub.write_text('#!/usr/bin/env bash\necho "$CUDA_VISIBLE_DEVICES ${@: -1}"\n')
    stub.chmod(0o755)
    (tmp_path / "serve.sh").write_text(files["serve.sh"])
    path = f"{tmp_path}:/usr/bin:/bin"
    run = subprocess.run(
        ["/bin/bash", str(tmp_path / "serve.sh"), "3"], capture_output=True, text=True, check=True, env={"PATH": path}
    )
    assert run.stdout == "6,7 8003\n"


def test_servers_of_two_pools_share_a_machine_as_they_are_billed(tmp_path: Path) -> None:
    """Two chips for prompts and four to decode on one of eight: the fourth server has the chips from the second on."""
    search = {"chips": ["h100-sxm"], "modes": ["disaggregated"], "topologies": {"h100-sxm": ["2x1", "4x1"]}}
    pools = launch({**SPLIT, "search": search, "constraints": ["tp == 4", "prefill.tp == 2"]})
    assert {server.name: (server.chips, server.count) for server in pools.servers} == {
        "prefill": (2, 1),
        "decode": (4, 1),
    }
    stub = tmp_path / "vllm"
    stub.write_text('#!/usr/bin/env bash\necho "$CUDA_VISIBLE_DEVICES $VLLM_NIXL_SIDE_CHANNEL_PORT ${@: -1}"\n')
    stub.chmod(0o755)
    files = written(pools, "command")

    def started(name: str, *words: str) -> str:
        (tmp_path / name).write_text(files[name])
        script = ["/bin/bash", str(tmp_path / name), *words]
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        return subprocess.run(script, capture_output=True, text=True, check=True, env=environment).stdout

    assert started("prefill.sh", "0", "0") == "0,1 5600 8000\n"
    assert started("decode.sh", "1", "2") == "2,3,4,5 5601 8001\n"
    assert "# usage: SERVER FIRST_CHIP, as in 0 0 and then 1 4" in files["decode.sh"]


def test_a_router_stands_between_pools() -> None:
    router = written(launch(SPLIT), "command")["router.sh"]
    assert "vllm-router --vllm-pd-disaggregation" in router
    assert (
        "sglang_router.launch_router --pd-disaggregation"
        in written(launch({**SPLIT, "engine": "sglang"}), "command")["router.sh"]
    )


@pytest.mark.parametrize(
    ("engine", "command"), [("vllm", "vllm-router"), ("sglang", "python3 -m sglang_router.launch_router")]
)
def test_a_router_stands_before_several_servers(engine: str, command: str) -> None:
    """At random, as replays send requests; a single server needs none."""
    several = launch({**CHAT, "engine": engine, **SEVERAL})
    assert several.servers[0].count == 3
    files = written(several, "command")
    words = '--worker-urls "${servers[@]}" --policy random --host 0.0.0.0 --port 9000'
    assert f"exec {command} {words}\n" in files["router.sh"]
    assert "url=${1:-http://localhost:9000}" in files["benchmark.sh"]
    assert "router.sh" not in written(launch({**CHAT, "engine": engine}), "command")


@pytest.mark.parametrize(("engine", "target"), [("trtllm", "command"), ("vllm", "compose")])
def test_a_benchmark_of_several_servers_without_a_router_asks_where_all_are_met(engine: str, target: str) -> None:
    several = launch({**CHAT, "engine": engine, **SEVERAL})
    asked = "url=${1:?URL: the address of what shares requests out to all 3 servers}"
    assert asked in written(several, target)["benchmark.sh"]


@pytest.mark.parametrize("target", ["command", "kubernetes", "lws"])
def test_a_benchmark_goes_through_the_router_between_two_pools(target: str) -> None:
    """9000 is the router's port; on 8000 a server of either pool would answer alone."""
    assert "url=${1:-http://localhost:8000}" in written(launch(CHAT), target)["benchmark.sh"]
    assert "url=${1:-http://localhost:9000}" in written(launch(SPLIT), target)["benchmark.sh"]


def test_a_benchmark_loads_the_batch_or_the_demand() -> None:
    text = written(launch(CHAT), "command")["benchmark.sh"]
    plan = launch(CHAT).plan
    assert f"--max-concurrency {plan.batch}" in text
    assert "--random-input-len 2000" in text
    assert "TPOT" in text
    assert "--request-rate 10" in written(launch(SPLIT), "command")["benchmark.sh"]


def test_a_benchmark_sends_a_shared_prefix_and_bursts_and_names_what_it_cannot() -> None:
    """80 % of 2,000 tokens are a prefix; gaps of cv 2 are of a Gamma distribution of shape 1/4."""
    workload = {
        **CHAT["workload"], "requests_per_s": 10, "prefix_cache_hit": 0.8, "arrivals": {"gamma_cv": 2},
    }  # fmt: skip
    asked = {**CHAT, "workload": workload, "slo": {"tpot_ms": 50, "percentile": "mean"}}
    text = written(launch(asked), "command")["benchmark.sh"]
    for flags in ("--random-input-len 400", "--random-prefix-len 1600", "--burstiness 0.25", "--request-rate 10"):
        assert flags in text
    assert "sends no" not in text
    other = written(launch({**asked, "engine": "sglang"}), "command")["benchmark.sh"]
    assert "sends no prefixes that are cached, no bursts, and so will not show what the plan has: " in other
    assert "--random-input-len 2000" in other
    even = {**asked, "engine": "sglang", "workload": {**workload, "prefix_cache_hit": 0, "arrivals": {"gamma_cv": 0.5}}}
    assert "sends no arrivals at regular intervals, and so will" in written(launch(even), "command")["benchmark.sh"]
    assert not [flag for flag in ("prefix-len", "burstiness") if flag in other]


def test_what_a_file_names_is_quoted(tmp_path: Path) -> None:
    evil = launch(CHAT, checkpoint="$(touch /tmp/x)")
    text = written(evil, "command")["serve.sh"]
    assert "exec vllm serve '$(touch /tmp/x)' \\\n" in text
    assert "'$(touch /tmp/x)'" in written(evil, "lws")["manifests.yaml"]
    spec = {
        **CHAT,
        "model": {**load_model("qwen3-32b").model_dump(mode="json", exclude_defaults=True), "name": "x\necho y"},
    }
    assert "\necho y" not in written(launch({**spec, "price_book": "list-2026-11"}), "command")["serve.sh"]


def test_prefill_servers_of_a_machine_are_met_at_ports_of_their_own() -> None:
    busy = {**SPLIT, "workload": {**SPLIT["workload"], "requests_per_s": 40}}
    text = written(launch(busy), "command")["prefill.sh"]
    assert 'export VLLM_NIXL_SIDE_CHANNEL_HOST="$(hostname -I' in text
    assert "export VLLM_NIXL_SIDE_CHANNEL_PORT=$((5600 + server * 1))" in text
    text = written(launch({**busy, "engine": "sglang"}), "command")["prefill.sh"]
    assert '--disaggregation-bootstrap-port "$((8998 + server * 1))"' in text
    assert '--port "$((8000 + server * 100))"' in text


def test_a_context_beyond_the_checkpoints_is_told() -> None:
    spec = {**CHAT, "workload": {"prompt_tokens": 60_000, "output_tokens": 500}, "slo": {}}
    longer = Spec.load(spec, {"model.max_context_tokens": 131_072})
    told = [line for line in written(launch(longer), "command")["serve.sh"].splitlines() if "# context" in line]
    assert len(told) == 1
    assert "60,500 tokens are beyond the 40,960 of the checkpoint" in told[0]
    assert told[0].endswith("by --hf-overrides")
    assert "# context" not in written(launch(CHAT), "command")["serve.sh"]
