"""What every command shares: its options, and how errors are told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from servesat.core.errors import ServesatError

if TYPE_CHECKING:
    from servesat.spec.spec import Spec

EXIT_CODES = {"optimal": 0, "feasible": 0, "infeasible": 3, "unknown": 4}

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SpecPath = Annotated[Path, typer.Argument(help="A spec: a YAML file as in examples/.")]
PriceBookName = Annotated[str | None, typer.Option(metavar="NAME", help="The price book to use.")]
Region = Annotated[str | None, typer.Option(metavar="NAME", help="Prices of this region only: us-central1.")]
Purchase = Annotated[
    Literal["on_demand", "spot", "reserved"] | None, typer.Option(help="How chips are bought; on demand if left out.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec: slo.tpot_ms=20.")
]


@contextmanager
def errors_told() -> Iterator[None]:
    """Print an error of ours as lines on standard error, and exit with 1."""
    try:
        yield
    except ServesatError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(1) from None


def load(path: Path, texts: list[str] | None, **options: str | None) -> "Spec":
    """Read a spec with the overrides of the command line, and the keys that have options of their own.

    Notes go to standard error.
    """
    from servesat.spec.overrides import parse_override
    from servesat.spec.spec import Spec

    try:
        overrides = dict(parse_override(text) for text in texts or [])
    except ServesatError as error:
        raise typer.BadParameter(str(error)) from None
    overrides |= {key: value for key, value in options.items() if value is not None}
    loaded = Spec.load(path, overrides)
    for note in (*loaded.notes, *loaded.notes_on(overrides)):
        typer.echo(f"note: {note}", err=True)
    return loaded
