"""The documents are true: what they show is run, their figures are recomputed, every key and example is there."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer.main import get_command

import servesat
from servesat import Spec, what_if
from servesat.cli import app
from servesat.core.quantities import change_of
from servesat.deployment.solve import solve
from servesat.fleet.region import PodsGiven, Region
from servesat.fleet.spec import FleetSpec, FleetWorkload, RequestSize
from servesat.questions.scenarios import as_written
from servesat.spec.market import Owned, Power
from servesat.spec.portfolio import PortfolioSpec
from servesat.spec.search_space import Search
from servesat.spec.slo import Slo
from servesat.spec.speculation import Speculation
from servesat.spec.workload import Arrivals, Lengths, Workload
from tests.helpers import ROOT
from tests.pages import DOCS, PAGES, REFERENCE, is_shown, outputs, with_tables

COMMANDS = get_command(app)
WHAT_IF = (DOCS / "what-if.md").read_text()
BASE = Spec.load(ROOT / "examples" / "llama-3-70b-sensitivity.yaml")
ON_4X4 = {"search.topologies": {"tpu-v5e": ["4x4"]}}
ROWS = re.findall(
    r"^\| `(?P<key>\S+)` \| (?P<value>\S+) \| (?P<plan>\S+ \S+, batch \d+) \| (?P<usd>\S+) \| (?P<change>\S+) \|",
    WHAT_IF,
    re.MULTILINE,
)


def usd(changes: dict[str, Any]) -> float:
    plan = solve(BASE.changed(changes)).plan
    assert plan is not None
    return plan.usd_per_million_output_tokens


@pytest.mark.parametrize(("key", "value", "plan", "dollars", "change"), ROWS)
def test_the_sensitivity_table_is_what_servesat_says(
    key: str, value: str, plan: str, dollars: str, change: str
) -> None:
    row = what_if(BASE, {key: [int(value) if value.isdigit() else value]}).to_pandas().loc[0]
    assert f"{row['chip']} {row['topology']}, batch {row['batch']}" == plan
    assert row["usd_per_million_output_tokens"] == pytest.approx(float(dollars), rel=5e-4)
    assert change_of(row["change"]) == change


def test_all_five_changes_of_the_article_are_there() -> None:
    assert {key for key, *_ in ROWS} == {
        "search.weights", "workload.context_tokens", "model.kv_heads", "search.chips", "search.max_batch",
    }  # fmt: skip


def test_the_sentences_below_the_table() -> None:
    base = usd({})
    small = {"search.topologies": {"tpu-v5e": ["2x4"]}, "search.max_batch": 4096}
    int8, int4 = usd(small), usd({**small, "search.weights": as_written("search.weights", "int4")})
    assert (round(int8, 3), round(int4, 4), change_of(int4 / int8 - 1)) == (1.207, 0.7825, "-35.2%")
    short, long = {"workload.context_tokens": 2048}, {"workload.context_tokens": 32768}
    assert f"{usd(long) / usd(short) - 1:.0%}" == "579%"
    assert f"{usd({**long, **ON_4X4}) / usd({**short, **ON_4X4}) - 1:.0%}" == "708%"
    assert f"{usd({'model.kv_heads': 64, **ON_4X4}) / base - 1:.0%}" == "671%"
    h100 = usd({"search.chips": ["h100-sxm"]})
    assert round(6.88 * 1.75 / (h100 / base), 2) == 8.58
    assert f"{h100 * 10.80 / 6.88 / base - 1:.0%}" == "120%"
    assert change_of(base / usd({"search.max_batch": 32}) - 1) == "-45.4%"


def test_the_bill_of_10000_requests_a_second() -> None:
    plan = solve(ROOT / "examples" / "llama-3-70b-at-10000-requests.yaml").plan
    assert plan is not None
    yearly = plan.usd_per_hour * 24 * 365
    assert (round(plan.chips, -3), round(plan.usd_per_hour, -3)) == (169_000, 203_000)
    assert round(yearly / 1e9, 2) == 1.78
    decoding = 10e3 * 512 * 31.536e6 * 0.77 / 1e6
    assert round(decoding / 1e6) == 124
    assert 0.9 < 1 - decoding / yearly < 0.95
    cost_model = (DOCS / "cost-model.md").read_text()
    for figure in ("$124M", "169,000 v5e", "$203,000 an hour", "$1.78 billion", "nine tenths"):
        assert figure in " ".join(cost_model.split())


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_what_is_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    found = list(outputs(text, tmp_path))
    assert len(found) >= text.count("```python") + len(re.findall(r"^\$ servesat", text, re.MULTILINE))
    for each in found:
        assert is_shown(each.shown, each.printed), f"{each.command} prints:\n{each.printed}"


@pytest.mark.parametrize(
    ("shown", "agrees"),
    [
        ("a\nb\nc\n", True), ("a\n...\n", True), ("...\nc\n", True), ("a\n...\nc\n", True), ("...\nb\n...\n", True),
        ("a\nb\n", False), ("a\nc\n", False), ("...\nb\n", False), ("b\n...\n", False), ("a\n...\na\n...\n", False),
        ("a\n...\na\nb\nc\n", False), ("...\nd\n...\n", False),
    ],
)  # fmt: skip
def test_only_lines_marked_as_left_out_may_be_missing(shown: str, agrees: bool) -> None:
    assert is_shown(shown, "a\nb\nc\n") is agrees


def test_every_function_of_python_is_described() -> None:
    text = (DOCS / "python.md").read_text()
    functions = [name for name in servesat.__all__ if inspect.isfunction(getattr(servesat, name))]
    assert [name for name in functions if f"`{name}(" not in text] == []


def test_every_option_that_is_written_beside_a_command_is_one_of_it() -> None:
    texts = [(ROOT / "README.md").read_text(), *(page.read_text() for page in DOCS.rglob("*.md"))]
    texts += [path.read_text() for path in (ROOT / "examples").glob("*.yaml")]
    written = [option for text in texts for option in options_beside_commands(text.replace("\\\n", " "))]
    assert len(written) > 100
    assert [f"{command.name} {name}" for command, name in written if name not in options_of(command)] == []


def options_beside_commands(text: str) -> Iterator[tuple[Any, str]]:
    """The options behind each `servesat COMMAND` of a text, with the command, up to the end of the line or the code."""
    for found in re.finditer(r"servesat ([a-z][^`\n|]*)", text):
        command = COMMANDS
        for word in found[1].split():
            command = getattr(command, "commands", {}).get(word, command)
            if word.startswith("--"):
                yield command, re.split(r"[=.,;:)]", word)[0]


def options_of(command: Any) -> set[str]:
    return {"--help", *(name for option in command.params for name in (*option.opts, *option.secondary_opts))}


def test_every_example_is_listed_with_its_answer() -> None:
    rows = (DOCS / "examples.md").read_text().splitlines()
    for path in (ROOT / "examples").glob("*.yaml"):
        row = next(line for line in rows if line.startswith(f"| [{path.stem}]"))
        cost = re.search(r"^# Answer: .*\$([\d.,]+) (?:per|for)", path.read_text(), re.MULTILINE)
        assert f"${cost[1]}" in row if cost else "infeasible" in row


@pytest.mark.parametrize("page", REFERENCE, ids=lambda page: page.stem)
def test_tables_of_keys_are_those_of_the_records(page: Path) -> None:
    text = page.read_text()
    assert text == with_tables(text), f"run: python -m tests.pages {page.relative_to(ROOT)}"


@pytest.mark.parametrize(
    ("page", "records"),
    [
        ("spec", [Spec, Workload, Arrivals, Lengths, Slo, Search, Speculation, Owned, Power]),
        ("fleet", [FleetSpec, FleetWorkload, RequestSize, Region, PodsGiven]),
        ("portfolio", [PortfolioSpec]),
    ],
)
def test_every_record_of_a_file_has_a_table(page: str, records: list[type[BaseModel]]) -> None:
    text = (DOCS / "reference" / f"{page}.md").read_text()
    assert [each.__name__ for each in records if f"<!-- keys {each.__module__}.{each.__name__}" not in text] == []
