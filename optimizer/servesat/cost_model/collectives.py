"""Seconds on the interconnect of a slice (docs/cost-model.md, "Interconnect")."""

from collections.abc import Sequence

from servesat.catalogue.chip import Axis
from servesat.core.arrays import Array
from servesat.cost_model.memory import ACTIVATION_BYTES

COLLECTIVES_PER_LAYER = 4
"""AllGather and ReduceScatter around the attention and around the MLP."""


def axis_bytes_per_s(axis: Axis, *, is_ring: bool) -> float:
    """What one chip receives over an axis; a torus axis that is not a ring has half the bandwidth."""
    return axis.bytes_per_s if is_ring or axis.wraps_every is None else axis.bytes_per_s / 2


def tensor_parallel_bytes_per_s(axes: Sequence[Axis], bytes_per_s: Sequence[float]) -> float:
    """Bandwidth of a collective over several axes: m · W_ici; axes of different bandwidth count as the slowest.

    Levels of different speed (NVLink inside a node, the network between nodes) do not add up: the collective takes
    its slowest level. The axes of a torus do, each at the pace of the slowest. No axes: infinite, as nothing is sent.
    """
    if not axes:
        return float("inf")
    slowest = min(bytes_per_s)
    torus = all(axis.wraps_every is not None for axis in axes)
    return slowest * len(axes) if torus or slowest == max(bytes_per_s) else slowest


def all_to_all_bytes_per_s(axes: Sequence[Axis], sizes: Sequence[int], bytes_per_s: Sequence[float]) -> float:
    """Bytes of activations that all chips of some axes together exchange in a second; infinite over no axes.

    A chip holds its share of what is exchanged, and sends it over each axis in turn, so the slowest sets the pace. A
    switch takes what the port gives, in all Y · W; on a ring of A chips each byte travels A / 4 links on average, in
    all Y · W · 4 / A (scaling book, part 3).
    """
    chips = 1
    for size in sizes:
        chips *= size
    links = [1.0 if axis.wraps_every is None else size / 4 for axis, size in zip(axes, sizes, strict=True)]
    return min((chips * each / far for each, far in zip(bytes_per_s, links, strict=True)), default=float("inf"))


def activations_s(batch: Array, width: int, bytes_per_s: Array) -> Array:
    """Time to gather [B, width] activations: b_a · B · width / bandwidth (scaling book, part 3) [s]."""
    return ACTIVATION_BYTES * batch * width / bytes_per_s


def gather_s(gathered_bytes: Array, bytes_per_s: Array) -> Array:
    """Time of an AllGather, which every chip receives whole: bytes / bandwidth (scaling book, part 3) [s]."""
    return gathered_bytes / bytes_per_s
