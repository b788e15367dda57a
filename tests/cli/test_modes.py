"""The command modes."""

import json
from pathlib import Path

import pytest

from tests.cli.commands import CHAT, EXAMPLE, run


@pytest.mark.soak
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


def test_modes_without_a_plan_name_their_conflict(tmp_path: Path) -> None:
    page = tmp_path / "modes.html"
    result = run("modes", CHAT, "--set", "slo.ttft_ms=0.001", "--out", str(page))
    assert result.exit_code == 3
    assert "ttft ≤ 0.001 ms" in result.stdout
    assert f"note: {page} is not written: the result is without a plan in any mode" in result.stderr
    assert not page.exists()
    assert run("modes", EXAMPLE).exit_code == 1
    assert run("modes", CHAT, "--out", "x.csv").exit_code == 2
