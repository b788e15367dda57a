"""Run what a page shows: its files, commands and Python, in the order of the page.

A block is a file (```yaml title="NAME"), commands (lines that start with `$ `) with what they print, or Python with
what it prints in the block behind. `...` alone on a line leaves lines out. Between `<!-- keys RECORD -->` and
`<!-- end -->` stands a table of a record's keys. `python -m tests.pages` writes what is printed, and these tables, into
all pages, or into those that are named.
"""

import contextlib
import io
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from servesat.cli import app
from tests.helpers import ROOT

DOCS = ROOT / "docs"
PAGES = [
    *sorted(DOCS.glob("tutorial/*.md")),
    *sorted(DOCS.glob("how-to/*.md")),
    *(DOCS / name for name in ("engines.md", "python.md", "what-if.md")),
]
"""The pages whose commands and snippets are run."""

REFERENCE = sorted(DOCS.glob("reference/*.md"))
"""The pages with tables of keys."""

LEFT_OUT = "..."
KEYS = re.compile(
    r"(?<=<!-- keys )(?P<record>\S+)(?: (?P<prefix>\S+))? -->\n(?P<table>.*?)(?=^<!-- end -->$)", re.M | re.S
)
BLOCK = re.compile(r'^```(?P<kind>\w*)(?: title="(?P<title>\S+)")?\n(?P<body>.*?)^```$', re.MULTILINE | re.DOTALL)
EXIT_CODES = (0, 3)
"""What a command of a page ends with: a plan, or the reasons why there is none."""


@dataclass(frozen=True)
class Shown:
    """What a page shows of an output, where it stands in the page, and what was printed in fact."""

    command: str
    start: int
    shown: str
    printed: str


def outputs(text: str, folder: Path) -> Iterator[Shown]:
    """Run the blocks of a page in the working directory, which is `folder`, and yield each output shown."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(ROOT / "examples")
    names: dict[str, Any] = {}
    printed_before: tuple[str, str] | None = None
    for block in BLOCK.finditer(text):
        body, start = block["body"], block.start("body")
        if printed_before is not None:
            assert block["kind"] == "", f"Python without its output: {printed_before[0]}"
            yield Shown(printed_before[0], start, body, printed_before[1])
            printed_before = None
        elif block["title"]:
            write(folder / block["title"], body)
        elif block["kind"] == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(body, names)
            printed_before = (body, stream.getvalue())
        elif body.startswith("$ "):
            yield from commands(body, start)


def write(path: Path, body: str) -> None:
    """Write a file that a page shows; one of the repository must be shown as it is."""
    if path.exists() and path.resolve().is_relative_to(ROOT):
        assert without_comments(path.read_text()) == without_comments(body), f"{path.name} is not shown as it is"
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body)


def without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def commands(body: str, start: int) -> Iterator[Shown]:
    """Run the commands of a block: a backslash continues one in the next line, `> FILE` writes what it prints."""
    for found in re.finditer(r"^\$ (?P<command>(?:.*\\\n)*.*\n)(?P<output>(?:(?!\$ ).*\n)*)", body, re.MULTILINE):
        command = found["command"].replace("\\\n", " ").strip()
        words = shlex.split(command)
        assert words[0] in ("servesat", "cat"), f"only servesat and cat are run: {command}"
        into = Path(words[-1]) if words[-2:-1] == [">"] else None
        words = words[:-2] if into else words
        if words[0] == "cat":
            printed = Path(words[1]).read_text()
        else:
            result = CliRunner().invoke(app, words[1:])
            assert result.exit_code in EXIT_CODES, f"{command} ends with {result.exit_code}:\n{result.output}"
            printed = result.stdout
        if into:
            into.write_text(printed)
            printed = ""
        yield Shown(command, start + found.start("output"), found["output"], printed)


def comparable(text: str) -> list[str]:
    """The lines of an output without how long it took."""
    return [re.sub(r"\b\d+\.\d+ s\)$", "", line.rstrip()) for line in text.strip("\n").splitlines()]


def is_shown(shown: str, printed: str) -> bool:
    """Whether an output is what is shown: all of it, or runs of its lines with `...` for those between them."""
    whole = comparable(printed)
    runs: list[list[str]] = [[]]
    for line in comparable(shown):
        runs.append([]) if line == LEFT_OUT else runs[-1].append(line)
    if len(runs) == 1:
        return runs[0] == whole
    at = len(runs[0])
    if whole[:at] != runs[0]:
        return False
    for run in runs[1:-1]:
        found = next((place for place in range(at, len(whole)) if whole[place : place + len(run)] == run), None)
        if found is None:
            return False
        at = found + len(run)
    last = runs[-1]
    return not last or whole[max(at, len(whole) - len(last)) :] == last


def refreshed(shown: str, printed: str) -> str:
    """The output to show: the whole, or where lines are left out, for each line the next one that starts most alike."""
    lines = printed.strip("\n").splitlines()
    if LEFT_OUT not in shown.splitlines():
        return "\n".join(lines) + "\n" if lines else ""
    at, kept = 0, []
    for line in shown.splitlines():
        if line == LEFT_OUT:
            kept.append(line)
            continue
        starts = [" ".join(line.split()[:words]) for words in ((3,) if line.startswith("#") else (3, 2, 1))]
        places = (place for start in starts for place in range(at, len(lines)) if starts_as(lines[place], start))
        at = next(places, len(lines))
        assert at < len(lines), f"no line starts as {line!r} in:\n{printed}"
        kept.append(lines[at].rstrip())
        at += 1
    return "\n".join(kept) + "\n"


def starts_as(line: str, start: str) -> bool:
    return " ".join(line.split()).startswith(start)


def with_tables(text: str) -> str:
    """A page with its tables of keys as the records have them."""

    def table(found: re.Match[str]) -> str:
        module, _, name = found["record"].rpartition(".")
        record: type[BaseModel] = getattr(import_module(module), name)
        marker = found[0][: found.start("table") - found.start()]
        return f"{marker}\n{keys(record, found['prefix'] or '')}\n"

    return KEYS.sub(table, text)


def keys(record: type[BaseModel], prefix: str) -> str:
    """The table of the keys of a record, each below a prefix, with their defaults and descriptions."""
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in record.model_fields.items():
        assert field.description, f"{record.__name__}.{name} has no description"
        rows.append(f"| `{prefix}{name}` | {default(field)} | {field.description.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def default(field: FieldInfo) -> str:
    """The default of a field as a spec writes it; nothing where the description says what absence means."""
    if field.is_required():
        return "required"
    value, said = field.default, field.description or ""
    if "bsent: " in said or isinstance(value, BaseModel):
        return ""
    if value in (None, {}, ()):
        return "none"
    values = value if isinstance(value, tuple) else (value,)
    texts = [
        str(each).lower() if isinstance(each, bool) else f"{each:g}" if isinstance(each, float) else str(each)
        for each in values
    ]
    return f"`[{', '.join(texts)}]`" if isinstance(value, tuple) else f"`{texts[0]}`"


def refresh(path: Path) -> None:
    """Write into a page what its commands and Python print, and its tables of keys."""
    text = with_tables(path.read_text())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        found = list(outputs(text, Path(folder)))
    for each in reversed(found):
        end = each.start + len(each.shown)
        if not is_shown(each.shown, each.printed):
            text = text[: each.start] + refreshed(each.shown, each.printed) + text[end:]
    path.write_text(text)


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:] or [ROOT / "README.md", *PAGES, *REFERENCE]):
        refresh(page.resolve())
