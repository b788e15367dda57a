"""Constraints as written in a spec: typed trees over what a plan has.

`batch % 8 == 0`, `tp <= 8`, `chip in [h100-sxm, h200] implies weights == fp8`, `tpot_ms <= 0.5 * slo.tpot_ms`. A tree
is read from text (`spec.expression_parser`) and compiled twice: into arrays (`candidates.constraints`) and into CP-SAT
(`deployment.formulation.expressions`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from fractions import Fraction
from math import inf
from operator import add, floordiv, mod, mul, sub, truediv


class Level(IntEnum):
    """What fixes a name's value: the layout, the layout and its batch, or the figures of both."""

    LAYOUT = 0
    BATCH = 1
    FIGURE = 2


class Type(StrEnum):
    """The type of a name or an expression."""

    TEXT = "text"
    NUMBER = "number"
    QUANTITY = "quantity"
    TRUTH = "truth value"


@dataclass(frozen=True)
class Name:
    """A decision or a figure of a plan; `scale` units of it are 1: a time in ms is compared in whole ns."""

    id: str
    type: Type
    level: Level = Level.LAYOUT
    scale: int = 1
    smallest: int = 0


_TEXTS = (
    "chip",
    "cloud",
    "region",
    "purchase",
    "instance",
    "topology",
    "weights",
    "kv_cache",
    "kv_layout",
    "compute",
    "engine",
    "draft",
    "mode",
)
_COUNTS = ("tp", "ep", "pp", "replicas", "kv_batch_shards")
_POOL_TEXTS = ("chip", "topology", "weights", "compute")
_TIMES = ("tpot_ms", "ttft_ms", "e2e_ms", "stall_ms")
_DOLLARS = ("usd_per_hour", "usd_per_million_output_tokens")

NAMES: dict[str, Name] = {
    name.id: name
    for name in (
        *(Name(text, Type.TEXT) for text in _TEXTS),
        *(Name(count, Type.NUMBER, smallest=1) for count in _COUNTS),
        Name("kv_replicated", Type.TRUTH),
        Name("chunk_tokens", Type.NUMBER),
        Name("draft_tokens", Type.NUMBER),
        *(Name(f"prefill.{text}", Type.TEXT) for text in _POOL_TEXTS),
        *(Name(f"prefill.{count}", Type.NUMBER) for count in ("tp", "ep", "pp", "slices")),
        Name("batch", Type.NUMBER, Level.BATCH, smallest=1),
        Name("slices", Type.NUMBER, Level.FIGURE, smallest=1),
        Name("chips", Type.NUMBER, Level.FIGURE, smallest=1),
        Name("instances", Type.NUMBER, Level.FIGURE),
        *(Name(time, Type.QUANTITY, Level.FIGURE, 10**6) for time in _TIMES),
        *(Name(dollars, Type.QUANTITY, Level.FIGURE, 10**6) for dollars in _DOLLARS),
        Name("hbm_used_fraction", Type.QUANTITY, Level.FIGURE, 10**9),
        Name("tokens_per_s", Type.QUANTITY, Level.FIGURE, 10**3),
    )
}
"""What a constraint may name. A plan without a prefill pool has the texts `none` and the counts 0 there."""

KEYS = ("slo", "workload", "search", "headroom", "utilisation", "spot_capacity", "prefill_mfu")
"""The parts of a spec whose numbers a constraint may name, as in `slo.tpot_ms`."""


class ExpressionError(ValueError):
    """A constraint that cannot be meant: one line that says why."""


@dataclass(frozen=True)
class Number:
    """A number, exactly as written."""

    value: Fraction


@dataclass(frozen=True)
class Key:
    """A number of the spec, by its dotted key."""

    key: str


@dataclass(frozen=True)
class Text:
    """A value of a text: a chip, a slice, a dtype."""

    value: str


@dataclass(frozen=True)
class Arithmetic:
    """`left` + - * / // % `right`."""

    operator: str
    left: "Term"
    right: "Term"


@dataclass(frozen=True)
class Comparison:
    """`left` == != < <= > >= `right`."""

    operator: str
    left: "Term"
    right: "Term"


@dataclass(frozen=True)
class Not:
    """The contrary."""

    of: "Truth"


@dataclass(frozen=True)
class All:
    """Every one of some conditions."""

    of: "tuple[Truth, ...]"


@dataclass(frozen=True)
class Some:
    """One of some conditions at least."""

    of: "tuple[Truth, ...]"


Term = Number | Key | Text | Name | Arithmetic
Truth = Comparison | Not | All | Some | Name


@dataclass(frozen=True)
class Expression:
    """A constraint: its text, and its tree."""

    text: str
    tree: Truth

    @property
    def names(self) -> tuple[Name, ...]:
        """What it names, each once, in order."""
        return tuple(dict.fromkeys(part for part in parts(self.tree) if isinstance(part, Name)))

    @property
    def level(self) -> Level:
        """What fixes its truth."""
        return max((name.level for name in self.names), default=Level.LAYOUT)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the spec that it names."""
        return tuple(dict.fromkeys(part.key for part in parts(self.tree) if isinstance(part, Key)))

    @property
    def divisors(self) -> tuple[str, ...]:
        """The keys of the spec that it divides by."""
        return tuple(dict.fromkeys(_divisors(self.tree)))


def _divisors(tree: Truth) -> Iterator[str]:
    for part in parts(tree):
        if isinstance(part, Arithmetic) and part.operator in {"/", "//", "%"} and isinstance(part.right, Key):
            yield part.right.key


def parts(node: Term | Truth) -> Iterator[Term | Truth]:
    """The nodes of a tree, from the root."""
    yield node
    match node:
        case Arithmetic() | Comparison():
            yield from parts(node.left)
            yield from parts(node.right)
        case Not():
            yield from parts(node.of)
        case All() | Some():
            for part in node.of:
                yield from parts(part)
        case _:
            return


@dataclass(frozen=True)
class Bound:
    """A constraint that holds one term to a constant limit: `term` ≤ or (`at_least`) ≥ `limit`."""

    term: Term
    limit: Term
    at_least: bool
    said: str
    """The constraint up to its limit: `tp <=`."""


_GROW_WITH_SLICES = {"slices", "prefill.slices", "chips", "instances", "usd_per_hour", "tokens_per_s"}

_FOLLOW_SLICES = {*_GROW_WITH_SLICES, "usd_per_million_output_tokens"}


def counts_slices(expressions: Iterable[Expression]) -> bool:
    """Whether some constraint names what grows with the number of slices."""
    return any(name.id in _GROW_WITH_SLICES for expression in expressions for name in expression.names)


def follows_slices(expression: Expression) -> bool:
    """Whether a constraint names what a plan with a given demand has more or less of with another number of slices."""
    return any(name.id in _FOLLOW_SLICES for name in expression.names)


def follows_alone(expression: Expression, name: str) -> bool:
    """Whether of what follows the number of slices a constraint names this alone: `slices` or `prefill.slices`."""
    return {named.id for named in expression.names} & _FOLLOW_SLICES == {name}


def ends_with_slices(expression: Expression) -> bool:
    """Whether a constraint is an upper limit on what grows with the number of slices: `chips <= 8`."""
    bound = limit_in(expression)
    return (
        bound is not None and not bound.at_least and isinstance(bound.term, Name) and bound.term.id in _GROW_WITH_SLICES
    )


def upper_limit_with_slices(expression: Expression) -> str | None:
    """The upper limit that an equality sets on what grows with the number of slices: `chips <= 8` of `chips == 8`."""
    tree = expression.tree
    if not isinstance(tree, Comparison) or tree.operator != "==":
        return None
    for side, other in ((tree.left, tree.right), (tree.right, tree.left)):
        if (
            isinstance(side, Name)
            and side.id in _GROW_WITH_SLICES
            and not any(isinstance(part, Name) for part in parts(other))
        ):
            return f"{side.id} <= {_written(other)}"
    return None


def limit_in(expression: Expression) -> Bound | None:
    """The limit that a constraint sets, if it is one: `tp <= 8` or `0.5 * slo.tpot_ms >= tpot_ms`."""
    tree = expression.tree
    if not isinstance(tree, Comparison) or tree.operator not in {"<=", ">="}:
        return None
    constant = [not any(isinstance(part, Name) for part in parts(side)) for side in (tree.left, tree.right)]
    if constant == [False, True]:
        return Bound(tree.left, tree.right, tree.operator == ">=", f"{_written(tree.left)} {tree.operator}")
    if constant == [True, False]:
        at_least = tree.operator == "<="
        return Bound(tree.right, tree.left, at_least, f"{_written(tree.right)} {'>=' if at_least else '<='}")
    return None


def _written(term: Term, *, inner: bool = False) -> str:
    """A term as a constraint states it."""
    match term:
        case Number():
            whole = term.value.denominator == 1
            return str(term.value) if whole else f"({term.value})" if inner else str(float(term.value))
        case Arithmetic():
            said = f"{_written(term.left, inner=True)} {term.operator} {_written(term.right, inner=True)}"
            return f"({said})" if inner else said
        case Key():
            return term.key
        case Name():
            return term.id
        case _:
            raise TypeError(f"{term} is no number")


def worked_out(operator: str, left: Fraction, right: Fraction) -> Fraction:
    """An operation on two numbers."""
    operations: dict[str, Callable[[Fraction, Fraction], Fraction | int]] = {
        "+": add, "-": sub, "*": mul, "/": truediv, "//": floordiv, "%": mod,
    }  # fmt: skip
    return Fraction(operations[operator](left, right))


def type_of(term: Term) -> Type:
    """The type of a term."""
    match term:
        case Name():
            return term.type
        case Text():
            return Type.TEXT
        case Arithmetic():
            kinds = {type_of(term.left), type_of(term.right)}
            return Type.QUANTITY if Type.QUANTITY in kinds else Type.NUMBER
        case _:
            return Type.NUMBER


def bounds(term: Term) -> tuple[float, float]:
    """The smallest and the largest value that a number can have, whatever the spec."""
    match term:
        case Number():
            return float(term.value), float(term.value)
        case Name():
            return float(term.smallest), inf
        case Arithmetic(operator="%"):
            divisor = bounds(term.right)[1]
            return 0.0, divisor - 1 if _is_whole(term.left) and _is_whole(term.right) else divisor
        case Arithmetic():
            (low, high), (least, most) = bounds(term.left), bounds(term.right)
            sums = {"+": (low + least, high + most), "-": (low - most, high - least)}
            return sums.get(term.operator, (0.0 if min(low, least) >= 0 else -inf, inf))
        case _:
            return -inf, inf


def _is_whole(term: Term) -> bool:
    """Whether a number is whole whatever the plan: of counts, without a division."""
    match term:
        case Number():
            return term.value.denominator == 1
        case Name():
            return term.type is Type.NUMBER and term.scale == 1
        case Arithmetic():
            return term.operator != "/" and _is_whole(term.left) and _is_whole(term.right)
        case _:
            return False


def certain(node: Truth) -> bool | None:
    """Whether a condition holds for every plan, or for none; None where that depends on the plan."""
    match node:
        case Comparison() if type_of(node.left) is not Type.TEXT:
            return _certain_comparison(node)
        case Not():
            inner = certain(node.of)
            return None if inner is None else not inner
        case All():
            found = [certain(part) for part in node.of]
            return False if False in found else None if None in found else True
        case Some():
            found = [certain(part) for part in node.of]
            return True if True in found else None if None in found else False
        case _:
            return None


def _certain_comparison(node: Comparison) -> bool | None:
    (low, high), (least, most) = bounds(node.left), bounds(node.right)
    apart, same = high < least or low > most, low == high == least == most
    always, never = {
        "==": (same, apart),
        "!=": (apart, same),
        "<": (high < least, low >= most),
        "<=": (high <= least, low > most),
        ">": (low > most, high <= least),
        ">=": (low >= most, high < least),
    }[node.operator]
    return True if always else False if never else None
