import json
from pathlib import Path

import pytest

from servesat import ServesatError, accuracy
from tests.cli.commands import run
from tests.helpers import ROOT

FILE = str(ROOT / "tests" / "published" / "measured" / "closed_loop_gpu.csv")


def test_json_has_rows_errors_and_groups() -> None:
    document = json.loads(run("accuracy", FILE, "--by", "chip", "--json").stdout)
    assert (document["rows"], document["predicted"]) == (178, 178)
    assert set(document["errors"]["tpot_ms"]) == {"rows", "mean_pct", "median_pct", "p90_pct", "bias"}
    assert [group["chip"] for group in document["groups"]] == ["b200", "h100-sxm", "h200"]
    assert document["groups"][0]["errors"]["tpot_ms"]["rows"] == 80
    assert document["unpredicted"] == []
    assert len(document["predictions"]) == 178


def test_a_table_says_what_is_not_predicted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row = "h200,bf16,8,1000,200,10"
    path.write_text(
        f"model,chip,weights,concurrency,prompt_tokens,output_tokens,tpot_ms\nqwen3-8b,{row}\ngpt-9,{row}\n"
    )
    done = run("accuracy", str(path))
    assert "TPOT" in done.stdout
    assert "1 × model = gpt-9: no model of the catalogue" in done.stdout
    assert "1 of 2 rows are not predicted" in done.stderr


def test_a_file_without_a_row_to_predict_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    header = "model,chip,weights,concurrency,prompt_tokens,output_tokens,tpot_ms\n"
    path.write_text(f"{header}gpt-9,h200,bf16,8,1000,200,10\n")
    done = run("accuracy", str(path))
    assert done.exit_code == 1
    assert "1 × model = gpt-9: no model of the catalogue" in done.stdout
    assert done.stderr == f"note: 1 of 1 rows are not predicted\nerror: {path}: no row can be predicted\n"
    printed = run("accuracy", str(path), "--json")
    assert (printed.exit_code, json.loads(printed.stdout)["predicted"]) == (1, 0)
    path.write_text(header)
    assert run("accuracy", str(path)).stderr == f"error: {path}: no row can be predicted\n"
    path.write_text("model,chip,concurency,prompt_tokens,output_tokens,tpot_ms\nllama-3.1-8b,h200,8,1000,200,10\n")
    misspelt, figure = "concurency is not read; did you mean concurrency?", tmp_path / "figure.svg"
    assert misspelt in run("accuracy", str(path), "--out", str(figure)).stderr
    assert not figure.exists()


def test_every_published_row_is_predicted() -> None:
    document = json.loads(run("accuracy", FILE.replace("closed_loop_gpu", "moe_closed_loop"), "--json").stdout)
    assert document["unpredicted"] == []
    assert document["predicted"] == 468


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    for name in ("page.html", "image.svg"):
        assert run("accuracy", FILE, "--out", str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).stat().st_size > 10_000


def test_lines_of_a_figure_are_a_fifth_above_and_below_what_was_measured() -> None:
    lines = {str(line.get_label()): line for line in accuracy(FILE).figure().axes[0].lines}
    factors = {"as measured": 1.0, "20 % more": 1.2, "20 % less": 0.8}
    for name, factor in factors.items():
        assert lines[name].get_ydata() == pytest.approx([factor * x for x in lines[name].get_xdata()])


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    assert "by = 'chips': no such group; did you mean 'chip'?" in run("accuracy", FILE, "--by", "chips").stderr
    assert "nowhere.csv: no such file" in run("accuracy", "nowhere.csv").stderr
    assert "no calibration 'idea'" in run("accuracy", FILE, "--calibration", "idea").stderr


def test_nothing_is_drawn_of_rows_that_cannot_be_predicted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("model,chip,tpot_ms\nx,y,1\n")
    with pytest.raises(ServesatError, match="no row is predicted, so there is nothing to draw"):
        accuracy(path).draw(tmp_path / "a.svg")
