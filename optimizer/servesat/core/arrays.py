"""Array types of the cost model, and records of arrays with an entry per row."""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Array = Floats | np.float64 | float
"""A quantity: a number, or an array over layouts or columns."""


KEPT_TIMES = 4
"""Rows are copied at once from a source of more than this many times as many, so that a few do not keep it alive."""

Record = TypeVar("Record", bound="Rows")


@dataclass(frozen=True)
class Rows:
    """A record whose arrays, and arrays of nested `Rows`, have an entry per row; the rows share all other fields."""

    def take(self, rows: Ints) -> Self:
        """The rows at these positions, in this order; a position may repeat.

        Each array is taken when it is first asked for, as most never are. Few rows are taken at once, so that they do
        not keep the many that they are taken from.
        """
        whole, of_whole = self.__dict__.get("_taken_from", (self, None))
        if len(rows) * KEPT_TIMES < _count(whole):
            return type(self)(**{name: _taken(value, rows) for name, value in _parts(self)})
        taken = object.__new__(type(self))
        taken.__dict__["_taken_from"] = whole, rows if of_whole is None else of_whole[rows]
        for field in fields(self):
            if field.default is not MISSING:  # which would hide that it is not taken yet
                taken.__dict__[field.name] = _taken(getattr(self, field.name), rows)
        return taken

    if not TYPE_CHECKING:  # where every attribute would then exist

        def __getattr__(self, name: str) -> Any:
            """Take a field when it is first asked for."""
            if "_taken_from" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            whole, rows = self.__dict__["_taken_from"]
            value = self.__dict__[name] = _taken(getattr(whole, name), rows)
            return value

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


def _count(record: Rows) -> int:
    """The rows of a record, as far as its arrays say."""
    return next((len(value) for value in record.__dict__.values() if isinstance(value, np.ndarray)), 0)


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
