"""The command `servesat replay`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.cli.common import (
    AsJson,
    BuyHow,
    Cloud,
    EngineName,
    On,
    Overrides,
    PriceBookName,
    Processes,
    Purchase,
    Region,
    Wide,
    connect_to,
    load,
    print_answer,
    tell,
    telling_of_no_plan,
)
from servesat.cli.completion import complete_spec_or_result
from servesat.cli.outputs import OutFigure, parse_outputs

if TYPE_CHECKING:
    from servesat.spec.spec import Spec

SpecOrResult = Annotated[
    Path, typer.Argument(help="A spec, or the JSON of `servesat solve`.", autocompletion=complete_spec_or_result)
]
Trace = Annotated[Path | None, typer.Option(metavar="FILE", help="Requests as they were recorded, at their own rate.")]
Rate = Annotated[float | None, typer.Option(min=1e-6, metavar="R", help="Requests a second.")]
Slices = Annotated[int | None, typer.Option(min=1, help="Slices in place of the plan's.")]
RouterName = Annotated[
    Literal["random", "round_robin", "least_load"], typer.Option(help="How requests find a replica.")
]
Requests = Annotated[
    int,
    typer.Option(min=100, max=1_000_000, help="Random requests over all seeds; at least a tenth of them is warm-up."),
]
Seeds = Annotated[int, typer.Option(min=2, max=100, help="Replays, each with other random numbers.")]
UntilBreaks = Annotated[bool, typer.Option(help="Also find the load at which limits stop holding.")]


def replay(
    file: SpecOrResult,
    trace: Trace = None,
    rate: Rate = None,
    slices: Slices = None,
    router: RouterName = "random",
    requests: Requests = 20_000,
    seeds: Seeds = 8,
    until_breaks: UntilBreaks = False,
    workers: Processes = None,
    on: On = None,
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
) -> None:
    """Replay a plan step by step, under requests that arrive at random or as in a trace.

    Of a spec the plan that `servesat solve` finds. Exit codes: 0 replayed, 1 an error, 2 a usage error, 3 infeasible, 4
    unknown.
    """
    from servesat.report.drawing import FIGURES

    options: dict[str, Any] = {
        "price_book": price_book, "cloud": cloud, "region": region, "purchase": purchase, "buy": buy, "engine": engine
    }  # fmt: skip
    outputs = parse_outputs(out, FIGURES)
    connect_to(on)

    from servesat.api import replaying as api

    with telling_of_no_plan(as_json):
        found = api.replay(
            _spec_or_result(file, overrides, options),
            trace=trace,
            requests_per_s=rate,
            slices=slices,
            router=router,
            requests=requests,
            seeds=seeds,
            until_breaks=until_breaks,
            workers=workers,
            on=on,
        )
    for note in found.notes:
        tell(f"note: {note}")
    for path in outputs.figures:
        found.draw(path)
    outputs.report_written()
    print_answer(found, as_json)


def _spec_or_result(file: Path, overrides: list[str] | None, options: dict[str, Any]) -> "Spec | Path":
    """A spec with its options, or the file of a result. Raises BadParameter for a fleet, or options beside a result."""
    from servesat.launch.reading import kind_of

    kind = kind_of(file)
    if kind == "spec":
        return load(file, overrides, **options)
    if kind == "fleet":
        raise typer.BadParameter(f"{file} is a fleet: replay the deployments of its workloads")
    given = next((name for name, value in {**options, "set": overrides}.items() if value), None)
    if given is not None:
        raise typer.BadParameter(f"--{given.replace('_', '-')} changes a spec, and {file} is a result")
    return file
