"""Reading of price lists, row by row, in the format that their header tells."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from servesat.catalogue.price_formats import FORMATS, Format
from servesat.catalogue.price_rows import CellError, Offer, PriceList, Row
from servesat.core.errors import CatalogueError
from servesat.core.reading import opened_text, require_commas
from servesat.core.validation import MAX_FAULTS, nearest, shorten

MAX_LIST_BYTES = 200_000_000
"""The largest price list that is read."""


def read_price_list(path: Path, cloud: str | None, take: Callable[[Offer], None]) -> tuple[Format, PriceList]:
    """Give each offer of a price list to `take`; returns its format, and what was left out.

    `cloud` is that of the rows that name none. Raises CatalogueError for a file that is no price list, and with a line
    for each malformed row.
    """
    with opened_text(path, CatalogueError, MAX_LIST_BYTES) as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(filter(None, reader), [])]
            require_commas(header, path, CatalogueError)
            found = _format_of(header, path)
            prices, faults = PriceList(found.cloud(path, cloud)), _Faults(path)
            columns = {name: position for position, name in enumerate(header)}
            for cells in filter(None, reader):
                row = Row(columns, cells)
                try:
                    if len(cells) != len(header):
                        faults.add(reader.line_num, f"expected {len(header)} cells as in the header, not {len(cells)}")
                        continue
                    for offer in found.offers(row, prices):
                        take(offer)
                except CellError as fault:
                    value = shorten(row.cell(fault.column))
                    faults.add(reader.line_num, f"{fault.column} = {value}: {fault.expected}")
        except csv.Error as fault:
            raise CatalogueError(f"{path}: line {reader.line_num}: malformed CSV: {fault}") from None
    faults.refuse()
    return found, prices


class _Faults:
    """The malformed rows of a list: the first few, and how many."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.count = path, list[str](), 0

    def add(self, line: int, fault: str) -> None:
        """Note a fault of a line."""
        self.count += 1
        if self.count <= MAX_FAULTS:
            self.lines.append(f"{self.path}: line {line}: {fault}")

    def refuse(self) -> None:
        """Raise CatalogueError if there is a fault."""
        if self.count > MAX_FAULTS:
            self.lines.append(f"{self.path}: {self.count - MAX_FAULTS:,} more faults")
        if self.lines:
            raise CatalogueError("\n".join(self.lines))


def _format_of(header: Sequence[str], path: Path) -> Format:
    """The format whose columns a header has. Raises CatalogueError."""
    found = next((kind for kind in FORMATS if {*kind.needed} <= {*header}), None)
    if found is None:
        expected = "; ".join(f"{kind.name}: {','.join(kind.needed)}" for kind in FORMATS)
        raise CatalogueError(
            f"{path}: its header {shorten(','.join(header))} is of no price list; expected the columns of {expected}"
        )
    known = (*found.needed, *found.optional)
    for name in header:
        if header.count(name) > 1 and name in known:
            raise CatalogueError(f"{path}: the column {name!r} is written twice")
        if found.optional and name not in known:
            raise CatalogueError(f"{path}: unknown column {shorten(name)}; {nearest(name, known)}")
    return found
