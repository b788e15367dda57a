"""The terminal: its console, and the catalogue's rows and records as tables."""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import StringIO, TextIOWrapper
from typing import IO, Any, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from servesat.core.text import printable
from servesat.report.tables import Column, Fitted

WIDTH_WITHOUT_TERMINAL = 160
"""Width of a line where standard output is a file or a pipe [characters]."""


WIDEST = 1000
"""Width of a line that is as wide as its table."""

MIN_WIDTH = 40
"""The narrowest line that is tried."""

WIDTH_OF_TEXT = 100
"""Width of what Python shows of an answer, as text and in notebooks [characters]."""

PAGE = '<pre style="line-height: 1.2; overflow-x: auto">{code}</pre>'
"""What stands around the text of an answer in a notebook."""


class Terminal(Console):
    """A console that shows control characters in names, rather than obeying them, and ends no line in spaces."""

    def __init__(self, file: IO[str], width: int | None, *, plain: bool = False, record: bool = False) -> None:
        super().__init__(  # a notebook forces colours upon every file
            file=cast(IO[str], _Trimmed(file)), width=width, highlight=False, markup=False, record=record,
            force_jupyter=False, color_system=None if plain else "auto",
        )  # fmt: skip

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, with their text made printable."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class _Trimmed:
    """A text file without spaces at the ends of lines."""

    _END = re.compile(r" +((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(self._END.sub(r"\1", text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def console(*, wide: bool = False) -> Terminal:
    """Standard output at the width of the terminal, or at that of COLUMNS if it is set; `wide` ignores both."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # bars and dots become question marks on a terminal without Unicode
    if wide:
        return Terminal(sys.stdout, WIDEST)
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit():
        return Terminal(sys.stdout, max(int(columns), MIN_WIDTH))
    return Terminal(sys.stdout, None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def text_of(show: Callable[[Terminal], None]) -> str:
    """What is shown on a terminal, as text."""
    out = StringIO()
    show(Terminal(out, WIDTH_OF_TEXT, plain=True))
    return out.getvalue().strip("\n")


def html_of(show: Callable[[Terminal], None]) -> str:
    """What is shown on a terminal, as HTML that looks the same."""
    terminal = Terminal(StringIO(), WIDTH_OF_TEXT, plain=True, record=True)
    show(terminal)
    return terminal.export_html(inline_styles=True, code_format=PAGE)


def print_rows(console: Console, rows: Sequence[Mapping[str, Any]], details: Collection[str] = ()) -> None:
    """Print rows with the same keys as a table, numbers aligned right; `details` give way on a narrow line."""
    is_text = {key: any(isinstance(row[key], str) for row in rows) for key in rows[0]}
    table = Fitted([Column(key, right=not is_text[key], detail=key in details) for key in rows[0]])
    for row in rows:
        table.add_row(_cell(value) for value in row.values())
    console.print(table)


def print_entry(console: Console, entry: Mapping[str, Any]) -> None:
    """Print a record, one line per field."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for key, value in entry.items():
        table.add_row(key, _cell(value))
    console.print(table)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.4g}"
        case Mapping():
            return "\n".join(f"{key}: {_cell(below)}".replace("\n", "; ") for key, below in value.items())
        case list():
            return ", ".join(_cell(below).replace("\n", " ") for below in value)
    return str(value)
