"""The command line: reads arguments, calls the library and prints."""

from typing import Annotated

import typer

from servesat.cli.accuracy import accuracy
from servesat.cli.batch import batch
from servesat.cli.book import book, figure, sizes
from servesat.cli.calibrating import calibrate
from servesat.cli.catalogue import chips, engines, models, schema
from servesat.cli.ending import Commands
from servesat.cli.fleet import fleet
from servesat.cli.frontier import frontier
from servesat.cli.launching import launch
from servesat.cli.measuring import measure
from servesat.cli.modes import modes
from servesat.cli.portfolio import portfolio
from servesat.cli.prices import prices
from servesat.cli.replaying import replay
from servesat.cli.solving import solve, verify, why
from servesat.cli.starting import init
from servesat.cli.whatif import whatif

app = typer.Typer(
    cls=Commands,
    help="Find the cheapest way to serve an open model within your limits, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Find the cheapest way to serve an open model within your limits, and prove it."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"servesat {installed('servesat')}")
        raise typer.Exit


for command in (
    init,
    solve,
    launch,
    replay,
    why,
    frontier,
    whatif,
    modes,
    portfolio,
    fleet,
    batch,
    verify,
    accuracy,
    calibrate,
    measure,
    book,
    sizes,
    figure,
    schema,
):
    app.command()(command)
for name, shelf in (("models", models), ("chips", chips), ("engines", engines), ("prices", prices)):
    app.add_typer(shelf, name=name)
