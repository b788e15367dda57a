"""The answers of a batch: a document, and a table with a line a spec."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from servesat.report.words import dollars

MOST = 60
"""Lines of a table on the terminal: the rest is for --out."""


def print_batch(console: Console, rows: Iterable[dict[str, Any]], total: int) -> None:
    """Print the first answers, a line each, and how many there are of each status."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("spec", "status", "$", "answer"):
        table.add_column(name, justify="right" if name == "$" else "left", overflow="fold")
    counts: Counter[str] = Counter()
    left = iter(rows)
    for row in islice(left, MOST):
        counts[row["status"]] += 1
        table.add_row(row["spec"], row["status"], _cost(row), _answer(row))
    counts.update(row["status"] for row in left)
    console.print(table)
    if total > MOST:
        console.print(f"{total - MOST:,} more specs: write them with --out FILE")
    console.print(", ".join(f"{count:,} {status}" for status, count in counts.most_common()))


def _cost(row: dict[str, Any]) -> str:
    if row["total_usd"] is not None:
        return dollars(row["total_usd"])
    return "" if row["plan"] is None else f"{dollars(row['plan']['usd_per_million_output_tokens'])} /1M"


def _answer(row: dict[str, Any]) -> str:
    if row["error"] is not None:
        return str(row["error"]).splitlines()[0]
    if row["conflict"] is not None:
        return "; ".join(" + ".join(members) for members in row["conflict"])
    plan = row["plan"]
    return "" if plan is None else f"{plan['chip']} {plan['topology']}, {plan['weights']}, batch {plan['batch']}"
