"""Every layout a spec allows: chip, slice, tensor-parallel axes and dtypes, one row each.

Here a layout is a machine with dtypes that decodes; `modes.py` adds how it serves prompts.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from servesat.catalogue.chip import Axis, Chip, axis_sizes, chips_in
from servesat.core.arrays import Bools, Floats, Ints, Rows
from servesat.core.result import Mode, Requirement
from servesat.core.tolerances import BIT, TOLERANCE
from servesat.cost_model.collectives import all_to_all_bytes_per_s, axis_bytes_per_s, tensor_parallel_bytes_per_s
from servesat.cost_model.decode import Replica
from servesat.cost_model.memory import BYTES_PER_VALUE
from servesat.cost_model.quantisation_loss import quality_loss
from servesat.cost_model.sharding import Sharding, heads_divide, kv_batch_shards, kv_heads_split, shardings
from servesat.spec.spec import Offer, Spec


class Place(NamedTuple):
    """A machine for one replica: a slice of a chip, and how the model is split over its axes."""

    offer: Offer
    topology: str
    sharding: Sharding

    def ways(self, axes: tuple[int, ...]) -> int:
        """Chips along some axes of the slice together."""
        sizes = axis_sizes(self.topology)
        return prod(sizes[axis] for axis in axes)


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
    tp: Ints  # chips that share each matrix
    batch_shards: Ints  # the batch is a multiple of this: the ways that attention splits it
    usd_per_hour: Floats  # of the slice
    hbm_bytes: Floats  # of one chip
    replica: Replica
    serving: Serving

    def __len__(self) -> int:
        return len(self.place)

    @property
    def replica_hbm_bytes(self) -> Floats:
        """Memory of all chips of a replica [bytes]."""
        return np.asarray(self.replica.chips * self.hbm_bytes)


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

    That is the same chip, ways to split the model, bandwidth and dtypes, and the same way to serve prompts; slices of
    several replicas run it several times.
    """
    chips = {place.offer.chip.id: number for number, place in enumerate(layouts.places)}
    chip = np.array([chips[place.offer.chip.id] for place in layouts.places])
    serving, replica = layouts.serving, layouts.replica
    bandwidths = [np.nan_to_num(width) for width in (replica.tp_bytes_per_s, replica.ep_bytes_per_s)]
    shape = [chip[layouts.place], layouts.tp, replica.ep, replica.kv_copies, *bandwidths, layouts.dtype]
    pool = [serving.pool_place, serving.pool_dtype, serving.pool_slices]
    _, program = np.unique(np.column_stack([*shape, serving.mode, serving.chunk, *pool]), axis=0, return_inverse=True)
    return program.reshape(-1)


def plain_layouts(spec: Spec) -> Layouts:
    """List every chip x slice x axes x dtypes of the search, where the chip has a peak for the compute dtype.

    They leave prompts out. Layouts that break a requirement are listed too: what excludes them is for the requirements
    to say.
    """
    places = tuple(
        Place(offer, topology, sharding)
        for offer in spec.offers
        for topology in spec.topologies_of(offer.chip)
        for sharding in shardings(spec.model, offer.chip, topology)
    )
    dtypes = tuple(Dtypes(*choice) for choice in product(spec.weights, spec.search.kv_cache, spec.search.compute))
    peaks = _peaks(places, dtypes)
    place, dtype = np.nonzero(peaks)

    def of_place(values: list[float]) -> Floats:
        return np.array(values, dtype=np.float64)[place]

    def counted(values: list[int]) -> Ints:
        return np.array(values, dtype=np.int64)[place]

    def of_dtype(values: list[float]) -> Floats:
        return np.array(values)[dtype]

    chips = counted([chips_in(p.topology) for p in places])
    tp = counted([p.ways(p.sharding.tp_axes) for p in places])
    ep = counted([p.ways(p.sharding.ep_axes) for p in places])
    copies = np.where(counted([p.sharding.kv_replicated for p in places]), tp, 1)
    links = [links_of(spec, p.offer.chip, p.topology, p.sharding) for p in places]
    return Layouts(
        places=places,
        dtypes=dtypes,
        number=np.arange(len(place)),
        place=place,
        dtype=dtype,
        chips=chips,
        replicas=chips // (tp * ep),
        tp=tp,
        batch_shards=ep * np.where(copies > 1, 1, kv_batch_shards(spec.model, tp)),
        usd_per_hour=of_place([p.offer.usd_per_chip_hour for p in places]) * chips,
        hbm_bytes=of_place([p.offer.chip.hbm_bytes for p in places]),
        replica=Replica(
            tp=tp.astype(np.float64),
            ep=ep.astype(np.float64),
            kv_copies=copies.astype(np.float64),
            hbm_bytes_per_s=of_place([p.offer.chip.hbm_bytes_per_s for p in places]),
            flop_per_s=peaks[place, dtype],
            tp_bytes_per_s=of_place([link.tp_bytes_per_s for link in links]),
            ep_bytes_per_s=of_place([link.ep_bytes_per_s for link in links]),
            weights_value_bytes=of_dtype([spec.resident_value_bytes(choice.weights) for choice in dtypes]),
            expert_value_bytes=of_dtype([spec.value_bytes(choice.weights) for choice in dtypes]),
            kv_cache_value_bytes=of_dtype([BYTES_PER_VALUE[choice.kv_cache] for choice in dtypes]),
        ),
        serving=decoding(len(place)),
    )


def lawful_layouts(spec: Spec) -> Layouts:
    """The plain layouts that break no rule which holds at any batch: the others have no plan, whatever is relaxed."""
    plain = plain_layouts(spec)
    return plain.take(np.flatnonzero(broken_rules(spec, plain) == 0))


def repriced(layouts: Layouts, spec: Spec) -> Layouts:
    """The same plain layouts at the prices of another spec."""
    offers = {offer.chip.id: offer for offer in spec.offers}
    places = tuple(place._replace(offer=offers[place.offer.chip.id]) for place in layouts.places)
    usd_per_chip_hour = np.array([place.offer.usd_per_chip_hour for place in places])[layouts.place]
    return replace(layouts, places=places, usd_per_hour=usd_per_chip_hour * layouts.chips)


def broken_rules(spec: Spec, layouts: Layouts) -> Ints:
    """The bits of `heads`, `kv_heads` and `dtypes` that each layout breaks at any batch; shape [layouts]."""
    shards = layouts.batch_shards
    broken = {
        Requirement.HEADS: ~heads_divide(spec.model, layouts.tp),
        Requirement.KV_HEADS: ~kv_heads_split(spec.model, layouts.tp, shards, shards),
        Requirement.DTYPES: too_wide(spec, layouts),
    }
    bits: Ints = np.sum([np.where(where, int(BIT[rule]), 0) for rule, where in broken.items()], axis=0)
    return bits


def contends(spec: Spec, layouts: Layouts, relaxed: int) -> Bools:
    """Which layouts a best plan could be among; shape [layouts].

    Not those that break a rule at any batch. Of the dtypes that give the same figures on a machine, the first by id. Of
    those that differ in the KV cache alone, the narrowest: it holds more, is read faster, and limits nothing more, so
    that the others cost more, or tie and are slower; where accuracy has a limit, all of them stay.
    """
    lawful: Bools = broken_rules(spec, layouts) & ~relaxed == 0
    if spec.search.max_quality_loss is not None:
        return lawful
    chips = {place.offer.chip.id: place.offer.chip for place in layouts.places}
    foremost = {name: _foremost(spec, chip, layouts.dtypes) for name, chip in chips.items()}
    of_place = np.array([foremost[place.offer.chip.id] for place in layouts.places])
    first: Bools = of_place[layouts.place, layouts.dtype]
    return lawful & first


def _foremost(spec: Spec, chip: Chip, dtypes: tuple[Dtypes, ...]) -> list[bool]:
    """Which choices of dtypes come first of those that give a chip the same weights and peak, by KV cache, then id."""
    peaks = chip.flop_per_s.by_dtype()
    figures = [
        (spec.resident_value_bytes(one.weights), spec.value_bytes(one.weights), peaks.get(one.compute),
         spec.computes(one.weights, one.compute))
        for one in dtypes
    ]  # fmt: skip
    first: dict[Any, tuple[float, Dtypes]] = {}
    for key, one in zip(figures, dtypes, strict=True):
        order = (BYTES_PER_VALUE[one.kv_cache], one)
        first[key] = min(first.get(key, order), order)
    return [first[key][1] == one for key, one in zip(figures, dtypes, strict=True)]


def too_wide(spec: Spec, layouts: Layouts) -> Bools:
    """Whether the weights are wider than the dtype of the matmuls (requirement `dtypes`)."""
    wider = [not spec.computes(choice.weights, choice.compute) for choice in layouts.dtypes]
    return np.array(wider, dtype=np.bool_)[layouts.dtype]


def too_lossy(spec: Spec, layouts: Layouts) -> Bools:
    """Whether the dtypes lose more of the model's score than the spec allows, or nobody knows (`quality`)."""
    losses = [quality_loss(spec.model, *choice) for choice in layouts.dtypes]
    most = (spec.search.max_quality_loss or 0.0) * (1 + TOLERANCE)
    return np.array([loss is None or loss > most for loss in losses], dtype=np.bool_)[layouts.dtype]


class Links(NamedTuple):
    """What the collectives of a sharding get of the interconnect [bytes/s]."""

    tp_bytes_per_s: float
    ep_bytes_per_s: float


def links_of(spec: Spec, chip: Chip, topology: str, sharding: Sharding) -> Links:
    """The bandwidth of a sharding's tensor-parallel axes, and of those that its experts are spread over."""
    sizes, exact = axis_sizes(topology), spec.wraparound == "exact"

    def along(axes: tuple[int, ...]) -> tuple[list[Axis], list[int], list[float]]:
        links = [chip.axes[axis] for axis in axes]
        lengths = [sizes[axis] for axis in axes]
        pairs = zip(links, lengths, strict=True)
        return links, lengths, [axis_bytes_per_s(link, length, exact_wraparound=exact) for link, length in pairs]

    tp_links, _, tp_widths = along(sharding.tp_axes)
    return Links(
        tp_bytes_per_s=tensor_parallel_bytes_per_s(tp_links, tp_widths),
        ep_bytes_per_s=all_to_all_bytes_per_s(*along(sharding.ep_axes)),
    )


def _peaks(places: tuple[Place, ...], dtypes: tuple[Dtypes, ...]) -> Floats:
    """The peak of each place in each choice of dtypes, 0 where there is none; shape [places, dtypes] [FLOP/s]."""
    of_chip = {place.offer.chip.id: place.offer.chip.flop_per_s.by_dtype() for place in places}
    rows = {chip: np.array([peaks.get(choice.compute, 0.0) for choice in dtypes]) for chip, peaks in of_chip.items()}
    return np.array([rows[place.offer.chip.id] for place in places])
