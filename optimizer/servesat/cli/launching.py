"""The command `servesat launch`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servesat.cli.common import (
    AsJson,
    BuyHow,
    Cloud,
    Constraints,
    EngineName,
    Overrides,
    PriceBookName,
    Purchase,
    Region,
    load,
    print_json,
    show,
    tell,
    telling_of_no_plan,
)
from servesat.cli.completion import complete_spec_or_result

Targets = Literal["command", "compose", "kubernetes", "lws", "llm-d", "kserve", "dynamo", "skypilot", "gke-tpu"]


def launch(
    file: Annotated[
        Path,
        typer.Argument(
            help="A spec, a fleet, the --json of solve, or a certificate.", autocompletion=complete_spec_or_result
        ),
    ],
    to: Annotated[Targets, typer.Option("--to", help="What starts the plan.")] = "command",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files into a folder, instead of printing them.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="The weights to load, in the dtype of the plan.")
    ] = None,
    as_json: AsJson = False,
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    engine: EngineName = None,
    overrides: Overrides = None,
    constraints: Constraints = None,
) -> None:
    """Write what starts a plan: command lines or manifests, with a benchmark that says what it should measure.

    Exit codes: 0 written, 1 an error, 2 a usage error, 3 infeasible, 4 unknown.
    """
    options: dict[str, Any] = {
        "price_book": price_book, "cloud": cloud, "region": region, "purchase": purchase, "buy": buy, "engine": engine
    }  # fmt: skip
    from servesat.api import launching as api
    from servesat.launch.reading import kind_of
    from servesat.report.progress import doing

    kind = kind_of(file)
    given = [name for name, value in {**options, "set": overrides, "constraint": constraints}.items() if value]
    if kind != "spec" and given:
        raise typer.BadParameter(f"--{given[0].replace('_', '-')} changes a spec, and {file} is a {kind}")
    source = load(file, overrides, constraints, **options) if kind == "spec" else file
    with telling_of_no_plan(as_json), doing() as on_progress:
        launched = api.launch(source, to=to, checkpoint=checkpoint, on_progress=on_progress)
    for note in launched.notes:
        tell(f"note: {note}")
    for path in () if out is None else launched.write(out):
        tell(f"wrote {path}")
    if as_json:
        print_json(launched.to_dict())
    elif out is None:
        for name, text in launched.files.items():
            show(f"# ==> {name} <==")
            typer.echo(text)
