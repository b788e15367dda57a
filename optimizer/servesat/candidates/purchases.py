"""What slices are bought in: units of one slice, or of whole instances, and what is paid for a number of slices.

Slices of both pools of a plan stand in the same instances where these are of one offer, each slice fits into one of
them, and the larger slice is a multiple of the smaller one: then the fewest instances that hold them are known exactly.
"""

from dataclasses import dataclass, replace

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints, Rows
from servesat.core.tolerances import LIMIT_RTOL


@dataclass(frozen=True)
class Units(Rows):
    """What the slices of layouts are bought in; arrays of shape [layouts].

    A unit holds `slices` of `slice_chips` each. It has `instances`, or 0 where a slice is bought by itself.
    """

    offer: Ints  # a number of its own for each offer
    slice_chips: Ints
    slices: Ints
    chips: Ints
    instances: Ints
    usd_per_hour: Floats

    def by_slice(self) -> "Units":
        """Units of one slice each, for limits that count slices; none where there are no slices."""
        ones = np.ones_like(self.slices)
        return replace(self, slices=ones, chips=self.slice_chips, instances=0 * ones)


def no_units(count: int) -> Units:
    """Units of no pool, for so many layouts."""
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
        """The units that hold some slices of each pool: units of its own for each, or all of them of the first."""
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
        """What the units of some slices of each pool cost an hour."""
        units, pool_units = self.counted(slices, pool_slices)
        return np.asarray(units * self.units.usd_per_hour + pool_units * self.pool.usd_per_hour)

    def slices_within(
        self, of_unit: Floats | Ints, of_pool_unit: Floats | Ints, limit: Floats | float, pool_slices: Ints | int
    ) -> Floats:
        """The slices that may decode beside those of the prefill pool, where each unit takes so much of a limit.

        Infinite where units take nothing of it.
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
        """The least that a slice of each pool costs an hour, where the units are full."""
        shared = self.is_shared
        found = [
            side.usd_per_hour * np.where(shared, side.slice_chips / np.maximum(side.chips, 1), 1 / side.slices)
            for side in (self.units, self.pool)
        ]
        return found[0], found[1]

    def by_slice(self) -> "Purchase":
        """The purchase of each slice by itself."""
        return Purchase(self.units.by_slice(), self.pool.by_slice())

    def swapped(self) -> "Purchase":
        """The purchase with its pools in each other's place."""
        return Purchase(self.pool, self.units)

    @property
    def _sizes(self) -> tuple[Ints, Ints]:
        """Chips of the larger slice of the two, and of the smaller one."""
        sizes = self.units.slice_chips, self.pool.slice_chips
        return np.maximum(*sizes), np.minimum(*sizes)


@dataclass(frozen=True)
class SharedLimit:
    """A limit on all slices of a plan together: what each unit that decodes takes of it, and each that prefills."""

    limit: float
    of_unit: Floats | Ints
    of_pool_unit: Floats | Ints
    purchase: Purchase

    def is_exceeded_by(self, slices: Ints, pool_slices: Ints) -> Bools:
        """Whether that many slices of each pool take more than there is."""
        units, pool_units = self.purchase.counted(slices, pool_slices)
        taken: Bools = units * self.of_unit + pool_units * self.of_pool_unit > self._limit
        return taken

    def slices_left_by(self, pool_slices: Ints | int) -> Floats:
        """The slices that may decode beside those of the prefill pool; infinite where they take nothing."""
        return self.purchase.slices_within(self.of_unit, self.of_pool_unit, self._limit, pool_slices)

    def pool_slices_left_by(self, slices: Ints | int) -> Floats:
        """The slices that may prefill beside those that decode; infinite where they take nothing."""
        return self.purchase.swapped().slices_within(self.of_pool_unit, self.of_unit, self._limit, slices)

    @property
    def _limit(self) -> float:
        return self.limit * (1 + LIMIT_RTOL)
