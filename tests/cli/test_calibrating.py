import json
from pathlib import Path

from servesat.catalogue.load import load_calibration
from tests.cli.commands import run
from tests.helpers import ROOT
from tests.questions.test_calibrate import RESULT

SPEC = str(ROOT / "examples" / "qwen3-32b-fp8-two-h100.yaml")
MEASURED = str(ROOT / "tests" / "published" / "measured" / "closed_loop_gpu.csv")


def results(tmp_path: Path) -> list[str]:
    """Of the four servers of the plan together, each with so many requests under way."""
    paths = []
    for concurrency, tpot, ttft in ((1, 9.0, 60.0), (8, 10.5, 180.0), (32, 14.2, 420.0)):
        path = tmp_path / f"at-{concurrency}.json"
        means = {"mean_tpot_ms": tpot, "mean_ttft_ms": ttft, "max_concurrency": 4 * concurrency}
        totals = {"completed": 400, "total_input_tokens": 800_000, "total_output_tokens": 200_000}
        path.write_text(json.dumps(RESULT | means | totals))
        paths.append(str(path))
    return paths


def test_results_make_a_calibration_that_predicts_them(tmp_path: Path) -> None:
    out = tmp_path / "mine.toml"
    done = run("calibrate", *results(tmp_path), "--spec", SPEC, "--out", str(out))
    assert done.exit_code == 0
    assert "not identified" in done.stdout
    assert "each file, fitted without it: TPOT " in done.stdout
    mine = load_calibration(str(out))
    assert mine.name == "mine"
    assert mine.stack("vllm", "0.32", "")[1]
    row = "model,chip,engine,engine_version,weights,kv_cache,tp,concurrency,prompt_tokens,output_tokens,tpot_ms\n"
    csv = tmp_path / "rows.csv"
    csv.write_text(row + "qwen3-32b,h100-sxm,vllm,0.32,fp8,fp8,2,8,2000,500,10.5\n")
    document = json.loads(run("accuracy", str(csv), "--calibration", str(out), "--json").stdout)
    assert document["errors"]["tpot_ms"]["mean_pct"] < 5
    assert document["predictions"][0]["calibrated"]


def test_a_table_is_calibrated_with_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    done = run("calibrate", MEASURED, "--out", str(tmp_path / "mine.toml"), "--json")
    document = json.loads(done.stdout)
    assert set(document["chips"]) == {"b200", "h100-sxm", "h200"}
    assert document["errors_leave_one_file_out"] is None
    assert document["errors"]["tpot_mean_pct"] < 8
    assert "is left out: 128 sequences, of which " in done.stderr


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    files, out = results(tmp_path), str(tmp_path / "mine.toml")
    assert "does not say what was started: give --spec SPEC" in run("calibrate", *files, "--out", out).stderr
    assert "a calibration ends in .toml" in run("calibrate", *files, "--spec", SPEC, "--out", "mine.txt").stderr
    done = run("calibrate", *files, "--spec", SPEC, "--engine", "none", "--out", out)
    assert "has no plan of an engine: state engine: vllm" in done.stderr
