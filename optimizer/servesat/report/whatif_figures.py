"""Figures of scenarios: cost along a numeric key, and a tornado of one-at-a-time factors."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

from servesat.core.errors import ServesatError
from servesat.core.quantities import change_of, dollars
from servesat.questions.whatif import Question, Swing, swings, value_text
from servesat.report.charts import Chart, Frame, Series
from servesat.report.tornado import Bar, Tornado

MAX_LINES = 12
"""Lines that can be distinguished in a figure."""


def tornado_of(question: Question, rows: Iterable[Mapping[str, Any]]) -> Tornado:
    """The swing of every factor [% of the cost per million tokens of the base], the widest at the top.

    Raises ServesatError when there is nothing to draw.
    """
    plan = question.answer.plan
    factor_swings = swings(rows, question.scenarios)
    if plan is None or not factor_swings:
        raise ServesatError("nothing to draw: the spec as it stands has no plan, or no scenario has one")
    return Tornado(
        title=f"{question.base.model.name}: what moves the cost from {dollars(plan.usd_per_million_output_tokens)} "
        f"per million output tokens ({plan.chip} {plan.topology})",
        x_title="change of the cost per million output tokens [%]",
        base_label=f"as it stands: {dollars(plan.usd_per_million_output_tokens)}",
        bars=tuple(
            Bar(
                name=swing.key,
                low=100 * swing.lowest,
                high=100 * swing.highest,
                low_label=_end(swing, swing.lowest, swing.lowest_at) if swing.lowest < 0 else "",
                high_label=_highest(swing),
            )
            for swing in factor_swings
        ),
    )


def _highest(swing: Swing) -> str:
    if swing.highest > 0:
        return _end(swing, swing.highest, swing.highest_at)
    return "" if swing.lowest < 0 else "no change"


def _end(swing: Swing, change: float, value: Any) -> str:
    return f"{value_text(value)}: {change_of(change)}"


def refuse_undrawable(question: Question) -> None:
    """Check, before solving, that the figure of a question can be drawn. Raises ServesatError."""
    if question.scenarios.one_at_a_time:
        if question.answer.plan is None:
            raise ServesatError("nothing to draw: the spec as it stands has no plan to compare with")
        return
    along = _along(question)
    lines = prod(len(factor.values) for factor in question.scenarios.factors if factor.key != along)
    if lines > MAX_LINES:
        raise ServesatError(f"{lines} lines, more than the {MAX_LINES} that can be distinguished; vary fewer values")


def _along(question: Question) -> str:
    """The first factor whose values are all numbers. Raises ServesatError."""
    for factor in question.scenarios.factors:
        if all(_is_number(value) for value in factor.values):
            return factor.key
    raise ServesatError("nothing to draw along: no varied key has numbers for all of its values")


def cost_chart(question: Question, rows: Iterable[Mapping[str, Any]]) -> Chart:
    """Cost along the first factor whose values are numbers, a line for each combination of the other factors.

    Raises ServesatError when no scenario has a plan.
    """
    along = _along(question)
    others = [factor.key for factor in question.scenarios.factors if factor.key != along]
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row[along]):
        if row["plan"] is not None:
            lines.setdefault(", ".join(f"{key} {value_text(row[key])}" for key in others) or "cost", []).append(row)
    if not lines:
        raise ServesatError("nothing to draw: no scenario has a plan")
    x = [row[along] for line in lines.values() for row in line]
    y = [row["usd_per_million_output_tokens"] for line in lines.values() for row in line]
    margin = 0.03 * (max(x) - min(x)) or 1.0
    return Chart(
        title=f"{question.base.model.name}: cost along {along}",
        x_title=along,
        y_title="$ per million output tokens",
        x_range=(min(x) - margin, max(x) + margin),
        y_range=(min(y) / 1.15, max(y) * 1.15),
        log_x=False,
        log_y=True,
        slider="",
        frames=(Frame(label="", series=tuple(_line(name, along, line) for name, line in lines.items())),),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _line(name: str, along: str, line: Sequence[Mapping[str, Any]]) -> Series:
    return Series(
        name=name,
        x=[float(row[along]) for row in line],
        y=[row["usd_per_million_output_tokens"] for row in line],
        hover=[
            f"{along} {value_text(row[along])}<br>{row['plan']['chip']} {row['plan']['topology']}, weights "
            f"{row['plan']['weights']}, batch {row['plan']['batch']}<br>{row['plan']['tpot_ms']:.2f} ms a token, "
            f"{dollars(row['usd_per_million_output_tokens'])} per million tokens"
            for row in line
        ],
    )
