"""What shells complete, asked as they ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from servesat.catalogue.load import engine_ids, model_ids
from servesat.cli import app
from tests.helpers import ROOT


def asked(line: str) -> dict[str, str]:
    """How bash asks for what it may offer at the end of a line."""
    return {
        "_SERVESAT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(f"{line}|".split()) - 1),
    }  # fmt: skip


def completed(line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    result = CliRunner().invoke(app, [], env=asked(line), prog_name="servesat")
    assert result.exit_code == 0, result.output
    return result.stdout.split()


@pytest.mark.parametrize(
    "line",
    ["servesat chips h1", "servesat solve x --set slo.t", "servesat solve x --engine vllm,sg", "servesat prices aws"],
)
def test_completion_does_not_load_the_solver(line: str) -> None:
    code = (
        "import sys\nfrom servesat.cli import app\ntry:\n    app(prog_name='servesat')\n"
        "finally:\n    assert 'ortools' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked(line)}, cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.split() == completed(line) != []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("servesat chips show h1", ["h100-nvl", "h100-pcie", "h100-sxm"]),
        ("servesat chips h1", ["h100-nvl", "h100-pcie", "h100-sxm"]),
        ("servesat chips rank llama-3-4", ["llama-3-405b"]),
        ("servesat models show qwen3-32", ["qwen3-32b"]),
        ("servesat engines vllm-t", ["vllm-tpu-0.32"]),
        ("servesat prices aws", ["aws-2026-11"]),
        ("servesat prices --chip h20", ["h20", "h200"]),
        ("servesat schema p", ["portfolio", "prices"]),
        ("servesat solve x --set slo.t", ["slo.tpot_ms=", "slo.ttft_ms="]),
        ("servesat solve x --set price.h200", ["price.h200="]),
        ("servesat whatif x --vary workload.o", ["workload.output_tokens="]),
        ("servesat whatif x --breakpoints slo.m", ["slo.min_tokens_per_s", "slo.margin"]),
        ("servesat solve x --engine vllm,sg", ["vllm,sglang", "vllm,sglang-0.5.23"]),
        ("servesat solve x --engine no", ["none"]),
        ("servesat solve x --price-book al", ["all"]),
        ("servesat why x --kv-cache int", ["int8", "int4"]),
        ("servesat sizes x --kv-cache int", ["int8", "int4"]),
        ("servesat figure pareto --weights fp", ["fp8"]),
        ("servesat chips rank x --price h20", ["h20=", "h200="]),
        ("servesat launch x --to l", ["lws", "llm-d"]),
        ("servesat solve examples/llama-3-8b-c", ["examples/llama-3-8b-completion.yaml"]),
        ("servesat fleet examples/fleet-d", ["examples/fleet-day.yaml"]),
        ("servesat book --group k", ["kv-cache"]),
        ("servesat book --document zh", ["zh-rewrite", "zh"]),
        ("servesat chips show nothing-like-it", []),
    ],
)
def test_a_shell_is_offered(line: str, offered: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert completed(line) == offered


def test_every_id_is_offered_beside_the_subcommands() -> None:
    assert completed("servesat models ") == ["show", "import", "new", *model_ids()]
    assert completed("servesat engines show ") == engine_ids()


def test_files_of_the_right_kind_are_offered_and_what_is_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    for name in ("specs/a.yaml", "specs/b.yml", "specs/c.txt", "spec.yaml", "result.json", "my.toml"):
        (tmp_path / name).touch()
    assert completed("servesat solve sp") == ["spec.yaml", "specs/", "specs/a.yaml", "specs/b.yml"]
    assert completed("servesat launch r") == ["result.json"]
    assert completed("servesat models show my") == ["my.toml"]


def test_completion_can_be_installed() -> None:
    script = CliRunner().invoke(app, [], env={"_SERVESAT_COMPLETE": "source_bash"}, prog_name="servesat")
    assert script.exit_code == 0
    assert "complete -o default -F _servesat_completion servesat" in script.stdout
