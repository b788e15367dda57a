"""The claims of the scaling book compared with servesat's answers, as tables and as a JSON document."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.quantities import dollars, gigabytes, quantity
from servesat.report.documents import result_document
from servesat.report.tables import titled
from servesat.scaling_book.claims import Claim, Verdict, claims
from servesat.scaling_book.problems import (
    TPOT_MS,
    Footprint,
    StepBounds,
    Under15Ms,
    footprints,
    modelling_choices,
    step_bounds,
    under_15_ms,
)

_VERDICTS = {
    Verdict.HOLDS: ("holds", "green"),
    Verdict.SEED_ERROR: ("erratum", "red"),
    Verdict.ASSUMPTION: ("assumption", "yellow"),
    Verdict.ANSWERED: ("answered here", "cyan"),
}


def book_document() -> dict[str, Any]:
    """The JSON of `servesat book`: every claim with its verdict, and the worked problems."""
    answers = under_15_ms()
    return {
        "claims": [asdict(claim) | {"verdict": str(claim.verdict)} for claim in claims()],
        "worked_problems": {
            "step_bounds": [asdict(row) for row in step_bounds()],
            "footprints": [asdict(row) for row in footprints()],
            "under_15_ms": [
                {"context_tokens": row.context_tokens, "ici": row.ici, "ici_axes": row.ici_axes}
                | result_document(row.result)
                for row in answers
            ],
            "choices": modelling_choices(answers),
        },
    }


def claims_document(chosen: Iterable[Claim]) -> dict[str, Any]:
    """The JSON of some claims."""
    return {"claims": [asdict(claim) | {"verdict": str(claim.verdict)} for claim in chosen]}


def print_claims(console: Console, chosen: Sequence[Claim], *, errata: bool) -> None:
    """Print some claims by group, or as a list of what is printed where and what it should be."""
    if not errata:
        for group, members in groupby(chosen, key=lambda claim: claim.group):
            console.print(_claims_table(group, members))
        return
    for claim in chosen:
        console.print(
            Text.assemble(
                (f"{claim.documents.replace('+', ', ')}: ", "dim"),
                f"{claim.question}: {quantity(claim.printed or 0.0, claim.unit)} is printed, ",
                (f"{quantity(claim.answer, claim.unit)}", "bold"),
                f" is right{f'; {claim.remark}' if claim.remark else ''}",
            )
        )


def print_book(console: Console) -> None:
    """Print the claims by group, then the three worked problems."""
    all_claims = list(claims())
    for group, members in groupby(all_claims, key=lambda claim: claim.group):
        console.print(_claims_table(group, members))
    console.print(_bounds_table(step_bounds()))
    console.print(_footprints_table(footprints()))
    answers = under_15_ms()
    console.print(_under_15_ms_table(answers))
    console.print(Text("What changes the answer", style="bold"))
    for sentence in modelling_choices(answers):
        console.print(Text(f"- {sentence}"))
    counts = {verdict: sum(claim.verdict is verdict for claim in all_claims) for verdict in Verdict}
    parts = [f"{count} {_VERDICTS[verdict][0]}" for verdict, count in counts.items()]
    console.print(Text(f"\n{len(all_claims)} claims: {', '.join(parts)}", style="bold"))


def _claims_table(group: str, members: Iterable[Claim]) -> Table:
    table = titled(group, ["question"], ["printed", "servesat"], "verdict")
    for claim in members:
        label, colour = _VERDICTS[claim.verdict]
        notes = "; ".join(note for note in (claim.assumes and f"assumes {claim.assumes}", claim.remark) if note)
        table.add_row(
            claim.question,
            "" if claim.printed is None else quantity(claim.printed, claim.unit),
            quantity(claim.answer, claim.unit),
            Text.assemble((label, colour), f": {notes}" if notes else ""),
        )
    return table


def _bounds_table(rows: Iterable[StepBounds]) -> Table:
    table = titled(
        "Worked problems 1 and 3: LLaMA 3-405B, int8 weights on v5e, lower bounds on a step",
        ["slice"],
        ["chips", "FLOPs of a token", "loading the weights"],
        f"within {TPOT_MS:g} ms",
    )
    for row in rows:
        within = "yes" if row.weights_fit and row.weights_ms <= TPOT_MS else "no"
        reason = "" if row.weights_fit else ": the weights do not fit"
        table.add_row(
            row.topology, str(row.chips), f"{row.flops_ms:.3g} ms", f"{row.weights_ms:.2f} ms", within + reason
        )
    return table


def _footprints_table(rows: Iterable[Footprint]) -> Table:
    table = titled(
        "Worked problem 2: LLaMA 3-8B, 240 sequences, int8 weights and KV cache on v5e",
        [],
        ["context", "headroom", "weights", "KV cache", "activations", "chips", "smallest slice"],
    )
    for row in rows:
        table.add_row(
            f"{row.context_tokens:,}",
            f"{row.headroom:.0%}",
            gigabytes(row.weights_bytes),
            gigabytes(row.kv_cache_bytes),
            quantity(row.activation_bytes, "B"),
            f"{row.chips:.2f}",
            row.slice or "none",
        )
    return table


def _under_15_ms_table(rows: Iterable[Under15Ms]) -> Table:
    table = titled(
        f"Worked problem 3: LLaMA 3-405B under {TPOT_MS:g} ms on v5e, int8 weights and KV cache, bf16 FLOPs",
        ["ici"],
        ["ICI axes", "context", "slice", "batch", "tpot", "tokens/s", "$/1M"],
        "binds",
    )
    for row in rows:
        plan = row.result.plan
        cells = [row.ici, str(row.ici_axes), f"{row.context_tokens:,}"]
        if plan is None:
            conflicts = ("{" + ", ".join(members) + "}" for members in row.result.conflict or ())
            table.add_row(*cells, "", "", "", "", "", f"infeasible: {', '.join(conflicts)}")
        else:
            table.add_row(
                *cells,
                plan.topology,
                str(plan.batch),
                f"{plan.tpot_ms:.2f} ms",
                f"{plan.tokens_per_s:,.0f}",
                dollars(plan.usd_per_million_output_tokens),
                ", ".join(row.result.binding) or ("ici time" if plan.step_ms.ici >= plan.step_ms.weights else "FLOPs"),
            )
    return table
