"""Tolerances for limits, ties and whole numbers under floating-point rounding."""

import numpy as np

from servesat.core.arrays import Array, Bools, Floats, Ints

LIMIT_RTOL = 1e-9
"""A limit that is exceeded by at most this relative error is met."""

COST_TIE_RTOL = 1e-6
"""Plans whose cost is within this relative distance of the cheapest tie with it."""


def is_at_most(value: Array | Ints, limit: Array | Ints) -> Bools:
    """Whether a value meets an upper limit: value ≤ limit · (1 + LIMIT_RTOL)."""
    met: Bools = np.asarray(value) <= np.asarray(limit) * (1 + LIMIT_RTOL)
    return met


def is_at_least(value: Array | Ints, limit: Array | Ints) -> Bools:
    """Whether a value meets a lower limit: value · (1 + LIMIT_RTOL) ≥ limit."""
    met: Bools = np.asarray(value) * (1 + LIMIT_RTOL) >= limit
    return met


def round_up(count: Array) -> Floats:
    """Round up, ignoring an excess within LIMIT_RTOL: 21.000000001 to 21, 21.1 to 22."""
    return np.ceil(np.asarray(count) * (1 - LIMIT_RTOL))


def round_down(count: Array) -> Floats:
    """Round down, ignoring a shortfall within LIMIT_RTOL: 20.999999999 to 21, 20.9 to 20."""
    return np.floor(np.asarray(count) * (1 + LIMIT_RTOL))


def whole_units(amount: Array, unit: float) -> Ints:
    """How many whole units an amount holds, without tolerance: their sum fits wherever that of the amounts does."""
    units: Ints = np.floor(np.asarray(amount) / unit).astype(np.int64)
    return units


def round_to_loose_side(figure: float, *, at_least: bool) -> float:
    """The nearest limit of nine decimals that a figure meets without tolerance: above it, or below it (`at_least`)."""
    limit = round(figure, 9)
    if at_least:
        return limit if limit <= figure else round(limit - 1e-9, 9)
    return limit if limit >= figure else round(limit + 1e-9, 9)


def snap(count: float) -> float:
    """Round a count to the whole number within LIMIT_RTOL, if there is one: 12,800 · 0.58 to 7,424."""
    whole = float(round(count))
    return whole if abs(count - whole) <= LIMIT_RTOL * max(1.0, abs(count)) else count
