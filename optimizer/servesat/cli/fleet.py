"""The command `servesat fleet`."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import EXIT_CODES, AsJson, On, Processes, Wide, connect_to, print_answer, tell
from servesat.cli.completion import complete_spec
from servesat.cli.outputs import parse_outputs

FleetPath = Annotated[
    Path, typer.Argument(help="A fleet: a YAML file as examples/fleet-*.yaml.", autocompletion=complete_spec)
]
Degrade = Annotated[bool, typer.Option(help="Serve by priority as much as capacity allows.")]
Compare = Annotated[
    bool, typer.Option(help="Also show what simpler policies cost, and what another chip of each full quota saves.")
]
Earlier = Annotated[
    Path | None, typer.Option(metavar="PLAN.json", help="The --json output of an earlier plan, which runs today.")
]
MaxChanges = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Start or stop at most N replicas against --earlier.")
]
UsdPerChange = Annotated[
    float | None,
    typer.Option(min=0, max=1e9, metavar="USD", help="Cost of starting or stopping a replica; default: 0."),
]
TimeLimit = Annotated[
    float | None, typer.Option(min=0.001, metavar="S", help="Stop after S seconds, with the gap; default: 300.")
]
OutPlan = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="Write the allocations (.csv, .parquet) or the report (.html); repeatable."),
]


def fleet(
    spec: FleetPath,
    as_json: AsJson = False,
    wide: Wide = False,
    degrade: Degrade = False,
    compare: Compare = False,
    earlier: Earlier = None,
    max_changes: MaxChanges = None,
    usd_per_change: UsdPerChange = None,
    time_limit: TimeLimit = None,
    workers: Processes = None,
    on: On = None,
    out: OutPlan = None,
) -> None:
    """Plan a fleet: the cheapest replicas for every workload, region, purchase and period, proved.

    Exit codes: 0 a plan, 1 an error, 2 a usage error, 3 infeasible, 4 unknown.
    """
    from servesat.api import fleet as api
    from servesat.fleet.spec import FleetSpec
    from servesat.report.fleet_files import WRITTEN
    from servesat.report.progress import doing

    outputs = parse_outputs(out, WRITTEN)
    if earlier is None and (max_changes is not None or usd_per_change is not None):
        raise typer.BadParameter("--max-changes and --usd-per-change count against a plan: give --earlier PLAN.json")
    given = FleetSpec.load(spec)
    for note in given.notes:
        tell(f"note: {note}")
    connect_to(on)
    with doing() as on_progress:
        planned = api.fleet(
            given,
            time_limit_s=time_limit,
            degrade=degrade,
            compare=compare,
            earlier=earlier,
            max_changes=max_changes,
            usd_per_change=usd_per_change,
            workers=workers,
            on=on,
            on_progress=on_progress,
        )
    if EXIT_CODES[planned.status] == 0:
        for path in (*outputs.tables, *outputs.figures):
            planned.draw(path)
        outputs.report_written()
    else:
        outputs.report_skipped(f"the result is {planned.status}")
    print_answer(planned, as_json)
    raise typer.Exit(EXIT_CODES[planned.status])
