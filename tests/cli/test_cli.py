import os
import subprocess
import sys

import pytest

from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT


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
        (["chips"], {*READING, "rich"}, 580),
        (["solve", EXAMPLE, "--json"], SOLVING, 650),
        (["solve", EXAMPLE], {*SOLVING, "rich"}, 720),
        (["solve", CHAT, "--top", "2"], {*SOLVING, "rich"}, 720),
        (["launch", EXAMPLE, "--to", "command"], SOLVING, 820),
        (["why", EXAMPLE, "--batch", "8"], {*SOLVING, "rich"}, 720),
        (["frontier", EXAMPLE], {*SOLVING, "rich"}, 720),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=10,20"], {*SOLVING, "rich"}, 730),
        (["fleet", str(ROOT / "examples" / "fleet-starter.yaml")], {*SOLVING, "rich"}, 900),
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
