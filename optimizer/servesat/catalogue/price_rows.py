"""What the formats of price lists share: a row and its cells, an offer that it makes, and what is left out."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from math import isfinite

_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)", re.IGNORECASE | re.ASCII)


class LeftOut(Enum):
    """What is counted where rows, or prices of rows, are left out, and why they are."""

    NO_ACCELERATOR = ("row", "no accelerator")
    NO_COUNT = ("row", "the number of accelerators is not a whole number of at least 1")
    ALONE = ("row", "an accelerator without the instance that holds it")
    UNMAPPED = ("row", "an accelerator that is not certainly a chip of the catalogue")
    CONDITIONS = ("row", "a price under conditions")
    NO_PRICE = ("row", "no price")
    ZERO = ("price", "zero")
    PLACEHOLDER = ("price", "SkyPilot's placeholder of $700, or as much a chip")
    NOT_FINITE = ("price", "not finite")


@dataclass(frozen=True)
class Offer:
    """What a row sells at a price [$/h]: an instance with `chips`, or, where there is none, `chips` by the chip."""

    cloud: str | None
    instance: str | None
    chip: str
    chips: int
    region: str | None
    purchase: str
    usd_per_hour: float
    term: str | None = None
    as_of: date | None = None
    note: str | None = None
    network_bytes_per_s: float | None = None
    link_chips: int | None = None


@dataclass(frozen=True)
class PriceList:
    """What the rows of a list share: the cloud of those that name none, what is left out, and what rows said before."""

    cloud: str | None
    left_out: Counter[tuple[LeftOut, str]] = field(default_factory=Counter)
    stated: dict[object, float] = field(default_factory=dict)

    def leave_out(self, reason: LeftOut, name: str = "") -> None:
        """Count a row or a price that is left out, by the name of its accelerator."""
        self.left_out[reason, name] += 1


class CellError(Exception):
    """A malformed cell: its column, and what was expected."""

    def __init__(self, column: str, expected: str) -> None:
        super().__init__(column, expected)
        self.column, self.expected = column, expected


@dataclass(frozen=True)
class Row:
    """The cells of a row, by the names of their columns."""

    columns: dict[str, int]
    cells: Sequence[str]

    def cell(self, column: str) -> str:
        """A cell as it is written; empty where there is no such column."""
        position = self.columns.get(column)
        return "" if position is None else self.cells[position].strip()

    def text(self, column: str, longest: int = 200) -> str:
        """A cell of at most `longest` characters. Raises CellError."""
        value = self.cell(column)
        if len(value) > longest:
            raise CellError(column, f"expected at most {longest:,} characters")
        return value

    def number(self, column: str) -> float | None:
        """A number, finite or not; None for an empty cell. Raises CellError."""
        value = self.text(column)
        if value and not _NUMBER.fullmatch(value):
            raise CellError(column, "expected a number")
        return float(value) if value else None


def whole_chips(prices: PriceList, name: str, count: float | None) -> int | None:
    """A number of accelerators as a whole number; leaves out a row without one, or without an accelerator."""
    if not name:
        prices.leave_out(LeftOut.NO_ACCELERATOR)
    elif count is None or not count.is_integer() or not 1 <= count <= 1e12:
        prices.leave_out(LeftOut.NO_COUNT, name)
    else:
        return int(count)
    return None


def usd_per_hour(row: Row, column: str, prices: PriceList, name: str, chips: int) -> float | None:
    """A price [$/h]; leaves out one that is zero or not finite. Raises CellError."""
    usd = row.number(column)
    if usd is None:
        return None
    if not isfinite(usd) or usd == 0:
        prices.leave_out(LeftOut.NOT_FINITE if usd else LeftOut.ZERO, name)
        return None
    if not 1e-9 <= usd / chips <= usd <= 1e9:
        raise CellError(column, "expected at least 1e-09 a chip, and at most 1e+09")
    return usd
