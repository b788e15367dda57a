import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from servesat.cli import app
from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT

STARTED = str(ROOT / "examples" / "qwen3-32b-fp8-two-h100.yaml")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["solve", "none.yaml"], 1, "error: none.yaml: no such file"),
        (["solve", EXAMPLE, "--set", "slo.tpot_ms=-1"], 1, "slo.tpot_ms = -1: expected a number greater than 0"),
        (["solve", EXAMPLE, "--price-book", "nope"], 1, "no price book 'nope'"),
        (["solve", EXAMPLE, "--set", "nonsense"], 2, "expected KEY=VALUE"),
        (["solve", EXAMPLE, "--time-limit", "nan"], 2, "--time-limit"),
        (["solve", EXAMPLE, "--time-limit", "-1"], 2, "--time-limit"),
        (["solve"], 2, "Missing argument"),
        (["solve", EXAMPLE, "--nope"], 2, "--nope"),
        (["chips", "tpu-v5ee"], 1, "did you mean 'tpu-v5e'"),
        (["models", "llama-9"], 1, "no model 'llama-9'"),
        (["prices", "none.toml"], 1, "none.toml: no such file"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_nothing_on_stdout(arguments: list[str], code: int, complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert complaint in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


LIBRARIES = {"loky", "matplotlib", "numpy", "ortools", "pandas", "plotly", "pyarrow", "rich", "yaml"}
READING = {"numpy", "yaml"}
SOLVING = {*READING, "ortools"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "libraries", "modules"),
    [
        (["solve", "--help"], set(), 400),
        (["models"], {*READING, "rich"}, 580),
        (["solve", EXAMPLE, "--json"], SOLVING, 650),
        (["solve", CHAT, "--top", "2"], {*SOLVING, "rich"}, 720),
        (["launch", EXAMPLE, "--to", "command"], SOLVING, 700),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=10,20"], {*SOLVING, "rich"}, 730),
        (["fleet", str(ROOT / "examples" / "fleet-too-little.yaml")], {*SOLVING, "rich"}, 900),
    ],
)
def test_a_command_imports_what_it_uses(command: list[str], libraries: set[str], modules: int) -> None:
    probe = f"""
import sys
from servesat.cli import app
app({command}, standalone_mode=False)
sys.stdout.write("\\n" + " ".join(sys.modules))
"""
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    imported = shown.stdout.splitlines()[-1].split()
    assert LIBRARIES & set(imported) == libraries
    assert len(imported) <= modules


@pytest.mark.slow
def test_output_survives_a_terminal_without_unicode() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from servesat.cli import app; app()", "solve", EXAMPLE],
        capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"$2.730 per million output tokens" in shown.stdout


def test_version() -> None:
    assert run("--version").stdout.startswith("servesat ")


def piped(text: str, *arguments: str):
    return CliRunner().invoke(app, list(arguments), input=text)


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        (EXAMPLE, ["why", "{}", "--chip", "tpu-v6e"]),
        (EXAMPLE, ["frontier", "{}", "--out", "points.csv"]),
        (EXAMPLE, ["whatif", "{}", "--vary", "slo.tpot_ms=15,20"]),
        (CHAT, ["modes", "{}"]),
        (STARTED, ["launch", "{}", "--to", "compose"]),
        (str(ROOT / "examples" / "fleet-too-little.yaml"), ["fleet", "{}"]),
    ],
)
def test_a_command_reads_standard_input_as_it_reads_the_file(path: str, arguments: list[str], tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def printed(name: str, text: str = "") -> list[str]:
        done = piped(
            text, *(argument.format(name) for argument in arguments), *([] if "launch" in arguments else ["--json"])
        )
        return [line for line in done.stdout.splitlines() if '"solve_s"' not in line]

    assert printed("-", Path(path).read_text()) == printed(path) != []


def test_references_on_standard_input_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = Path(EXAMPLE).read_text().replace("model: llama-3-405b", "model: mine.toml")
    missing = piped(text, "solve", "-")
    assert missing.exit_code == 1
    assert missing.stderr == "error: <stdin>: model = 'mine.toml': mine.toml: no such file\n"
    (tmp_path / "mine.toml").write_text((ROOT / "models" / "llama-3-405b.toml").read_text())
    assert json.loads(piped(text, "solve", "-", "--json").stdout)["plan"]["batch"] == 88


def test_a_result_on_standard_input_is_started_and_replayed(tmp_path: Path) -> None:
    solved = run("solve", STARTED, "--json").stdout
    launched = piped(solved, "launch", "-").stdout
    assert "# proof      optimal, as <stdin> says; not solved again" in launched
    wrong = piped(solved.replace('"status": "optimal"', '"status": "fine"', 1), "launch", "-")
    assert wrong.stderr.startswith("error: <stdin>: status = 'fine': expected one of optimal, ")
    assert "nothing arrives" in piped(solved, "replay", "-").stderr


@pytest.mark.parametrize("command", ["solve", "fleet", "portfolio", "launch", "replay", "frontier"])
@pytest.mark.parametrize(("text", "complaint"), [
    ("", "<stdin>: is empty; expected a mapping with the keys "), ("{", "<stdin>: malformed YAML: line 1, column 2: "),
])  # fmt: skip
def test_a_mistake_on_standard_input_names_it(command: str, text: str, complaint: str) -> None:
    done = piped(text, command, "-")
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: {complaint}")
    assert done.stdout == ""
