"""Which ways to split a model over a slice are legal."""

from itertools import combinations

import numpy as np

from servesat.arrays import Bools, Ints
from servesat.catalogue import Chip, ModelSpec, axis_sizes


def tensor_parallel_axes(chip: Chip, topology: str) -> list[tuple[int, ...]]:
    """Every set of slice axes that can carry tensor parallelism, the empty set first.

    An axis of one chip carries nothing. Of sets with the same sizes and bandwidths the first stands for all: they are
    the same machine turned round.
    """
    sizes = axis_sizes(topology)
    usable = [axis for axis, size in enumerate(sizes) if size > 1]
    distinct: dict[tuple[tuple[int, float], ...], tuple[int, ...]] = {}
    for count in range(len(usable) + 1):
        for axes in combinations(usable, count):
            shape = tuple(sorted((sizes[axis], chip.axes[axis].bytes_per_s) for axis in axes))
            distinct.setdefault(shape, axes)
    return list(distinct.values())


def heads_divide(model: ModelSpec, tp: Ints) -> Bools:
    """Whether Y divides the query heads and d_ff (requirement `heads`)."""
    divide: Bools = (model.query_heads % tp == 0) & (model.d_ff % tp == 0)
    return divide


def kv_batch_shards(model: ModelSpec, tp: Ints) -> Ints:
    """Z: ways the KV cache is sharded over the batch, Y / K beyond one KV head a chip, else 1.

    Where Y > K is not a multiple of K no such sharding exists, and Z is 1; `kv_heads_split` says so.
    """
    return np.where((tp > model.kv_heads) & (tp % model.kv_heads == 0), tp // model.kv_heads, 1)


def kv_heads_split(model: ModelSpec, tp: Ints, batch: Ints) -> Bools:
    """Whether the KV cache splits evenly: Y divides K, or Y is a multiple of K and B of Y / K (`kv_heads`)."""
    few = (tp <= model.kv_heads) & (model.kv_heads % tp == 0)
    many = (tp > model.kv_heads) & (tp % model.kv_heads == 0)
    split: Bools = few | (many & (batch % kv_batch_shards(model, tp) == 0))
    return split


def kv_heads_per_chip(model: ModelSpec, tp: int) -> float:
    """KV heads that each of Y chips would hold if heads were split evenly: K / Y."""
    return model.kv_heads / tp
