import json
from pathlib import Path

import pytest

from servesat.catalogue.load import load_calibration
from servesat.questions import torch_device
from tests.cli.commands import run
from tests.questions.test_measure import Stub


def test_a_measurement_makes_a_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "open_device", Stub)
    out = tmp_path / "my-h200.toml"
    done = run("measure", "--out", str(out))
    assert done.exit_code == 0
    assert "h200: NVIDIA H200, NVIDIA 1.2, torch 9.9" in done.stdout
    assert "e_b, bandwidth" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "note: link and collective_s are not measured" in done.stderr
    assert load_calibration(str(out)).name == "my-h200"
    document = json.loads(run("measure", "--out", str(out), "--json").stdout)
    assert document["chip"] == "h200"
    assert set(document["constants"]) == {"weights", "flops", "launch_s"}
    assert set(document["constants"]["weights"]) == {"median", "low", "high"}
    assert document["usable_hbm_bytes"] == 150_000_000_000
    assert document["driver"] == "NVIDIA 1.2"


def test_the_file_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_device, "open_device", Stub)
    out = tmp_path / "mine.toml"
    assert run("measure", "--out", str(out)).exit_code == 0
    row = "model,chip,engine,engine_version,weights,tp,concurrency,prompt_tokens,output_tokens,tpot_ms\n"
    csv = tmp_path / "rows.csv"
    csv.write_text(row + "qwen3-32b,h200,vllm,0.19.0,fp8,1,8,2000,500,10.5\n")
    document = json.loads(run("accuracy", str(csv), "--calibration", str(out), "--json").stdout)
    assert document["predictions"][0]["calibrated"]


def test_bad_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "a calibration ends in .toml" in run("measure", "--out", "mine.txt").stderr
    assert "no model 'gpt-9'" in run("measure", "--out", "mine.toml", "--model", "gpt-9").stderr
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    done = run("measure", "--out", "mine.toml")
    assert done.exit_code == 1
    assert done.stderr == (
        "error: servesat measure needs PyTorch on the machine with the accelerator: pip install torch\n"
    )
