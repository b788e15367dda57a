"""What a fleet's plan is written to: its allocations as a table, or the whole of it as a page."""

from pathlib import Path

from servesat.core.errors import ServesatError
from servesat.fleet.plan import FleetResult
from servesat.fleet.policies import Comparison
from servesat.report.files import write_table, write_text
from servesat.report.fleet_document import bill_rows, columns
from servesat.report.fleet_page import fleet_page

WRITTEN = (".csv", ".parquet", ".html")
"""The endings of files that hold a fleet's plan."""


def write_fleet(result: FleetResult, beside: Comparison | None, path: Path) -> None:
    """Write what makes up the bill as a table, or the whole as a page. Raises ServesatError."""
    rows = bill_rows(result)
    match path.suffix:
        case ".csv" | ".parquet":
            write_table(path, rows, columns=columns(result), flatten=lambda row: row, head={}, under="rows")
        case ".html":
            write_text(path, fleet_page(result, beside))
        case _:
            raise ServesatError(f"{path}: cannot write a '{path.suffix}' file; expected {', '.join(WRITTEN)}")
