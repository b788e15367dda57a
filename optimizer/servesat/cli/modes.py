"""The command `servesat modes`."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import (
    AsJson,
    Overrides,
    PriceBookName,
    Purchase,
    Region,
    SpecPath,
    Wide,
    console,
    load,
    print_json,
)
from servesat.cli.outputs import parse_outputs


def modes(
    spec: SpecPath,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the modes over the ratio of prompt to output: .html, .svg, …"),
    ] = None,
    as_json: AsJson = False,
    wide: Wide = False,
    price_book: PriceBookName = None,
    region: Region = None,
    purchase: Purchase = None,
    overrides: Overrides = None,
) -> None:
    """Compare the serving modes: the best plan of each for one workload.

    Exit codes: 0 some mode has a plan, 1 an error, 2 a usage error, 3 no mode has a plan.
    """
    outputs = parse_outputs([out] if out is not None else None)
    if outputs.tables:
        raise typer.BadParameter(f"--out {out}: expected a figure; --json prints the table")
    loaded = load(spec, overrides, price_book=price_book, region=region, purchase=purchase)

    from servesat.questions.mode_comparison import compare_modes, crossover
    from servesat.report import modes as report

    results = compare_modes(loaded)
    if out is not None:
        from servesat.report.charts import draw

        draw(report.crossover_chart(loaded, crossover(loaded)), out)
        outputs.report_written()
    if as_json:
        print_json(report.modes_document(results))
    else:
        report.print_modes(console(), loaded, results)
    raise typer.Exit(0 if any(result.plan is not None for result in results.values()) else 3)
