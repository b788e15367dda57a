"""Which keys of a spec vary, over which values, and the scenarios that they make."""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from servesat.catalogue import chip_ids
from servesat.errors import SpecError
from servesat.spec import Spec, takes_list, type_at
from servesat.validation import nearest, parse_yaml, refuse_duplicates

MAX_VALUES = 1_000_000
"""Values of one key; more than anyone reads, and few enough to hold."""


@dataclass(frozen=True)
class Factor:
    """A key of the spec with the values it takes, in the order given."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Scenarios:
    """Every combination of the factors' values, the last factor fastest; or each factor alone, at each of them."""

    factors: tuple[Factor, ...]
    one_at_a_time: bool = False

    def __len__(self) -> int:
        counts = [len(factor.values) for factor in self.factors]
        return sum(counts) if self.one_at_a_time else math.prod(counts)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The values of one scenario, by key: of every factor, or of the one that varies."""
        if self.one_at_a_time:
            ends = list(accumulate(len(factor.values) for factor in self.factors))
            at = next(position for position, end in enumerate(ends) if number < end)
            factor = self.factors[at]
            return {factor.key: factor.values[number - ends[at] + len(factor.values)]}
        chosen = {}
        for factor in reversed(self.factors):
            number, position = divmod(number, len(factor.values))
            chosen[factor.key] = factor.values[position]
        return {factor.key: chosen[factor.key] for factor in self.factors}

    def applied(self, base: Spec, number: int) -> Spec:
        """The spec of one scenario. Raises SpecError when the schema refuses its values."""
        values = self[number]
        return base.changed({key: as_written(key, value) for key, value in values.items()})


def as_written(key: str, value: Any) -> Any:
    """A varied value as the spec's schema takes it: one entry of a list stands for a list of one."""
    return [value] if takes_list(key) and value is not None and not isinstance(value, list) else value


def scenarios(base: Spec, factors: list[Factor], *, one_at_a_time: bool = False) -> Scenarios:
    """Put factors together. Raises SpecError for a key that does not exist, or that is named twice."""
    for factor in factors:
        check_key(base, factor.key)
    keys = [factor.key for factor in factors]
    repeated = next((key for key in keys if keys.count(key) > 1), None)
    if repeated is not None:
        raise SpecError(f"{repeated}: is varied twice; give all of its values at once")
    return Scenarios(tuple(factors), one_at_a_time)


def check_key(base: Spec, key: str) -> None:
    """Raise SpecError for a key that a spec does not have, or that names an unknown chip."""
    type_at(key)
    for shelf in ("chip.", "price.", "search.topologies."):
        if key.startswith(shelf):
            chip = key.removeprefix(shelf).split(".")[0]
            known = {*chip_ids(), *(offer.chip.id for offer in base.offers)}
            if chip not in known:
                raise SpecError(f"{key}: no chip '{chip}'; {nearest(chip, known)}")


def parse_factor(text: str) -> Factor:
    """Read `KEY=VALUES`: a list `8,16,null`, a range with its step `8:40:2`, or a number of values `0.6..1.8x13`.

    Both ends of a range belong to it. A value may be a list itself: `search.weights=[int8,int4],int4`. Raises
    SpecError.
    """
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")) or not values.strip():
        raise SpecError(f"--vary {text!r}: expected KEY=VALUES, as in slo.tpot_ms=8:40:2")
    try:
        return Factor(key, _values(values.strip(), f"--vary {text!r}"))
    except ValueError as fault:
        raise SpecError(f"--vary {text!r}: {fault}") from None


def _values(text: str, where: str) -> tuple[Any, ...]:
    if not set("[]{},'\"") & set(text):
        if ".." in text:
            return _evenly(text)
        if text.count(":") == 2:
            return _stepped(text)
    listed = parse_yaml(f"[{text}]", where, SpecError)
    if not isinstance(listed, list) or not listed:
        raise ValueError("expected at least one value")
    refuse_duplicates([_hashable(value) for value in listed])
    return tuple(listed)


def _hashable(value: Any) -> Any:
    """A value to compare with others: lists as tuples, and 1 apart from true."""
    return (type(value), tuple(map(_hashable, value)) if isinstance(value, list) else str(value))


def _evenly(text: str) -> tuple[float | int, ...]:
    """`START..STOPxCOUNT`: that many values, evenly spaced, both ends among them."""
    ends, x, count = text.rpartition("x")
    first, _, last = ends.partition("..")
    if not x or not count.isdigit():
        raise ValueError("expected START..STOPxCOUNT, as in 0.6..1.8x13")
    start, stop = _number(first), _number(last)
    _refuse_reversed(start, stop)
    if not 2 <= int(count) <= MAX_VALUES:
        raise ValueError(f"expected from 2 to {MAX_VALUES:,} values")
    return _tidy(np.linspace(start, stop, int(count)), start, stop)


def _stepped(text: str) -> tuple[float | int, ...]:
    """`START:STOP:STEP`: from the start in steps, the stop among them where a whole number of steps leads there."""
    start, stop, step = map(_number, text.split(":"))
    _refuse_reversed(start, stop)
    if step <= 0:
        raise ValueError(f"a step of {step:g}: expected more than 0")
    count = math.floor((stop - start) / step * (1 + 1e-12) + 1e-9) + 1
    if count > MAX_VALUES:
        raise ValueError(f"{count:,} values, expected at most {MAX_VALUES:,}")
    return _tidy(start + step * np.arange(count), start, step)


def _refuse_reversed(start: float, stop: float) -> None:
    if start >= stop:
        raise ValueError(f"the range from {start:g} to {stop:g} is {'empty' if start == stop else 'reversed'}")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r}: expected a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{text!r}: expected a finite number")
    return value


def _tidy(values: Any, *given: float) -> tuple[float | int, ...]:
    """Values as a person would write them: without the rounding of sums, whole where all that was given is whole."""
    rounded = [float(f"{value:.12g}") for value in values]
    whole = all(value.is_integer() for value in (*rounded, *given))
    return tuple(int(value) for value in rounded) if whole else tuple(rounded)
