"""The commands around the answer: frontier and whatif, their files, and runs that are cut off."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from typer.testing import CliRunner

from servesat import Spec, trace_frontier
from servesat.cli import app
from servesat.cli.questions import Axis
from servesat.questions.pareto import AXES
from servesat.questions.scenarios import Factor, Scenarios
from servesat.questions.whatif import Question
from servesat.report.frontier import TITLES

ROOT = Path(__file__).parents[1]
EXAMPLE = str(ROOT / "examples" / "llama-3-405b-under-15ms.yaml")
CHAT = str(ROOT / "examples" / "llama-3-70b-chat.yaml")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


# frontier


def test_frontier_prints_every_point_and_what_it_was_compared_with() -> None:
    result = run("frontier", EXAMPLE)
    assert result.exit_code == 0
    assert "tpu-v5e 8x8" in result.stdout
    assert "$2.730" in result.stdout
    assert f"exact: {len(trace_frontier(EXAMPLE).points)} of" in result.stdout


def test_frontier_json_holds_whole_plans_sorted_by_the_first_axis() -> None:
    document = json.loads(run("frontier", EXAMPLE, "--json").stdout)
    assert (document["status"], document["axes"]) == ("optimal", ["tpot_ms", "usd_per_million_output_tokens"])
    points = document["points"]
    assert points[-1] == json.loads(run("solve", EXAMPLE, "--json").stdout)["plan"]
    assert [point["tpot_ms"] for point in points] == sorted(point["tpot_ms"] for point in points)
    costs = [point["usd_per_million_output_tokens"] for point in points]
    assert costs == sorted(costs, reverse=True)


def test_frontier_over_three_figures_for_each_chip() -> None:
    arguments = ("frontier", CHAT, "--x", "chips", "--y", "usd_per_million_output_tokens", "--z", "tpot_ms")
    document = json.loads(run(*arguments, "--by", "chip", "--json").stdout)
    assert (document["by"], len(document["axes"])) == ("chip", 3)
    priced = {offer.chip.id for offer in Spec.load(CHAT).offers}
    assert {point["chip"] for point in document["points"]} <= priced
    assert len({point["chip"] for point in document["points"]}) >= 5


def test_an_infeasible_frontier_exits_3_with_its_conflict() -> None:
    result = run("frontier", EXAMPLE, "--set", "search.max_chips=32")
    assert result.exit_code == 3
    assert "tpot ≤ 15 ms and chips ≤ 32 cannot hold together" in result.stdout
    document = json.loads(run("frontier", EXAMPLE, "--set", "search.max_chips=32", "--json").stdout)
    assert (document["points"], document["conflict"]) == ([], [["tpot", "chips"]])


def test_a_long_frontier_says_what_it_leaves_out() -> None:
    text = run("frontier", CHAT, "--by", "topology").stdout
    total = len(trace_frontier(CHAT, by="topology").points)
    assert total > 60
    assert f"60 of {total} points shown; --json or --out has them all" in text


def test_frontier_files_agree(tmp_path: Path) -> None:
    files = [tmp_path / f"out{ending}" for ending in (".csv", ".parquet", ".json", ".html", ".svg", ".png")]
    result = run("frontier", CHAT, *(word for file in files for word in ("--out", str(file))))
    assert result.exit_code == 0
    points = trace_frontier(CHAT).points
    for table in (pd.read_csv(files[0]), pd.read_parquet(files[1])):
        assert list(table["batch"]) == [point.batch for point in points]
        assert table["usd_per_million_output_tokens"].iloc[0] == pytest.approx(points[0].usd_per_million_output_tokens)
    assert len(json.loads(files[2].read_text())["points"]) == len(points)
    page = files[3].read_text()
    assert "limit 30 ms" in page
    assert f"batch {points[-1].batch}" in page
    assert "https://cdn" not in page.split("<body>")[1][:2000]
    assert files[4].read_text().count("<svg") == 1
    assert files[5].read_bytes().startswith(b"\x89PNG")
    assert sorted(tmp_path.iterdir()) == sorted(files)  # no drafts are left


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["frontier", EXAMPLE, "--x", "nope"], 2, "--x"),
        (["frontier", EXAMPLE, "--x", "tpot_ms", "--y", "tpot_ms"], 1, "expected two or three different ones"),
        (["frontier", EXAMPLE, "--out", "x.gif"], 2, "expected a file that ends in .csv"),
        (["frontier", EXAMPLE, "--out", "none/x.csv"], 2, "there is no folder none"),
        (["frontier", "none.yaml"], 1, "none.yaml: no such file"),
        (["whatif", EXAMPLE], 2, "give either --vary KEY=VALUES, or --noise 10%"),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,2", "--noise", "10%"], 2, "give either"),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=40:8:2"], 2, "from 40 to 8 is reversed"),
        (["whatif", EXAMPLE, "--vary", "slo.tpott_ms=1,2"], 1, "did you mean 'tpot_ms'"),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,2", "--resume"], 2, "give the --out of the run"),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,2", "--breakpoints", "headroom"], 2, "give its range"),
        (["whatif", EXAMPLE, "--noise", "lots"], 2, "expected a share, as in 10% or 0.1"),
        (["whatif", EXAMPLE, "--noise", "0"], 1, "expected a fraction between 0 and 1"),
        (["whatif", EXAMPLE, "--noise", "10%", "--out", "x.csv"], 2, "--out goes with scenarios"),
        (["whatif", EXAMPLE, "--noise", "10%", "--workers", "3"], 2, "--workers goes with scenarios"),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,2", "--seed", "3"], 2, "--seed goes with --noise"),
        (["whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,2", "--out", "a.csv", "--out", "a.csv"], 2, "is given twice"),
        (
            ["whatif", EXAMPLE, "--vary", "model.kv_heads=8,128", "--breakpoints", "model.kv_heads"],
            1,
            "model.kv_heads has no answer at 68",
        ),
    ],
)
def test_a_mistake_is_told_on_stderr_alone(arguments: list[str], code: int, complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert complaint in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


# whatif


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


def test_noise_says_whether_the_plan_survives() -> None:
    text = run("whatif", EXAMPLE, "--noise", "10%", "--samples", "50").stdout
    assert "the best plan stays the best in 100.0% of the samples" in text
    document = json.loads(run("whatif", EXAMPLE, "--noise", "0.1", "--samples", "50", "--json").stdout)
    assert document["layouts"][0]["plan"]["batch"] == 88
    assert (document["samples"], document["noise"]) == (50, 0.1)
    infeasible = run("whatif", EXAMPLE, "--noise", "10%", "--set", "search.max_chips=32")
    assert infeasible.exit_code == 3


# long runs

GRID = ("--vary", "slo.tpot_ms=10:29.9:0.1", "--vary", "search.weights=int8,int4")


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


def test_a_run_that_is_killed_goes_on_to_the_same_table(tmp_path: Path, whole: pd.DataFrame) -> None:
    out = tmp_path / "out.parquet"
    assert cut_off(out, signal.SIGKILL, "--workers", "1").returncode == -signal.SIGKILL
    assert not out.exists()
    refused = run("whatif", EXAMPLE, *GRID, "--out", str(out))
    assert (refused.exit_code, "go on with it with --resume" in refused.stderr) == (1, True)
    assert run("whatif", EXAMPLE, *GRID, "--out", str(out), "--resume").exit_code == 0
    pd.testing.assert_frame_equal(pd.read_parquet(out), whole)
    assert list(tmp_path.iterdir()) == [out]


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


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    chip = "{name: 'x[/] [b]$', vendor: v, hbm_bytes: 1e11, hbm_bytes_per_s: 1e12, flop_per_s: {bf16: 1e14}, " \
        "axes: [{name: x, bytes_per_s: 1e11}], topologies: ['1'], usd_per_chip_hour: 1.0}"  # fmt: skip
    spec.write_text(
        f"model: llama-3-8b\nworkload: {{context_tokens: 1024}}\nsearch: {{chips: [{chip}], max_batch: 3}}\n"
    )
    assert "x[/] [b]$ 1 " in run("frontier", str(spec)).stdout
    result = run("whatif", str(spec), "--vary", "price.x[/] [b]$=1,2", "--out", str(tmp_path / "a.svg"))
    assert result.exit_code == 0
    assert "x[/] [b]$ 1 " in result.stdout
    assert "$ per million output tokens" in (tmp_path / "a.svg").read_text()


def test_a_resume_with_nothing_to_resume_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = run("whatif", EXAMPLE, "--vary", "slo.tpot_ms=15,20", "--out", str(out), "--resume")
    assert (result.exit_code, "there is nothing to go on with" in result.stderr) == (0, True)


def test_the_axes_of_the_command_line_are_those_of_the_library() -> None:
    assert set(get_args(Axis)) == set(AXES) == set(TITLES)


def test_another_catalogue_is_another_question() -> None:
    base = Spec.load({"model": "llama-3-8b", "workload": {"context_tokens": 1}})
    faster = Spec.load(
        {"model": "llama-3-8b", "workload": {"context_tokens": 1}}, {"chip.tpu-v5e.hbm_bytes_per_s": 9e11}
    )
    factors = Scenarios((Factor("slo.tpot_ms", (1, 2)),))
    assert Question(base, factors).identity == Question(base, factors).identity
    assert Question(base, factors).identity != Question(faster, factors).identity


# modes


def test_modes_prints_each_mode_with_its_best_plan(tmp_path: Path) -> None:
    page = tmp_path / "modes.html"
    result = run("modes", CHAT, "--out", str(page))
    assert result.exit_code == 0
    for name in ("interleaved", "chunked", "disaggregated"):
        assert name in result.stdout
    assert "the KV cache moves in" in result.stdout
    assert "this workload" in page.read_text()
    document = json.loads(run("modes", CHAT, "--json").stdout)
    assert [one["mode"] for one in document["modes"]] == ["interleaved", "chunked", "disaggregated"]
    best = min(document["modes"], key=lambda one: one["plan"]["usd_per_million_output_tokens"])
    assert best["plan"] == json.loads(run("solve", CHAT, "--json").stdout)["plan"]


def test_modes_without_a_plan_name_their_conflict() -> None:
    result = run("modes", CHAT, "--set", "slo.ttft_ms=0.001")
    assert result.exit_code == 3
    assert "ttft ≤ 0.001 ms" in result.stdout
    assert run("modes", EXAMPLE).exit_code == 1
    assert run("modes", CHAT, "--out", "x.csv").exit_code == 2


def test_solve_says_how_prompts_are_served() -> None:
    tpus = ("--set", "search.chips=[tpu-v5e,tpu-v6e]")
    text = run(
        "solve", CHAT, *tpus, "--set", "search.modes=[disaggregated]", "--set", "workload.requests_per_s=50"
    ).stdout
    assert "disaggregated: 2 slices of tpu-v6e 2x2 prefill" in text
    assert "of which 99.7% are asked for" in text
    text = run("solve", CHAT, *tpus, "--set", "search.modes=[interleaved]").stdout
    assert "One token, 29.93 ms on average" in text
    assert "whole prefills of 19.7 ms between the steps" in text


def test_what_leaves_disaggregated_plans_out_says_so() -> None:
    for arguments in (("frontier", CHAT), ("whatif", CHAT, "--noise", "10%", "--samples", "3")):
        assert "disaggregated plans are left out" in run(*arguments).stderr
