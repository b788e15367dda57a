"""The command whatif, its files, and runs that are cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.commands import EXAMPLE, run


def test_whatif_prints_the_grid() -> None:
    result = run("whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,15", "--vary", "search.weights=int8,int4")
    assert result.exit_code == 0
    assert "as it stands: tpu-v5e 8x8, weights int8" in result.stdout
    assert "tpu-v5e 4x8 *" in result.stdout  # with int4 weights half the slice does
    assert "tpot and heads" in result.stdout


def test_whatif_json_rows_hold_plans_as_solve_prints_them() -> None:
    document = json.loads(run("whatif", EXAMPLE, "--json", "--vary", "slo.tpot_ms=10,20").stdout)
    assert document["base"]["plan"]["batch"] == 88
    assert document["varied"] == ["slo.tpot_ms"]
    for row, limit in zip(document["rows"], (10, 20), strict=True):
        solved = json.loads(run("solve", EXAMPLE, "--json", "--set", f"slo.tpot_ms={limit}").stdout)
        assert row["slo.tpot_ms"] == limit
        assert (row["plan"], row["status"], row["binding"]) == (solved["plan"], solved["status"], solved["binding"])
        cost = row["usd_per_million_output_tokens"]
        assert row["change"] == cost / document["base"]["plan"]["usd_per_million_output_tokens"] - 1


def test_a_refused_value_is_named_with_its_scenario_and_the_others_run() -> None:
    result = run("whatif", EXAMPLE, "--json", "--vary", "slo.tpot_ms=20,-1,15")
    assert result.exit_code == 1
    assert "error: scenario 1: " in result.stderr
    assert "slo.tpot_ms = -1: expected a number greater than 0" in result.stderr
    assert [row["status"] for row in json.loads(result.stdout)["rows"]] == ["optimal", "error", "optimal"]


def test_one_at_a_time_prints_swings_and_draws_a_tornado(tmp_path: Path) -> None:
    vary = ("--vary", "price.tpu-v5e=0.6,1.8", "--vary", "search.weights=int8,int4")
    files = [tmp_path / "tornado.html", tmp_path / "tornado.png"]
    result = run("whatif", EXAMPLE, "--one-at-a-time", *vary, "--out", str(files[0]), "--out", str(files[1]))
    assert result.exit_code == 0
    assert "What moves the cost most" in result.stdout
    assert "100.0%" in result.stdout
    assert "0.6: -50.0%" in files[0].read_text()
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_one_at_a_time_of_a_spec_without_a_plan_compares_with_nothing() -> None:
    keys = ("--set", "slo.tpot_ms=0.01", "--vary", "slo.tpot_ms=10,20", "--one-at-a-time")
    told = run("whatif", EXAMPLE, *keys).stdout
    assert "the spec as it stands has no plan to compare with" in told
    assert "What moves the cost most" not in told


def test_a_grid_draws_cost_along_its_first_number(tmp_path: Path) -> None:
    page = tmp_path / "cost.html"
    vary = ("--vary", "search.weights=int8,int4", "--vary", "slo.tpot_ms=14:20:2")
    assert run("whatif", EXAMPLE, *vary, "--out", str(page)).exit_code == 0
    assert "cost along slo.tpot_ms" in page.read_text()
    assert "search.weights int4" in page.read_text()
    nothing = run("whatif", EXAMPLE, "--vary", "search.weights=int8,int4", "--out", str(page))
    assert (nothing.exit_code, "no varied key has numbers for all of its values" in nothing.stderr) == (1, True)
    many = ("--vary", "slo.tpot_ms=14,16", "--vary", "headroom=0:0.12:0.01")
    crowded = run("whatif", EXAMPLE, *many, "--out", str(page), "--out", str(tmp_path / "a.csv"))
    assert (crowded.exit_code, "13 lines, more than the 12" in crowded.stderr) == (1, True)
    assert list(tmp_path.iterdir()) == [page]  # refused before anything ran


def test_a_table_is_written_where_no_scenario_has_a_plan_to_draw(tmp_path: Path) -> None:
    table, figure = tmp_path / "none.csv", tmp_path / "none.png"
    vary = ("--vary", "slo.tpot_ms=0.001,0.002")
    result = run("whatif", EXAMPLE, *vary, "--out", str(table), "--out", str(figure))
    assert result.exit_code == 0
    assert f"note: {figure} is not written: no scenario has a plan" in result.stderr
    assert f"wrote {table}" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["none.csv"]


def test_many_rows_are_counted_not_dropped() -> None:
    result = run("whatif", EXAMPLE, "--vary", "slo.tpot_ms=10:69:1")
    assert "50 of 60 scenarios shown; --json or --out has them all" in result.stdout


def test_a_changed_shape_is_noted() -> None:
    result = run("whatif", EXAMPLE, "--vary", "model.kv_heads=8,16")
    assert "note: model.nominal_parameters stays 4.05e+11" in result.stderr


def test_breakpoints_are_printed_with_both_sides() -> None:
    arguments = ("whatif", EXAMPLE, "--vary", "search.max_chips=8,128", "--breakpoints", "search.max_chips")
    document = json.loads(run(*arguments, "--json").stdout)
    (change,) = document["breakpoints"]
    assert (change["below"], change["above"]) == (63, 64)
    assert (change["before"]["status"], change["before"]["plan"]) == ("infeasible", None)
    assert change["after"]["plan"] == json.loads(run("solve", EXAMPLE, "--json").stdout)["plan"]
    text = run(*arguments).stdout
    assert "up to 63: infeasible" in text
    assert "from 64: tpu-v5e 8x8" in text
    same = run("whatif", EXAMPLE, "--vary", "price.tpu-v5e=1,2", "--breakpoints", "price.tpu-v5e")
    assert "the best layout is the same at all 2 values" in same.stdout


def test_a_breakpoint_says_where_drafting_stops_paying(tmp_path: Path) -> None:
    spec = tmp_path / "drafts.yaml"
    spec.write_text(
        "model: llama-3.1-8b\nworkload: {prompt_tokens: 200, output_tokens: 100}\n"
        "engine: trtllm\nsearch: {chips: [l40s], modes: [interleaved]}\n"
    )
    key = "search.max_batch"
    told = run("whatif", str(spec), "--vary", f"{key}=1,4096", "--breakpoints", key).stdout.splitlines()
    five, three, none = (line for line in told if "l40s 1x1" in line)
    assert "drafted 5 by eagle3, batch" in five
    assert "drafted 3 by eagle3, batch" in three
    assert "drafted none, batch" in none


def test_noise_says_whether_the_plan_survives() -> None:
    text = run("whatif", EXAMPLE, "--noise", "10%", "--samples", "50").stdout
    assert "the best plan stays the best in 100.0% of the samples" in text
    document = json.loads(run("whatif", EXAMPLE, "--noise", "0.1", "--samples", "50", "--json").stdout)
    assert document["layouts"][0]["plan"]["batch"] == 88
    assert (document["samples"], document["noise"]) == (50, 0.1)
    infeasible = run("whatif", EXAMPLE, "--noise", "10%", "--set", "search.max_chips=32")
    assert infeasible.exit_code == 3


GRID = ("--vary", "slo.tpot_ms=10:29.9:0.1", "--vary", "search.weights=int8,int4")


@pytest.mark.slow
def test_tables_agree_with_json_whatever_the_number_of_workers(tmp_path: Path) -> None:
    small = ("--vary", "slo.tpot_ms=null,15,16.5,-1", "--vary", "search.weights=int8,[int8,int4]")
    files = [tmp_path / f"out{ending}" for ending in (".parquet", ".csv", ".json")]
    outs = [word for file in files for word in ("--out", str(file))]
    result = run("whatif", EXAMPLE, *small, *outs, "--workers", "2")
    assert result.exit_code == 1  # -1 is refused
    rows = json.loads(files[2].read_text())["rows"]
    assert rows == json.loads(run("whatif", EXAMPLE, *small, "--json").stdout)["rows"]
    parquet = pd.read_parquet(files[0])
    assert list(parquet["status"]) == [row["status"] for row in rows]
    assert list(parquet["search.weights"]) == ["int8", "int8+int4"] * 4
    assert parquet["slo.tpot_ms"].isna().sum() == 2
    pd.testing.assert_frame_equal(
        parquet[["scenario", "tpot_ms", "change"]], pd.read_csv(files[1])[["scenario", "tpot_ms", "change"]]
    )
    assert sorted(tmp_path.iterdir()) == sorted(files)


def cut_off(out: Path, number: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Start the grid, and send a signal to its processes when some of its rows are on disk."""
    journal = out.with_name(out.name + ".partial")
    command = [sys.executable, "-c", "from servesat.cli import app; app()", "whatif", EXAMPLE, *GRID]
    process = subprocess.Popen(
        [*command, "--out", str(out), *options],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 50) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert 50 < journal.read_bytes().count(b"\n") < 400
    return subprocess.CompletedProcess(command, process.returncode, stderr=told)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("whole") / "whole.parquet"
    assert run("whatif", EXAMPLE, *GRID, "--out", str(out)).exit_code == 0
    return pd.read_parquet(out)


@pytest.mark.soak
def test_a_run_that_is_killed_goes_on_to_the_same_table(tmp_path: Path, whole: pd.DataFrame) -> None:
    out = tmp_path / "out.parquet"
    assert cut_off(out, signal.SIGKILL, "--workers", "1").returncode == -signal.SIGKILL
    assert not out.exists()
    refused = run("whatif", EXAMPLE, *GRID, "--out", str(out))
    assert (refused.exit_code, "go on with it with --resume" in refused.stderr) == (1, True)
    assert run("whatif", EXAMPLE, *GRID, "--out", str(out), "--resume").exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out), whole)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path, whole: pd.DataFrame) -> None:
    out = tmp_path / "out.parquet"
    out.write_text("an earlier table")
    result = cut_off(out, signal.SIGINT, "--workers", "2")
    assert result.returncode == 130
    assert out.read_text() == "an earlier table"
    done = out.with_name("out.parquet.partial").read_text().count("\n") - 1
    assert 50 <= done < len(whole)
    assert result.stderr.splitlines() == [
        f"cut off: {done} of 400 scenarios are done; {out}.partial keeps them for --resume"
    ]
    assert run("whatif", EXAMPLE, *GRID, "--out", str(out), "--resume").exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out), whole)


def test_a_resume_with_nothing_to_resume_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = run("whatif", EXAMPLE, "--vary", "slo.tpot_ms=15,20", "--out", str(out), "--resume")
    assert (result.exit_code, "there is nothing to go on with" in result.stderr) == (0, True)


def test_the_time_per_token_of_a_full_batch_is_not_shown_as_that_of_a_limit(tmp_path: Path) -> None:
    """The limit holds for the p95 of a replay, which the mean of a full batch may exceed."""
    chat = {
        "model": "llama-3.1-8b",
        "engine": "vllm",
        "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 30},
        "slo": {"tpot_ms": 25},
        "search": {"chips": ["h100-sxm"], "modes": ["interleaved"], "weights": ["fp8"]},
        "speculative": "none",
        "price": {"h100-sxm": 3.0},
    }
    (tmp_path / "chat.yaml").write_text(json.dumps(chat))
    for more, header in (((), "tpot when full"), (("--set", "slo.percentile=mean"), " tpot ")):
        printed = run("whatif", str(tmp_path / "chat.yaml"), "--vary", "slo.tpot_ms=25,26", "--wide", *more).stdout
        (head,) = [line for line in printed.splitlines() if "$/1M" in line]
        assert header in head
        assert ("when full" in head) == (not more)
