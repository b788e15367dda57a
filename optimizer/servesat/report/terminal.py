"""The terminal: its console, and the catalogue's rows and records as tables."""

import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_WITHOUT_TERMINAL = 160
"""Width of a line where standard output is a file or a pipe [characters]."""


def console() -> Console:
    """Standard output at the width of the terminal."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # bars and dots become question marks on a terminal without Unicode
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL)


def print_rows(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as a table, numbers aligned right."""
    table = Table(box=box.SIMPLE_HEAD)
    for key, value in rows[0].items():
        table.add_column(
            key, justify="left" if isinstance(value, str) else "right", overflow="fold", no_wrap=key in {"id", "chip"}
        )
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
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
