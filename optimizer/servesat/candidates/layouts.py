"""Layouts: a machine with dtypes that decodes, and how it serves prompts; one row each."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from servesat.candidates.engines import Dtypes
from servesat.candidates.purchases import Purchase, Units, no_units
from servesat.catalogue.chip import axis_sizes
from servesat.core.arrays import Bools, Floats, Ints, Rows
from servesat.core.plan import KvLayout, Mode
from servesat.cost_model.calibrated import Constants
from servesat.cost_model.decode import Replica
from servesat.cost_model.quantisation_loss import quality_loss
from servesat.cost_model.sharding import Sharding
from servesat.spec.offers import Offer, Unit
from servesat.spec.spec import Spec


class ShardedSlice(NamedTuple):
    """A machine for one replica: a slice of a chip at an offer, and how the model is split over its axes.

    `alone`: a plan of one pool may be best on it; others are there for pairs of pools.
    """

    offer: Offer
    topology: str
    sharding: Sharding
    unit: Unit
    alone: bool = True

    def ways(self, axes: tuple[int, ...]) -> int:
        """Chips along some axes of the slice together."""
        sizes = axis_sizes(self.topology)
        return prod(sizes[axis] for axis in axes)


MODES = tuple(Mode)
"""The modes in the order of their codes."""

KV_LAYOUTS = tuple(KvLayout)
"""The layouts of the KV cache in the order of their codes."""


@dataclass(frozen=True)
class Serving(Rows):
    """How each layout serves prompts; every array has shape [layouts].

    The time to the first token is `first_token_s` and `first_token_steps` decode steps. Whole prefills between steps
    add `prefill_s_per_output_token` to the time per output token for each sequence of the batch. A prefill pool
    (`pool_place` and `pool_dtype` are -1 where there is none) has `pool_slices` slices to `slices` that decode; one of
    them takes `prefill_s` a prompt, and feeds `pool_tokens_per_s` output tokens.
    """

    mode: Ints  # index into MODES
    chunk: Ints  # the chunk chosen, 0 without chunks
    chunk_tokens_per_step: Floats  # of the prefill chunk scheduled with each decode step
    chunk_s_per_step: Floats  # time of its FLOPs
    prefill_s: Floats
    transfer_s: Floats
    first_token_s: Floats
    first_token_steps: Floats
    prefill_s_per_output_token: Floats
    prompt_work_s: Floats  # of the calibrated cost model, what other prompts wait for
    host_load_s: Floats  # of a prompt, for its KV cache from the memory of the host
    pool_place: Ints
    pool_dtype: Ints
    pool_slices: Ints
    pool_units: Units
    pool_tokens_per_s: Floats
    slices: Ints
    violated: Ints  # bit mask over Requirement: what prefill violates at any batch

    @property
    def prefill_limited_tokens_per_s(self) -> Floats:
        """Output tokens that the prefill pool feeds; without one nothing holds them up."""
        return np.where(self.pool_place < 0, np.inf, self.pool_slices * self.pool_tokens_per_s)


@dataclass(frozen=True)
class Layouts(Rows):
    """The layouts of a spec; every array has shape [layouts]."""

    places: tuple[ShardedSlice, ...]
    dtypes: tuple[Dtypes, ...]
    number: Ints  # a number for each layout, the same whichever rows of the enumeration are taken
    place: Ints  # index into places
    dtype: Ints  # index into dtypes
    chips: Ints  # n, chips in the slice
    replicas: Ints  # R = n / Y
    counted_replicas: Floats  # those of a slice whose capacity is counted on: R, or on spot R · spot_capacity
    tp: Ints  # chips that share each matrix
    kv_layout: Ints  # index into KV_LAYOUTS
    batch_shards: Ints  # the batch is a multiple of this: the ways that micro-batches and attention split it
    units: Units  # what slices are bought in
    hbm_bytes: Floats  # of one chip, that may be used
    runs: Bools  # whether the engine runs these dtypes on the chip
    replica: Replica
    constants: Constants | None  # of the calibrated cost model
    tpot_margin: Floats  # share by which the time per output token stays below its limit
    ttft_margin: Floats
    serving: Serving

    def __len__(self) -> int:
        return len(self.place)

    @property
    def purchase(self) -> Purchase:
        """What the slices of both pools are bought in."""
        return Purchase(self.units, self.serving.pool_units)

    @property
    def replica_hbm_bytes(self) -> Floats:
        """Memory of all chips of a replica [bytes]."""
        return np.asarray(self.replica.chips * self.hbm_bytes)


def decoding(slices: Ints) -> Serving:
    """Serving that leaves prompts out, for layouts with so many slices."""
    count = len(slices)
    zeros, none = np.zeros(count), np.zeros(count, dtype=np.int64)
    return Serving(
        mode=none,
        chunk=none,
        chunk_tokens_per_step=zeros,
        chunk_s_per_step=zeros,
        prefill_s=zeros,
        transfer_s=zeros,
        first_token_s=zeros,
        first_token_steps=zeros,
        prefill_s_per_output_token=zeros,
        prompt_work_s=zeros,
        host_load_s=zeros,
        pool_place=none - 1,
        pool_dtype=none - 1,
        pool_slices=none,
        pool_units=no_units(count),
        pool_tokens_per_s=zeros,
        slices=slices,
        violated=none,
    )


def _numbered(values: Sequence[Any]) -> Ints:
    """A number for each value, from 0, the same for equal ones."""
    number = {value: at for at, value in enumerate(dict.fromkeys(values))}
    return np.array([number[value] for value in values], dtype=np.int64)


def execution_signatures(layouts: Layouts) -> Ints:
    """A number for each layout, from 0, the same for those whose replicas execute alike; shape [layouts].

    They have the same chip, rented anywhere, degrees of parallelism, bandwidths and dtypes, and serve prompts in the
    same way; a slice of several replicas runs the same execution several times.
    """
    serving, replica = layouts.serving, layouts.replica
    chip = _numbered([place.offer.chip.id for place in layouts.places])
    split = _numbered([(place.offer.chip.id, place.topology, place.sharding) for place in layouts.places])
    widths = (replica.tp_bytes_per_s, replica.ep_bytes_per_s, replica.pp_bytes_per_s)
    bandwidths = [np.nan_to_num(width) for width in widths]
    shape = [chip[layouts.place], layouts.tp, replica.ep, replica.pp, layouts.kv_layout, *bandwidths, layouts.dtype]
    of_pool = np.where(serving.pool_place < 0, -1, split[serving.pool_place])
    pool = [of_pool, serving.pool_dtype, serving.pool_slices]
    figures = np.column_stack([*shape, serving.mode, serving.chunk, *pool])
    order = np.lexsort(figures.T[::-1])
    differs = np.any(figures[order][1:] != figures[order][:-1], axis=1)
    program = np.zeros(len(layouts), dtype=np.int64)
    program[order[1:]] = np.cumsum(differs)
    return program


def quality_losses(spec: Spec, layouts: Layouts) -> Floats:
    """The share of its score that the model loses in the dtypes of each layout, its prefill pool's included.

    Infinite where it is not known; shape [layouts].
    """
    losses = [quality_loss(spec.model, choice.weights, choice.kv_cache, choice.compute) for choice in layouts.dtypes]
    by_dtype = np.array([np.inf if loss is None else loss for loss in losses])
    pool = layouts.serving.pool_dtype
    return np.where(pool < 0, by_dtype[layouts.dtype], np.maximum(by_dtype[layouts.dtype], by_dtype[pool]))


def on_chip(layouts: Layouts, chip: str) -> tuple[Bools, Bools]:
    """Which layouts decode on a chip, and which have their prefill pool on it; shape [layouts] each."""
    is_it = np.array([place.offer.chip.id == chip for place in layouts.places], dtype=np.bool_)
    pool = layouts.serving.pool_place
    return is_it[layouts.place], is_it[pool] & (pool >= 0)
