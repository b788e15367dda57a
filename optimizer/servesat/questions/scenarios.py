"""Scenarios of a spec: the keys that vary, their values, and the combinations."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import accumulate
from numbers import Real
from typing import Any

import numpy as np

from servesat.catalogue.chip import Chip
from servesat.catalogue.load import chip_ids
from servesat.core.errors import SpecError
from servesat.core.reading import parse_yaml
from servesat.core.validation import annotation_at, holds, nearest, shorten
from servesat.spec.overrides import BY_CHIP, split_key
from servesat.spec.spec import Spec

MAX_VALUES = 1_000_000
"""Largest number of values of a key."""

MAX_SCENARIOS = 10_000_000
"""Largest number of scenarios of a run, which take some three hours."""

LARGEST_WHOLE = 2**53
"""Whole numbers beyond this are not exact as floats."""


@dataclass(frozen=True)
class Factor:
    """A key of the spec with its values, in order.

    Values are JSON values: numpy's numbers, tuples and dates are converted. Raises SpecError for other types, for
    numbers that are not finite, and for duplicates.
    """

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise SpecError(f"{self.key!r}: expected the name of a key, as slo.tpot_ms")
        plain = tuple(_plain(value, self.key) for value in self.values)
        if not plain:
            raise SpecError(f"{self.key}: expected at least one value")
        seen = set()
        for value in plain:
            text = json.dumps(value, sort_keys=True)
            if text in seen:
                raise SpecError(f"{self.key}: {shorten(value)} is listed twice")
            seen.add(text)
        object.__setattr__(self, "values", plain)


def _plain(value: Any, key: str) -> Any:
    """Convert to a JSON value; a float without a fraction becomes a whole number. Raises SpecError."""
    match value:
        case list() | tuple():
            return [_plain(entry, key) for entry in value]
        case Mapping() if all(isinstance(name, str) for name in value):
            return {name: _plain(entry, key) for name, entry in value.items()}
        case date():
            return value.isoformat()
        case Real() if not isinstance(value, bool) and _is_exact(value):
            return int(float(value)) if float(value).is_integer() else float(value)
    is_large_float = isinstance(value, float) and math.isfinite(value)
    if value is None or is_large_float or isinstance(value, bool) or (isinstance(value, str) and value.isprintable()):
        return value
    raise SpecError(f"{key}: {shorten(value)}: expected a finite number, text, a list or a mapping")


def _is_exact(number: Any) -> bool:
    """Whether a whole number of this size is exact as a float; no for NaN and infinity."""
    return bool(-LARGEST_WHOLE <= number <= LARGEST_WHOLE)


@dataclass(frozen=True)
class Scenarios:
    """Every combination of the factors' values, the last factor varying fastest; or each factor alone."""

    factors: tuple[Factor, ...]
    one_at_a_time: bool = False

    def __len__(self) -> int:
        counts = [len(factor.values) for factor in self.factors]
        return sum(counts) if self.one_at_a_time else math.prod(counts)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """The values of a scenario by key: of every factor, or of the single factor that varies."""
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
        """The spec of a scenario. Raises SpecError when the schema refuses its values."""
        values = self[number]
        return base.changed({key: as_written(key, value) for key, value in values.items()})


def as_written(key: str, value: Any) -> Any:
    """A varied value in the form of the schema: a single entry stands for a list with that entry."""
    return [value] if takes_list(key) and value is not None and not isinstance(value, list) else value


def make_scenarios(base: Spec, factors: list[Factor], *, one_at_a_time: bool = False) -> Scenarios:
    """Combine factors. Raises SpecError for a key that does not exist, or that varies twice."""
    for factor in factors:
        check_key(base, factor.key)
    keys = [factor.key for factor in factors]
    repeated = next((key for key in keys if keys.count(key) > 1), None)
    if repeated is not None:
        raise SpecError(f"{repeated}: is varied twice; give all of its values at once")
    scenarios = Scenarios(tuple(factors), one_at_a_time)
    if len(scenarios) > MAX_SCENARIOS:
        raise SpecError(f"{len(scenarios):,} scenarios, expected at most {MAX_SCENARIOS:,}: vary fewer keys or values")
    return scenarios


def check_key(base: Spec, key: str) -> None:
    """Check that a key exists and names known chips. Raises SpecError."""
    type_at(key)
    parts = split_key(key)
    chips = {"chip": parts[1:2], "price": parts[1:2], "search": parts[2:3]}.get(parts[0], [])
    known = {*chip_ids(), *(chip.id for chip in base.chips)}
    for chip in chips:
        if chip not in known:
            raise SpecError(f"{key}: no chip '{chip}'; {nearest(chip, known)}")


def type_at(key: str) -> Any:
    """The type of the value at a key of a spec, including `model.FIELD` and `chip.ID.FIELD`.

    Raises SpecError for a key that does not exist, with the keys near it, and for a key inside a price book or a list,
    which other keys replace.
    """
    parts = split_key(key)
    if parts[0] == "price_book" and len(parts) > 1:
        raise SpecError(f"{key}: the prices of a book cannot be changed; give one of yours, as in price.tpu-v5e")
    try:
        if parts[0] == "chip" and len(parts) > 2:
            return annotation_at(Chip, parts[2:])
        annotation = annotation_at(Spec, parts)
    except KeyError as fault:
        raise SpecError(f"{key}: {fault.args[0]}") from None
    if parts[0] == "chip":
        raise SpecError(f"{key}: expected a field of the chip, as in chip.tpu-v5e.hbm_bytes")
    if any(part.isdecimal() for part in parts) and parts[:-1] not in [prefix.split(".") for prefix in BY_CHIP]:
        raise SpecError(
            f"{key}: expected a whole list, as in search.weights=[int8,int4]; fields of a chip are chip.ID.*"
        )
    return annotation


def takes_list(key: str) -> bool:
    """Whether the value at a key of a spec is a list: `search.weights`."""
    return holds(type_at(key), tuple)


def takes_whole_number(key: str) -> bool:
    """Whether the value at a key of a spec is a whole number: `workload.context_tokens`."""
    return holds(type_at(key), int)


def parse_factor(text: str) -> Factor:
    """Read `KEY=VALUES`: a list `8,16,null`, a range with a step `8:40:2`, or evenly spaced values `0.6..1.8x13`.

    Ranges include both ends, the last where a step ends on it. A value may itself be a list:
    `search.weights=[int8,int4],int4`. Raises SpecError.
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
    if not set("[]{},'\"/") & set(text):
        if ".." in text:
            return _evenly_spaced(text)
        if text.count(":") == 2:
            return _stepped(text)
    listed = parse_yaml(f"[{text}\n]", where, SpecError)
    return tuple(listed) if isinstance(listed, list) else ()


def _evenly_spaced(text: str) -> tuple[float, ...]:
    """`START..STOPxCOUNT`: COUNT evenly spaced values, both ends included."""
    ends, x, count = text.rpartition("x")
    first, _, last = ends.partition("..")
    if not x or not count.isdecimal():
        raise ValueError("expected START..STOPxCOUNT, as in 0.6..1.8x13")
    start, stop = _number(first), _number(last)
    _refuse_reversed(start, stop)
    if not 2 <= int(count) <= MAX_VALUES:
        raise ValueError(f"expected from 2 to {MAX_VALUES:,} values")
    inner = np.linspace(start, stop, int(count))[1:-1]
    return (start, *map(_rounded, inner), stop)


def _stepped(text: str) -> tuple[float, ...]:
    """`START:STOP:STEP`: values from START in steps, including STOP if a whole number of steps leads to it."""
    start, stop, step = map(_number, text.split(":"))
    _refuse_reversed(start, stop)
    if step <= 0:
        raise ValueError(f"a step of {step:g}: expected more than 0")
    steps = (stop - start) / step
    if steps >= MAX_VALUES:
        raise ValueError(f"{steps:,.0f} values, expected at most {MAX_VALUES:,}")
    count = math.floor(steps * (1 + 1e-12) + 1e-9) + 1
    return tuple(map(_rounded, start + step * np.arange(count)))


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


def _rounded(value: float) -> float:
    """Round to 15 digits: 0.3, where adding up steps gives 0.30000000000000004."""
    return float(f"{value:.15g}")
