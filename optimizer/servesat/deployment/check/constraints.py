"""The constraints of a spec on one plan, worked out in exact fractions: nothing of the arrays or of the solver."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from math import prod
from operator import add, eq, floordiv, ge, gt, le, lt, mod, mul, ne, sub, truediv
from typing import Any

from servesat.catalogue.chip import axis_sizes
from servesat.core.plan import Plan
from servesat.core.result import Margin
from servesat.spec.expressions import All, Expression, Key, Name, Not, Number, Some, Text, Type, limit_in
from servesat.spec.spec import Spec

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge,
    "+": add, "-": sub, "*": mul, "/": truediv, "//": floordiv, "%": mod,
}  # fmt: skip


def constraint_margins(spec: Spec, plan: Plan) -> tuple[Margin, ...]:
    """The margin of each constraint: whether it holds, and how far its limit is, if it sets one."""
    found = []
    for expression in spec.expressions:
        holds = holds_of(expression, partial(named, plan), spec.number_at)
        bound = limit_in(expression)
        if bound is None:
            found.append(Margin(requirement=expression.text, holds=holds))
            continue
        value, limit = (float(_value(part, partial(named, plan), spec.number_at)) for part in (bound.term, bound.limit))
        slack = value - limit if bound.at_least else limit - value
        found.append(Margin(requirement=expression.text, holds=holds, value=value, limit=limit, slack=slack))
    return tuple(found)


Named = Callable[[Name], Fraction | str]
"""The value of a name: a number, or a text."""


def holds_of(expression: Expression, value_of: Named, number_at: Callable[[str], Fraction]) -> bool:
    """Whether a constraint holds, given the values of its names and of its keys."""
    return bool(_value(expression.tree, value_of, number_at))


def _value(node: Any, value_of: Named, number_at: Callable[[str], Fraction]) -> Any:
    """The value of an expression: a fraction, a text, or whether it holds."""

    def inner(part: Any) -> Any:
        return _value(part, value_of, number_at)

    found: Any
    match node:
        case Number() | Text():
            found = node.value
        case Key():
            found = number_at(node.key)
        case Name():
            found = value_of(node)
        case Not():
            found = not inner(node.of)
        case All() | Some():
            together = all if isinstance(node, All) else any
            found = together(inner(part) for part in node.of)
        case _:
            found = _OPERATIONS[node.operator](inner(node.left), inner(node.right))
    return found


def named(plan: Plan, name: Name) -> Fraction | str:
    """What a plan has for a name, rounded to its smallest unit; of a pool that it has not, `none` or 0."""
    part, _, field = name.id.rpartition(".")
    source: Any = plan.prefill if part else plan
    if field in {"cloud", "region", "purchase", "instance"}:
        source = plan.bills[0]
    if source is None:
        value = None
    elif part and field in {"tp", "ep", "pp"}:
        sizes = axis_sizes(source.topology)
        value = prod(sizes[axis] for axis in getattr(source, f"{field}_axes"))
    else:
        value = getattr(source, field)
    if name.type is Type.TEXT:
        return "none" if value is None else str(value)
    return Fraction(round((value or 0) * name.scale), name.scale)
