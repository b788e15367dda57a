"""What `solve --explain` and `--top` add to a result: limits, requirements, slices and alternatives as tables."""

from collections.abc import Sequence

from rich.console import Console, Group
from rich.text import Text

from servesat.core.plan import Plan
from servesat.core.quantities import dollars, number
from servesat.core.result import EngineCost, LimitValue, Margin, Result, SliceSummary
from servesat.report.limit_words import excluded_because, limit_value
from servesat.report.price_words import engine_cost
from servesat.report.tables import Column, Fitted, columns
from servesat.report.words import decode_slices, pool_slices, rare_columns, rented_as


def print_explanation(console: Console, result: Result) -> None:
    """Print what each limit costs, the slack of each requirement, and every slice of the plan's chip."""
    if result.limit_values:
        console.print(_limits(result.limit_values))
    console.print(_requirements_table(result.margins))
    if result.engines and result.plan is not None:
        console.print(_engines(result.engines, result.plan))
    if result.slices:
        console.print(_slices_table(result.slices, "" if result.replayed is None else ", by means at a full batch"))


def _limits(values: Sequence[LimitValue]) -> Group:
    return Group(Text("\nWhat each limit costs", style="bold"), *(Text(limit_value(value)) for value in values))


def _engines(costs: Sequence[EngineCost], plan: Plan) -> Group:
    lines = [Text(engine_cost(cost, plan)) for cost in costs]
    return Group(Text("\nWhat other engines would cost", style="bold"), *lines)


def _requirements_table(margins: Sequence[Margin]) -> Fitted:
    figures = columns("value", "limit", "slack", right=True)
    table = Fitted([Column("requirement"), *figures, Column("unit", detail=True)], "Requirements")
    for margin in margins:
        values = ["" if value is None else number(value) for value in (margin.value, margin.limit, margin.slack)]
        table.add_row([margin.requirement, *values, margin.unit or "holds"])
    return table


def _slices_table(slices: Sequence[SliceSummary], how: str) -> Fitted:
    figures = columns("chips", "batch", "tpot", "$/1M", right=True)
    table = Fitted(
        [Column("slice"), *figures, Column("rejected because", detail=True)], f"Slices of {slices[0].plan.chip}{how}"
    )
    for summary in slices:
        plan = summary.plan
        if summary.violated:
            table.add_row([plan.topology, str(plan.chips), "", "", "", excluded_because(summary)], "dim")
        else:
            cost = dollars(plan.usd_per_million_output_tokens)
            table.add_row([plan.topology, str(plan.chips), str(plan.batch), f"{plan.tpot_ms:.2f} ms", cost, ""])
    return table


def alternatives_table(plans: Sequence[Plan], *, in_means: bool) -> Fitted:
    """The k best distinct plans, one row per plan, the best first; `in_means`: no replay has verified their limits."""
    pools, rented = [pool_slices(plan) for plan in plans], any(plan.instance for plan in plans)
    engines, rare = len({plan.engine for plan in plans}) > 1, rare_columns(plans)
    table = Fitted(
        [
            *columns("", "slices"),
            *([Column("prefill pool", detail=True)] if any(pools) else []),
            *([Column("engine")] if engines else []),
            *columns("TP", "weights", "KV cache", "compute", "mode", detail=True),
            *columns(*(name for name, _ in rare), *(["rented as"] if rented else []), detail=True),
            *columns("batch", "tpot", "$/1M", "more", right=True),
        ],
        f"The {len(plans)} best distinct plans{' by means, which no replay verified' if in_means else ''}",
    )
    best = plans[0].usd_per_million_output_tokens
    for at, (plan, prefill) in enumerate(zip(plans, pools, strict=True)):
        more = plan.usd_per_million_output_tokens / best - 1
        table.add_row(
            [
                str(at + 1),
                decode_slices(plan),
                *([prefill] if any(pools) else []),
                *([plan.engine or "none"] if engines else []),
                str(plan.tp),
                plan.weights,
                plan.kv_cache,
                plan.compute,
                str(plan.mode),
                *(cells[at] for _, cells in rare),
                *([rented_as(plan)] if rented else []),
                str(plan.batch),
                f"{plan.tpot_ms:.2f} ms",
                dollars(plan.usd_per_million_output_tokens),
                f"{more:.1%}",
            ]
        )
    return table
