"""The command `servesat batch`."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from servesat.cli.common import INTERRUPTED, AsJson, On, Wide, connect_to, console, tell
from servesat.cli.completion import complete_spec
from servesat.cli.outputs import parse_outputs, refuse_input


def batch(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR|GLOB...", help="Folders, patterns, or files of specs.", autocompletion=complete_spec
        ),
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write a table with a row per spec: .csv, .parquet, .json; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run of --out that was cut off.")] = False,
    time_limit: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Stop each spec after S seconds, with its gap.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per core.")] = None,
    on: On = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Solve any number of deployments, fleets and portfolios, and put the answers into a table.

    Exit codes: 0 every spec has an answer, 1 some have none or an error, 2 a usage error, 130 cut off.
    """
    from servesat.core.journal import Journal, Memory
    from servesat.core.parallel.runs import Workers
    from servesat.report.files import TABLES, write_table
    from servesat.report.progress import progress
    from servesat.runs.batch import ANSWERED, COLUMNS, QUESTION, Batch, flat, spec_files

    outputs = parse_outputs(out, TABLES)
    if resume and not outputs.tables:
        raise typer.BadParameter("--resume: give the --out of the run that was cut off")
    job = Batch(tuple(spec_files(specs)), time_limit)
    for path in outputs.tables:
        for spec in job.paths:
            refuse_input("--out", path, spec)
    total = len(job.paths)
    connect_to(on)
    with closing(Journal(outputs.tables[0], QUESTION, resume=resume) if outputs.tables else Memory()) as store:
        pending = job.pending(store)
        if resume:
            tell(f"going on: {total - len(pending):,} of {total:,} specs have an answer that stands")
        with progress("specs", total, total - len(pending)) as on_progress:
            complete = job.run(store, pending, Workers(workers, on), on_progress)
        for path in outputs.tables if complete else ():
            write_table(path, job.rows(store), columns=COLUMNS, flatten=flat, head={}, under="rows")
            tell(f"wrote {path}")
        try:
            rows = partial(job.rows, store, up_to_date=not complete)
            counts = _report(rows, as_json)
        finally:  # the table is written even if printing fails
            if complete and isinstance(store, Journal):
                store.remove()
    if not complete:
        tell(f"cut off: {counts.total():,} of {total:,} specs are done")
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if set(counts) <= set(ANSWERED) else 1)


def _report(rows: Callable[[], Iterator[dict[str, Any]]], as_json: bool) -> Counter[str]:
    """Print the answers, and count the statuses."""
    from servesat.report.batch import print_batch, status_words
    from servesat.report.files import json_lines

    counts = Counter(row["status"] for row in rows())
    if as_json:
        for line in json_lines(rows(), {}, under="rows"):
            typer.echo(line)
    else:
        print_batch(console(), rows(), Counter(map(status_words, rows())))
    return counts
