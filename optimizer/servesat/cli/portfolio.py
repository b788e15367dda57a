"""The command `servesat portfolio`."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import EXIT_CODES, AsJson, On, Processes, Wide, connect_to, print_answer, tell
from servesat.cli.completion import complete_spec
from servesat.cli.outputs import OutFigure, parse_outputs


def portfolio(
    spec: Annotated[
        Path,
        typer.Argument(help="A portfolio: a YAML file as examples/portfolio-*.yaml.", autocompletion=complete_spec),
    ],
    as_json: AsJson = False,
    wide: Wide = False,
    out: OutFigure = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Stop after S seconds, with the gap.")
    ] = None,
    workers: Processes = None,
    on: On = None,
) -> None:
    """Decide several deployments together: the least bill under what they share, proved.

    Exit codes: 0 a plan of each, 1 an error, 2 a usage error, 3 infeasible, 4 unknown.
    """
    from servesat.api import portfolio as api
    from servesat.report.drawing import FIGURES
    from servesat.report.progress import doing

    outputs = parse_outputs(out, FIGURES)
    connect_to(on)
    with doing() as on_progress:
        on_progress("deciding the deployments together")
        answer = api.portfolio(spec, time_limit_s=time_limit, workers=workers, on=on)
    for note in answer.notes:
        tell(f"note: {note}")
    if answer.plans:
        for path in outputs.figures:
            answer.draw(path)
        outputs.report_written()
    else:
        outputs.report_skipped(f"the result is {answer.status}")
    print_answer(answer, as_json)
    raise typer.Exit(EXIT_CODES[answer.status])
