"""Which way of a number a constraint is easier to keep: smaller `a.tpot_ms` in `a.tpot_ms + b.tpot_ms <= 20`."""

from collections.abc import Iterable

from servesat.spec.expressions import All, Arithmetic, Comparison, Name, Not, Number, Some, Term, Truth, bounds

Signs = dict[Name, int]
"""1 for a name of which a larger value is as good or better, -1 for a smaller; 0 where it depends."""


_SIDES = {"+": (1, 1), "-": (1, -1), "<": (-1, 1), "<=": (-1, 1), ">": (1, -1), ">=": (1, -1)}


def easier(tree: Term | Truth) -> Signs:
    """Of each name in a condition, the way in which it goes on to hold; in a term, the way in which it grows."""
    match tree:
        case Name():
            return {tree: 1}
        case Arithmetic(operator="*" | "/" | "//"):
            return _of_product(tree)
        case Arithmetic() | Comparison():
            left, right = _SIDES.get(tree.operator, (0, 0))
            return together((_times(left, easier(tree.left)), _times(right, easier(tree.right))))
        case Not():
            return _times(-1, easier(tree.of))
        case All() | Some():
            return together(map(easier, tree.of))
        case _:
            return {}


def together(some: Iterable[Signs]) -> Signs:
    """The signs of a sum, or of several conditions: 0 where they differ."""
    found: Signs = {}
    for signs in some:
        for name, sign in signs.items():
            found[name] = sign if found.get(name, sign) == sign else 0
    return found


def _times(factor: int, signs: Signs) -> Signs:
    return {name: factor * sign for name, sign in signs.items()}


def _of_product(term: Arithmetic) -> Signs:
    """The signs of a number times, or divided by, another; a divisor names nothing."""
    for factor, other in ((term.left, term.right), (term.right, term.left)):
        if isinstance(factor, Number):
            return _times(1 if factor.value >= 0 else -1, easier(other))
    may_be_negative = min(bounds(term.left)[0], bounds(term.right)[0]) < 0
    return _times(0 if may_be_negative else 1, together((easier(term.left), easier(term.right))))
