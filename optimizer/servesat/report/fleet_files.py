"""Writes a fleet's plan to a file: the allocations as a table, or everything as an HTML page."""

from pathlib import Path

from servesat.core.errors import ServesatError
from servesat.core.writing import write_text
from servesat.fleet.policies import Comparison
from servesat.fleet.result import FleetResult
from servesat.report.files import write_table
from servesat.report.fleet_document import bill_rows, columns
from servesat.report.fleet_page import fleet_page

WRITTEN = (".csv", ".parquet", ".html")
"""The file extensions that a fleet's plan can be written to."""


def write_fleet(result: FleetResult, comparison: Comparison | None, path: Path) -> None:
    """Write the rows of the bill as a table, or the whole report as a page. Raises ServesatError."""
    rows = bill_rows(result)
    match path.suffix:
        case ".csv" | ".parquet":
            write_table(path, rows, columns=columns(result), flatten=lambda row: row, head={}, under="rows")
        case ".html":
            write_text(path, fleet_page(result, comparison))
        case _:
            raise ServesatError(f"{path}: cannot write a '{path.suffix}' file; expected {', '.join(WRITTEN)}")
