"""The units that slices are bought in, single slices or whole instances, and the cost of a number of slices.

The two pools of a plan share instances if both are bought as the same offer, each slice fits into one instance, and the
larger slice is a multiple of the smaller: the fewest instances that hold them can then be counted exactly.
"""

from dataclasses import dataclass, replace

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints, Rows
from servesat.core.tolerances import LIMIT_RTOL


@dataclass(frozen=True)
class Units(Rows):
    """The units that the slices of layouts are bought in; arrays of shape [layouts].

    A unit holds `slices` of `slice_chips` each. It consists of `instances`, or of 0 where slices are bought singly.
    """

    offer: Ints  # a different number for each offer
    slice_chips: Ints
    slices: Ints
    chips: Ints
    instances: Ints
    usd_per_hour: Floats

    def by_slice(self) -> "Units":
        """Units of one slice each, for limits that count slices; empty where there are no slices."""
        ones = np.ones_like(self.slices)
        return replace(self, slices=ones, chips=self.slice_chips, instances=0 * ones)


def no_units(count: int) -> Units:
    """The units of layouts without a prefill pool."""
    none, ones = np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    return Units(none - 1, ones, ones, none, none, np.zeros(count))


@dataclass(frozen=True)
class Purchase(Rows):
    """The units of slices that decode, and of those of a prefill pool; arrays of shape [layouts]."""

    units: Units
    pool: Units

    @property
    def is_shared(self) -> Bools:
        """Whether slices of both pools stand in the same instances."""
        large, small = self._sizes
        together: Bools = (self.units.offer == self.pool.offer) & (large % small == 0)
        together &= (self.units.instances == 1) & (self.pool.instances == 1)
        return together

    def counted(self, slices: Ints | Floats, pool_slices: Ints | Floats) -> tuple[Floats, Floats]:
        """The units that hold the slices of each pool; where pools share instances, the first counts all of them."""
        apart = np.ceil(slices / self.units.slices), np.ceil(pool_slices / self.pool.slices)
        large, small = self._sizes
        ratio = large // small
        decode_is_large = self.units.slice_chips >= self.pool.slice_chips
        large_slices = np.where(decode_is_large, slices, pool_slices)
        small_slices = np.where(decode_is_large, pool_slices, slices)
        of_large = np.ceil(large_slices / np.maximum(self.units.chips // large, 1))
        of_all = np.ceil((large_slices * ratio + small_slices) / np.maximum(self.units.chips // small, 1))
        shared = self.is_shared
        return np.where(shared, np.maximum(of_large, of_all), apart[0]), np.where(shared, 0.0, apart[1])

    def usd_per_hour(self, slices: Ints | Floats, pool_slices: Ints | Floats) -> Floats:
        """The cost per hour of the units that hold the slices of each pool."""
        units, pool_units = self.counted(slices, pool_slices)
        return np.asarray(units * self.units.usd_per_hour + pool_units * self.pool.usd_per_hour)

    def slices_within(
        self, of_unit: Floats | Ints, of_pool_unit: Floats | Ints, limit: Floats | float, pool_slices: Ints | int
    ) -> Floats:
        """The slices that may decode alongside the prefill pool, given what each unit takes of a limit.

        Infinite where a unit takes nothing.
        """
        pool_units = self.counted(np.zeros_like(self.units.slices), pool_slices * np.ones_like(self.units.slices))[1]
        left = limit - pool_units * of_pool_unit
        count = np.floor(np.maximum(left, 0.0) / np.where(of_unit > 0, of_unit, 1))
        large, small = self._sizes
        ratio, chips = large // small, self.units.chips
        room = count * np.maximum(chips // small, 1)
        beside_large = np.where(count * np.maximum(chips // large, 1) >= pool_slices, room - pool_slices * ratio, 0.0)
        beside_small = np.minimum(count * np.maximum(chips // large, 1), np.floor((room - pool_slices) / ratio))
        together = np.where(self.units.slice_chips >= self.pool.slice_chips, beside_small, beside_large)
        slices = np.where(self.is_shared, np.maximum(together, 0.0), count * self.units.slices)
        return np.where(of_unit > 0, slices, np.inf)

    def usd_per_slice_hour(self) -> tuple[Floats, Floats]:
        """The least cost per hour of a slice of each pool, which is reached when units are full."""
        shared = self.is_shared
        found = [
            side.usd_per_hour * np.where(shared, side.slice_chips / np.maximum(side.chips, 1), 1 / side.slices)
            for side in (self.units, self.pool)
        ]
        return found[0], found[1]

    def by_slice(self) -> "Purchase":
        """The same purchase with every slice bought singly."""
        return Purchase(self.units.by_slice(), self.pool.by_slice())

    def swapped(self) -> "Purchase":
        """The purchase with its two pools exchanged."""
        return Purchase(self.pool, self.units)

    @property
    def _sizes(self) -> tuple[Ints, Ints]:
        """Chips of the larger of the two slices, and of the smaller."""
        sizes = self.units.slice_chips, self.pool.slice_chips
        return np.maximum(*sizes), np.minimum(*sizes)


@dataclass(frozen=True)
class SharedLimit:
    """A limit on all slices of a plan together, and what each decode unit and each prefill unit takes of it."""

    limit: float
    of_unit: Floats | Ints
    of_pool_unit: Floats | Ints
    purchase: Purchase

    def is_exceeded_by(self, slices: Ints, pool_slices: Ints) -> Bools:
        """Whether these numbers of slices exceed the limit."""
        units, pool_units = self.purchase.counted(slices, pool_slices)
        taken: Bools = units * self.of_unit + pool_units * self.of_pool_unit > self._limit
        return taken

    def slices_left_by(self, pool_slices: Ints | int) -> Floats:
        """The slices that may decode alongside the prefill pool; infinite where they take nothing."""
        return self.purchase.slices_within(self.of_unit, self.of_pool_unit, self._limit, pool_slices)

    def pool_slices_left_by(self, slices: Ints | int) -> Floats:
        """The slices that may prefill alongside those that decode; infinite where they take nothing."""
        return self.purchase.swapped().slices_within(self.of_pool_unit, self.of_unit, self._limit, slices)

    @property
    def _limit(self) -> float:
        return self.limit * (1 + LIMIT_RTOL)
