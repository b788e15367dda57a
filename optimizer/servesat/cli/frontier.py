"""The command `servesat frontier`."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from servesat.cli.common import (
    EXIT_CODES,
    AsJson,
    BuyHow,
    Cloud,
    Constraints,
    EngineName,
    On,
    Overrides,
    PriceBookName,
    Processes,
    Purchase,
    Region,
    SpecPath,
    Wide,
    connect_to,
    load,
    print_answer,
)
from servesat.cli.outputs import Out, Outputs, parse_outputs

if TYPE_CHECKING:
    from servesat.api.frontier import Frontier

Axis = Literal[
    "tpot_ms", "usd_per_million_output_tokens", "tokens_per_s_per_chip", "chips", "usd_per_hour", "batch", "ttft_ms"
]


def frontier(
    spec: SpecPath,
    x: Annotated[Axis, typer.Option("--x", help="The first figure to trade.")] = "tpot_ms",
    y: Annotated[Axis, typer.Option("--y", help="The second.")] = "usd_per_million_output_tokens",
    z: Annotated[Axis | None, typer.Option("--z", help="A third.")] = None,
    by: Annotated[
        Literal["chip", "topology"] | None, typer.Option(help="Trace a frontier for each chip, or for each slice.")
    ] = None,
    workers: Processes = None,
    on: On = None,
    out: Out = None,
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
    """Find every plan that no other beats in two or three figures at once.

    Exit codes: 0 a frontier, 1 an error, 2 a usage error, 3 infeasible.
    """
    outputs = parse_outputs(out, given=spec)
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

    from servesat.api import frontier as api

    connect_to(on)
    traced = api.frontier(loaded, (x, y) if z is None else (x, y, z), by=by, workers=workers, on=on)
    if traced.points:
        _write(outputs, traced)
    else:
        outputs.report_skipped(f"the result is {traced.status}")
    print_answer(traced, as_json)
    raise typer.Exit(EXIT_CODES[traced.status])


def _write(outputs: Outputs, traced: "Frontier") -> None:
    from servesat.questions.whatif import FLAT_PLAN, flat_plan
    from servesat.report.files import write_table

    document = traced.to_dict()
    points = document.pop("points")
    for path in outputs.tables:
        write_table(path, points, columns=FLAT_PLAN, flatten=flat_plan, head=document, under="points")
    for path in outputs.figures:
        traced.draw(path)
    outputs.report_written()
