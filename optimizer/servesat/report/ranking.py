"""Chips ranked for one model: a table, a document, and a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from servesat.core.errors import ServesatError
from servesat.core.quantities import dollars
from servesat.questions.chip_ranking import Rank
from servesat.report.documents import plan_document
from servesat.report.tornado import Bar, Tornado


def rank_document(ranks: Sequence[Rank]) -> dict[str, Any]:
    """The answer to `servesat chips rank --json`."""
    return {"chips": [_row_document(one) for one in ranks]}


def _row_document(one: Rank) -> dict[str, Any]:
    row = asdict(one)
    best = None if one.plan is None else one.plan.usd_per_million_output_tokens
    conflict = [list(map(str, members)) for members in one.conflict] or None
    plan = None if one.plan is None else plan_document(one.plan)
    return {**row, "usd_per_million_output_tokens": best, "conflict": conflict, "plan": plan}


def print_ranks(console: Console, ranks: Sequence[Rank]) -> None:
    """Print a row a chip, the cheapest per token first."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("chip", no_wrap=True)
    for name in (
        "$/chip-h", "EFLOP/$", "HBM PB/$", "HBM GB·h/$", "critical\nbatch", "α", "β", "smallest\nslice", "best plan",
        "tpot\n[ms]", "$ per 1M\noutput",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for one in ranks:
        table.add_row(*_cells(one))
    console.print(table)
    console.print(
        "EFLOP and HBM PB that a dollar buys, HBM that it holds for an hour; critical batch: sequences from which "
        "matmuls are compute-bound; α = FLOP/s, β = HBM bytes/s, over the bytes/s of the first axis; smallest slice: "
        "that holds the weights.",
        style="dim",
    )


def _cells(one: Rank) -> list[str]:
    plan = one.plan
    return [
        one.chip,
        dollars(one.usd_per_chip_hour),
        "" if one.flop_per_usd is None else f"{one.flop_per_usd / 1e18:.2f}",
        f"{one.hbm_traffic_bytes_per_usd / 1e15:.2f}",
        f"{one.hbm_byte_hours_per_usd / 1e9:.1f}",
        "" if one.critical_batch is None else f"{one.critical_batch:,.0f}",
        "" if one.alpha is None else f"{one.alpha:,.0f}",
        f"{one.beta:.1f}",
        one.smallest_slice or "none",
        _excluded(one) if plan is None else f"{plan.topology}, batch {plan.batch}",
        "" if plan is None else f"{plan.tpot_ms:.2f}",
        "" if plan is None else dollars(plan.usd_per_million_output_tokens),
    ]


def _excluded(one: Rank) -> str:
    if not one.conflict:
        return "no peak in the dtype"
    return "none: " + "; ".join("+".join(members) for members in one.conflict)


def rank_chart(question: Mapping[str, Any], ranks: Sequence[Rank]) -> Tornado:
    """The cost of each chip's best plan as a bar, the cheapest at the top. Raises ServesatError when none has one."""
    bars = []
    for one in ranks:
        if one.plan is not None:
            cost = one.plan.usd_per_million_output_tokens
            label = f"{dollars(cost)} on {one.plan.topology} at {dollars(one.usd_per_chip_hour)} a chip"
            bars.append(Bar(name=one.chip, least=0.0, greatest=cost, least_label="", greatest_label=label))
    if not bars:
        raise ServesatError("nothing to draw: no chip has a plan")
    search, without = question["search"], [one.chip for one in ranks if one.plan is None]
    dtypes = f"weights {search['weights'][0]}, KV cache {search['kv_cache'][0]}, compute {search['compute'][0]}"
    limit = f", {question['slo']['tpot_ms']:g} ms a token" if question["slo"] else ""
    context = f"{question['workload']['context_tokens']:,} tokens of context"
    none = f" (no plan: {', '.join(without)})" if without else ""
    return Tornado(
        title=f"{question['model']}: the best of each chip\n{context}{limit}; {dtypes}",
        x_title=f"$ per million output tokens{none}",
        bars=tuple(bars),
    )
