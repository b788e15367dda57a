"""Chips ranked for a model: a table, a document, and a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from servesat.core.errors import ServesatError
from servesat.core.quantities import dollars
from servesat.questions.chip_ranking import RankedChip
from servesat.report.colours import chip_colour
from servesat.report.documents import plan_document
from servesat.report.result import title
from servesat.report.tables import Column, Fitted, columns
from servesat.report.tornado import Bar, Tornado
from servesat.spec.spec import Spec


def rank_document(spec: Spec, chips: Sequence[RankedChip]) -> dict[str, Any]:
    """The JSON of `servesat chips rank`."""
    return {"price_book": spec.price_book.id, "chips": [_chip_document(ranked) for ranked in chips]}


def _chip_document(ranked: RankedChip) -> dict[str, Any]:
    row = asdict(ranked)
    best = None if ranked.plan is None else ranked.plan.usd_per_million_output_tokens
    conflict = [list(map(str, members)) for members in ranked.conflict] or None
    plan = None if ranked.plan is None else plan_document(ranked.plan)
    return {**row, "usd_per_million_output_tokens": best, "conflict": conflict, "plan": plan}


def print_ranking(console: Console, spec: Spec, chips: Sequence[RankedChip]) -> None:
    """Print what is asked, and one row per chip, the cheapest per token first."""
    console.print(title(spec), end="")
    resources = ("TFLOP/s", "HBM GB", "GB/s", "EFLOP/$", "PB/$", "GB·h/$", "critical B", "α", "β", "slice")
    table = Fitted(
        [
            Column("chip"),
            Column("$/chip-h", right=True),
            *columns(*resources, right=True, detail=True),
            Column("best plan"),
            *columns("tpot", "$/1M", right=True),
        ]
    )
    for ranked in chips:
        table.add_row(_cells(ranked))
    console.print(table)
    console.print(
        "TFLOP/s: peak in the compute dtype; HBM GB, GB/s: memory and its bandwidth; EFLOP/$, PB/$: compute and HBM "
        "traffic per dollar; GB·h/$: HBM capacity rented per dollar; critical B: sequences from which matmuls are "
        "compute-bound; α: FLOP/s, β: HBM bytes/s, each over the bytes/s of the first axis; slice: the smallest that "
        "holds the weights.",
        style="dim",
    )


def _cells(ranked: RankedChip) -> list[str]:
    plan = ranked.plan
    return [
        ranked.chip,
        dollars(ranked.usd_per_chip_hour),
        "" if ranked.flop_per_s is None else f"{ranked.flop_per_s / 1e12:,.4g}",
        f"{ranked.hbm_bytes / 1e9:,.4g}",
        f"{ranked.hbm_bytes_per_s / 1e9:,.4g}",
        "" if ranked.flop_per_usd is None else f"{ranked.flop_per_usd / 1e18:.2f}",
        f"{ranked.hbm_traffic_bytes_per_usd / 1e15:.2f}",
        f"{ranked.hbm_byte_hours_per_usd / 1e9:.1f}",
        "" if ranked.critical_batch is None else f"{ranked.critical_batch:,.0f}",
        "" if ranked.alpha is None else f"{ranked.alpha:,.0f}",
        f"{ranked.beta:.1f}",
        ranked.smallest_slice or "none",
        _excluded_because(ranked) if plan is None else f"{plan.topology}, batch {plan.batch}",
        "" if plan is None else f"{plan.tpot_ms:.2f} ms",
        "" if plan is None else dollars(plan.usd_per_million_output_tokens),
    ]


def _excluded_because(ranked: RankedChip) -> str:
    if not ranked.conflict:
        return "no peak in the dtype"
    return "none: " + "; ".join("+".join(members) for members in ranked.conflict)


def rank_chart(question: Mapping[str, Any], chips: Sequence[RankedChip]) -> Tornado:
    """Chart the cost of each chip's best plan, the cheapest on top. Raises ServesatError where no chip has a plan."""
    bars = []
    for ranked in chips:
        if ranked.plan is not None:
            cost = ranked.plan.usd_per_million_output_tokens
            label = f"{dollars(cost)} on {ranked.plan.topology} at {dollars(ranked.usd_per_chip_hour)} a chip"
            bars.append(
                Bar(
                    name=ranked.chip,
                    low=0.0,
                    high=cost,
                    low_label="",
                    high_label=label,
                    colour=chip_colour(ranked.chip),
                )
            )
    if not bars:
        raise ServesatError("nothing to draw: no chip has a plan")
    search, without_plan = question["search"], [ranked.chip for ranked in chips if ranked.plan is None]
    dtypes = f"weights {search['weights'][0]}, KV cache {search['kv_cache'][0]}, compute {search['compute'][0]}"
    limit = f", {question['slo']['tpot_ms']:g} ms a token" if question["slo"] else ""
    context = f"{question['workload']['context_tokens']:,} tokens of context"
    no_plan = f" (no plan: {', '.join(without_plan)})" if without_plan else ""
    return Tornado(
        title=f"{question['model']}: the best plan of each chip\n{context}{limit}; {dtypes}",
        x_title=f"$ per million output tokens{no_plan}",
        bars=tuple(bars),
    )
