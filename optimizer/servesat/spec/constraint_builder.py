"""Constraints from Python: `solve(spec, constrain=lambda m: m.add(m.batch % 8 == 0))`."""

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import TypeAlias

from servesat.core.errors import SpecError
from servesat.core.validation import nearest, plain
from servesat.spec.expressions import NAMES, Type

Operand: TypeAlias = "Part | int | float | Fraction | str"


class Part:
    """A part of a constraint; operators put parts together, `text` is how a spec would state it.

    `&`, `|` and `~` stand for and, or and not; `isin` for in, `implies` for implies.
    """

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        raise SpecError(f"{self.text} is part of a constraint, and neither true nor false: join parts by & and |")

    def _with(self, operator: str, other: Operand) -> "Part":
        return Part(f"({self.text} {operator} {_text(other)})")

    def _after(self, operator: str, other: Operand) -> "Part":
        return Part(f"({_text(other)} {operator} {self.text})")

    def __eq__(self, other: Operand) -> "Part":  # type: ignore[override]
        return self._with("==", other)

    def __ne__(self, other: Operand) -> "Part":  # type: ignore[override]
        return self._with("!=", other)

    def __lt__(self, other: Operand) -> "Part":
        return self._with("<", other)

    def __le__(self, other: Operand) -> "Part":
        return self._with("<=", other)

    def __gt__(self, other: Operand) -> "Part":
        return self._with(">", other)

    def __ge__(self, other: Operand) -> "Part":
        return self._with(">=", other)

    def __add__(self, other: Operand) -> "Part":
        return self._with("+", other)

    def __radd__(self, other: Operand) -> "Part":
        return self._after("+", other)

    def __sub__(self, other: Operand) -> "Part":
        return self._with("-", other)

    def __rsub__(self, other: Operand) -> "Part":
        return self._after("-", other)

    def __mul__(self, other: Operand) -> "Part":
        return self._with("*", other)

    def __rmul__(self, other: Operand) -> "Part":
        return self._after("*", other)

    def __truediv__(self, other: Operand) -> "Part":
        return self._with("/", other)

    def __floordiv__(self, other: Operand) -> "Part":
        return self._with("//", other)

    def __mod__(self, other: Operand) -> "Part":
        return self._with("%", other)

    def __neg__(self) -> "Part":
        return Part(f"(0 - {self.text})")

    def __and__(self, other: "Part") -> "Part":
        return self._with("and", other)

    def __or__(self, other: "Part") -> "Part":
        return self._with("or", other)

    def __invert__(self) -> "Part":
        return Part(f"(not {self.text})")

    def isin(self, options: Iterable[str | int]) -> "Part":
        """Whether it is one of some values."""
        return Part(f"({self.text} in [{', '.join(map(_text, options))}])")

    def implies(self, other: "Part") -> "Part":
        """Whether the other holds wherever this one does."""
        return self._with("implies", other)


def _text(operand: Operand) -> str:
    if isinstance(operand, Part):
        return operand.text
    value = plain(operand)
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float | Fraction):
        raise SpecError(
            f"constrain: {value!r} cannot be part of a constraint, expected a name of m, a number or a string"
        )
    return repr(value) if isinstance(value, str) else f"({value})" if isinstance(value, Fraction) else str(value)


class _Pool:
    """The names of the prefill pool."""

    def __getattr__(self, name: str) -> Part:
        return _named(f"prefill.{name}")


class ConstraintBuilder:
    """The names of a plan as attributes, and the constraints added: `m.add(m.prefill.chip == m.chip)`.

    `m.key("slo.tpot_ms")` is a number of the spec.
    """

    def __init__(self) -> None:
        self.constraints: list[str] = []
        self.prefill = _Pool()

    def __getattr__(self, name: str) -> Part:
        return _named(name)

    def key(self, key: str) -> Part:
        """A number of the spec, by its dotted key."""
        return Part(key)

    def add(self, constraint: Part) -> None:
        """Add a constraint. Raises SpecError for anything else."""
        if not isinstance(constraint, Part):
            raise SpecError(f"constrain added {constraint!r}, expected a comparison of m's names, as m.batch % 8 == 0")
        text = constraint.text
        self.constraints.append(text[1:-1] if text.startswith("(") else text)


def _named(name: str) -> Part:
    if name not in NAMES:
        raise SpecError(f"constrain: a plan has no {name}; {nearest(name, NAMES)}")
    return Part(name) if NAMES[name].type is not Type.TRUTH else Part(f"({name})")


def built(constrain: Callable[[ConstraintBuilder], object]) -> tuple[str, ...]:
    """The constraints that a function adds."""
    builder = ConstraintBuilder()
    returned = constrain(builder)
    if isinstance(returned, Part):
        raise SpecError(f"constrain returned {returned}, which is not added: m.add({returned})")
    return tuple(builder.constraints)
