"""Reading a constraint: from its text to a typed tree, by Python's grammar, without evaluating anything."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from servesat.core.validation import nearest
from servesat.spec.expressions import (
    KEYS,
    NAMES,
    All,
    Arithmetic,
    Comparison,
    Expression,
    ExpressionError,
    Key,
    Name,
    Not,
    Number,
    Some,
    Term,
    Text,
    Truth,
    Type,
    certain,
    type_of,
    worked_out,
)

MAX_LENGTH = 1000
"""Characters of a constraint."""

MAX_DEPTH = 100
"""Levels of a constraint's tree."""

MAX_NUMBER = 10**12
"""The largest number of a constraint; the smallest is 1 over it."""


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
            "is not an expression; expected one such as batch % 8 == 0, or chip == h200 implies tp <= 4"
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
    if word not in words.names and (word in words.texts or _TOPOLOGY.fullmatch(word)):
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
            raise ExpressionError(f"expected a number other than 0 after {operator}")
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


def _constant_truth(node: ast.expr) -> bool | None:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, bool) else None
