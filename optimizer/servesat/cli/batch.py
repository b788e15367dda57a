"""The command that solves many specs."""

from pathlib import Path
from typing import Annotated

import typer

from servesat.cli.common import INTERRUPTED, AsJson, errors_told


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
        from servesat.batch import ANSWERED, COLUMNS, Batch, flat, spec_files
        from servesat.journal import Journal, Memory
        from servesat.report.batch import print_batch
        from servesat.report.files import TABLES, json_lines, write_table
        from servesat.report.progress import progress
        from servesat.report.terminal import console

        if out is not None and (out.suffix not in TABLES or not out.parent.is_dir() or out.is_dir()):
            raise typer.BadParameter(f"--out {out}: expected a file that ends in {', '.join(TABLES)}, in a folder")
        if resume and out is None:
            raise typer.BadParameter("--resume: give the --out of the run that was cut off")
        asked = Batch(tuple(spec_files(specs)), time_limit)
        store = Memory() if out is None else Journal(out, asked.identity, resume=resume)
        with progress("specs", len(asked.paths), store.done) as advance:
            complete = asked.run(store, workers, advance)
        if out is not None and complete:
            write_table(out, store.rows_by("number"), columns=COLUMNS, flatten=flat, head={}, under="rows")
            typer.echo(f"wrote {out}", err=True)
        answered = all(row["status"] in ANSWERED for row in store.rows())
        try:
            if as_json:
                for line in json_lines(store.rows_by("number"), {}, under="rows"):
                    typer.echo(line)
            else:
                print_batch(console(), store.rows_by("number"), store.done)
        finally:  # the table is written, whoever reads this
            if complete and isinstance(store, Journal):
                store.remove()
        if not complete:
            typer.echo(f"cut off: {store.done:,} of {len(asked.paths):,} specs are done", err=True)
            raise typer.Exit(INTERRUPTED)
    raise typer.Exit(0 if answered else 1)
