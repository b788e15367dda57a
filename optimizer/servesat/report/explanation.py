"""What `solve --explain` and `--top` add to a result: limits, requirements, slices and alternatives as tables."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from servesat.core.plan import Plan
from servesat.core.quantities import dollars, number
from servesat.core.result import LimitValue, Margin, Result, SliceSummary
from servesat.report.words import excluded_because, limit_value


def print_explanation(console: Console, result: Result) -> None:
    """Print what each limit costs, the slack of each requirement, and every slice of the plan's chip."""
    console.print(_limits(result.limit_values))
    console.print(_requirements_table(result.margins))
    if result.slices:
        console.print(_slices_table(result.slices))


def _limits(values: Sequence[LimitValue]) -> Group:
    return Group(Text("\nWhat each limit costs", style="bold"), *(Text(limit_value(value)) for value in values))


def _requirements_table(margins: Sequence[Margin]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Requirements", title_justify="left", title_style="bold")
    table.add_column("requirement")
    for column in ("value", "limit", "slack"):
        table.add_column(column, justify="right")
    table.add_column("unit")
    for margin in margins:
        figures = [margin.value, margin.limit, margin.slack]
        table.add_row(
            margin.requirement,
            *("" if figure is None else number(figure) for figure in figures),
            margin.unit or "holds",
        )
    return table


def _slices_table(slices: Sequence[SliceSummary]) -> Table:
    title = f"Slices of {slices[0].plan.chip}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    table.add_column("slice")
    for column in ("chips", "batch", "tpot", "$/1M"):
        table.add_column(column, justify="right")
    table.add_column("rejected because")
    for summary in slices:
        plan = summary.plan
        if summary.violated:
            table.add_row(plan.topology, str(plan.chips), "", "", "", excluded_because(summary), style="dim")
        else:
            cost = dollars(plan.usd_per_million_output_tokens)
            table.add_row(plan.topology, str(plan.chips), str(plan.batch), f"{plan.tpot_ms:.2f} ms", cost, "")
    return table


def alternatives_table(plans: Sequence[Plan]) -> Table:
    """The k best distinct plans, one row per plan, the best first."""
    title = f"The {len(plans)} best distinct plans"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in ("", "slice", "TP", "weights", "KV cache", "compute", "mode"):
        table.add_column(column)
    for column in ("batch", "tpot", "$/1M", "more"):
        table.add_column(column, justify="right")
    best = plans[0].usd_per_million_output_tokens
    for place, plan in enumerate(plans, start=1):
        more = plan.usd_per_million_output_tokens / best - 1
        table.add_row(
            str(place),
            f"{plan.chip} {plan.topology}",
            str(plan.tp),
            plan.weights,
            plan.kv_cache,
            plan.compute,
            str(plan.mode),
            str(plan.batch),
            f"{plan.tpot_ms:.2f} ms",
            dollars(plan.usd_per_million_output_tokens),
            f"{more:.1%}",
        )
    return table
