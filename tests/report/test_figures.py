import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from servesat.cli import app
from servesat.report.figures import breakdown_chart, pareto_chart, read_layout
from tests.helpers import ROOT

BOOK = {
    "model": "llama-3-70b", "chip": "tpu-v5e", "topology": "4x4", "weights": "int8", "kv_cache": "int8",
    "compute": "bf16", "contexts": [2048, 8192, 65536], "max_batch": 512, "price": None,
}  # fmt: skip


def layout(**changes: Any):
    given = BOOK | changes
    return *read_layout(**given), given["contexts"], given["max_batch"]


def test_pareto_holds_the_batches_that_fit() -> None:
    chart = pareto_chart(*layout())
    assert [frame.label for frame in chart.frames] == ["2,048 tokens", "8,192 tokens", "65,536 tokens"]
    assert (chart.log_x, chart.log_y, chart.first_frame) == (False, True, 1)
    memory_bound, compute_bound = chart.frames[1].series
    assert memory_bound.hover[0].startswith("batch 1<br>5.44 ms")
    assert memory_bound.hover[0].endswith("$29.01 per million tokens")
    # batch 1, even batches to 120, those past it to 138, the two lines joined at 120
    assert len(memory_bound.x) == 61
    assert (len(compute_bound.x), compute_bound.x[0]) == (10, memory_bound.x[-1])
    assert max(compute_bound.x) == pytest.approx(
        2 * 70e9 * 138 / (16 * 1.97e14) * 1e3 + 138 * 163_840 * 8192 / (16 * 8.2e11) * 1e3
    )
    assert chart.frames[2].series[1].x == []  # 64k of context never gets there


def test_a_slider_of_batches_moves_a_point_with_its_figures() -> None:
    """Powers of two up to what fits at 2k; at 64k memory holds 17, so that batch 32 is no point there."""
    chart = pareto_chart(*layout())
    short, _, long = (frame.stops for frame in chart.frames)
    assert short.labels == long.labels == ["1", "2", "4", "8", "16", "32", "64", "128", "256", "512"]
    assert short.hover[-1] == "batch 512<br>35.84 ms a token<br>893.0 tokens/s a chip<br>$0.3733 per million tokens"
    assert short.x[0] == pytest.approx(70e9 / (16 * 8.2e11) * 1e3 + 2048 * 163_840 / (16 * 8.2e11) * 1e3, rel=1e-3)
    assert [not math.isnan(x) for x in long.x] == [True] * 5 + [False] * 5


def test_pareto_says_what_twice_the_latency_saves() -> None:
    """At 2k batches within 10.73 ms reach the plateau: B = 1 costs 1.2 · 16 / 3600 / (1 / 5.363 ms) = $28.61 a million,
    the plateau, 70e9 · 2 / 1.97e14 + 163,840 · 2,048 / 8.2e11 = 1.120 ms a chip, $0.3733: 76.6 times less.
    """
    chart = pareto_chart(*layout())
    rules = [(frame.rule_at, frame.rule_label) for frame in chart.frames]
    assert rules[0][0] == pytest.approx(10.727, abs=2e-3)
    assert rules[0][1] == "2× latency: 77× cheaper"
    assert chart.right_scale == pytest.approx(1.2 / 3600 * 1e6)
    assert chart.right_range == pytest.approx([1.2 / 3600 * 1e6 / end for end in chart.y_range])


def test_where_memory_is_full_below_twice_the_latency_the_rule_is_there() -> None:
    """8 · 80 GB of H100 at 8 · 3.35 TB/s: the weights are read in 15.1 ms, all of the memory in 23.9 ms, 1.6 times."""
    frame = pareto_chart(*layout(model="llama-3-405b", chip="h100-sxm", topology="8x1")).frames[1]
    assert frame.rule_at == max(frame.series[0].x) == pytest.approx(23.9, rel=0.01)
    assert frame.rule_label.startswith("1.6× latency: ")


def test_a_context_of_which_nothing_fits_has_no_rule() -> None:
    chart = pareto_chart(*layout(contexts=[8192, 10_000_000]))
    assert (chart.frames[1].rule_at, chart.frames[1].rule_label) == (None, "")


def test_breakdown_marks_the_compute_bound_sector_and_full_hbm() -> None:
    chart = breakdown_chart(*layout())
    frame = chart.frames[1]
    assert [series.name for series in frame.series] == ["weights", "KV cache", "FLOPs", "step"]
    assert frame.shade_from == pytest.approx(120.12, abs=0.01)
    assert (frame.rule_at, frame.rule_label) == (138.0, "HBM full at 138")
    assert frame.series[0].y == pytest.approx([70e9 / (16 * 8.2e11) * 1e3] * 257)
    assert chart.log_x
    assert chart.log_y


def test_a_context_at_which_nothing_fits_says_so() -> None:
    for chart in (
        pareto_chart(*layout(contexts=[8192, 10_000_000])),
        breakdown_chart(*layout(contexts=[8192, 10_000_000])),
    ):
        assert [frame.label for frame in chart.frames] == ["8,192 tokens", "10,000,000 tokens (no batch fits)"]
        assert chart.frames[1].rule_at is None


def test_another_model_on_another_chip() -> None:
    chart = breakdown_chart(
        *layout(model="llama-3-405b", chip="h100-sxm", topology="8x2", weights="fp8", compute="fp8")
    )
    assert chart.title == "LLaMA 3 405B on h100-sxm 8x2, fp8 weights, int8 KV cache, fp8 FLOPs: where a step goes"
    assert chart.frames[0].series[0].y[0] == pytest.approx(405e9 / (16 * 3.35e12) * 1e3)


def test_a_chip_of_ones_own(tmp_path: Path) -> None:
    text = (ROOT / "hardware" / "chips" / "l4.toml").read_text()
    (tmp_path / "mine.toml").write_text('id = "other"\n' + text)
    chart = pareto_chart(*layout(chip=str(tmp_path / "mine.toml"), topology="8", model="llama-3-8b", price=0.8))
    assert "on other 8" in chart.title
    assert chart.frames[0].series[0].hover[0].endswith("per million tokens")


def run(*arguments: str):
    return CliRunner().invoke(app, ["figure", *arguments])


@pytest.mark.parametrize("kind", ["pareto", "breakdown"])
def test_html_is_self_contained_with_a_slider_position_for_each_context(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "figure.html"
    result = run(kind, "--out", str(out), "--contexts", "2048,8192")
    assert result.exit_code == 0
    assert result.stdout == ""
    page = out.read_text()
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert "Plotly.newPlot" in page
    [slider, *others], _ = json.JSONDecoder().raw_decode(page, page.index('"sliders":') + len('"sliders":'))
    assert [step["label"] for step in slider["steps"]] == ["2,048 tokens", "8,192 tokens"]
    assert [sum(step["args"][0]["visible"]) for step in slider["steps"]] == [4] * 2
    assert [[step["label"] for step in other["steps"]][-1] for other in others] == (["512"] if kind == "pareto" else [])


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_images(tmp_path: Path, ending: str, magic: bytes) -> None:
    out = tmp_path / f"figure.{ending}"
    assert run("breakdown", "--out", str(out), "--contexts", "8192").exit_code == 0
    assert out.read_bytes().startswith(magic)
    assert out.stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["pareto", "--out", "x.gif"], 2, "--out x.gif: expected a file that ends in .html, .png, .svg, .pdf"),
        (["pareto", "--out", "none/x.html"], 2, "--out none/x.html: there is no folder none"),
        (
            ["pareto", "--out", "x.html", "--contexts", "1,a"],
            2,
            "--contexts 1,a: expected different whole numbers above 0",
        ),
        (["pareto", "--out", "x.html", "--contexts", "0"], 2, "--contexts 0: expected different whole numbers above 0"),
        (["pareto", "--out", "x.html", "--topology", "4x5"], 1, "'4x5' is not offered"),
        (["pareto", "--out", "x.html", "--chip", "tpu-v9"], 1, "no chip 'tpu-v9'"),
        (["pareto", "--out", "x.html", "--weights", "int3"], 1, "'int3': expected one of"),
        (["pareto", "--out", "x.html", "--compute", "fp8"], 1, "no chip searched has a peak"),
        (["pareto", "--out", "x.html", "--model", "llama-3-405b"], 1, "nothing to draw: on tpu-v5e 4x4 no batch fits"),
        (["pareto", "--out", "x.html", "--topology", "16x16"], 1, "256 ways do not divide the query heads"),
        (["pareto", "--out", "x.html", "--chip", "l4", "--topology", "8"], 1, "l4 has no price in list-2026-11"),
        (["pareto", "--out", "x.html", "--weights", "bf16", "--compute", "int8"], 1, "the weights, bf16, are wider"),
        (["pareto"], 2, "Missing option"),
        (["pie", "--out", "x.html"], 2, "'pie'"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], code: int, complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert complaint in result.stderr
