from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from servesat.cli import app
from servesat.report.tables import Column, Fitted, columns
from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT


def printed(table: Fitted, width: int) -> list[str]:
    file = StringIO()
    Console(file=file, width=width, highlight=False).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def plans() -> Fitted:
    table = Fitted(
        [Column("slices"), *columns("weights", "mode", detail=True), Column("$/1M", right=True)], "The best plans"
    )
    table.add_row(["tpu-v5e 4x4", "int8", "chunked", "$1.25"])
    table.add_row(["h100-sxm 8x1", "int8", "interleaved", "$10.50"])
    return table


def test_a_table_that_fits_has_every_column() -> None:
    assert printed(plans(), 60) == [
        "",
        "The best plans",
        "",
        "slices         weights   mode            $/1M",
        "─────────────────────────────────────────────",
        "tpu-v5e 4x4    int8      chunked        $1.25",
        "h100-sxm 8x1   int8      interleaved   $10.50",
        "",
    ]


def test_what_is_the_same_in_every_row_is_said_once() -> None:
    assert printed(plans(), 40)[2:6] == [
        "everywhere: weights int8",
        "",
        "slices         mode            $/1M",
        "───────────────────────────────────",
    ]


def test_details_move_below_their_row_and_no_cell_is_cut_off() -> None:
    assert printed(plans(), 30)[4:] == [
        "slices           $/1M",
        "─────────────────────",
        "tpu-v5e 4x4     $1.25",
        "    mode chunked",
        "h100-sxm 8x1   $10.50",
        "    mode interleaved",
        "",
    ]


def test_a_row_has_a_note_below_it_at_any_width() -> None:
    table = plans()
    table.add_row(["tpu-v5e 2x2", "", "", "no plan"], note="tpot cannot hold")
    assert printed(table, 60)[-3:] == ["tpu-v5e 2x2                            no plan", "    tpot cannot hold", ""]
    assert printed(table, 30)[-3:] == ["tpu-v5e 2x2    no plan", "    tpot cannot hold", ""]


def test_scenarios_say_what_binds_and_what_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("whatif", EXAMPLE, "--vary", "slo.tpot_ms=1,15").stdout.splitlines()
    infeasible = next(at for at, line in enumerate(lines) if "infeasible" in line)
    assert lines[infeasible + 1] == "    tpot cannot hold"
    assert lines[infeasible + 3].endswith(" · bound by ici")
    text = run("whatif", EXAMPLE, "--vary", "search.max_chips=8,64").stdout
    assert "    hbm and chips cannot hold together; tpot and chips cannot hold together\n" in text


def test_modes_without_a_plan_say_why_in_a_sentence() -> None:
    lines = run("modes", CHAT, "--set", "search.max_chips=1").stdout.splitlines()
    (row,) = [at for at, line in enumerate(lines) if line.startswith("disaggregated") and "no plan" in line]
    assert lines[row + 1] == "    no plan satisfies chips ≤ 1 on any of 21 chips"


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["solve", CHAT, "--top", "3", "--distinct", "chip"], ["gh200 1", "tpu-v6e 2x4", "$0.4837", "$0.6627"]),
        (["solve", EXAMPLE, "--explain"], ["tpu-v5e 8x8", "$2.730"]),
        (["frontier", CHAT], ["gb200 8x1", "$7.883"]),
        (["whatif", CHAT, "--vary", "slo.tpot_ms=20,30"], ["tpu-v6e 2x4", "$0.6627"]),
        (["whatif", CHAT, "--noise", "10%", "--samples", "20"], ["gh200 1", "$0.4837"]),
        (["modes", CHAT], ["tpu-v6e 2x4", "$0.6675"]),
        (["chips", "rank", "llama-3-8b"], ["a100-80gb-pcie", "$0.1269"]),
        (["models"], ["deepseek-v3"]),
        (["chips"], ["tpu-v5e"]),
        (["prices", "--chip", "h100-sxm"], ["verda-2026-11", "0.8015"]),
        (["batch", CHAT], ["gh200 1 (1 chip)", "$0.4837", "$2.290 an hour"]),
        (["fleet", str(ROOT / "examples" / "fleet-starter.yaml")], ["tpu-v5e 2x4", "$736.64"]),
    ],
)
def test_lines_are_no_wider_than_the_terminal_and_lose_neither_chip_nor_cost(
    arguments: list[str], shown: list[str], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run(*arguments).stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()]
    text = " ".join(" ".join(lines).split())
    assert [one for one in shown if one not in text] == []


def test_wide_prints_whole_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, run("models").stdout.splitlines())) <= 60
    wide = run("models", "--wide").stdout.splitlines()
    assert next(line for line in wide if line.startswith("id ")).split()[-1] == "kv_kb_per_token_bf16"


DRAFTED = """
model: llama-3.1-8b
workload: {prompt_tokens: 1000, output_tokens: 300, requests_per_s: 2}
slo: {percentile: mean}
engine: trtllm
search: {chips: [h200], topologies: {h200: [1x1, 2x1]}, modes: [interleaved], compute: fp8}
"""


@pytest.mark.soak
def test_tables_name_drafts_and_stages_where_a_plan_has_some(tmp_path: Path) -> None:
    spec = tmp_path / "drafted.yaml"
    spec.write_text(DRAFTED)
    scenarios = run("whatif", str(spec), "--vary", "slo.tpot_ms=2,5,0.001", "--wide").stdout
    (header,) = [line for line in scenarios.splitlines() if "KV cache   compute" in line]
    assert header.split("compute")[1].split()[:2] == ["drafted", "batch"]
    assert scenarios.count(" by eagle3") >= 2
    span = run("whatif", str(spec), "--vary", "slo.tpot_ms=1,9", "--breakpoints", "slo.tpot_ms").stdout
    assert "compute fp8, drafted 3 by eagle3, " in span
    assert " by eagle3" in run("frontier", str(spec)).stdout
    assert " by eagle3" in run("solve", str(spec), "--top", "3", "--distinct", "topology").stdout
    assert "eagle3" in run("whatif", str(spec), "--noise", "0.1", "--wide").stdout
    assert "drafted" not in run("whatif", str(spec), "--vary", "slo.tpot_ms=20", "--set", "speculative=none").stdout
    (tmp_path / "both.yaml").write_text(f"deployments: {{a: {spec.name}, b: {spec.name}}}\n")
    assert " by eagle3" in run("portfolio", str(tmp_path / "both.yaml")).stdout
    staged = str(ROOT / "examples" / "llama-3.1-405b-two-nodes.yaml")
    keys = ("--set", "workload={prompt_tokens: 2000, output_tokens: 500}", "--set", "slo={tpot_ms: 100}")
    table = run("whatif", staged, "--vary", "slo.tpot_ms=90,100", *keys, "--wide").stdout
    assert "stages" in table


def test_tables_say_where_plans_are_rented() -> None:
    spec = str(ROOT / "examples" / "qwen3-32b-whole-machines.yaml")
    frontier = CliRunner().invoke(app, ["frontier", spec, "--wide"]).stdout
    assert "rented as" in frontier
    best = CliRunner().invoke(app, ["solve", spec, "--top", "3", "--distinct", "chip"]).stdout
    assert "verda FIN-03 1B200.30V" in best
    assert "rented as" not in CliRunner().invoke(app, ["frontier", spec, "--price-book", "list-2026-11"]).stdout
