"""Constraints as written in a spec: expressions over what a plan has, parsed into trees and typed, never evaluated.

`batch % 8 == 0`, `tp <= 8`, `chip in [h100-sxm, h200] implies weights == fp8`, `tpot_ms <= 0.5 * slo.tpot_ms`. A tree
is compiled twice: into arrays (`candidates.constraints`) and into CP-SAT (`deployment.formulation.expressions`).
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from fractions import Fraction
from math import inf
from operator import add, floordiv, mod, mul, sub, truediv

from servesat.core.validation import nearest


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


_TEXTS = ("chip", "cloud", "region", "purchase", "instance", "topology", "weights", "kv_cache", "compute", "mode")
_COUNTS = ("tp", "ep", "replicas", "kv_batch_shards")
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
        *(Name(f"prefill.{text}", Type.TEXT) for text in _POOL_TEXTS),
        *(Name(f"prefill.{count}", Type.NUMBER) for count in ("tp", "ep", "slices")),
        Name("batch", Type.NUMBER, Level.BATCH, smallest=1),
        Name("slices", Type.NUMBER, Level.FIGURE, smallest=1),
        Name("chips", Type.NUMBER, Level.FIGURE, smallest=1),
        *(Name(time, Type.QUANTITY, Level.FIGURE, 10**6) for time in _TIMES),
        *(Name(dollars, Type.QUANTITY, Level.FIGURE, 10**6) for dollars in _DOLLARS),
        Name("hbm_used_fraction", Type.QUANTITY, Level.FIGURE, 10**9),
        Name("tokens_per_s", Type.QUANTITY, Level.FIGURE, 10**3),
    )
}
"""What a constraint may name. A plan without a prefill pool has the texts `none` and the counts 0 there."""

KEYS = ("slo", "workload", "search", "headroom", "utilisation", "prefill_mfu")
"""The parts of a spec whose numbers a constraint may name, as in `slo.tpot_ms`."""

MAX_NUMBER = 10**12
"""The largest number of a constraint; the smallest is 1 over it."""

EXAMPLE = "batch % 8 == 0, or chip == h200 implies tp <= 4"

MAX_LENGTH = 1000
"""Characters of a constraint."""

MAX_DEPTH = 100
"""Levels of a constraint's tree."""


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


def parse(text: str, values: Iterable[str], names: Mapping[str, Name] = NAMES) -> Expression:
    """Read a constraint; `values` are the texts that need no quotation marks. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"has {len(text)} characters, expected at most {MAX_LENGTH}")
    words = _Words(names, frozenset({*values, "none"}))
    source = _as_python(list(_tokens(text, words)))
    try:
        body = ast.parse(source, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        raise ExpressionError(
            "is no expression; expected one such as batch % 8 == 0, or chip == h200 implies tp <= 4"
        ) from None
    if _depth(body) > MAX_DEPTH:
        raise ExpressionError(f"is nested more than {MAX_DEPTH} deep; split it into several")
    tree = _Reader(words).truth(body)
    if certain(tree) is False:
        raise ExpressionError("is never true")
    return Expression(text, tree)


def _depth(tree: ast.AST) -> int:
    """How deep a tree of Python is, without recursion."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


@dataclass(frozen=True)
class _Words:
    """What a constraint may name: decisions and figures, and texts."""

    names: Mapping[str, Name]
    texts: frozenset[str]

    def near(self, word: str) -> str:
        """The names and texts near a word; where none is near, the names."""
        near = nearest(word, [*self.names, *self.texts])
        return near if near.startswith("did") else f"a constraint may name {', '.join(self.names)}"


_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*")|(?P<number>\d+(?:\.\d*)?[eE][-+]\d+)|(?P<word>[A-Za-z0-9_][\w.-]*)|(?P<sign>==|!=|<=|>=|//|[-+*/%<>()\[\],]))"""
)
_TOPOLOGY = re.compile(r"\d+(x\d+)+")
_NUMBER = re.compile(r"\d+(\.\d*)?([eE][-+]?\d+)?")
_KEYWORDS = {"and", "or", "not", "in", "implies", "true", "false"}


def _tokens(text: str, words: _Words) -> Iterator[str]:
    """The words and signs of a constraint, texts in quotation marks. Raises ExpressionError."""
    position, end = 0, len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            raise ExpressionError(f"has {text[position:].strip()[0]!r}, which means nothing here")
        position = found.end()
        if found["quoted"]:
            yield repr(found["quoted"][1:-1])
        elif found["number"]:
            yield found["number"]
        elif found["word"]:
            yield from _words(found["word"], words)
        else:
            yield found["sign"]


def _words(word: str, words: _Words) -> Iterator[str]:
    """A word as one token; or, as in `batch-8`, the words that minus signs join. Raises ExpressionError."""
    if word in words.texts or _TOPOLOGY.fullmatch(word):
        yield repr(word)
    elif word in {"true", "false", "True", "False"}:
        yield word.capitalize()
    elif word in _KEYWORDS or _is_term(word, words):
        yield word
    else:
        for cut in (cut for cut in reversed(range(len(word))) if word[cut] == "-"):
            if word[:cut] in words.texts or _is_term(word[:cut], words):
                yield from _words(word[:cut], words)
                yield "-"
                yield from _words(word[cut + 1 :], words)
                return
        raise ExpressionError(f"names {word!r}; {words.near(word)}")


def _is_term(word: str, words: _Words) -> bool:
    """Whether a word is a name, a number, or a key of the spec."""
    return word in words.names or _NUMBER.fullmatch(word) is not None or _is_key(word)


def _is_key(word: str) -> bool:
    """Whether a word is a key of the parts of a spec that a constraint may name."""
    return word.partition(".")[0] in KEYS


def _as_python(tokens: list[str]) -> str:
    """Tokens as Python, where `a implies b` is the call implies(a, b)."""
    levels: list[list[str]] = [[]]
    for token in tokens:
        if token in "([":
            levels.append([token])
        elif token in ")]":
            if len(levels) == 1:
                raise ExpressionError(f"has a {token!r} too many")
            opening, *inner = levels.pop()
            levels[-1].append(f"{opening}{_implications(inner)}{token}")
        else:
            levels[-1].append(token)
    if len(levels) > 1:
        raise ExpressionError(f"has a {levels[-1][0]!r} too many")
    return _implications(levels[0])


def _implications(tokens: list[str]) -> str:
    if "implies" not in tokens:
        return " ".join(tokens)
    at = tokens.index("implies")
    return f"implies(({' '.join(tokens[:at])}), ({_implications(tokens[at + 1 :])}))"


_ARITHMETIC = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip
_COMPARISONS = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}


class _Reader:
    """Turns Python's tree into a typed one. Every method raises ExpressionError."""

    def __init__(self, words: _Words) -> None:
        self._words = words

    def truth(self, node: ast.expr) -> Truth:
        """A condition."""
        match node:
            case ast.BoolOp():
                together = All if isinstance(node.op, ast.And) else Some
                return together(tuple(map(self.truth, node.values)))
            case ast.UnaryOp(op=ast.Not()):
                return Not(self.truth(node.operand))
            case ast.Call(func=ast.Name(id="implies"), args=[left, right]):
                return Some((Not(self.truth(left)), self.truth(right)))
            case ast.Compare():
                return self._compared(node)
            case ast.Constant(value=bool()):
                return All(()) if node.value else Some(())
        name = self._term(node) if isinstance(node, ast.Name | ast.Attribute) else None
        if isinstance(name, Name) and name.type is Type.TRUTH:
            return name
        raise ExpressionError(f"has {ast.unparse(node)!r} where a condition was expected, as in tp <= 8")

    def _compared(self, node: ast.Compare) -> Truth:
        """A chain of comparisons: `4 <= batch <= 64`, `chip in [h200, b200]`."""
        found: list[Truth] = []
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.In | ast.NotIn):
                found.append(self._member(left, right, within=isinstance(operator, ast.In)))
            elif type(operator) in _COMPARISONS:
                found.append(self._comparison(_COMPARISONS[type(operator)], left, right))
            else:
                raise ExpressionError(f"has {ast.unparse(node)!r}, which compares by none of == != < <= > >= in")
            left = right
        return found[0] if len(found) == 1 else All(tuple(found))

    def _member(self, item: ast.expr, options: ast.expr, *, within: bool) -> Truth:
        if not isinstance(options, ast.List | ast.Tuple) or not options.elts:
            raise ExpressionError(f"has {ast.unparse(options)!r} after in, expected a list such as [h100-sxm, h200]")
        found = Some(tuple(self._comparison("==", item, option) for option in options.elts))
        return found if within else Not(found)

    def _comparison(self, operator: str, one: ast.expr, other: ast.expr) -> Truth:
        if {_constant_truth(one), _constant_truth(other)} != {None}:
            return self._compared_truth(operator, one, other)
        left, right = self._term(one), self._term(other)
        kinds = [type_of(left), type_of(right)]
        if kinds == [Type.TEXT, Type.NUMBER] and isinstance(right, Number):  # a slice of one axis: topology == 8
            right, kinds = Text(str(right.value)), [Type.TEXT, Type.TEXT]
        if kinds == [Type.NUMBER, Type.TEXT] and isinstance(left, Number):
            left, kinds = Text(str(left.value)), [Type.TEXT, Type.TEXT]
        mixed = Type.TRUTH in kinds or (kinds[0] is Type.TEXT) != (kinds[1] is Type.TEXT)
        if mixed or (Type.TEXT in kinds and operator not in {"==", "!="}):
            said = f"{ast.unparse(one)} {operator} {ast.unparse(other)}"
            raise ExpressionError(f"has {said!r}, which compares a {kinds[0]} with a {kinds[1]} by {operator}")
        return Comparison(operator, left, right)

    def _compared_truth(self, operator: str, one: ast.expr, other: ast.expr) -> Truth:
        """A truth value compared with true or false."""
        if operator not in {"==", "!="}:
            raise ExpressionError(f"compares truth values by {operator}, expected == or !=")
        left, right = self.truth(one), self.truth(other)
        same = Some((All((left, right)), All((Not(left), Not(right)))))
        return same if operator == "==" else Not(same)

    def _term(self, node: ast.expr) -> Term:
        """A number or a text."""
        match node:
            case ast.Constant(value=str()):
                return self._text(str(node.value))
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return _number(str(node.value))
            case ast.UnaryOp(op=ast.USub()):
                return self._arithmetic("-", Number(Fraction(0)), self._term(node.operand))
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                operator = _ARITHMETIC[type(node.op)]
                return self._arithmetic(operator, self._term(node.left), self._term(node.right))
            case ast.Name() | ast.Attribute():
                return self._named(ast.unparse(node))
        raise ExpressionError(f"has {ast.unparse(node)!r} where a number or a name was expected")

    def _text(self, value: str) -> Text:
        if value not in self._words.texts and not _TOPOLOGY.fullmatch(value) and not value.isdecimal():
            raise ExpressionError(f"names {value!r}; {self._words.near(value)}")
        return Text(value)

    def _named(self, name: str) -> Term:
        if name in self._words.names:
            return self._words.names[name]
        if _is_key(name):
            return Key(name)
        raise ExpressionError(f"names {name!r}; {self._words.near(name)}")

    def _arithmetic(self, operator: str, left: Term, right: Term) -> Term:
        """An operation on numbers; two numbers are worked out."""
        kinds = [type_of(left), type_of(right)]
        if Type.TEXT in kinds or Type.TRUTH in kinds:
            raise ExpressionError(f"has a {kinds[0]} {operator} a {kinds[1]}, expected numbers")
        constant = isinstance(right, Number | Key)
        if operator in {"/", "//", "%"} and (not constant or right == Number(Fraction(0))):
            raise ExpressionError(f"divides by something other than a number, in {operator}")
        if operator == "*" and Type.QUANTITY in kinds and not (constant or isinstance(left, Number | Key)):
            raise ExpressionError("multiplies a figure by something other than a number")
        if operator in {"//", "%"}:
            whole = isinstance(right, Number) and right.value.denominator == 1 and right.value > 0
            if Type.QUANTITY in kinds or not whole:
                raise ExpressionError(f"has a {operator} of something other than counts and a whole number above 0")
        if isinstance(left, Number) and isinstance(right, Number):
            return Number(worked_out(operator, left.value, right.value))
        return Arithmetic(operator, left, right)


def _number(text: str) -> Number:
    """A number as written, if whole numbers of the solver can hold it."""
    value = float(text)
    if not (value == 0 or 1 / MAX_NUMBER <= value <= MAX_NUMBER):
        raise ExpressionError(f"has {text}, expected 0 or a number between {1 / MAX_NUMBER:g} and {MAX_NUMBER:g}")
    return Number(Fraction(text))


@dataclass(frozen=True)
class Bound:
    """A constraint that holds one term to a constant limit: `term` ≤ or (`at_least`) ≥ `limit`."""

    term: Term
    limit: Term
    at_least: bool
    said: str
    """The constraint up to its limit: `tp <=`."""


_GROW_WITH_SLICES = {"slices", "prefill.slices", "chips", "usd_per_hour", "tokens_per_s"}


def counts_slices(expressions: Iterable[Expression]) -> bool:
    """Whether some constraint names what grows with the number of slices."""
    return any(name.id in _GROW_WITH_SLICES for expression in expressions for name in expression.names)


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


def _constant_truth(node: ast.expr) -> bool | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, bool) else None


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
            return 0.0, bounds(term.right)[1] - 1
        case Arithmetic():
            (low, high), (least, most) = bounds(term.left), bounds(term.right)
            sums = {"+": (low + least, high + most), "-": (low - most, high - least)}
            return sums.get(term.operator, (0.0 if min(low, least) >= 0 else -inf, inf))
        case _:
            return -inf, inf


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
