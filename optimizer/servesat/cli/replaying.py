"""The command `servesat replay`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.cli.common import (
    EXIT_CODES,
    AsJson,
    BuyHow,
    Cloud,
    EngineName,
    Overrides,
    PriceBookName,
    Purchase,
    Region,
    Wide,
    console,
    load,
    print_json,
    tell,
)
from servesat.cli.outputs import OutFigure, parse_outputs

if TYPE_CHECKING:
    from servesat.core.plan import Plan
    from servesat.spec.spec import Spec


def replay(
    file: Annotated[Path, typer.Argument(help="A spec, or the JSON of `servesat solve`.")],
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Requests as they were recorded, at their own rate.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=1e-6, metavar="R", help="Requests a second.")] = None,
    slices: Annotated[int | None, typer.Option(min=1, help="Slices in place of the plan's.")] = None,
    router: Annotated[
        Literal["random", "round_robin", "least_load"], typer.Option(help="How requests find a replica.")
    ] = "random",
    requests: Annotated[int, typer.Option(min=100, max=1_000_000, help="Random requests of all seeds.")] = 20_000,
    seeds: Annotated[int, typer.Option(min=2, max=100, help="Replays, each with other random numbers.")] = 8,
    until_breaks: Annotated[bool, typer.Option(help="Also find the load at which limits stop holding.")] = False,
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
    from servesat.report.charts import FIGURES

    options: dict[str, Any] = {
        "price_book": price_book, "cloud": cloud, "region": region, "purchase": purchase, "buy": buy, "engine": engine
    }  # fmt: skip
    outputs = parse_outputs(out, FIGURES)
    spec, plan = _planned(file, overrides, options)

    from servesat.questions.replays import replay as replayed
    from servesat.questions.replays import under, with_slices

    found = replayed(
        under(spec, trace, rate),
        with_slices(plan, slices),
        router=router,
        requests=requests,
        seeds=seeds,
        until_breaks=until_breaks,
    )
    if outputs.figures:
        from servesat.report.charts import draw
        from servesat.report.replays import replay_chart

        for path in outputs.figures:
            draw(replay_chart(found), path)
        outputs.report_written()
    if as_json:
        from servesat.report.replays import replay_document

        print_json(replay_document(found))
        return
    from servesat.report.replays import print_replay

    print_replay(console(), found)


def _planned(file: Path, overrides: list[str] | None, options: dict[str, Any]) -> "tuple[Spec, Plan]":
    """The spec and the plan of a result, or of a spec once it is solved."""
    from servesat.launch.reading import kind_of, plan_of_result

    kind = kind_of(file)
    if kind == "fleet":
        raise typer.BadParameter(f"{file} is a fleet: replay the deployments of its workloads")
    if kind == "result":
        given = [name for name, value in {**options, "set": overrides}.items() if value]
        if given:
            raise typer.BadParameter(f"--{given[0].replace('_', '-')} changes a spec, and {file} is a result")
        spec, plan, _ = plan_of_result(file)
        return spec, plan
    from servesat.deployment.solve import solve

    spec = load(file, overrides, **options)
    result = solve(spec)
    if result.plan is None:
        tell(f"error: {file}: there is no plan to replay: the result is {result.status}")
        raise typer.Exit(EXIT_CODES[result.status])
    return spec, result.plan
