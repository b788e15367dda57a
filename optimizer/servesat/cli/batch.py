"""The command that solves many specs."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servesat.cli.common import INTERRUPTED, AsJson, errors_told

if TYPE_CHECKING:
    from servesat.core.journal import Journal, Memory
    from servesat.runs.batch import Batch


def batch(
    specs: Annotated[list[str], typer.Argument(metavar="DIR|GLOB...", help="Folders, patterns, or files of specs.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a table, a row a spec: .csv, .parquet or .json.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run of --out that was cut off.")] = False,
    time_limit: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Stop at S seconds a spec, with its gap.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Solve any number of deployments and fleets, and put the answers into one table.

    Exit codes: 0 every spec has an answer, 1 some have none or an error, 2 a usage error, 130 cut off.
    """
    with errors_told():
        from servesat.core.journal import Journal, Memory
        from servesat.report.files import TABLES, write_table
        from servesat.report.progress import progress
        from servesat.runs.batch import ANSWERED, COLUMNS, QUESTION, Batch, flat, spec_files

        if out is not None and (out.suffix not in TABLES or not out.parent.is_dir() or out.is_dir()):
            raise typer.BadParameter(f"--out {out}: expected a file that ends in {', '.join(TABLES)}, in a folder")
        if resume and out is None:
            raise typer.BadParameter("--resume: give the --out of the run that was cut off")
        asked = Batch(tuple(spec_files(specs)), time_limit)
        total = len(asked.paths)
        with closing(Memory() if out is None else Journal(out, QUESTION, resume=resume)) as store:
            left = asked.left(store)
            if resume:
                typer.echo(f"going on: {total - len(left):,} of {total:,} specs have an answer that stands", err=True)
            with progress("specs", total, total - len(left)) as on_progress:
                complete = asked.run(store, left, workers, on_progress)
            if out is not None and complete:
                write_table(out, asked.rows(store), columns=COLUMNS, flatten=flat, head={}, under="rows")
                typer.echo(f"wrote {out}", err=True)
            try:
                counts = _report(asked, store, as_json)
            finally:  # the table is written, whoever reads the report
                if complete and isinstance(store, Journal):
                    store.remove()
        if not complete:
            typer.echo(f"cut off: {counts.total():,} of {total:,} specs are done", err=True)
            raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if set(counts) <= set(ANSWERED) else 1)


def _report(asked: "Batch", store: "Journal | Memory", as_json: bool) -> Counter[str]:
    """Print the answers, and count the statuses."""
    from servesat.report.batch import print_batch
    from servesat.report.files import json_lines
    from servesat.report.terminal import console

    counts = Counter(row["status"] for row in asked.rows(store))
    if as_json:
        for line in json_lines(asked.rows(store), {}, under="rows"):
            typer.echo(line)
    else:
        print_batch(console(), asked.rows(store), counts)
    return counts
