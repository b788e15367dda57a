"""The kinds of numbers that the cost model takes and gives: one, or one for each layout or column."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Array = Floats | np.float64 | float
"""A quantity: a number, or an array of one shape over layouts or columns."""


@dataclass(frozen=True)
class Rows:
    """A record of arrays with one entry a row; what is no array, and no record of them, is shared by all rows."""

    def take(self, rows: Ints) -> Self:
        """The rows at these positions, in that order and as often."""
        return type(self)(**{name: _taken(value, rows) for name, value in _parts(self)})

    def join(self, *others: Self) -> Self:
        """These rows followed by others that share the rest."""
        if not others:
            return self
        parts = [dict(_parts(other)) for other in others]
        joined = {name: _joined(value, [part[name] for part in parts]) for name, value in _parts(self)}
        return type(self)(**joined)


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
