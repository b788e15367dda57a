"""The `--out` files of a command: tables and figures."""

from dataclasses import dataclass
from os.path import isdir
from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import tell

Out = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE", help="Write a table (.csv, .parquet, .json) or a figure (.html, .svg, .png, .pdf); repeatable."
    ),
]


@dataclass(frozen=True)
class Outputs:
    """Files to write, by kind."""

    tables: tuple[Path, ...] = ()
    figures: tuple[Path, ...] = ()

    def report_written(self) -> None:
        """Name the files on standard error."""
        for path in (*self.tables, *self.figures):
            tell(f"wrote {path}")


def parse_outputs(paths: list[Path] | None) -> Outputs:
    """Sort files by kind. Raises BadParameter for a path that cannot be written, or that is given twice."""
    from servesat.report.charts import FIGURES
    from servesat.report.files import TABLES

    paths = paths or []
    for path in paths:
        if isdir(path):
            raise typer.BadParameter(f"--out {path}: is a folder, expected a file")
        if paths.count(path) > 1:
            raise typer.BadParameter(f"--out {path}: is given twice")
        if path.suffix not in (*TABLES, *FIGURES):
            raise typer.BadParameter(f"--out {path}: expected a file that ends in {', '.join((*TABLES, *FIGURES))}")
        if not isdir(path.parent):
            raise typer.BadParameter(f"--out {path}: there is no folder {path.parent}")
    return Outputs(
        tuple(path for path in paths if path.suffix in TABLES),
        tuple(path for path in paths if path.suffix in FIGURES),
    )
