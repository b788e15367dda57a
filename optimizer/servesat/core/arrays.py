"""Array types of the cost model, and records of arrays with an entry per row."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Array = Floats | np.float64 | float
"""A quantity: a number, or an array over layouts or columns."""


Record = TypeVar("Record", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """A record whose arrays, and arrays of nested `Rows`, have an entry per row; the rows share all other fields."""

    def take(self, rows: Ints) -> Self:
        """The rows at these positions, in this order; a position may repeat."""
        return type(self)(**{name: _taken(value, rows) for name, value in _parts(self)})

    def join(self, *others: Self) -> Self:
        """These rows followed by the rows of others, whose shared fields must be the same."""
        if not others:
            return self
        parts = [dict(_parts(other)) for other in others]
        joined = {name: _joined(value, [part[name] for part in parts]) for name, value in _parts(self)}
        return type(self)(**joined)


def join_all(records: "Iterable[Record]") -> "Record":
    """The rows of one record after another; at least one."""
    first, *others = records
    return first.join(*others)


def _parts(record: Rows) -> list[tuple[str, Any]]:
    return [(field.name, getattr(record, field.name)) for field in fields(record)]


def _taken(value: Any, rows: Ints) -> Any:
    if isinstance(value, Rows):
        return value.take(rows)
    return value[rows] if isinstance(value, np.ndarray) else value


def _joined(value: Any, others: list[Any]) -> Any:
    if isinstance(value, Rows):
        return value.join(*others)
    return np.concatenate([value, *others]) if isinstance(value, np.ndarray) else value
