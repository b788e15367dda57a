"""The commands solve, why and verify."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from servesat.cli.common import (
    EXIT_CODES,
    AsJson,
    BuyHow,
    Cloud,
    Constraints,
    EngineName,
    Overrides,
    PriceBookName,
    Purchase,
    Region,
    SpecPath,
    Wide,
    load,
    print_answer,
    print_json,
    show,
    tell,
)
from servesat.cli.completion import complete_chip, complete_dtype, complete_engines
from servesat.cli.outputs import refuse_input


def solve(
    spec: SpecPath,
    as_json: AsJson = False,
    wide: Wide = False,
    explain: Annotated[bool, typer.Option(help="Also show the cost and slack of each limit, and every slice.")] = False,
    time_limit: Annotated[
        float | None, typer.Option(min=0.001, metavar="S", help="Stop the solver after S seconds.")
    ] = None,
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    engine: EngineName = None,
    overrides: Overrides = None,
    constraints: Constraints = None,
    top: Annotated[int, typer.Option(min=1, max=1000, metavar="K", help="Also show the K best distinct plans.")] = 1,
    distinct: Annotated[
        Literal["chip", "topology", "layout"], typer.Option(help="What makes two plans distinct for --top.")
    ] = "layout",
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a certificate that `servesat verify` can check.")
    ] = None,
) -> None:
    """Find the cheapest plan for a spec.

    Exit codes: 0 a plan, 1 an error, 2 a usage error, 3 infeasible, 4 unknown.
    """
    if certificate is not None:
        refuse_input("--certificate", certificate, spec)
    loaded = load(
        spec,
        overrides,
        constraints,
        price_book=price_book,
        cloud=cloud,
        region=region,
        purchase=purchase,
        buy=buy,
        engine=engine,
    )

    from servesat.api import solving
    from servesat.report.progress import doing

    with doing() as on_progress:
        solution = solving.solve(
            loaded, explain=explain, top=top, distinct=distinct, time_limit_s=time_limit, on_progress=on_progress
        )
    if certificate is not None and EXIT_CODES[solution.status] == 0:
        solution.certify(certificate)
    elif certificate is not None:
        tell(f"note: {certificate} is not written: the result is {solution.status}")
    print_answer(solution, as_json)
    raise typer.Exit(EXIT_CODES[solution.status])


def why(
    spec: SpecPath,
    chip: Annotated[
        str | None, typer.Option(help="A chip's id, or the path of a file.", autocompletion=complete_chip)
    ] = None,
    topology: Annotated[str | None, typer.Option(help="A slice, such as 4x8.")] = None,
    weights: Annotated[str | None, typer.Option(help="Dtype of the weights.", autocompletion=complete_dtype)] = None,
    kv_cache: Annotated[str | None, typer.Option(help="Dtype of the KV cache.", autocompletion=complete_dtype)] = None,
    compute: Annotated[str | None, typer.Option(help="Dtype of the matmuls.", autocompletion=complete_dtype)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences per replica.")] = None,
    engine: Annotated[
        str | None, typer.Option(help="An engine; none: the machine without one.", autocompletion=complete_engines)
    ] = None,
    pp: Annotated[int | None, typer.Option(min=1, help="Pipeline stages of a replica.")] = None,
    draft: Annotated[str | None, typer.Option(help="What drafts tokens ahead: mtp, eagle3, a model, none.")] = None,
    as_json: AsJson = False,
    wide: Wide = False,
    price_book: PriceBookName = None,
    cloud: Cloud = None,
    region: Region = None,
    purchase: Purchase = None,
    buy: BuyHow = None,
    overrides: Overrides = None,
    constraints: Constraints = None,
) -> None:
    """Compare the best plan under decisions that you fix with the best plan overall.

    Exit codes: 0 both are plans, 1 an error, 2 a usage error, 3 no plan meets the decisions.
    """
    loaded = load(
        spec,
        overrides,
        constraints,
        price_book=price_book,
        cloud=cloud,
        region=region,
        purchase=purchase,
        buy=buy,
    )

    decisions: dict[str, Any] = {
        "chip": chip, "topology": topology, "weights": weights, "kv_cache": kv_cache, "compute": compute,
        "batch": batch, "engine": engine, "pp": pp, "draft": draft,
    }  # fmt: skip
    if all(decision is None for decision in decisions.values()):
        raise typer.BadParameter("fix at least one decision, as in --chip h100-sxm")

    from servesat.api import solving

    comparison = solving.why(loaded, **decisions)
    for note in comparison.notes:
        tell(f"note: {note}")
    print_answer(comparison, as_json)
    raise typer.Exit(EXIT_CODES[comparison.alternative.status])


def verify(
    certificate: Annotated[Path, typer.Argument(help="A file that `solve --certificate` wrote.")],
    as_json: AsJson = False,
) -> None:
    """Check a certificate without a solver: its inputs, its figures, and that no plan is better.

    Exit codes: 0 valid, 1 not valid.
    """
    from servesat.deployment.verification import verify as verify_file

    verification = verify_file(certificate)
    if as_json:
        from servesat.report.documents import verification_document

        print_json(verification_document(verification))
    else:
        for line in verification.passed:
            show(f"holds   {line}")
        for line in verification.failed:
            tell(f"FAILS   {line}")
        show("the certificate is valid" if verification.valid else "the certificate is NOT valid")
    raise typer.Exit(0 if verification.valid else 1)
