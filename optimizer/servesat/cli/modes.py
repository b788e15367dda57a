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
    console,
    load,
    print_json,
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
    from servesat.report.charts import FIGURES

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
        in_means=True,
    )

    from servesat.questions.mode_comparison import compare_modes, crossover
    from servesat.report import modes as report

    results = compare_modes(loaded)
    if outputs.figures:
        from servesat.report.charts import draw

        chart = report.crossover_chart(loaded, crossover(loaded))
        for path in outputs.figures:
            draw(chart, path)
        outputs.report_written()
    if as_json:
        print_json(report.modes_document(results))
    else:
        report.print_modes(console(), loaded, results)
    raise typer.Exit(0 if any(result.plan is not None for result in results.values()) else 3)
