"""How commands end: by errors in one line, at once on Ctrl-C, and when standard output fails."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.testing import CliRunner

from servesat.cli import app
from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT

COMMAND = [sys.executable, "-c", "from servesat.cli import app; app()"]
LONG = "a" * 300
FLEET = str(ROOT / "examples" / "fleet-day.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["solve", LONG],
        ["solve", EXAMPLE, "--certificate", LONG],
        ["why", EXAMPLE, "--chip", f"{LONG}.toml"],
        ["frontier", EXAMPLE, "--out", f"{LONG}.csv"],
        ["whatif", EXAMPLE, "--vary", "slo.tpot_ms=10,20", "--out", f"{LONG}.csv"],
        ["fleet", LONG],
        ["batch", LONG],
        ["batch", EXAMPLE, "--out", f"{LONG}.csv"],
        ["models", LONG],
        ["models", "import", LONG],
        ["chips", "rank", LONG],
        ["verify", LONG],
        ["figure", "breakdown", "--out", f"{LONG}.html"],
        ["figure", "breakdown", "--model", f"{LONG}.toml", "--out", "x.html"],
        ["frontier", EXAMPLE, "--out", "/proc/out.csv"],
        ["solve", EXAMPLE, "--certificate", "/proc/out.json"],
    ],
)
def test_a_name_that_the_system_refuses_is_an_error_in_one_line(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code in {1, 2}
    assert isinstance(result.exception, SystemExit)
    complaint = [line for line in result.stderr.splitlines() if not line.startswith("note: ")][-1]
    assert complaint.lower().startswith("error: ")


def test_a_model_whose_path_is_too_long_is_named_with_its_key(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(f"model: {LONG}.toml\nworkload: {{context_tokens: 1}}\n")
    result = run("solve", str(spec))
    assert (result.exit_code, "spec.yaml: model = " in result.stderr) == (1, True)


def test_control_characters_in_names_are_shown_escaped(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    chip = (
        '{name: "a\\x1b[2Jb", vendor: t, hbm_bytes: 8.0e10, hbm_bytes_per_s: 1.0e12, flop_per_s: {bf16: 1.0e15}, '
        'axes: [{name: x, bytes_per_s: 1.0e11}], topologies: ["1"], usd_per_chip_hour: 1.0}'
    )
    spec.write_text(
        f"cost_model: ideal\nmodel: llama-3-8b\nworkload: {{context_tokens: 100}}\nsearch: {{chips: [{chip}]}}\n"
    )
    for arguments in (("solve", str(spec)), ("frontier", str(spec)), ("why", str(spec), "--chip", "x\x1b]0;title\x07")):
        result = run(*arguments)
        assert "\x1b" not in result.stdout + result.stderr
    assert "a\\x1b[2Jb" in run("solve", str(spec)).stdout


def test_help_has_a_short_option() -> None:
    assert run("-h").stdout == run("--help").stdout
    assert run("chips", "rank", "-h").stdout == run("chips", "rank", "--help").stdout


def test_a_spec_comes_from_standard_input() -> None:
    text = Path(EXAMPLE).read_text()
    shown = subprocess.run([*COMMAND, "solve", "-"], input=text, capture_output=True, text=True, check=True)
    assert "$2.730 per million output tokens" in shown.stdout
    wrong = subprocess.run([*COMMAND, "solve", "-"], input="model: 1", capture_output=True, text=True, check=False)
    assert wrong.stderr.splitlines()[0].startswith("error: <stdin>: model = 1: ")


@pytest.mark.parametrize("arguments", [["--help"], ["models"], ["solve", EXAMPLE, "--json"]])
def test_a_full_or_closed_output_is_an_error_in_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run([*COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, "error: standard output: No space left on device\n")
    shell = ["sh", "-c", '"$@" >&-', "sh", *COMMAND, *arguments]
    closed = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (1, "error: standard output is closed\n")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    shell = ["sh", "-c", '"$@" | head -c 1', "sh", *COMMAND, "prices"]
    assert subprocess.run(shell, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False).stderr == b""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "after_s"),
    [(["fleet", FLEET], 3.0), (["whatif", CHAT, "--noise", "10%", "--samples", "100000"], 2.0)],
)
def test_ctrl_c_ends_a_command_within_a_second(arguments: list[str], after_s: float) -> None:
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGINT)
    start = time.monotonic()
    try:
        printed, told = process.communicate(timeout=60)
    finally:
        process.kill()  # one that did not end would run on
    assert time.monotonic() - start < 1.5  # on a busy machine
    assert (process.returncode, printed) == (130, "")
    assert told.splitlines()[-1] == "interrupted"
    assert "Traceback" not in told


@pytest.mark.parametrize(("cause", "code"), [(KeyboardInterrupt(), 130), (ValueError(), 1)])
def test_ctrl_c_while_an_extension_is_loaded_is_no_error(
    monkeypatch: pytest.MonkeyPatch, cause: BaseException, code: int
) -> None:
    """Extensions of OR-Tools make an ImportError of it, whose cause it is."""

    def loads(*_: object) -> None:
        raise ImportError("initialization failed") from cause

    monkeypatch.setattr(TyperGroup, "invoke", loads)
    result = CliRunner().invoke(app, ["models"])
    assert result.exit_code == code
    assert ("interrupted" in result.output) is (code == 130)
