"""Every layout a spec allows: chip, slice, tensor-parallel axes and dtypes, one row each.

Here a layout is a machine with dtypes that decodes; `modes.py` adds how it serves prompts.
"""

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from servesat.arrays import Floats, Ints, Rows
from servesat.catalogue import axis_sizes, chips_in
from servesat.collectives import tensor_parallel_bytes_per_s
from servesat.latency import Replica
from servesat.memory import BYTES_PER_VALUE
from servesat.plan import Mode
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


MODES = tuple(Mode)
"""The modes in the order of their codes."""


@dataclass(frozen=True)
class Serving(Rows):
    """How each layout serves prompts; every array has shape [layouts].

    The time to the first token is `first_token_s` and `first_token_steps` decode steps; `share_s` is what prefill adds
    to the time per output token for each sequence of the batch. A prefill pool (`pool_place` and `pool_dtype` are -1
    where there is none) has `pool_slices` slices to `slices` that decode; one of them takes `prefill_s` a prompt, and
    feeds `pool_tokens_per_s` output tokens.
    """

    mode: Ints  # index into MODES
    chunk: Ints  # the chunk chosen, 0 without chunks
    riding_tokens: Floats  # prompt tokens that ride on each decode step
    riding_s: Floats  # their FLOPs
    prefill_s: Floats
    transfer_s: Floats
    first_token_s: Floats
    first_token_steps: Floats
    share_s: Floats
    pool_place: Ints
    pool_dtype: Ints
    pool_slices: Ints
    pool_chips: Ints
    pool_usd_per_hour: Floats
    pool_tokens_per_s: Floats
    slices: Ints
    violated: Ints  # bit mask of what prefill violates at any batch

    @property
    def fed_tokens_per_s(self) -> Floats:
        """Output tokens that the prefill pool feeds; without one nothing holds them up."""
        return np.where(self.pool_place < 0, np.inf, self.pool_slices * self.pool_tokens_per_s)

    @property
    def pool_total_usd_per_hour(self) -> Floats:
        """What the prefill pool costs; 0 without one."""
        return self.pool_slices * self.pool_usd_per_hour

    @property
    def pool_total_chips(self) -> Ints:
        """The chips of the prefill pool."""
        return self.pool_slices * self.pool_chips


@dataclass(frozen=True)
class Layouts(Rows):
    """The layouts of a spec; every array has shape [layouts]."""

    places: tuple[Place, ...]
    dtypes: tuple[Dtypes, ...]
    number: Ints  # a number for each layout, the same whichever rows of the enumeration are taken
    place: Ints  # index into places
    dtype: Ints  # index into dtypes
    chips: Ints  # n, chips in the slice
    replicas: Ints  # R = n / Y
    tp: Ints  # Y
    usd_per_hour: Floats  # of the slice
    hbm_bytes: Floats  # of one chip
    replica: Replica
    serving: Serving

    def __len__(self) -> int:
        return len(self.place)


def decoding(count: int) -> Serving:
    """Serving that leaves prompts out, for so many layouts."""
    zeros, none, ones = np.zeros(count), np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)
    return Serving(
        mode=none,
        chunk=none,
        riding_tokens=zeros,
        riding_s=zeros,
        prefill_s=zeros,
        transfer_s=zeros,
        first_token_s=zeros,
        first_token_steps=zeros,
        share_s=zeros,
        pool_place=none - 1,
        pool_dtype=none - 1,
        pool_slices=none,
        pool_chips=none,
        pool_usd_per_hour=zeros,
        pool_tokens_per_s=zeros,
        slices=ones,
        violated=none,
    )


def programs(layouts: Layouts) -> Ints:
    """A number for each layout, from 0, the same for those that run the same program.

    That is the same chip, tensor-parallel degree, bandwidth and dtypes, and the same way to serve prompts; slices of
    several replicas run it several times.
    """
    chips = {place.offer.chip.id: number for number, place in enumerate(layouts.places)}
    chip = np.array([chips[place.offer.chip.id] for place in layouts.places])
    serving = layouts.serving
    shape = [chip[layouts.place], layouts.tp, np.nan_to_num(layouts.replica.tp_bytes_per_s), layouts.dtype]
    pool = [serving.pool_place, serving.pool_dtype, serving.pool_slices]
    _, program = np.unique(np.column_stack([*shape, serving.mode, serving.chunk, *pool]), axis=0, return_inverse=True)
    return program.reshape(-1)


def plain_layouts(spec: Spec) -> Layouts:
    """List every chip x slice x axes x dtypes of the search, where the chip has a peak for the compute dtype.

    They leave prompts out. Layouts that break a requirement are listed too: what excludes them is for the requirements
    to say.
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
        number=np.arange(len(place)),
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
        serving=decoding(len(place)),
    )


def repriced(layouts: Layouts, spec: Spec) -> Layouts:
    """The same plain layouts at the prices of another spec."""
    offers = {offer.chip.id: offer for offer in spec.offers}
    places = tuple(place._replace(offer=offers[place.offer.chip.id]) for place in layouts.places)
    usd_per_chip_hour = np.array([place.offer.usd_per_chip_hour for place in places])[layouts.place]
    return replace(layouts, places=places, usd_per_hour=usd_per_chip_hour * layouts.chips)


def _peak(offer: Offer, compute: str) -> float:
    return offer.chip.flop_per_s.by_dtype().get(compute, 0.0)


def _bandwidth(place: Place) -> float:
    return tensor_parallel_bytes_per_s([place.offer.chip.axes[axis].bytes_per_s for axis in place.tp_axes])
