"""The commands of the scaling book: book, sizes and figure."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from servesat.cli.common import AsJson, Wide, console, print_json
from servesat.cli.completion import complete_chip, complete_document, complete_dtype, complete_group, complete_model
from servesat.cli.outputs import parse_outputs


def book(
    group: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The claims of one group only: throughput, kv-cache, ...",
            autocompletion=complete_group,
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Those of one document only: article, ko, zh, ...", autocompletion=complete_document
        ),
    ] = None,
    errata: Annotated[bool, typer.Option("--errata", help="Only the figures that do not hold, as a list.")] = False,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Compare the printed figures of the scaling book's serving chapter with ours, and solve its worked problems.

    With --group, --document or --errata the claims alone.
    """
    from servesat.report import book as report
    from servesat.scaling_book.claims import Verdict, claims_of

    if group is None and document is None and not errata:
        if as_json:
            print_json(report.book_document())
        else:
            report.print_book(console())
        return
    chosen = claims_of(group, document)
    if errata:
        chosen = [claim for claim in chosen if claim.verdict is Verdict.SEED_ERROR]
    if as_json:
        print_json(report.claims_document(chosen))
    else:
        report.print_claims(console(), chosen, errata=errata)


def sizes(
    model: Annotated[str, typer.Argument(help="A model's id, or the path of a file.", autocompletion=complete_model)],
    chip: Annotated[
        str, typer.Option(help="A chip's id, or the path of a file.", autocompletion=complete_chip)
    ] = "h100-sxm",
    contexts: Annotated[str, typer.Option(help="Contexts of the KV cache [tokens].")] = "2048,8192,32768",
    batches: Annotated[str, typer.Option(help="Sequences decoded together.")] = "1,32,240",
    kv_cache: Annotated[
        str, typer.Option(help="Dtype of the KV cache in the second table.", autocompletion=complete_dtype)
    ] = "int8",
    output: Annotated[int, typer.Option(min=1, help="Tokens of output of a request, in the third.")] = 512,
    price: Annotated[float | None, typer.Option(help="Dollars a chip-hour, in place of the list price.")] = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Say how large a model is by dtype, which slices of a chip hold it, and how many requests they decode."""
    from servesat.catalogue.load import load_chip, load_model
    from servesat.questions.sizes import sizes_of
    from servesat.report.sizes import print_sizes, sizes_document

    found = sizes_of(
        load_model(model),
        load_chip(chip),
        contexts=_whole("--contexts", contexts),
        batches=_whole("--batches", batches),
        kv_cache=kv_cache,
        output_tokens=output,
        usd_per_chip_hour=price,
    )
    if as_json:
        print_json(sizes_document(found))
    else:
        print_sizes(console(), found)


def _whole(option: str, text: str) -> list[int]:
    """Different whole numbers above 0, with commas between them. Raises typer.BadParameter."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
        raise typer.BadParameter(f"{option} {text}: expected different whole numbers above 0, as in 2048,8192")
    return numbers


def figure(
    kind: Annotated[
        Literal["pareto", "breakdown"], typer.Argument(help="Throughput against latency, or the parts of a step.")
    ],
    out: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="The file to write: .html (with a slider), .png, .svg or .pdf; repeatable."),
    ],
    model: Annotated[
        str, typer.Option(help="A model's id, or the path of a file.", autocompletion=complete_model)
    ] = "llama-3-70b",
    chip: Annotated[
        str, typer.Option(help="A chip's id, or the path of a file.", autocompletion=complete_chip)
    ] = "tpu-v5e",
    topology: Annotated[
        str | None, typer.Option(help="A slice of the chip, used as a single replica; default: 4x4, else 8 chips.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Dtype of the weights.", autocompletion=complete_dtype)] = "int8",
    kv_cache: Annotated[str, typer.Option(help="Dtype of the KV cache.", autocompletion=complete_dtype)] = "int8",
    compute: Annotated[str, typer.Option(help="Dtype of the matmuls.", autocompletion=complete_dtype)] = "bf16",
    contexts: Annotated[
        str, typer.Option(help="Contexts on the slider [tokens].")
    ] = "2048,4096,8192,16384,32768,65536",
    max_batch: Annotated[int, typer.Option(min=1, max=10**5, help="Largest batch drawn.")] = 512,
    price: Annotated[
        float | None, typer.Option(min=1e-6, help="Dollars a chip-hour, in place of the list price.")
    ] = None,
) -> None:
    """Draw one of the scaling book's two figures for a model on a slice; the defaults are the book's."""
    from servesat.report.drawing import FIGURES, draw
    from servesat.report.figures import breakdown_chart, pareto_chart, read_layout

    outputs = parse_outputs(out, FIGURES)
    tokens = _whole("--contexts", contexts)
    spec, assignment = read_layout(
        model=model,
        chip=chip,
        topology=topology,
        weights=weights,
        kv_cache=kv_cache,
        compute=compute,
        contexts=tokens,
        max_batch=max_batch,
        price=price,
    )
    chart = (pareto_chart if kind == "pareto" else breakdown_chart)(spec, assignment, tokens, max_batch)
    for path in outputs.figures:
        draw(chart, path)
    outputs.report_written()
