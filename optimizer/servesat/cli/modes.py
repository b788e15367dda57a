"""The command `servesat modes`."""

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
    SpecPath,
    Wide,
    load,
    print_answer,
    tell,
)
from servesat.cli.outputs import OutFigure, parse_outputs


def modes(
    spec: SpecPath,
    out: OutFigure = None,
    as_json: AsJson = False,
    wide: Wide = False,
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    engine: EngineName = None,
    overrides: Overrides = None,
    constraints: Constraints = None,
) -> None:
    """Compare the serving modes: the best plan of each for one workload.

    Exit codes: 0 some mode has a plan, 1 an error, 2 a usage error, 3 no mode has a plan.
    """
    from servesat.report.drawing import FIGURES

    outputs = parse_outputs(out, FIGURES)
    loaded = load(
        spec,
        overrides,
        constraints,
        price_book=price_book,
        cloud=cloud,
        region=region,
        purchase=purchase,
        buy=buy,
        engine=engine,
    )

    from servesat.api import modes as api

    compared = api.modes(loaded)
    for note in (*loaded.notes_on_times, *(loaded.notes_on_means if outputs.figures else ())):
        tell(f"note: {note}")
    found = any(result.plan is not None for result in compared.results.values())
    if found:
        for path in outputs.figures:
            compared.draw(path)
        outputs.report_written()
    else:
        outputs.report_skipped("the result is without a plan in any mode")
    print_answer(compared, as_json)
    raise typer.Exit(0 if found else 3)
