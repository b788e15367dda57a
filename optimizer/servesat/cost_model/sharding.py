"""Which ways to split a model over a slice are legal, and the bandwidth that each one gets."""

from collections.abc import Collection
from fractions import Fraction
from functools import cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from servesat.catalogue.chip import MAX_CHIPS, Axis, Chip, axis_sizes, closed_axes
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.plan import KvLayout
from servesat.cost_model.collectives import all_to_all_bytes_per_s, axis_bytes_per_s, tensor_parallel_bytes_per_s
from servesat.cost_model.storage import Storage

KEYS_AND_VALUES = 64
"""Width of a head whose keys and values TPUs hold in one row."""


class Sharding(NamedTuple):
    """How a replica is split: axes of tensor parallelism, experts and pipeline stages, and where its KV cache lies."""

    tp_axes: tuple[int, ...]
    ep_axes: tuple[int, ...] = ()
    kv_layout: KvLayout = KvLayout.HEADS
    pp_axes: tuple[int, ...] = ()

    @property
    def groups_are_apart(self) -> bool:
        """Whether chips of a tensor-parallel group are not neighbours, as engines number them: along the first axes."""
        return bool(self.tp_axes and self.ep_axes) and max(self.tp_axes) > min(self.ep_axes)


def shardings(
    model: ModelSpec,
    chip: Chip,
    topology: str,
    kv_layouts: Collection[KvLayout],
    stages: Collection[int] | None = (1,),
) -> list[Sharding]:
    """Every legal split of a model over the axes of a slice in some KV layouts, none first, then by axes.

    Axes of size 1 are skipped; experts are spread over axes whose product divides their number. `stages` are the
    numbers of pipeline stages allowed, None for any up to the number of layers; they lie along the last axes, beyond
    those of tensor and expert parallelism. Symmetric choices, over axes of the same sizes, bandwidths and kinds, are
    merged into the first of them.
    """
    sizes = axis_sizes(topology)
    links = zip(sizes, chip.axes, strict=True)
    experts = None if model.moe is None else model.moe.experts
    most = model.layers if stages is None else max(stages)
    splits = _splits(tuple((size, axis.bytes_per_s, axis.wraps_every or 0) for size, axis in links), experts, most)
    fewest = min(_kv_heads(model), default=MAX_CHIPS)
    return [
        Sharding(tp_axes, ep_axes, layout, pp_axes)
        for tp_axes, ep_axes, pp_axes in splits
        if stages is None or prod(sizes[axis] for axis in pp_axes) in stages
        for layout in _kv_layouts(prod(sizes[axis] for axis in tp_axes), fewest)
        if layout in kv_layouts
    ]


def kv_layouts_of(model: ModelSpec, tp: int) -> tuple[KvLayout, ...]:
    """The layouts that the KV cache of a model may have on tp chips, which differ where they are more than its heads.

    A latent counts as one head. A layer that keeps a state splits it with its heads.
    """
    return _kv_layouts(tp, min(_kv_heads(model), default=MAX_CHIPS))


def _kv_layouts(tp: int, fewest_heads: int) -> tuple[KvLayout, ...]:
    if tp <= fewest_heads:
        return (KvLayout.HEADS,)
    return KvLayout.BATCH, KvLayout.SEQUENCE, KvLayout.COPIES


@cache
def _splits(
    links: tuple[tuple[int, float, int], ...], experts: int | None, most_stages: int
) -> tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]:
    """The tensor- and expert-parallel axes, and those of stages, over axes of these sizes, bandwidths and kinds.

    Hundreds of slices have few of them.
    """
    usable = [axis for axis, (size, _, _) in enumerate(links) if size > 1]
    roles = "-t" + ("e" if experts is not None else "") + ("p" if most_stages > 1 else "")
    distinct: dict[Any, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {}
    for choice in product(roles, repeat=len(usable)):
        tp, ep, pp = (tuple(axis for axis, role in zip(usable, choice, strict=True) if role == kind) for kind in "tep")
        if experts is not None and experts % prod(links[axis][0] for axis in ep):
            continue
        if pp and (prod(links[axis][0] for axis in pp) > most_stages or pp[0] < max((*tp, *ep), default=-1)):
            continue
        shape = tuple(tuple(sorted(links[axis] for axis in axes)) for axes in (tp, ep, pp))
        distinct[shape] = min(distinct.get(shape, (tp, ep, pp)), (tp, ep, pp))
    return tuple(sorted(distinct.values(), key=lambda split: (len(split[2]), len(split[1]), len(split[0]), split)))


def dearest_stage(model: ModelSpec, stages: Ints) -> Floats:
    """λ: what the dearest of some stages has of the layers, over the mean of all; 1 for a single stage.

    Engines give each stage ⌊L / pp⌋ or ⌈L / pp⌉ whole layers in a row: λ = pp · ⌈L / pp⌉ / L. Where every s-th layer
    has experts, at most ⌈⌈L / pp⌉ / s⌉ of those do, and λ is no less than pp · min(⌈⌈L / pp⌉ / s⌉, L_e) / L_e.
    """
    in_a_row = -(-model.layers // stages)
    of_layers: Floats = stages * in_a_row / model.layers
    if model.moe is None:
        return of_layers
    with_experts = np.minimum(-(-in_a_row // model.moe.every), model.moe.layers)
    return np.maximum(of_layers, stages * with_experts / model.moe.layers)


def split_widths(model: ModelSpec) -> list[int]:
    """What tensor parallelism must divide: the query heads, and the widths of the MLPs and experts."""
    experts = [model.moe.d_ff, model.moe.shared_d_ff] if model.moe else []
    heads = [model.query_heads] if model.attention_layers else []
    heads += [other.heads for other in model.other_layers]
    return [*heads, *(width for _, width in model.dense_mlps), *(width for width in experts if width)]


def heads_divide(model: ModelSpec, tp: Ints) -> Bools:
    """Whether tp divides the query heads and the widths of the MLPs (requirement `heads`)."""
    divide: Bools = np.all([width % tp == 0 for width in split_widths(model)], axis=0)
    return divide


def scales_divide(storage: Storage, weights: str, tp: Ints) -> Bools:
    """Whether no group of weights that share a scale is cut by tp, so that engines load them (requirement `blocks`).

    What is split along rows must be a multiple of tp · group: the outputs of all heads, and the width of each MLP.
    """
    model, moe, mla = storage.model, storage.model.moe, storage.model.mla
    heads = [model.query_heads * (mla.v_head_dim if mla else model.head_dim)] if model.attention_layers else []
    heads += [other.heads * other.value_dim for other in model.other_layers]
    widths = [
        *((TensorGroup.ATTENTION, width) for width in heads),
        *((TensorGroup.MLP, width) for _, width in model.dense_mlps),
        (TensorGroup.SHARED_EXPERTS, moe.shared_d_ff if moe else 0),
        (TensorGroup.EXPERTS, moe.d_ff if moe else 0),
    ]
    uncut: Bools = np.ones(len(tp), dtype=np.bool_)
    for group, width in widths:
        together = storage.scale_group(group, weights)
        if together > 1:
            uncut &= (tp == 1) | (width % (tp * together) == 0)
    return uncut


def _kv_heads(model: ModelSpec) -> set[int]:
    """The numbers of KV heads that the layers of a model have."""
    of_heads = {model.kv_heads} if model.attention_layers else set()
    return of_heads | {other.kv_heads for other in model.other_layers if other.kv_heads}


def kv_batch_shards(model: ModelSpec, tp: Ints) -> Ints:
    """Ways that tensor parallelism shards the KV cache over the batch: tp / K beyond one KV head a chip, else 1.

    Where tp > K is not a multiple of K no such sharding exists, and it is 1; `kv_heads_split` says so. Of layers with
    several K the smallest decides.
    """
    shards: Ints = np.ones_like(tp)
    for heads in _kv_heads(model):
        shards = np.maximum(shards, np.where((tp > heads) & (tp % heads == 0), tp // heads, 1))
    return shards


def kv_heads_split(model: ModelSpec, tp: Ints, batch: Ints, shards: Ints) -> Bools:
    """Whether the KV cache splits evenly: tp divides K or is a multiple of it, and the batch splits (`kv_heads`).

    `shards` are the ways that the batch is split: by tensor parallelism, and over the groups that share experts.
    """
    split: Bools = batch % shards == 0
    for heads in _kv_heads(model):
        split = split & np.where(tp <= heads, heads % np.minimum(tp, heads) == 0, tp % heads == 0)
    return split


def heads_of_row(model: ModelSpec, row_bytes: int | None, value_bytes: float) -> int:
    """The fewest KV heads of a device whose keys and values fill the rows of so many bytes that they are stored in.

    Heads of 64 hold both in one row. 1 of a latent, and where there are no rows.
    """
    if row_bytes is None or model.mla is not None:
        return 1
    return (row_bytes / (Fraction(value_bytes) * (1 if model.head_dim == KEYS_AND_VALUES else 2))).numerator


def fills_rows(
    model: ModelSpec, row_bytes: int | None, kv_layout: KvLayout, tp: int, *, devices: int, value_bytes: float
) -> bool:
    """Whether a KV cache of heads fills the rows that it is stored in, with no head on two `devices` of a chip.

    A device holds K / (tp · devices) heads, or one where more chips than heads share a sequence. Where the batch is
    split over those instead, fewer sequences may lie on a device, with as many heads as fill a row.
    """
    if row_bytes is None or model.mla is not None:
        return True
    enough = heads_of_row(model, row_bytes, value_bytes)
    for heads in _kv_heads(model):
        splits_batch = kv_layout is KvLayout.BATCH and heads < tp
        of_device = Fraction(heads) if splits_batch else max(Fraction(1), Fraction(heads, tp)) / devices
        if of_device < 1 or of_device % enough:
            return False
    return True


def kv_heads_per_chip(model: ModelSpec, tp: int) -> float:
    """KV heads that each of Y chips would hold if heads were split evenly: K / Y."""
    return model.kv_heads / tp


class Links(NamedTuple):
    """The bandwidth that a sharding gets from the interconnect: its collectives, and a chip's stage [bytes/s]."""

    tp_bytes_per_s: float
    ep_bytes_per_s: float
    pp_bytes_per_s: float


_Sized = tuple[tuple[Axis, int, bool], ...]
"""Axes with their sizes, and whether they are taken for rings."""


def links_of(chip: Chip, topology: str, sharding: Sharding, *, exact_wraparound: bool) -> Links:
    """The bandwidth of a sharding's axes: tensor-parallel ones, those of its experts, and the slowest of stages.

    Every torus axis is taken to close to a ring, as the book does; `exact_wraparound` looks which ones do.
    """
    sizes = axis_sizes(topology)
    rings = closed_axes(chip, topology) if exact_wraparound else (True,) * len(sizes)
    links = tuple(zip(chip.axes, sizes, rings, strict=True))
    by_use = (sharding.tp_axes, sharding.ep_axes, sharding.pp_axes)
    return _links_along(*(tuple(links[axis] for axis in axes) for axes in by_use))


@cache
def _links_along(tp: _Sized, ep: _Sized, pp: _Sized) -> Links:
    """The links over tensor-parallel axes of some sizes, those of experts and of stages: many slices share few."""

    def along(axes: _Sized) -> tuple[list[Axis], list[int], list[float]]:
        widths = [axis_bytes_per_s(link, is_ring=is_ring) for link, _, is_ring in axes]
        return [link for link, *_ in axes], [size for _, size, _ in axes], widths

    tp_links, _, tp_widths = along(tp)
    return Links(
        tp_bytes_per_s=tensor_parallel_bytes_per_s(tp_links, tp_widths),
        ep_bytes_per_s=all_to_all_bytes_per_s(*along(ep)),
        pp_bytes_per_s=min(along(pp)[2], default=float("inf")),
    )
