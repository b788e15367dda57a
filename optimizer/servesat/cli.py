"""The command line: reads arguments, calls the library, prints; no logic of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from servesat.errors import ServesatError

if TYPE_CHECKING:
    from servesat.spec import Spec

EXIT_CODES = {"optimal": 0, "feasible": 0, "infeasible": 3, "unknown": 4}

app = typer.Typer(
    help="Find the cheapest way to serve an open model within your limits, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
SpecPath = Annotated[Path, typer.Argument(help="A spec: a YAML file as in examples/.")]
PriceBookName = Annotated[str | None, typer.Option(metavar="NAME", help="The price book to use.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec: slo.tpot_ms=20.")
]
Reference = Annotated[str | None, typer.Argument(help="An id, or the path of a file; all entries if left out.")]


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except ServesatError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        raise typer.Exit(1) from None


def _load(path: Path, texts: list[str] | None, price_book: str | None) -> "Spec":
    from servesat.spec import Spec, parse_override

    try:
        overrides = dict(parse_override(text) for text in texts or [])
    except ServesatError as error:
        raise typer.BadParameter(str(error)) from None
    if price_book is not None:
        overrides["price_book"] = price_book
    loaded = Spec.load(path, overrides)
    for note in loaded.notes:
        typer.echo(f"note: {note}", err=True)
    return loaded


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Find the cheapest way to serve an open model within your limits, and prove it."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"servesat {installed('servesat')}")
        raise typer.Exit


@app.command()
def solve(
    spec: SpecPath,
    as_json: AsJson = False,
    explain: Annotated[bool, typer.Option(help="Also show every requirement's slack, and every slice.")] = False,
    time_limit: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Stop the solver after S seconds.")
    ] = None,
    price_book: PriceBookName = None,
    overrides: Overrides = None,
    top: Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Also show the K best distinct plans.")] = 1,
    distinct: Annotated[
        Literal["chip", "topology", "layout"], typer.Option(help="What makes plans distinct for --top.")
    ] = "layout",
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a certificate that `servesat verify` can check.")
    ] = None,
) -> None:
    """Find the cheapest plan for a spec.

    Exit codes: 0 a plan, 1 an error, 2 a usage error, 3 infeasible, 4 unknown.
    """
    with _errors_told():
        loaded = _load(spec, overrides, price_book)

        from servesat.explain import answer
        from servesat.formulation import Settings

        settings = Settings(time_limit_s=time_limit)
        result = answer(loaded, settings, limits=explain, top=top, distinct=distinct)
        if certificate is not None and EXIT_CODES[result.status] == 0:
            from servesat.certificate import certify, write_certificate

            write_certificate(certify(loaded, result, settings), certificate)
        elif certificate is not None:
            typer.echo(f"note: {certificate} is not written: the result is {result.status}", err=True)
        if as_json:
            from servesat.report.documents import dumps, result_document

            typer.echo(dumps(result_document(result)))
        else:
            from servesat.report.terminal import console, print_result

            print_result(console(), loaded, result, explain=explain)
    raise typer.Exit(EXIT_CODES[result.status])


@app.command()
def why(
    spec: SpecPath,
    chip: Annotated[str | None, typer.Option(help="A chip's id, or the path of a file.")] = None,
    topology: Annotated[str | None, typer.Option(help="A slice, such as 4x8.")] = None,
    weights: Annotated[str | None, typer.Option(help="Dtype of the weights.")] = None,
    kv_cache: Annotated[str | None, typer.Option(help="Dtype of the KV cache.")] = None,
    compute: Annotated[str | None, typer.Option(help="Dtype of the matmuls.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences a replica.")] = None,
    as_json: AsJson = False,
    price_book: PriceBookName = None,
    overrides: Overrides = None,
) -> None:
    """Compare the best plan under decisions of your own with the best plan overall.

    Exit codes: 0 both are plans, 1 an error, 2 a usage error, 3 no plan meets the decisions.
    """
    with _errors_told():
        loaded = _load(spec, overrides, price_book)

        from servesat.why import Decisions, why_not

        decisions = Decisions(
            chip=chip, topology=topology, weights=weights, kv_cache=kv_cache, compute=compute, batch=batch
        )
        if decisions == Decisions():
            raise typer.BadParameter("fix at least one decision, as in --chip h100-sxm")
        comparison = why_not(loaded, decisions)
        if as_json:
            from servesat.report.documents import dumps
            from servesat.report.why import comparison_document

            typer.echo(dumps(comparison_document(comparison)))
        else:
            from servesat.report.terminal import console
            from servesat.report.why import print_comparison

            print_comparison(console(), comparison)
    raise typer.Exit(EXIT_CODES[comparison.alternative.status])


@app.command()
def verify(
    certificate: Annotated[Path, typer.Argument(help="A file that `solve --certificate` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Check a certificate without a solver: its inputs, every figure, and that no plan is better.

    Exit codes: 0 it is valid, 1 it is not.
    """
    with _errors_told():
        from servesat.certificate import verify as verify_file

        verification = verify_file(certificate)
    if as_json:
        from servesat.report.documents import dumps, verification_document

        typer.echo(dumps(verification_document(verification)))
    else:
        for line in verification.passed:
            typer.echo(f"holds   {line}")
        for line in verification.failed:
            typer.echo(f"FAILS   {line}", err=True)
        typer.echo("the certificate is valid" if verification.valid else "the certificate is NOT valid")
    raise typer.Exit(0 if verification.valid else 1)


@app.command()
def models(model: Reference = None, as_json: AsJson = False) -> None:
    """List the models of the catalogue, or show one."""
    from servesat.report import listings

    _show(model, as_json, listings.model_rows, listings.model_entry)


@app.command()
def chips(chip: Reference = None, as_json: AsJson = False) -> None:
    """List the chips of the catalogue, or show one."""
    from servesat.report import listings

    _show(chip, as_json, listings.chip_rows, listings.chip_entry)


@app.command()
def prices(book: Reference = None, as_json: AsJson = False) -> None:
    """List the prices of every price book, or show one book."""
    from servesat.report import listings

    _show(book, as_json, listings.price_book_rows, listings.price_book_entry)


@app.command()
def book(as_json: AsJson = False) -> None:
    """Answer the scaling book's serving chapter beside its printed figures, and its worked problems."""
    from servesat.report import book as report

    if as_json:
        from servesat.report.documents import dumps

        typer.echo(dumps(report.book_document()))
        return
    from servesat.report.terminal import console

    report.print_book(console())


@app.command()
def figure(
    kind: Annotated[
        Literal["pareto", "breakdown"], typer.Argument(help="Throughput against latency, or a step's parts.")
    ],
    out: Annotated[Path, typer.Option(help="Where to: .html (with a slider), .png, .svg or .pdf.")],
    model: Annotated[str, typer.Option(help="A model's id, or the path of a file.")] = "llama-3-70b",
    chip: Annotated[str, typer.Option(help="A chip's id, or the path of a file.")] = "tpu-v5e",
    topology: Annotated[str, typer.Option(help="A slice of the chip, all of it one replica.")] = "4x4",
    weights: Annotated[str, typer.Option(help="Dtype of the weights.")] = "int8",
    kv_cache: Annotated[str, typer.Option(help="Dtype of the KV cache.")] = "int8",
    compute: Annotated[str, typer.Option(help="Dtype of the matmuls.")] = "bf16",
    contexts: Annotated[
        str, typer.Option(help="Contexts of the slider [tokens].")
    ] = "2048,4096,8192,16384,32768,65536",
    max_batch: Annotated[int, typer.Option(min=1, max=10**5, help="Largest batch to draw.")] = 512,
    price: Annotated[float | None, typer.Option(help="Dollars a chip-hour, in place of the list price.")] = None,
) -> None:
    """Draw one of the scaling book's two figures for a model on a slice; the defaults are the book's."""
    with _errors_told():
        from servesat.report.charts import draw
        from servesat.report.figures import breakdown_chart, pareto_chart, read_layout

        spec, assignment, tokens = read_layout(
            model=model,
            chip=chip,
            topology=topology,
            weights=weights,
            kv_cache=kv_cache,
            compute=compute,
            contexts=contexts,
            max_batch=max_batch,
            price=price,
        )
        chart = (pareto_chart if kind == "pareto" else breakdown_chart)(spec, assignment, tokens, max_batch)
        draw(chart, out)
        typer.echo(f"wrote {out}", err=True)


@app.command()
def schema(shelf: Annotated[Literal["models", "hardware"], typer.Argument(help="Whose files.")]) -> None:
    """Print the JSON schema of the catalogue's files."""
    from servesat.catalogue import json_schema
    from servesat.report.documents import dumps

    typer.echo(dumps(json_schema(shelf)))


def _show(
    reference: str | None,
    as_json: bool,
    rows: Callable[[], list[dict[str, Any]]],
    entry: Callable[[str], dict[str, Any]],
) -> None:
    with _errors_told():
        shown = rows() if reference is None else entry(reference)
    if as_json:
        from servesat.report.documents import dumps

        typer.echo(dumps(shown))
        return
    from servesat.report.terminal import console, print_entry, print_listing

    if isinstance(shown, list):
        print_listing(console(), shown)
    else:
        print_entry(console(), shown)
