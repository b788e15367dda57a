"""What every answer can do, and that it is what the command line says."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

import servesat
from servesat.api.answer import MAX_LINES, Answer, Drawn
from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT

EXAMPLES = ROOT / "examples"
SENSITIVE = str(EXAMPLES / "llama-3-70b-sensitivity.yaml")
IMPOSSIBLE = str(EXAMPLES / "llama-3-405b-on-32-chips.yaml")
STARTED = str(EXAMPLES / "qwen3-32b-fp8-two-h100.yaml")
PORTFOLIO = str(EXAMPLES / "portfolio-on-one-chip.yaml")
FLEET = str(EXAMPLES / "fleet-too-little.yaml")
MEASURED = str(ROOT / "tests" / "published" / "measured" / "closed_loop_gpu.csv")

QUESTIONS: dict[str, tuple[list[str], Callable[[], Answer]]] = {
    "solve": (["solve", EXAMPLE, "--top", "3"], lambda: servesat.solve(EXAMPLE, top=3)),
    "explain": (["solve", EXAMPLE, "--explain"], lambda: servesat.solve(EXAMPLE, explain=True)),
    "infeasible": (["solve", IMPOSSIBLE], lambda: servesat.solve(IMPOSSIBLE)),
    "why": (["why", EXAMPLE, "--chip", "tpu-v6e"], lambda: servesat.why(EXAMPLE, chip="tpu-v6e")),
    "modes": (["modes", CHAT], lambda: servesat.modes(CHAT)),
    "frontier": (["frontier", EXAMPLE, "--by", "topology"], lambda: servesat.frontier(EXAMPLE, by="topology")),
    "no frontier": (["frontier", IMPOSSIBLE], lambda: servesat.frontier(IMPOSSIBLE)),
    "what if": (
        ["whatif", SENSITIVE, "--vary", "slo.tpot_ms=10,20", "--vary", "search.weights=int8,int4"],
        lambda: servesat.what_if(SENSITIVE, {"slo.tpot_ms": [10, 20], "search.weights": ["int8", "int4"]}),
    ),
    "one at a time": (
        ["whatif", SENSITIVE, "--vary", "slo.tpot_ms=10,20", "--vary", "model.kv_heads=8,64", "--one-at-a-time"],
        lambda: servesat.what_if(SENSITIVE, {"slo.tpot_ms": "10,20", "model.kv_heads": [8, 64]}, one_at_a_time=True),
    ),
    "breakpoints": (
        ["whatif", SENSITIVE, "--vary", "slo.tpot_ms=5..30x3", "--breakpoints", "slo.tpot_ms"],
        lambda: servesat.breakpoints(SENSITIVE, "slo.tpot_ms", "5..30x3"),
    ),
    "robustness": (
        ["whatif", SENSITIVE, "--noise", "10%", "--samples", "20", "--seed", "1"],
        lambda: servesat.robustness(SENSITIVE, 0.1, samples=20, seed=1),
    ),
    "portfolio": (["portfolio", PORTFOLIO], lambda: servesat.portfolio(PORTFOLIO)),
    "fleet": (["fleet", FLEET], lambda: servesat.fleet(FLEET)),
    "batch": (
        ["batch", EXAMPLE, IMPOSSIBLE, "--workers", "1"],
        lambda: servesat.batch([EXAMPLE, IMPOSSIBLE], workers=1),
    ),
    "rank": (
        ["chips", "rank", "llama-3-8b", "--tpot", "20", "--price-book", "scaling-book-2025-02"],
        lambda: servesat.rank("llama-3-8b", tpot_ms=20, price_book="scaling-book-2025-02"),
    ),
    "launch": (["launch", STARTED, "--to", "compose"], lambda: servesat.launch(STARTED, to="compose")),
    "accuracy": (["accuracy", MEASURED, "--by", "chip"], lambda: servesat.accuracy(MEASURED, by="chip")),
    "models": (["models"], servesat.models),
    "model": (["models", "gpt-oss-120b"], lambda: servesat.models("gpt-oss-120b")),
    "chips": (["chips"], servesat.chips),
    "chip": (["chips", "h200"], lambda: servesat.chips("h200")),
    "engines": (["engines"], servesat.engines),
    "engine": (["engines", "vllm"], lambda: servesat.engines("vllm")),
    "prices": (["prices", "--chip", "l4", "--cloud", "aws"], lambda: servesat.prices(chip="l4", cloud="aws")),
    "price book": (["prices", "list-2026-11"], lambda: servesat.prices("list-2026-11")),
}


@cache
def answer_of(question: str) -> Answer:
    return QUESTIONS[question][1]()


def drawn(question: str) -> Drawn:
    answer = answer_of(question)
    assert isinstance(answer, Drawn)
    return answer


def without_times(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: without_times(value) for key, value in document.items() if key != "solve_s"}
    return [without_times(value) for value in document] if isinstance(document, list) else document


@pytest.mark.parametrize("question", QUESTIONS)
def test_to_dict_is_the_json_of_the_command(question: str) -> None:
    printed = json.loads(run(*QUESTIONS[question][0], "--json").stdout)
    assert without_times(answer_of(question).to_dict()) == without_times(printed)


@pytest.mark.parametrize("question", QUESTIONS)
def test_print_shows_what_the_command_shows_and_its_notes(question: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    done = run(*QUESTIONS[question][0])
    shown = str(answer_of(question)).splitlines()
    told = [line for line in done.stdout.strip("\n").splitlines() if "s)" not in line[-3:]]
    assert [line for line in told if line not in shown] == []
    notes = " ".join(" ".join(shown).split())
    assert all(note.removeprefix("note: ") in notes for note in done.stderr.splitlines())


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_repr_takes_a_few_lines_and_a_page_all(question: str) -> None:
    answer = answer_of(question)
    notes = sum(len(note) // 90 + 1 for note in answer.notes)
    assert len(repr(answer).splitlines()) <= MAX_LINES + 1 + notes
    page = answer._repr_html_()
    assert page.startswith("<pre ")
    assert page.endswith("</pre>")
    assert page.count("\n") >= len(str(answer).splitlines()) - 1


def test_no_colours_are_in_a_text_where_colours_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    answer = answer_of("infeasible")
    assert not any("\x1b" in text for text in (repr(answer), str(answer), answer._repr_html_()))
    assert 'style="color: #800000' in answer._repr_html_()


@pytest.mark.parametrize(
    ("question", "rows", "first"),
    [
        ("solve", 2, {"status": "optimal", "chip": "tpu-v5e", "topology": "8x8", "batch": 88, "chips": 64}),
        ("infeasible", 0, {}),
        ("why", 2, {"which": "best", "chip": "tpu-v5e", "status": "optimal"}),
        ("modes", 3, {"mode": "interleaved", "topology": "2x4", "batch": 269}),
        ("no frontier", 0, {}),
        ("what if", 4, {"scenario": 0, "slo.tpot_ms": 10, "search.weights": "int8", "status": "optimal"}),
        ("one at a time", 4, {"scenario": 0, "slo.tpot_ms": 10}),
        ("portfolio", 3, {"deployment": "chat", "chip": "mi355x", "alone_usd_per_hour": 18.32}),
        ("fleet", 0, {}),
        ("batch", 2, {"kind": "deployment", "status": "optimal", "chip_types": "tpu-v5e"}),
        ("rank", 3, {"chip": "tpu-v5e", "usd_per_chip_hour": 1.2, "mode": "decode_only"}),
        ("launch", 2, {"file": "compose.yaml"}),
        ("chip", 1, {"id": "h200", "vendor": "NVIDIA"}),
    ],
)
def test_to_pandas_is_a_row_for_each(question: str, rows: int, first: dict[str, Any]) -> None:
    table = answer_of(question).to_pandas()
    assert isinstance(table, pd.DataFrame)
    assert len(table) == rows
    assert {key: table.loc[0, key] for key in first} == pytest.approx(first)


def test_to_pandas_has_the_rows_of_what_varies_in_number() -> None:
    for question in ("models", "chips", "engines", "prices"):
        assert len(answer_of(question).to_pandas()) == len(answer_of(question).to_dict()[question]) > 3
    for question in ("frontier", "robustness", "breakpoints", "accuracy"):
        table = answer_of(question).to_pandas()
        assert len(table) > 1
        assert len(table.columns) > 5


def test_types_hold_without_values_and_numbers_are_numbers() -> None:
    kinds = answer_of("modes").to_pandas().dtypes
    assert (kinds["batch"], kinds["tpot_ms"], kinds["prefill_slices"]) == ("Int64", "float64", "Int64")
    empty = answer_of("infeasible").to_pandas().dtypes
    assert (empty["batch"], empty["chip"]) == ("Int64", "object")


@pytest.mark.parametrize("question", ["frontier", "what if", "one at a time", "portfolio", "rank", "accuracy"])
def test_a_figure_is_of_matplotlib_or_a_file(question: str, tmp_path: Any) -> None:
    answer = drawn(question)
    assert isinstance(answer.figure(), Figure)
    answer.draw(str(tmp_path / "figure.svg"))
    assert (tmp_path / "figure.svg").stat().st_size > 1000
    with pytest.raises(servesat.ServesatError, match=r"cannot draw a '.txt' file"):
        answer.draw(tmp_path / "figure.txt")


def test_what_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(servesat.ServesatError, match="nothing to draw: the result is infeasible"):
        drawn("no frontier").figure()
