"""The constraints of a spec on columns: their truth for each, as arrays.

Figures are compared as whole numbers of their smallest unit (a ns, a millionth of a dollar) and numbers exactly, so
that the solver, which knows whole numbers only, compares the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import numpy as np
import numpy.typing as npt

from servesat.candidates.columns import Columns
from servesat.candidates.layouts import KV_LAYOUTS, MODES, Layouts, ShardedSlice
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.errors import SpecError
from servesat.core.plan import KvLayout
from servesat.spec.expressions import (
    NAMES,
    All,
    Arithmetic,
    Comparison,
    Expression,
    Key,
    Level,
    Name,
    Not,
    Number,
    Some,
    Term,
    Text,
    Truth,
    Type,
    ends_with_slices,
    type_of,
    worked_out,
)
from servesat.spec.spec import Spec

CONSTRAINT_SHIFT = 32
"""The bit of a spec's first constraint in a violation mask, beyond those of requirements and of widened searches."""

MAX_VALUE = 1 << 62
"""Whole numbers below this are exact, in arrays and in the solver."""

COMPARE: dict[str, Callable[[Any, Any], Any]] = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(frozen=True)
class Values:
    """What constraints name, for rows of layouts at batches; figures only where there are `columns`."""

    layouts: Layouts
    batch: Ints
    columns: Columns | None = None

    def __len__(self) -> int:
        return len(self.batch)

    def texts(self, name: str) -> npt.NDArray[np.str_]:
        """The text of each row; `none` where it has none."""
        pool = name.startswith("prefill.")
        name, layouts, serving = name.removeprefix("prefill."), self.layouts, self.layouts.serving
        if name == "mode":
            return np.array([str(mode) for mode in MODES])[serving.mode]
        if name in {"weights", "kv_cache", "compute", "engine", "draft"}:
            of_row, texts = serving.pool_dtype if pool else layouts.dtype, [getattr(d, name) for d in layouts.dtypes]
        else:
            of_row, texts = serving.pool_place if pool else layouts.place, [_text(p, name) for p in layouts.places]
        return np.array([*(text or "none" for text in texts), "none"])[of_row]  # -1 stands for no pool

    def whole(self, name: Name) -> Ints:
        """The number of each row, in its smallest unit. Raises TypeError for a figure without columns."""
        layouts, serving = self.layouts, self.layouts.serving
        held = {
            "batch": self.batch,
            "tp": layouts.tp,
            "ep": np.asarray(layouts.replica.ep).astype(np.int64),
            "pp": np.asarray(layouts.replica.pp).astype(np.int64),
            "replicas": layouts.replicas,
            "kv_batch_shards": layouts.batch_shards,
            "chunk_tokens": serving.chunk,
            "draft_tokens": np.array([choice.draft_tokens for choice in layouts.dtypes], dtype=np.int64)[layouts.dtype],
            "prefill.slices": serving.pool_slices,
        }
        if name.id in held:
            return held[name.id]
        if name.id == "kv_replicated":
            return np.where(layouts.kv_layout == KV_LAYOUTS.index(KvLayout.COPIES), 1, 0)
        if name.id in {"prefill.tp", "prefill.ep", "prefill.pp"}:
            axes = f"{name.id.removeprefix('prefill.')}_axes"
            ways = [place.ways(getattr(place.sharding, axes)) for place in layouts.places]
            return np.array([*ways, 0], dtype=np.int64)[serving.pool_place]
        if self.columns is None:
            raise TypeError(f"{name.id} is known of columns only")
        return _rounded(self.columns, name)


def _text(place: ShardedSlice, name: str) -> str:
    """A text of a place; `none` where its price names none."""
    if name == "chip":
        return place.offer.chip.id
    if name == "topology":
        return place.topology
    if name == "kv_layout":
        return place.sharding.kv_layout
    return "none" if place.offer.price is None else getattr(place.offer.price, name) or "none"


def _rounded(columns: Columns, name: Name) -> Ints:
    """A figure of each column, in its smallest unit."""
    figures = {
        "slices": columns.slices,
        "chips": columns.chips,
        "instances": columns.instances,
        "tpot_ms": columns.tpot_s * 1e3,
        "ttft_ms": columns.ttft_s * 1e3,
        "e2e_ms": columns.e2e_s * 1e3,
        "stall_ms": columns.stall_s * 1e3,
        "usd_per_hour": columns.usd_per_hour,
        "usd_per_million_output_tokens": columns.usd_per_million,
        "hbm_used_fraction": columns.hbm_used_fraction,
        "tokens_per_s": columns.tokens_per_s,
    }
    scaled: Floats = np.minimum(figures[name.id] * float(name.scale), 2.0**60)
    return np.rint(scaled).astype(np.int64)


def satisfied(spec: Spec, expression: Expression, values: Values) -> Bools:
    """Which rows satisfy a constraint; shape [rows]. Raises SpecError for numbers beyond the solver's."""
    try:
        return _truth(spec, expression.tree, values)
    except OverflowError:
        raise SpecError(
            f"constraints: {expression.text}: its numbers are too large to compare exactly, expected fewer than 19 "
            "digits; write it with smaller ones"
        ) from None


def _truth(spec: Spec, node: Truth, values: Values) -> Bools:
    match node:
        case Not():
            return ~_truth(spec, node.of, values)
        case All():
            rows = np.ones(len(values), dtype=np.bool_)
            for part in node.of:
                rows &= _truth(spec, part, values)
            return rows
        case Some():
            rows = np.zeros(len(values), dtype=np.bool_)
            for part in node.of:
                rows |= _truth(spec, part, values)
            return rows
        case Name():
            held: Bools = values.whole(node) == 1
            return held
        case _:
            return comparison(spec, node, values)


def comparison(spec: Spec, node: Comparison, values: Values) -> Bools:
    """Where a comparison holds; shape [rows]. Raises OverflowError for numbers beyond the solver's."""
    compare = COMPARE[node.operator]
    if type_of(node.left) is Type.TEXT:
        texts = [side.value if isinstance(side, Text) else values.texts(side.id) for side in (node.left, node.right)]  # type: ignore[union-attr]
        same: Bools = np.broadcast_to(np.asarray(compare(*texts)), len(values))
        return same
    left, right = _number(spec, node.left, values), _number(spec, node.right, values)
    one, other = _to_common_scale(left, right)
    found: Bools = np.broadcast_to(np.asarray(compare(one, other)), len(values))
    return found


@dataclass(frozen=True)
class _Scaled:
    """Numbers: whole / scale."""

    whole: Ints
    scale: int

    def times(self, factor: int, scale: int) -> "_Scaled":
        """The numbers times factor, at another scale. Raises OverflowError."""
        largest = max(abs(int(self.whole.max(initial=0))), abs(int(self.whole.min(initial=0))))
        if largest * abs(factor) >= MAX_VALUE:
            raise OverflowError
        return _Scaled(self.whole * factor, scale)


def _to_common_scale(left: _Scaled, right: _Scaled) -> tuple[Ints, Ints]:
    scale = np.lcm(left.scale, right.scale) if max(left.scale, right.scale) < MAX_VALUE else 0
    if not 0 < scale < MAX_VALUE:
        raise OverflowError
    parts = [part.times(int(scale) // part.scale, int(scale)).whole for part in (left, right)]
    return parts[0], parts[1]


def _number(spec: Spec, term: Term, values: Values) -> _Scaled:
    match term:
        case Number():
            return _constant(term.value)
        case Key():
            return _constant(spec.number_at(term.key))
        case Name():
            return _Scaled(values.whole(term), term.scale)
        case Arithmetic():
            return _worked_out(term.operator, _number(spec, term.left, values), _number(spec, term.right, values))
        case _:
            raise TypeError(f"{term} is no number")


def _constant(value: Fraction) -> _Scaled:
    if max(abs(value.numerator), value.denominator) >= MAX_VALUE:
        raise OverflowError
    return _Scaled(np.array(value.numerator, dtype=np.int64), value.denominator)


def _worked_out(operator: str, left: _Scaled, right: _Scaled) -> _Scaled:
    match operator:
        case "+" | "-":
            one, other = _to_common_scale(left, right)
            scale = int(np.lcm(left.scale, right.scale))
            return _Scaled(one + other if operator == "+" else one - other, scale).times(1, scale)
        case "*":
            largest = [float(np.abs(side.whole).max(initial=0)) for side in (left, right)]
            if largest[0] * largest[1] >= MAX_VALUE or left.scale * right.scale >= MAX_VALUE:
                raise OverflowError
            return _Scaled(left.whole * right.whole, left.scale * right.scale)
        case "/":
            divisor = Fraction(int(right.whole), right.scale)
            if divisor == 0:
                raise SpecError("constraints: a key of the spec that is 0 divides")
            return left.times(divisor.denominator * (1 if divisor > 0 else -1), left.scale * abs(divisor.numerator))
        case _:
            divisor_whole = left.scale * int(right.whole)
            if operator == "//":
                return _Scaled(left.whole // divisor_whole, 1)
            return _Scaled(left.whole % divisor_whole, left.scale)


def kept_constraints(spec: Spec, relaxed: int) -> tuple[Expression, ...]:
    """The constraints of a spec, but for those relaxed."""
    bits = constraint_bits(spec)
    return tuple(expression for expression in spec.expressions if not relaxed & bits[expression.text])


def choices(constraints: Sequence[Expression], columns: Columns) -> Ints:
    """A number for each column, the same for those that none of some constraints can tell apart; shape [columns]."""
    return alike([name for expression in constraints for name in expression.names], columns)


def alike(names: Sequence[Name], columns: Columns) -> Ints:
    """A number for each column, the same for those that differ in none of some names; shape [columns]."""
    values = Values(columns.layouts, columns.batch, columns)
    number = np.zeros(len(columns), dtype=np.int64)
    for name in dict.fromkeys(names):
        of_name = values.texts(name.id) if name.type is Type.TEXT else values.whole(name)
        distinct, code = np.unique(of_name, return_inverse=True)
        number = np.unique(number * len(distinct) + code, return_inverse=True)[1]
    return number


def numbers(spec: Spec, term: Term, values: Values) -> Floats:
    """A number of each row; shape [rows]."""
    found = _number(spec, term, values)
    return np.broadcast_to(found.whole / found.scale, len(values))


def constant_of(spec: Spec, term: Term) -> Fraction:
    """A number in which no name of a plan occurs. Raises TypeError for another term."""
    match term:
        case Number():
            return term.value
        case Key():
            return spec.number_at(term.key)
        case Arithmetic():
            return worked_out(term.operator, constant_of(spec, term.left), constant_of(spec, term.right))
        case _:
            raise TypeError(f"{term} is no constant")


def constraint_bits(spec: Spec) -> dict[str, int]:
    """The bit of each constraint in a violation mask, by its text."""
    return {expression.text: 1 << (CONSTRAINT_SHIFT + at) for at, expression in enumerate(spec.expressions)}


def upper_limit_bits(spec: Spec) -> int:
    """The mask of the constraints that are upper limits on what is least with the fewest slices: `chips <= 8`.

    Throughput grows with the slices too, but a smaller batch has less of it on more of them.
    """
    bits, throughput = constraint_bits(spec), NAMES["tokens_per_s"]
    return sum(bits[one.text] for one in spec.expressions if ends_with_slices(one) and throughput not in one.names)


def all_satisfied(spec: Spec, values: Values, level: Level, relaxed: int = 0) -> Bools:
    """Which rows satisfy every constraint whose truth is fixed at a level, but for those relaxed; shape [rows]."""
    rows = np.ones(len(values), dtype=np.bool_)
    for expression in kept_constraints(spec, relaxed):
        if expression.level <= level:
            rows &= satisfied(spec, expression, values)
    return rows
