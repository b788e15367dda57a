"""The commands of the price books: their prices listed and compared, and a price list imported as a book."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servesat.cli.catalogue import BookId, Shelf
from servesat.cli.common import AsJson, Cloud, Region, Wide, print_answer, print_json, show, tell
from servesat.cli.completion import complete_chip
from servesat.cli.outputs import require_toml

prices = typer.Typer(cls=Shelf, invoke_without_command=True, help="List, compare or import prices.")
OfChip = Annotated[
    str | None,
    typer.Option(
        "--chip", metavar="ID", help="Prices of this chip only, cheapest first.", autocompletion=complete_chip
    ),
]
Bought = Annotated[
    Literal["on_demand", "spot", "reserved", "owned"] | None,
    typer.Option("--purchase", help="Prices of this purchase only."),
]


@prices.callback()
def list_prices(
    context: typer.Context,
    chip: OfChip = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Bought = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """List the prices of every price book, or compare those of a chip; `servesat prices BOOK` lists those of a book."""
    context.obj = {"chip": chip, "cloud": cloud, "region": region, "purchase": purchase, "as_json": as_json}
    if context.invoked_subcommand is None:
        _print_prices(None, **context.obj)


@prices.command("show")
def show_prices(
    context: typer.Context,
    book: BookId,
    chip: OfChip = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Bought = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """List the prices of a price book."""
    options: dict[str, Any] = {"chip": chip, "cloud": cloud, "region": region, "purchase": purchase, "as_json": as_json}
    _print_prices(book, **{key: value or context.obj[key] for key, value in options.items()})


@prices.command("import")
def import_list(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A vms.csv of SkyPilot, a CSV of gpuhunt, or one of your own.")],
    out: Annotated[Path | None, typer.Option(metavar="BOOK", help="Write the price book: mine.toml.")] = None,
    cloud: Annotated[str | None, typer.Option(metavar="NAME", help="The cloud of rows that name none: aws.")] = None,
    checked: Annotated[
        datetime | None,
        typer.Option(metavar="DATE", formats=["%Y-%m-%d"], help="Date of the prices; default: the file's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a price list into a price book of offers, printed unless --out names a file."""
    from servesat.catalogue.price_import import import_prices
    from servesat.report import listings

    for option in ("chip", "region", "purchase"):
        if context.obj[option]:
            raise typer.BadParameter(f"--{option}: a list is imported whole")
    if out is not None:
        require_toml(out, "a price book")
    imported = import_prices(file, cloud or context.obj["cloud"], checked.date() if checked else None)
    if out is not None:
        from servesat.core.writing import write_text

        write_text(out, imported.text)
    if as_json or context.obj["as_json"]:
        print_json(listings.import_document(imported, out))
    elif out is None:
        typer.echo(imported.text, nl=False)
    else:
        show(listings.import_summary(imported, out))
    for note in imported.notes:
        tell(f"note: {note}")


def _print_prices(
    book: str | None, *, chip: str | None, cloud: str | None, region: str | None, purchase: str | None, as_json: bool
) -> None:
    """Print the prices of a book, or of all of them, that the options leave."""
    from servesat.api import catalogue as api

    print_answer(api.prices(book, chip=chip, cloud=cloud, region=region, purchase=purchase), as_json)
