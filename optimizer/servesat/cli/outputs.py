"""The `--out` files of a command: tables and figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from os.path import isdir, isfile, samefile
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


OutFigure = Annotated[
    list[Path] | None, typer.Option("--out", metavar="FILE", help="Draw it: .html, .svg, .png or .pdf; repeatable.")
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

    def report_skipped(self, why: str) -> None:
        """Say on standard error that there is nothing to write in them."""
        for path in (*self.tables, *self.figures):
            tell(f"note: {path} is not written: {why}")


def parse_outputs(paths: list[Path] | None, endings: Sequence[str] = (), given: Path | None = None) -> Outputs:
    """Sort files by kind; a command may write only some `endings`, and not its input, `given`.

    Raises BadParameter for a path that cannot be written, or is given twice.
    """
    from servesat.report.drawing import FIGURES
    from servesat.report.files import TABLES

    paths, endings = paths or [], endings or (*TABLES, *FIGURES)
    for path in paths:
        if isdir(path):
            raise typer.BadParameter(f"--out {path}: is a folder, expected a file")
        if paths.count(path) > 1:
            raise typer.BadParameter(f"--out {path}: is given twice")
        if path.suffix not in endings:
            raise typer.BadParameter(f"--out {path}: expected a file that ends in {', '.join(endings)}")
        if not isdir(path.parent):
            raise typer.BadParameter(f"--out {path}: there is no folder {path.parent}")
        if given is not None:
            refuse_input("--out", path, given)
    return Outputs(
        tuple(path for path in paths if path.suffix in TABLES),
        tuple(path for path in paths if path.suffix in FIGURES),
    )


def refuse_input(option: str, path: Path, given: Path) -> None:
    """Raise BadParameter where a file to write is the one that is read."""
    if isfile(path) and isfile(given) and samefile(path, given):
        raise typer.BadParameter(f"{option} {path}: is the input file, and would be overwritten")


def require_toml(out: Path, what: str) -> None:
    """Raise BadParameter for a record's file of another ending."""
    if out.suffix != ".toml":
        raise typer.BadParameter(f"--out {out}: {what} ends in .toml")
