"""The answers of a batch as a table with a line per spec."""

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from rich.console import Console

from servesat.core.quantities import dollars
from servesat.core.result import Status
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.report.tables import Column, Fitted, columns
from servesat.report.words import chips

MAX_LINES = 60
"""Lines shown on the terminal; --out has them all."""


def print_batch(console: Console, rows: Iterable[dict[str, Any]], counts: Counter[str]) -> None:
    """Print the first answers and the number of specs with each status, in words."""
    table = Fitted([*columns("spec", "status"), Column("$", right=True), Column("answer", detail=True)])
    for row in islice(rows, MAX_LINES):
        table.add_row([row["spec"], _status(row), _cost(row), _answer(row)])
    console.print(table)
    if counts.total() > MAX_LINES:
        console.print(f"{counts.total() - MAX_LINES:,} more specs: write them with --out FILE")
    console.print(", ".join(f"{count:,} {status}" for status, count in counts.most_common()))


def status_words(row: dict[str, Any]) -> str:
    """The status of a row; what replays verify is the cheapest that passes, and has a gap too."""
    status: str = row["status"]
    return "verified by replay" if status == Status.OPTIMAL and _has_gap(row) else status


def _status(row: dict[str, Any]) -> str:
    return f"{status_words(row)}, gap {row['gap']:.2%}" if _has_gap(row) else status_words(row)


def _has_gap(row: dict[str, Any]) -> bool:
    return row["gap"] is not None and row["gap"] > COST_TIE_RTOL


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
    if plan is None:
        return " + ".join(row["chip_types"])
    slices = f"{plan['slices']} x " if plan["slices"] > 1 else ""
    where = f"{slices}{plan['chip']} {plan['topology']} ({chips(plan['chips'])})"
    return f"{where}, {plan['weights']}, batch {plan['batch']}, {dollars(plan['usd_per_hour'])} an hour"
