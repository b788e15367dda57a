"""What commands share: options, exit codes, reading a spec, and printing."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.cli.completion import complete_book, complete_engines, complete_setting, complete_spec
from servesat.core.errors import NoPlanError, ServesatError
from servesat.core.text import printable

if TYPE_CHECKING:
    from servesat.api.answer import Answer
    from servesat.report.terminal import Terminal
    from servesat.spec.spec import Spec

EXIT_CODES = {"optimal": 0, "feasible": 0, "infeasible": 3, "unknown": 4}

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""

LISTS = {"cloud", "region", "purchase", "engine"}
"""Keys of a spec whose options may list several values."""

_WIDE = ContextVar("wide", default=False)
"""Whether the command was given --wide."""


def _remember_wide(context: typer.Context, value: bool) -> bool:
    """Remember --wide of a command, or of the group that it stands in: `servesat prices --wide BOOK`."""
    _WIDE.set(value or (context.parent is not None and context.parent.params.get("wide") is True))
    return value


Wide = Annotated[
    bool, typer.Option("--wide", callback=_remember_wide, help="Print whole tables, however narrow the terminal.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SpecPath = Annotated[
    Path, typer.Argument(help="A spec: a YAML file as in examples/; -: standard input.", autocompletion=complete_spec)
]
PriceBookName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The price book to use; all: every offer of every cloud.", autocompletion=complete_book
    ),
]
Cloud = Annotated[str | None, typer.Option(metavar="NAME", help="Prices of this cloud only: aws, or aws,gcp.")]
BuyHow = Annotated[
    Literal["share", "instances"] | None, typer.Option(help="Pay for a share of an instance, or for whole instances.")
]
Region = Annotated[str | None, typer.Option(metavar="NAME", help="Prices of this region only: us-central1.")]
Purchase = Annotated[
    str | None, typer.Option(metavar="NAME", help="on_demand (default), spot, reserved or owned; or several: a,b.")
]
EngineName = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="The engines that may run the plan: vllm, or a,b; any; none.",
        autocompletion=complete_engines,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the spec: slo.tpot_ms=20.",
        autocompletion=complete_setting,
    ),
]


def _checked_address(on: str | None) -> str | None:
    from servesat.core.parallel.cluster import is_address

    if on is not None and not is_address(on):
        raise typer.BadParameter(f"{on!r}: expected ray, or ray://HOST:PORT")
    return on


On = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray|ray://HOST:PORT",
        callback=_checked_address,
        help="Compute on a Ray cluster (docs/clusters.md).",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes; default: 1 for a short run, else one per core."),
]
Constraints = Annotated[
    list[str] | None,
    typer.Option("--constraint", metavar="EXPRESSION", help="A further condition: 'batch % 8 == 0'; repeatable."),
]


def console() -> "Terminal":
    """Standard output for tables, at full width if the command was given --wide."""
    from servesat.report.terminal import console

    return console(wide=_WIDE.get())


def show(text: str) -> None:
    """Print text on standard output, control characters escaped."""
    typer.echo(printable(text))


def tell(text: str) -> None:
    """Print text on standard error, control characters escaped."""
    typer.echo(printable(text), err=True)


def load(
    path: Path,
    texts: list[str] | None,
    constraints: list[str] | None = None,
    *,
    in_means: bool = False,
    **options: str | None,
) -> "Spec":
    """Read a spec with the `--set` overrides, further constraints and the keys that have an option.

    Notes go to standard error; with `in_means` also that limits on a share of the requests will hold for means.
    """
    from servesat.spec.overrides import parse_override
    from servesat.spec.spec import Spec

    try:
        overrides = dict(parse_override(text) for text in texts or [])
    except ServesatError as error:
        raise typer.BadParameter(str(error)) from None
    overrides |= {key: listed(value) if key in LISTS else value for key, value in options.items() if value}
    spec = Spec.load(path, overrides).constrained(constraints or [])
    for note in (*spec.notes, *spec.notes_on(overrides)):
        tell(f"note: {note}")
    for note in spec.notes_on_means if in_means else ():
        tell(f"note: {note}")
    return spec


def listed(value: str | None) -> str | list[str] | None:
    """The values of an option that may list several; a word alone stays one, as it may stand for all."""
    return value.split(",") if value and "," in value else value


@contextmanager
def telling_of_no_plan(as_json: bool) -> Iterator[None]:
    """With --json, print the status as a document where there is no plan to go on with."""
    try:
        yield
    except NoPlanError as fault:
        if as_json:
            print_json({"status": fault.status, "error": str(fault)})
        raise


def print_answer(answer: "Answer", as_json: bool) -> None:
    """Print an answer as tables, or as one JSON document."""
    if as_json:
        print_json(answer.to_dict())
    else:
        answer.show(console())


def connect_to(on: str | None) -> None:
    """Connect to the cluster of --on, if it is given, before anything is computed or written."""
    if on is not None:
        from servesat.core.parallel.cluster import connect

        connect(on)


def print_json(document: Any) -> None:
    """Print a JSON document."""
    from servesat.report.documents import dumps

    typer.echo(dumps(document))
