"""Swaps of covers that bring what a period uses within its limits and then reduce its cost, in a moment."""

import time
from typing import NamedTuple

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints

GAIN_RTOL = 1e-9
"""A gain within this share of what all covers chosen cost is rounding."""


class CoverTable(NamedTuple):
    """The covers to choose from: what each uses of each limit, [covers, limits], costs [$ an hour], and its block."""

    used_by: Ints
    usd: Floats
    block: Ints
    available: Ints  # [limits]


class Choice(NamedTuple):
    """The cover of each block, the units that they use beyond the limits, and what they cost [$ an hour]."""

    covers: Ints
    excess: int
    usd: float


def swapped(covers: CoverTable, chosen: Ints, deadline: float) -> Choice:
    """The covers chosen for the blocks, [blocks], after swaps, of one or two at a time, for others of the same blocks.

    Swaps first reduce the excess, what all chosen covers use beyond the limits, those that cost least for each unit
    first; then the cost. They end where none of them gains, or at `deadline`, a moment of `time.perf_counter`.
    """
    swaps = _Swaps(covers, chosen)
    while swaps.excess() and time.perf_counter() < deadline:
        if not (swaps.relieve_by_one() or swaps.relieve_by_two(deadline)):
            break
    while swaps.reduce_cost(deadline):
        pass
    return Choice(swaps.chosen, swaps.excess(), float(covers.usd[swaps.chosen].sum()))


class _Swaps:
    """A cover of each block, and what it would change to choose another."""

    def __init__(self, covers: CoverTable, chosen: Ints) -> None:
        self.used_by, self.usd, self.block, available = covers
        self.chosen = chosen.copy()
        self.beyond = self.used_by[chosen].sum(axis=0) - available  # the limits, negative where some is left
        self.change = self.used_by - self.used_by[chosen[self.block]]
        self.more_usd = self.usd - self.usd[chosen[self.block]]
        self.min_gain = GAIN_RTOL * float(self.usd[chosen].sum())

    def swap(self, cover: int) -> None:
        """Choose another cover of a block."""
        of_block = self.block == self.block[cover]
        self.beyond = self.beyond + self.change[cover]
        self.chosen[self.block[cover]] = cover
        self.change[of_block] = self.used_by[of_block] - self.used_by[cover]
        self.more_usd[of_block] = self.usd[of_block] - self.usd[cover]

    def excess(self) -> int:
        """The units used beyond all limits."""
        return int(np.maximum(self.beyond, 0).sum())

    def relieve_by_one(self) -> bool:
        """Make the swap that reduces the excess at the least cost for each unit; whether there is one."""
        usd_a_unit = self._usd_a_unit(self.excess() - np.maximum(self.beyond + self.change, 0).sum(axis=1))
        best = int(np.argmin(usd_a_unit))
        if np.isinf(usd_a_unit[best]):
            return False
        self.swap(best)
        return True

    def relieve_by_two(self, deadline: float) -> bool:
        """Make the two swaps that do so; the first of them takes less of a limit that is exceeded."""
        least, best = np.inf, (0, 0)
        for first in np.flatnonzero((self.change[:, self.beyond > 0] < 0).any(axis=1)).tolist():
            if time.perf_counter() > deadline:
                break
            less = self.excess() - np.maximum(self.beyond + self.change[first] + self.change, 0).sum(axis=1)
            usd_a_unit = self._usd_a_unit(np.where(self._is_other(first), less, 0), float(self.more_usd[first]))
            second = int(np.argmin(usd_a_unit))
            if usd_a_unit[second] < least:
                least, best = float(usd_a_unit[second]), (first, second)
        if np.isinf(least):
            return False
        for cover in best:
            self.swap(cover)
        return True

    def reduce_cost(self, deadline: float) -> bool:
        """Try each swap that costs less, with another where it takes too much of a limit; whether any was made."""
        gained = False
        for first in np.argsort(self.more_usd).tolist():
            if time.perf_counter() > deadline:
                return False
            if self.more_usd[first] >= -self.min_gain:
                continue
            left = np.maximum(-self.beyond, 0) - self.change[first]
            if (left >= 0).all():
                self.swap(first)
                gained = True
                continue
            makes_room = (self.change[:, left < 0] <= left[left < 0]).all(axis=1)
            gains = self.more_usd < -self.more_usd[first] - self.min_gain
            seconds = np.flatnonzero(makes_room & gains & self._is_other(first))
            seconds = seconds[(self.change[seconds] <= left).all(axis=1)]
            if len(seconds):
                second = int(seconds[np.argmin(self.more_usd[seconds])])
                self.swap(first)
                self.swap(second)
                gained = True
        return gained

    def _is_other(self, cover: int) -> Bools:
        """The covers of the other blocks."""
        others: Bools = self.block != self.block[cover]
        return others

    def _usd_a_unit(self, less: Ints, added_usd: float = 0.0) -> Floats:
        """What each swap costs for each unit of excess that it saves, infinite where it saves none."""
        return np.where(less > 0, (self.more_usd + added_usd) / np.maximum(less, 1), np.inf)
