"""The serving modes compared: a table, a document, and a figure over the ratio of prompt to output."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from servesat.core.plan import Mode, Plan
from servesat.core.quantities import dollars
from servesat.core.result import Result
from servesat.questions.mode_comparison import Crossing
from servesat.report.charts import Chart, Frame, Series
from servesat.report.documents import result_document
from servesat.report.limit_words import conflict
from servesat.report.tables import Column, Fitted, columns
from servesat.report.words import decode_slices, mode, pool_slices, workload
from servesat.spec.spec import Spec


def modes_document(results: Mapping[Mode, Result]) -> dict[str, Any]:
    """The JSON of `servesat modes`."""
    return {"modes": [{"mode": str(name), **result_document(result)} for name, result in results.items()]}


def print_modes(console: Console, spec: Spec, results: Mapping[Mode, Result]) -> None:
    """Print the best plan of each mode, and its extra cost over the cheapest mode."""
    table = Fitted(
        [
            *columns("mode", "decodes on"),
            Column("prefills on", detail=True),
            *columns("batch", "ttft", "tpot", right=True),
            *columns("stall", "$/h", "$/request", right=True, detail=True),
            *columns("$/1M", "more", right=True),
        ],
        f"{spec.model.name} · {workload(spec.workload)}",
    )
    costs = [result.plan.usd_per_million_output_tokens for result in results.values() if result.plan is not None]
    for name, result in results.items():
        if result.plan is None:
            reason = "; ".join(conflict(members, spec) for members in result.conflict or ()) or str(result.status)
            table.add_row([str(name), "no plan", *[""] * 9], "dim", reason)
        else:
            table.add_row([str(name), *_cells(result.plan, min(costs))])
    console.print(table)
    for result in results.values():
        if result.plan is not None:
            console.print(Text(mode(result.plan, spec.workload.new_prompt_tokens)))


def _cells(plan: Plan, lowest: float) -> list[str]:
    more = plan.usd_per_million_output_tokens / lowest - 1
    return [
        decode_slices(plan),
        pool_slices(plan) or "the same",
        str(plan.batch),
        f"{plan.ttft_ms or 0.0:,.1f} ms",
        f"{plan.tpot_ms:.2f} ms",
        f"{plan.stall_ms or 0.0:,.1f} ms",
        dollars(plan.usd_per_hour),
        dollars(plan.usd_per_request or 0.0),
        dollars(plan.usd_per_million_output_tokens),
        f"{more:.1%}",
    ]


def crossover_chart(spec: Spec, crossings: Sequence[Crossing]) -> Chart:
    """Cost per million tokens of prompt and output over their ratio, a line per mode."""
    series = []
    names = list(crossings[0].results) if crossings else []
    computed = spec.workload.new_prompt_tokens / (spec.workload.prompt_tokens or 1)
    for number, name in enumerate(names):
        plans = [(crossing, crossing.results[name].plan) for crossing in crossings]
        points = [(crossing, plan) for crossing, plan in plans if plan is not None]
        series.append(
            Series(
                name=str(name),
                x=[_ratio(crossing) for crossing, _ in points],
                y=[plan.usd_per_million_tokens or 0.0 for _, plan in points],
                hover=[_hover(plan, computed * crossing.prompt_tokens) for crossing, plan in points],
                steps="" if spec.workload.requests_per_s is None else "hv",  # whole slices
                width=2.0 + 1.75 * (len(names) - 1 - number),  # where modes cost the same, all of them show
            )
        )
    costs = [cost for line in series for cost in line.y]
    ratios = list(map(_ratio, crossings))
    total = crossings[0].prompt_tokens + crossings[0].output_tokens
    return Chart(
        title=f"{spec.model.name}: serving modes over the ratio of prompt to output, {total:,} tokens a request",
        x_title="prompt tokens for each output token",
        y_title="$ per million tokens of prompt and output",
        x_range=(min(ratios), max(ratios)),
        y_range=(min(costs, default=1.0) / 1.15, max(costs, default=1.0) * 1.15),
        log_x=True,
        log_y=True,
        slider="",
        frames=(
            Frame(
                label="",
                series=tuple(series),
                rule_at=(spec.workload.prompt_tokens or 1) / (spec.workload.output_tokens or 1),
                rule_label="this workload",
            ),
        ),
    )


def _ratio(crossing: Crossing) -> float:
    return crossing.prompt_tokens / crossing.output_tokens


def _hover(plan: Plan, new_prompt_tokens: float) -> str:
    return (
        f"{plan.chip} {plan.topology}, batch {plan.batch}<br>{mode(plan, new_prompt_tokens)}<br>"
        f"{plan.tpot_ms:.2f} ms a token, {plan.ttft_ms or 0.0:,.1f} ms to the first<br>"
        f"{dollars(plan.usd_per_million_tokens or 0.0)} per million tokens"
    )
