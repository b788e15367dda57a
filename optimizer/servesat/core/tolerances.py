"""What it means to meet a limit, to tie, and to be a whole number, in spite of the rounding of floats."""

import numpy as np

from servesat.core.arrays import Array, Bools, Floats, Ints

LIMIT_RTOL = 1e-9
"""A limit met within this relative error is met: 15 ms is not missed by the rounding of a float."""

COST_TIE_RTOL = 1e-6
"""Plans within this relative cost of the cheapest tie with it."""


def is_at_most(value: Array | Ints, limit: Array | Ints) -> Bools:
    """Whether a value meets an upper limit: value ≤ limit · (1 + LIMIT_RTOL)."""
    met: Bools = np.asarray(value) <= np.asarray(limit) * (1 + LIMIT_RTOL)
    return met


def is_at_least(value: Array | Ints, limit: Array | Ints) -> Bools:
    """Whether a value meets a lower limit: value · (1 + LIMIT_RTOL) ≥ limit."""
    met: Bools = np.asarray(value) * (1 + LIMIT_RTOL) >= limit
    return met


def round_up(count: Array) -> Floats:
    """The next whole number, unless the count exceeds one only by rounding: 21.000000001 is 21, 21.1 is 22."""
    return np.ceil(np.asarray(count) * (1 - LIMIT_RTOL))


def round_down(count: Array) -> Floats:
    """The whole number before, unless the count falls short of one only by rounding: 20.999999999 is 21, 20.9 is 20."""
    return np.floor(np.asarray(count) * (1 + LIMIT_RTOL))


def snap(count: float) -> float:
    """A count as the whole number that it misses only by rounding, or as it is: 12,800 · 0.58 is 7,424."""
    whole = float(round(count))
    return whole if abs(count - whole) <= LIMIT_RTOL * max(1.0, abs(count)) else count
