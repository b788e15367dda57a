"""A frontier as a table, a document and a figure."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.plan import Plan
from servesat.core.quantities import dollars, number
from servesat.questions.pareto import Frontier
from servesat.report.charts import Chart, Frame, Series
from servesat.report.documents import plan_document
from servesat.report.words import chips, conflict
from servesat.spec.spec import Spec

ROWS = 60
"""Points that a terminal shows; more are thinned out, and said to be."""

TITLES = {
    "tpot_ms": "time per output token [ms]",
    "usd_per_million_output_tokens": "$ per million output tokens",
    "tokens_per_s_per_chip": "tokens/s per chip",
    "chips": "chips",
    "usd_per_hour": "$ per hour",
    "batch": "batch [sequences a replica]",
    "ttft_ms": "time to the first token [ms]",
}


def frontier_document(found: Frontier) -> dict[str, Any]:
    """The answer to `servesat frontier --json`, without its points, which go last under `points`."""
    return {
        "status": str(found.status),
        "axes": list(found.axes),
        "by": None if found.by is None else str(found.by),
        "compared": found.compared,
        "conflict": None if found.conflict is None else [list(map(str, members)) for members in found.conflict],
        "solve_s": found.solve_s,
        "points": [plan_document(point) for point in found.points],
    }


def print_frontier(console: Console, spec: Spec, found: Frontier) -> None:
    """Print the points of a frontier, or why there are none."""
    if not found.points:
        console.print(Text("infeasible: no plan satisfies every requirement", style="red"))
        for members in found.conflict or ():
            console.print(Text(f"  {conflict(members, spec)}"))
        return
    shown = _thinned(found.points)
    table = Table(box=box.SIMPLE_HEAD, title=Text(_title(spec, found)), title_justify="left", title_style="bold")
    for column in ("slice", "weights", "KV cache", "compute"):
        table.add_column(column)
    for column in ("chips", "batch", "tpot", "tokens/s/chip", "$/h", "$/1M"):
        table.add_column(column, justify="right")
    for plan in shown:
        table.add_row(
            f"{plan.chip} {plan.topology}",
            plan.weights,
            plan.kv_cache,
            plan.compute,
            str(plan.chips),
            str(plan.batch),
            f"{plan.tpot_ms:.2f} ms",
            f"{plan.tokens_per_s_per_chip:,.1f}",
            dollars(plan.usd_per_hour),
            dollars(plan.usd_per_million_output_tokens),
        )
    console.print(table)
    if len(shown) < len(found.points):
        console.print(Text(f"{len(shown)} of {len(found.points)} points shown; --json or --out has them all"))
    console.print(
        Text(
            f"exact: {len(found.points)} of {found.compared:,} plans within the limits are beaten by no other "
            f"({found.solve_s:.2f} s)",
            style="green",
        )
    )


def _thinned(points: Sequence[Plan]) -> list[Plan]:
    """At most ROWS points, evenly spaced, both ends among them."""
    if len(points) <= ROWS:
        return list(points)
    return [points[round(place * (len(points) - 1) / (ROWS - 1))] for place in range(ROWS)]


def _title(spec: Spec, found: Frontier) -> str:
    each = f", for each {found.by}" if found.by else ""
    return f"{spec.model.name}, frontier of {', '.join(TITLES[axis] for axis in found.axes)}{each}"


def frontier_chart(spec: Spec, found: Frontier) -> Chart:
    """The points by chip over the first two axes; cost is logarithmic, and the latency limit marked."""
    first, second = found.axes[:2]
    names = dict.fromkeys(plan.chip for plan in sorted(found.points, key=lambda plan: plan.chip))
    series = tuple(
        Series(
            name=name,
            x=[float(getattr(plan, first)) for plan in found.points if plan.chip == name],
            y=[float(getattr(plan, second)) for plan in found.points if plan.chip == name],
            hover=[_hover(plan) for plan in found.points if plan.chip == name],
            points=True,
        )
        for name in names
    )
    limit = spec.slo.tpot_ms if first == "tpot_ms" else None
    (log_x, x_range), (log_y, y_range) = (
        _span(axis, [float(getattr(plan, axis)) for plan in found.points], limit if axis == first else None)
        for axis in (first, second)
    )
    return Chart(
        title=_title(spec, found),
        x_title=TITLES[first],
        y_title=TITLES[second],
        x_range=x_range,
        y_range=y_range,
        log_x=log_x,
        log_y=log_y,
        slider="",
        frames=(Frame(label="", series=series, rule_at=limit, rule_label=f"limit {limit:g} ms" if limit else ""),),
    )


def _span(axis: str, values: list[float], limit: float | None) -> tuple[bool, tuple[float, float]]:
    """Whether an axis is logarithmic, as cost and anything over a factor of ten is, and where it ends."""
    least, most = min(values), max([*values, *([limit] if limit else [])])
    log = axis.startswith("usd") or most > 10 * least
    if log:
        return True, (least / 1.15, most * 1.15)
    room = 0.05 * (most - least) or 0.05 * most
    return False, (max(0.0, least - room), most + room)


def _hover(plan: Plan) -> str:
    return (
        f"{plan.chip} {plan.topology} ({chips(plan.chips)}), batch {plan.batch}<br>"
        f"weights {plan.weights}, KV cache {plan.kv_cache}, compute {plan.compute}<br>"
        f"{plan.tpot_ms:.2f} ms a token, {number(plan.tokens_per_s_per_chip)} tokens/s a chip<br>"
        f"{dollars(plan.usd_per_million_output_tokens)} per million tokens, {dollars(plan.usd_per_hour)} an hour"
    )
