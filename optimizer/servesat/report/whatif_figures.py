"""Scenarios as figures: cost along a number, and a tornado of factors one at a time."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

from servesat.core.errors import ServesatError
from servesat.core.quantities import change_of, dollars
from servesat.questions.whatif import Question, Swing, shown, swings
from servesat.report.charts import Chart, Frame, Series
from servesat.report.tornado import Bar, Tornado

MAX_LINES = 12
"""Lines that one figure can hold apart."""


def tornado_of(question: Question, rows: Iterable[Mapping[str, Any]]) -> Tornado:
    """The swing of every factor, in % of the base's cost per million tokens, the widest at the top.

    Raises ServesatError where there is nothing to draw.
    """
    plan = question.answer.plan
    found = swings(rows, question.scenarios)
    if plan is None or not found:
        raise ServesatError("nothing to draw: the spec as it stands has no plan, or no scenario has one")
    return Tornado(
        title=f"{question.base.model.name}: what moves the cost from {dollars(plan.usd_per_million_output_tokens)} "
        f"per million output tokens ({plan.chip} {plan.topology})",
        x_title="change of the cost per million output tokens [%]",
        bars=tuple(
            Bar(
                name=swing.key,
                least=100 * swing.least,
                greatest=100 * swing.greatest,
                least_label=_end(swing, swing.least, swing.least_at) if swing.least < 0 else "",
                greatest_label=_end(swing, swing.greatest, swing.greatest_at) if swing.greatest > 0 else "",
            )
            for swing in found
        ),
    )


def _end(swing: Swing, change: float, value: Any) -> str:
    return f"{shown(value)}: {change_of(change)}"


def refuse_undrawable(question: Question) -> None:
    """Raise ServesatError for a question whose figure cannot be drawn, before it is asked."""
    if question.scenarios.one_at_a_time:
        if question.answer.plan is None:
            raise ServesatError("nothing to draw: the spec as it stands has no plan to compare with")
        return
    along = _along(question)
    lines = prod(len(factor.values) for factor in question.scenarios.factors if factor.key != along)
    if lines > MAX_LINES:
        raise ServesatError(f"{lines} lines, more than the {MAX_LINES} that can be told apart; vary fewer values")


def _along(question: Question) -> str:
    """The first factor whose values are all numbers."""
    for factor in question.scenarios.factors:
        if all(_is_number(value) for value in factor.values):
            return factor.key
    raise ServesatError("nothing to draw along: no varied key has numbers for all of its values")


def cost_chart(question: Question, rows: Iterable[Mapping[str, Any]]) -> Chart:
    """Cost along the first factor whose values are numbers, a line for each combination of the others.

    Raises ServesatError where no scenario has a plan.
    """
    along = _along(question)
    others = [factor.key for factor in question.scenarios.factors if factor.key != along]
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row[along]):
        if row["plan"] is not None:
            lines.setdefault(", ".join(f"{key} {shown(row[key])}" for key in others) or "cost", []).append(row)
    if not lines:
        raise ServesatError("nothing to draw: no scenario has a plan")
    x = [row[along] for line in lines.values() for row in line]
    y = [row["usd_per_million_output_tokens"] for line in lines.values() for row in line]
    room = 0.03 * (max(x) - min(x)) or 1.0
    return Chart(
        title=f"{question.base.model.name}: cost along {along}",
        x_title=along,
        y_title="$ per million output tokens",
        x_range=(min(x) - room, max(x) + room),
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
            f"{along} {shown(row[along])}<br>{row['plan']['chip']} {row['plan']['topology']}, weights "
            f"{row['plan']['weights']}, batch {row['plan']['batch']}<br>{row['plan']['tpot_ms']:.2f} ms a token, "
            f"{dollars(row['usd_per_million_output_tokens'])} per million tokens"
            for row in line
        ],
    )
