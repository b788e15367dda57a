"""The constraints of a spec in CP-SAT: rows on the named variables, under literals where they are part of a condition.

OR-Tools 9.15 answers wrongly where a row under a literal has large coefficients (docs/notes/ortools-literals.md). A
comparison of one figure with a number is therefore one of its places among the distinct figures, and one of larger
numbers than MAX_UNDER_LITERAL is of two digits; rows that always hold stand alone, and may be larger.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, lcm
from typing import Any, Protocol

import numpy as np

from servesat.core.arrays import Ints
from servesat.core.errors import SpecError
from servesat.deployment.formulation.cp_sat import cp_model
from servesat.spec.expressions import (
    All,
    Arithmetic,
    Comparison,
    Expression,
    Key,
    Name,
    Not,
    Number,
    Some,
    Term,
    Text,
    Truth,
    Type,
    type_of,
)

MAX_UNDER_LITERAL = 1 << 24
"""The range of a row under a literal up to which every version of OR-Tools tried was right."""

DIGIT = 1 << 22
"""The base in which longer numbers are compared under a literal."""

MAX_ALONE = 1 << 45
"""The range of a row that always holds: two digits of it are within MAX_UNDER_LITERAL."""

Literal = Any
"""A literal of OR-Tools, or its contrary; its stubs give the two no common type."""

_CONTRARY = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


@dataclass(frozen=True)
class _Linear:
    """A number: the sum of whole variables times factors, by the variables' index, and a constant."""

    terms: Mapping[int, Fraction]
    constant: Fraction

    def plus(self, other: "_Linear", times: Fraction) -> "_Linear":
        """The sum of it and another times a factor."""
        terms = dict(self.terms)
        for variable, factor in other.terms.items():
            terms[variable] = terms.get(variable, Fraction(0)) + times * factor
        kept = {variable: factor for variable, factor in terms.items() if factor}
        return _Linear(kept, self.constant + times * other.constant)

    def times(self, factor: Fraction) -> "_Linear":
        """The product of it and a factor."""
        return _Linear({}, Fraction(0)).plus(self, factor)

    @property
    def scale(self) -> int:
        """What to multiply it by to have whole factors and a whole constant."""
        return lcm(self.constant.denominator, *(factor.denominator for factor in self.terms.values()))


@dataclass(frozen=True)
class _Whole:
    """A sum of variables times whole factors, a whole constant, and the largest absolute value they can reach."""

    total: cp_model.LinearExprT
    constant: int
    reach: int


class NamedModel(Protocol):
    """A model with a variable for each name of a constraint; see `DeploymentModel`."""

    model: cp_model.CpModel

    def value(self, name: Name) -> cp_model.IntVar:
        """The number of a name, in its smallest unit, or the code of its text."""

    def place(self, name: Name) -> cp_model.IntVar:
        """The place of a name's number among its distinct ones."""

    def distinct(self, name: Name) -> Ints:
        """The distinct numbers of a name, sorted."""

    def code_of(self, text: str) -> int:
        """The code of a text."""


class Compiler:
    """Adds constraints to a model; `number_at` has the numbers of the spec, by key.

    Every method raises SpecError for numbers beyond the solver's.
    """

    def __init__(self, model: NamedModel, number_at: Callable[[str], Fraction]) -> None:
        self._model = model
        self._number_at = number_at
        self._cp = model.model
        self._literals: dict[Truth, Literal] = {}
        self._variables: dict[int, cp_model.IntVar] = {}
        self._numbers: dict[Term, _Linear] = {}
        self._text = ""

    def add(self, expression: Expression) -> None:
        """Add a constraint."""
        self._text = expression.text
        self._require(expression.tree)

    def _require(self, node: Truth) -> None:
        """Hold a condition."""
        match node:
            case All():
                for part in node.of:
                    self._require(part)
            case Some():
                self._cp.add_bool_or([self._literal(part) for part in node.of])
            case Not(of=Some() as inner):
                for part in inner.of:
                    self._require(Not(part))
            case Not(of=Comparison() as inner):
                self._require(Comparison(_CONTRARY[inner.operator], inner.left, inner.right))
            case Comparison() if not isinstance(self._place_of(node), _Places) and type_of(node.left) is not Type.TEXT:
                self._require_row(node)
            case _:
                self._cp.add_bool_or([self._literal(node)])

    def _literal(self, node: Truth) -> Literal:
        """A literal that is true exactly where a condition holds."""
        if node not in self._literals:
            self._literals[node] = self._new_literal(node)
        return self._literals[node]

    def _new_literal(self, node: Truth) -> Literal:
        match node:
            case Not():
                return ~self._literal(node.of)
            case All() | Some():
                return self._junction(node)
            case Name():
                return self._within(self._model.value(node), cp_model.Domain(1, 1))
            case Comparison() if type_of(node.left) is Type.TEXT:
                same = self._same_text(node)
                return same if node.operator == "==" else ~same
        place = self._place_of(node)
        if isinstance(place, _Places):
            return self._within(place.variable, place.allowed)
        return self._row(node)

    def _junction(self, node: All | Some) -> Literal:
        """A literal for `and` or `or`."""
        parts = [self._literal(part) for part in node.of]
        return self._both(parts) if isinstance(node, All) else ~self._both([~part for part in parts])

    def _both(self, parts: list[Literal]) -> Literal:
        """A literal that is true exactly where all of some literals are."""
        on = self._cp.new_bool_var("")
        self._cp.add_bool_and(parts).only_enforce_if(on)
        self._cp.add_bool_or([~part for part in parts]).only_enforce_if(~on)
        return on

    def _within(self, value: cp_model.LinearExprT, allowed: cp_model.Domain) -> Literal:
        """A literal that is true exactly where a value lies in a domain."""
        on = self._cp.new_bool_var("")
        self._cp.add_linear_expression_in_domain(value, allowed).only_enforce_if(on)
        self._cp.add_linear_expression_in_domain(value, allowed.complement()).only_enforce_if(~on)
        return on

    def _same_text(self, node: Comparison) -> Literal:
        """A literal that is true exactly where two texts are the same."""
        variables, factors, constant = [], [], 0
        for side, sign in ((node.left, 1), (node.right, -1)):
            if isinstance(side, Text):
                constant += sign * self._model.code_of(side.value)
            elif isinstance(side, Name):
                variables.append(self._model.value(side))
                factors.append(sign)
        difference = cp_model.LinearExpr.weighted_sum(variables, factors) + constant
        return self._within(difference, cp_model.Domain(0, 0))

    def _place_of(self, node: Comparison) -> "_Places | None":
        """A comparison of one figure with a number, as places of the figure; None for another comparison."""
        names = [side for side in (node.left, node.right) if isinstance(side, Name)]
        if len(names) != 1 or names[0].type is Type.TEXT:
            return None
        other = self._number(node.right if names[0] is node.left else node.left)
        if other.terms:
            return None
        operator = node.operator if names[0] is node.left else _MIRRORED[node.operator]
        return _Places(self._model.place(names[0]), self._allowed(names[0], operator, other.constant))

    def _allowed(self, name: Name, operator: str, limit: Fraction) -> cp_model.Domain:
        """The places of the numbers that stand so to a limit."""
        distinct, scaled = self._model.distinct(name), limit * name.scale
        last = len(distinct) - 1
        below = int(np.searchsorted(distinct, ceil(scaled), side="left"))  # how many are below the limit
        at_most = int(np.searchsorted(distinct, floor(scaled), side="right"))
        if scaled.denominator != 1:
            below = at_most
        match operator:
            case "<":
                return cp_model.Domain(0, below - 1) if below else cp_model.Domain(-1, -1)
            case "<=":
                return cp_model.Domain(0, at_most - 1) if at_most else cp_model.Domain(-1, -1)
            case ">":
                return cp_model.Domain(at_most, last) if at_most <= last else cp_model.Domain(-1, -1)
            case ">=":
                return cp_model.Domain(below, last) if below <= last else cp_model.Domain(-1, -1)
        equal = cp_model.Domain(below, at_most - 1) if below < at_most else cp_model.Domain(-1, -1)
        return equal if operator == "==" else equal.complement()

    def _scaled(self, number: _Linear, largest: int) -> _Whole:
        """A number times its scale, which may reach less than `largest`."""
        variables = [self._variables[index] for index in number.terms]
        factors = [int(factor * number.scale) for factor in number.terms.values()]
        constant = int(number.constant * number.scale)
        reach = sum(abs(factor) * _largest(variable) for factor, variable in zip(factors, variables, strict=True))
        self._check(reach + abs(constant), largest)
        return _Whole(cp_model.LinearExpr.weighted_sum(variables, factors), constant, reach + abs(constant))

    def _check(self, reach: int, largest: int) -> None:
        """Raise SpecError for numbers that reach as far as those of which the solver is no longer sound."""
        if reach >= largest:
            raise SpecError(
                f"constraints: {self._text}: its numbers reach {reach:.3g}, expected less than {largest:.3g}: the "
                "solver is not sound beyond; use smaller factors"
            )

    def _difference(self, node: Comparison) -> _Linear:
        return self._number(node.left).plus(self._number(node.right), Fraction(-1))

    def _require_row(self, node: Comparison) -> None:
        """Hold a comparison of several variables."""
        whole = self._scaled(self._difference(node), MAX_ALONE)
        self._cp.add_linear_expression_in_domain(whole.total, _domain(node.operator, -whole.constant))

    def _row(self, node: Comparison) -> Literal:
        """A literal for a comparison of several variables."""
        whole = self._scaled(self._difference(node), MAX_ALONE)
        if whole.reach < MAX_UNDER_LITERAL:
            return self._within(whole.total, _domain(node.operator, -whole.constant))
        if node.operator in {"==", "!="}:
            same = self._both([self._at_most(whole, -whole.constant), ~self._at_most(whole, -whole.constant - 1)])
            return same if node.operator == "==" else ~same
        strict = node.operator in {"<", ">="}
        below = self._at_most(whole, -whole.constant - strict)
        return below if node.operator in {"<", "<="} else ~below

    def _at_most(self, whole: _Whole, limit: int) -> Literal:
        """A literal for a sum that reaches beyond MAX_UNDER_LITERAL, by two digits that do not.

        total + shift = DIGIT · high + low, so total ≤ limit where high is below the limit's, or is its and low at most.
        """
        shift = whole.reach
        high = self._cp.new_int_var(0, 2 * shift // DIGIT, "")
        low = self._cp.new_int_var(0, DIGIT - 1, "")
        self._cp.add(whole.total + shift == DIGIT * high + low)
        of_high, of_low = divmod(limit + shift, DIGIT)
        below = self._within(high, cp_model.Domain(cp_model.INT_MIN, of_high - 1))
        equal = self._within(high, cp_model.Domain(of_high, of_high))
        low_enough = self._within(low, cp_model.Domain(cp_model.INT_MIN, of_low))
        return ~self._both([~below, ~self._both([equal, low_enough])])

    def _number(self, term: Term) -> _Linear:
        """A number in whole variables, the same each time: products and remainders are variables of their own."""
        if term not in self._numbers:
            self._numbers[term] = self._new_number(term)
        return self._numbers[term]

    def _new_number(self, term: Term) -> _Linear:
        match term:
            case Number():
                return _Linear({}, term.value)
            case Key():
                return _Linear({}, self._number_at(term.key))
            case Name():
                return self._times(self._model.value(term), Fraction(1, term.scale))
            case Arithmetic():
                return self._worked_out(term.operator, self._number(term.left), self._number(term.right))
            case _:
                raise TypeError(f"{term} is no number")

    def _worked_out(self, operator: str, left: _Linear, right: _Linear) -> _Linear:
        if operator in "+-":
            return left.plus(right, Fraction(1 if operator == "+" else -1))
        if operator == "*" and left.terms and right.terms:
            return self._product(left, right)
        if operator == "*":
            return left.times(right.constant) if left.terms else right.times(left.constant)
        if operator == "/":
            return left.times(1 / right.constant)
        return self._divided(operator, left, right.constant)

    def _times(self, variable: cp_model.IntVar, factor: Fraction) -> _Linear:
        """A variable times a factor."""
        self._variables[variable.index] = variable
        return _Linear({variable.index: factor}, Fraction(0))

    def _product(self, left: _Linear, right: _Linear) -> _Linear:
        """The product of two numbers that both depend on the plan."""
        one, other = self._scaled(left, MAX_ALONE), self._scaled(right, MAX_ALONE)
        reach = one.reach * other.reach
        self._check(reach, MAX_ALONE)
        product = self._cp.new_int_var(-reach, reach, "")
        self._cp.add_multiplication_equality(product, [one.total + one.constant, other.total + other.constant])
        return self._times(product, Fraction(1, left.scale * right.scale))

    def _divided(self, operator: str, left: _Linear, divisor: Fraction) -> _Linear:
        """A number // or % a whole one, rounded down as in Python: CP-SAT rounds towards 0, so it gets none below 0."""
        whole, modulus = self._scaled(left, MAX_ALONE), int(divisor) * left.scale
        turns = ceil(Fraction(whole.reach, modulus))
        not_negative = self._cp.new_int_var(0, whole.reach + turns * modulus, "")
        self._cp.add(not_negative == whole.total + whole.constant + turns * modulus)
        if operator == "%":
            rest = self._cp.new_int_var(0, modulus - 1, "")
            self._cp.add_modulo_equality(rest, not_negative, modulus)
            return self._times(rest, Fraction(1, left.scale))
        quotient = self._cp.new_int_var(0, 2 * turns, "")
        self._cp.add_division_equality(quotient, not_negative, modulus)
        return self._times(quotient, Fraction(1)).plus(_Linear({}, Fraction(turns)), Fraction(-1))


@dataclass(frozen=True)
class _Places:
    """A variable with the place of a figure, and the places allowed."""

    variable: cp_model.IntVar
    allowed: cp_model.Domain


_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _largest(variable: cp_model.IntVar) -> int:
    """The largest absolute value of a variable."""
    return max(abs(int(end)) for end in variable.proto.domain)


def _domain(operator: str, limit: int) -> cp_model.Domain:
    """The whole numbers that stand so to a limit."""
    lowest, highest = cp_model.INT_MIN, cp_model.INT_MAX
    at_limit = cp_model.Domain(limit, limit)
    return {
        "==": at_limit,
        "!=": at_limit.complement(),
        "<": cp_model.Domain(lowest, limit - 1),
        "<=": cp_model.Domain(lowest, limit),
        ">": cp_model.Domain(limit + 1, highest),
        ">=": cp_model.Domain(limit, highest),
    }[operator]
