"""A frontier as a table, a document and a figure."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from servesat.core.plan import Mode, Plan
from servesat.core.quantities import dollars, number
from servesat.questions.pareto import MAXIMISED, Frontier
from servesat.report.charts import Chart, Frame, Series
from servesat.report.colours import chip_colour
from servesat.report.documents import left_out_document, plan_document
from servesat.report.limit_words import conflict
from servesat.report.tables import Column, Fitted, columns
from servesat.report.words import best_left_out, chips, decode_slices, left_out, rare_columns, rented_as
from servesat.spec.spec import Spec

MAX_ROWS = 60
"""Points shown on the terminal; more are thinned out, with a note."""

TITLES = {
    "tpot_ms": "time per output token [ms]",
    "usd_per_million_output_tokens": "$ per million output tokens",
    "tokens_per_s_per_chip": "tokens/s per chip",
    "chips": "chips",
    "usd_per_hour": "$ per hour",
    "batch": "batch [sequences a replica]",
    "ttft_ms": "time to the first token [ms]",
}


def frontier_document(frontier: Frontier) -> dict[str, Any]:
    """The JSON of `servesat frontier`; `points` come last."""
    return {
        "status": str(frontier.status),
        "axes": list(frontier.axes),
        "by": None if frontier.by is None else str(frontier.by),
        "compared": frontier.compared,
        "left_out": left_out_document(frontier.left_out),
        "conflict": None if frontier.conflict is None else [list(map(str, members)) for members in frontier.conflict],
        "solve_s": frontier.solve_s,
        "points": [plan_document(point) for point in frontier.points],
    }


def print_frontier(console: Console, spec: Spec, frontier: Frontier) -> None:
    """Print the points of a frontier, or why there are none."""
    if not frontier.points:
        where = " in one pool" if frontier.left_out is not None else ""
        console.print(Text(f"infeasible: no plan{where} satisfies every requirement", style="red"))
        for members in frontier.conflict or ():
            console.print(Text(f"  {conflict(members, spec)}"))
        _print_left_out(console, frontier)
        return
    shown = _thinned(frontier.points)
    whole, rented = shown[0].mode is not Mode.DECODE_ONLY, any(plan.instance for plan in shown)
    rare = rare_columns(shown)
    table = Fitted(
        [
            Column("slices"),
            *columns("weights", "KV cache", "compute", *(["mode"] if whole else []), detail=True),
            *columns(*(name for name, _ in rare), detail=True),
            *([Column("rented as", detail=True)] if rented else []),
            *columns("chips", "tokens/s/chip", right=True, detail=True),
            *columns("batch", "tpot", *(["ttft"] if whole else []), "$/h", "$/1M", right=True),
        ],
        _title(spec, frontier),
    )
    for at, plan in enumerate(shown):
        table.add_row(
            [
                decode_slices(plan),
                plan.weights,
                plan.kv_cache,
                plan.compute,
                *([str(plan.mode)] if whole else []),
                *(cells[at] for _, cells in rare),
                *([rented_as(plan)] if rented else []),
                str(plan.chips),
                f"{plan.tokens_per_s_per_chip:,.1f}",
                str(plan.batch),
                f"{plan.tpot_ms:.2f} ms",
                *([f"{plan.ttft_ms or 0.0:,.0f} ms"] if whole else []),
                dollars(plan.usd_per_hour),
                dollars(plan.usd_per_million_output_tokens),
            ]
        )
    console.print(table)
    if len(shown) < len(frontier.points):
        console.print(Text(f"{len(shown)} of {len(frontier.points)} points shown; --json or --out has them all"))
    console.print(
        Text(
            f"exact: {len(frontier.points)} of {frontier.compared:,} plans"
            f"{' in one pool' if frontier.left_out is not None else ''} within the limits are beaten by no other "
            f"({frontier.solve_s:.2f} s)",
            style="green",
        )
    )
    _print_left_out(console, frontier)


def _print_left_out(console: Console, frontier: Frontier) -> None:
    if frontier.left_out is not None:
        console.print(Text(best_left_out(frontier.left_out)))


def _thinned(points: Sequence[Plan]) -> list[Plan]:
    """At most MAX_ROWS points, evenly spaced, including both ends."""
    if len(points) <= MAX_ROWS:
        return list(points)
    return [points[round(number * (len(points) - 1) / (MAX_ROWS - 1))] for number in range(MAX_ROWS)]


def _title(spec: Spec, frontier: Frontier) -> str:
    each = f", for each {frontier.by}" if frontier.by else ""
    figures = ", ".join(TITLES[axis] for axis in frontier.axes)
    return f"{spec.model.name}, frontier of {figures}{each}{left_out(frontier.left_out)}"


def frontier_chart(spec: Spec, frontier: Frontier) -> Chart:
    """The points over the first two axes, a series per chip, with the latency limit as a rule.

    The line is the frontier itself: at each point of it no plan has less of both. The cheapest plan has a star.
    """
    first, second = frontier.axes[:2]

    def series_of(plans: Sequence[Plan], name: str, **style: Any) -> Series:
        return Series(
            name=name,
            x=[float(getattr(plan, first)) for plan in plans],
            y=[float(getattr(plan, second)) for plan in plans],
            hover=[_hover(plan) for plan in plans],
            **style,
        )

    by_chip: dict[str, list[Plan]] = {}
    for plan in sorted(frontier.points, key=lambda plan: plan.chip):
        by_chip.setdefault(plan.chip, []).append(plan)
    series = [
        series_of(plans, name, points=True, colour=chip_colour(name), labels=_labels(plans, first))
        for name, plans in by_chip.items()
    ]
    if len(frontier.axes) == 2 and frontier.by is None:
        ordered = sorted(frontier.points, key=lambda plan: float(getattr(plan, first)))
        steps = "vh" if first in MAXIMISED else "hv"  # what is asked for is reached by the next point, or by the last
        series.insert(0, series_of(ordered, "frontier", steps=steps, colour="#bbbbbb", width=1.2))
    cheapest = min(frontier.points, key=lambda plan: plan.usd_per_million_output_tokens)
    cost = dollars(cheapest.usd_per_million_output_tokens)
    series.append(
        series_of([cheapest], f"cheapest: {decode_slices(cheapest)}, {cost}", points=True, star=True, colour="#111111")
    )
    limit = spec.slo.tpot_ms if first == "tpot_ms" else None
    rule = f"limit {limit:g} ms" if limit else ""
    (log_x, x_range), (log_y, y_range) = (
        _span(axis, [float(getattr(plan, axis)) for plan in frontier.points], limit if axis == first else None)
        for axis in (first, second)
    )
    return Chart(
        title=_title(spec, frontier),
        x_title=TITLES[first],
        y_title=TITLES[second],
        x_range=x_range,
        y_range=y_range,
        log_x=log_x,
        log_y=log_y,
        slider="",
        frames=(Frame(label="", series=tuple(series), rule_at=limit, rule_label=rule),),
    )


def _labels(plans: Sequence[Plan], axis: str) -> list[str]:
    """A label at the first point of each kind of slices along an axis."""
    labels, first = [""] * len(plans), dict[str, int]()
    for at in sorted(range(len(plans)), key=lambda at: float(getattr(plans[at], axis))):
        first.setdefault(decode_slices(plans[at]), at)
    for slices, at in first.items():
        labels[at] = slices
    return labels


def _span(axis: str, values: list[float], limit: float | None) -> tuple[bool, tuple[float, float]]:
    """Whether an axis is logarithmic, for cost and for a factor above 10, and its range."""
    low, high = min(values), max([*values, *([limit] if limit else [])])
    if axis.startswith("usd") or high > 10 * low:
        return True, (low / 1.15, high * 1.15)
    margin = 0.05 * (high - low) or 0.05 * high
    return False, (max(0.0, low - margin), high + margin)


def _hover(plan: Plan) -> str:
    rare = "".join(f", {name} {cells[0]}" for name, cells in rare_columns([plan]))
    return (
        f"{plan.chip} {plan.topology} ({chips(plan.chips)}){rare}, batch {plan.batch}<br>"
        f"weights {plan.weights}, KV cache {plan.kv_cache}, compute {plan.compute}<br>"
        f"{plan.tpot_ms:.2f} ms a token, {number(plan.tokens_per_s_per_chip)} tokens/s a chip<br>"
        f"{dollars(plan.usd_per_million_output_tokens)} per million tokens, {dollars(plan.usd_per_hour)} an hour"
    )
