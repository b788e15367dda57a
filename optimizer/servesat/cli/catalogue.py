"""The commands that show the catalogue: models, chips, prices and schema."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from servesat.cli.common import AsJson, errors_told

Reference = Annotated[str | None, typer.Argument(help="An id, or the path of a file; all entries if left out.")]


def models(model: Reference = None, as_json: AsJson = False) -> None:
    """List the models of the catalogue, or show one."""
    from servesat.report import listings

    _show(model, as_json, listings.model_rows, listings.model_entry)


def chips(chip: Reference = None, as_json: AsJson = False) -> None:
    """List the chips of the catalogue, or show one."""
    from servesat.report import listings

    _show(chip, as_json, listings.chip_rows, listings.chip_entry)


def prices(book: Reference = None, as_json: AsJson = False) -> None:
    """List the prices of every price book, or show one book."""
    from servesat.report import listings

    _show(book, as_json, listings.price_book_rows, listings.price_book_entry)


def schema(shelf: Annotated[Literal["models", "hardware"], typer.Argument(help="Whose files.")]) -> None:
    """Print the JSON schema of the catalogue's files."""
    from servesat.catalogue import json_schema
    from servesat.report.documents import dumps

    typer.echo(dumps(json_schema(shelf)))


def _show(
    reference: str | None,
    as_json: bool,
    rows: Callable[[], list[dict[str, Any]]],
    entry: Callable[[str], dict[str, Any]],
) -> None:
    with errors_told():
        shown = rows() if reference is None else entry(reference)
    if as_json:
        from servesat.report.documents import dumps

        typer.echo(dumps(shown))
        return
    from servesat.report.terminal import console, print_entry, print_listing

    if isinstance(shown, list):
        print_listing(console(), shown)
    else:
        print_entry(console(), shown)
