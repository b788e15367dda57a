"""Every layout a spec allows: chip, slice, tensor-parallel axes and dtypes, one row each."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from servesat.arrays import Floats, Ints
from servesat.catalogue import axis_sizes, chips_in
from servesat.collectives import tensor_parallel_bytes_per_s
from servesat.latency import Replica
from servesat.memory import BYTES_PER_VALUE
from servesat.sharding import tensor_parallel_axes
from servesat.spec import Offer, Spec


class Place(NamedTuple):
    """A machine for one replica: a slice of a chip, and the axes of it that carry tensor parallelism."""

    offer: Offer
    topology: str
    tp_axes: tuple[int, ...]


class Dtypes(NamedTuple):
    """What weights and KV cache are stored in, and what the matmuls compute in."""

    weights: str
    kv_cache: str
    compute: str


@dataclass(frozen=True)
class Layouts:
    """The layouts of a spec; every array has shape [layouts]."""

    places: tuple[Place, ...]
    dtypes: tuple[Dtypes, ...]
    place: Ints  # index into places
    dtype: Ints  # index into dtypes
    chips: Ints  # n, chips in the slice
    replicas: Ints  # R = n / Y
    tp: Ints  # Y
    usd_per_hour: Floats  # of the slice
    hbm_bytes: Floats  # of one chip
    replica: Replica

    def __len__(self) -> int:
        return len(self.place)

    @property
    def number(self) -> Ints:
        """A number for each layout, the same whichever rows of the enumeration are taken."""
        return self.place * len(self.dtypes) + self.dtype

    def take(self, rows: Ints) -> "Layouts":
        """The layouts at `rows`, in that order and as often."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _ARRAYS}
        return replace(self, replica=self.replica.take(rows), **arrays)

    def join(self, other: "Layouts") -> "Layouts":
        """These layouts followed by others of the same enumeration."""
        arrays: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ARRAYS}
        return replace(self, replica=self.replica.join(other.replica), **arrays)


_ARRAYS = ("place", "dtype", "chips", "replicas", "tp", "usd_per_hour", "hbm_bytes")


class SharedLayouts:
    """The layouts of one spec after another, enumerated anew only when chips, slices or dtypes of the search change."""

    def __init__(self) -> None:
        self._searched: tuple[Any, ...] = ()
        self._layouts: Layouts | None = None

    def of(self, spec: Spec) -> Layouts:
        """The layouts of a spec, at its prices."""
        chips = tuple((offer.chip, spec.topologies_of(offer.chip)) for offer in spec.offers)
        searched = (chips, spec.search.weights, spec.search.kv_cache, spec.search.compute)
        if self._layouts is None or searched != self._searched:
            self._layouts, self._searched = enumerate_layouts(spec), searched
        else:
            self._layouts = _repriced(self._layouts, spec)
        return self._layouts


def _repriced(layouts: Layouts, spec: Spec) -> Layouts:
    """The same layouts at the prices of another spec."""
    offers = {offer.chip.id: offer for offer in spec.offers}
    places = tuple(place._replace(offer=offers[place.offer.chip.id]) for place in layouts.places)
    usd_per_chip_hour = np.array([place.offer.usd_per_chip_hour for place in places])[layouts.place]
    return replace(layouts, places=places, usd_per_hour=usd_per_chip_hour * layouts.chips)


def enumerate_layouts(spec: Spec) -> Layouts:
    """List every chip x slice x axes x dtypes of the search, where the chip has a peak for the compute dtype.

    Layouts that break a requirement are listed too: what excludes them is for the requirements to say.
    """
    places = tuple(
        Place(offer, topology, axes)
        for offer in spec.offers
        for topology in spec.topologies_of(offer.chip)
        for axes in tensor_parallel_axes(offer.chip, topology)
    )
    dtypes = tuple(
        Dtypes(*choice) for choice in product(spec.search.weights, spec.search.kv_cache, spec.search.compute)
    )
    sizes = [axis_sizes(place.topology) for place in places]
    peaks = np.array(
        [[_peak(place.offer, choice.compute) for choice in dtypes] for place in places], dtype=np.float64
    )  # [places, dtypes], 0 where there is none
    place, dtype = np.nonzero(peaks)

    def of_place(values: list[float]) -> Floats:
        return np.array(values, dtype=np.float64)[place]

    def of_dtype(values: list[str]) -> Floats:
        return np.array([BYTES_PER_VALUE[value] for value in values])[dtype]

    chips = np.array([chips_in(p.topology) for p in places])[place]
    tp = np.array([int(np.prod([size[axis] for axis in p.tp_axes])) for p, size in zip(places, sizes, strict=True)])[
        place
    ]
    return Layouts(
        places=places,
        dtypes=dtypes,
        place=place,
        dtype=dtype,
        chips=chips,
        replicas=chips // tp,
        tp=tp,
        usd_per_hour=of_place([p.offer.usd_per_chip_hour for p in places]) * chips,
        hbm_bytes=of_place([p.offer.chip.hbm_bytes for p in places]),
        replica=Replica(
            tp=tp.astype(np.float64),
            hbm_bytes_per_s=of_place([p.offer.chip.hbm_bytes_per_s for p in places]),
            flop_per_s=peaks[place, dtype],
            tp_bytes_per_s=of_place([_bandwidth(p) for p in places]),
            weights_value_bytes=of_dtype([choice.weights for choice in dtypes]),
            kv_cache_value_bytes=of_dtype([choice.kv_cache for choice in dtypes]),
        ),
    )


def _peak(offer: Offer, compute: str) -> float:
    return offer.chip.flop_per_s.by_dtype().get(compute, 0.0)


def _bandwidth(place: Place) -> float:
    return tensor_parallel_bytes_per_s([place.offer.chip.axes[axis].bytes_per_s for axis in place.tp_axes])
