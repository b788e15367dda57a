"""The command frontier and its files, and the mistakes that it and whatif refuse."""

import json
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import yaml

from servesat import Spec
from servesat.cli.frontier import Axis
from servesat.deployment.solve import solve
from servesat.questions.pareto import AXES, trace_frontier
from servesat.report.frontier import TITLES
from tests.cli.commands import CHAT, EXAMPLE, run


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


@pytest.mark.soak
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


@pytest.mark.soak
def test_a_long_frontier_says_what_it_leaves_out() -> None:
    text = run("frontier", CHAT, "--by", "topology").stdout
    total = len(trace_frontier(CHAT, by="topology").points)
    assert total > 60
    assert f"60 of {total} points shown; --json or --out has them all" in text


@pytest.mark.slow
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


def test_names_are_printed_as_they_are(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    chip = "{name: 'x[/] [b]$', vendor: v, hbm_bytes: 1e11, hbm_bytes_per_s: 1e12, flop_per_s: {bf16: 1e14}, " \
        "axes: [{name: x, bytes_per_s: 1e11}], topologies: ['1'], usd_per_chip_hour: 1.0}"  # fmt: skip
    spec.write_text(
        "cost_model: ideal\nmodel: llama-3-8b\nworkload: {context_tokens: 1024}\n"
        f"search: {{chips: [{chip}], max_batch: 3}}\n"
    )
    assert "x[/] [b]$ 1 " in run("frontier", str(spec)).stdout
    result = run("whatif", str(spec), "--vary", "price.x[/] [b]$=1,2", "--out", str(tmp_path / "a.svg"))
    assert result.exit_code == 0
    assert "x[/] [b]$ 1 " in result.stdout
    assert "$ per million output tokens" in (tmp_path / "a.svg").read_text()


def test_the_axes_of_the_command_line_are_those_of_the_library() -> None:
    assert set(get_args(Axis)) == set(AXES) == set(TITLES)


@pytest.mark.soak
def test_what_leaves_disaggregated_plans_out_says_so() -> None:
    best = solve({**yaml.safe_load(Path(CHAT).read_text()), "search": {"modes": ["disaggregated"]}}).plan
    assert best is not None
    cost = best.usd_per_million_output_tokens
    for arguments in (("frontier", CHAT), ("whatif", CHAT, "--noise", "10%", "--samples", "3")):
        printed = " ".join(run(*arguments).stdout.split())
        assert ", without disaggregated plans" in printed
        assert f"disaggregated plans are left out: the best costs ${cost:.4f} per million" in printed
        document = json.loads(run(*arguments, "--json").stdout)["left_out"]
        assert document["modes"] == ["disaggregated"]
        assert document["best"]["usd_per_million_output_tokens"] == cost
    assert json.loads(run("frontier", EXAMPLE, "--json").stdout)["left_out"] is None
