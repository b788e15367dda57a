"""Seconds on the interconnect of a slice (docs/cost-model.md, "Interconnect")."""

from collections.abc import Sequence

from servesat.arrays import Array
from servesat.memory import ACTIVATION_BYTES

COLLECTIVES_PER_LAYER = 4
"""AllGather and ReduceScatter around the attention and around the MLP."""


def tensor_parallel_bytes_per_s(axis_bytes_per_s: Sequence[float]) -> float:
    """Bandwidth of a collective over several axes: m · W_ici; axes of different bandwidth count as the slowest.

    Levels of different speed (NVLink inside a node, the network between nodes) do not add up: the collective takes
    its slowest level. No axes: infinite, since nothing is sent.
    """
    if not axis_bytes_per_s:
        return float("inf")
    slowest = min(axis_bytes_per_s)
    return slowest * len(axis_bytes_per_s) if slowest == max(axis_bytes_per_s) else slowest


def activations_s(batch: Array, width: int, bytes_per_s: Array) -> Array:
    """Time to gather [B, width] activations: b_a · B · width / bandwidth (scaling book, part 3) [s]."""
    return ACTIVATION_BYTES * batch * width / bytes_per_s


def gather_s(gathered_bytes: Array, bytes_per_s: Array) -> Array:
    """Time of an AllGather, which every chip receives whole: bytes / bandwidth (scaling book, part 3) [s]."""
    return gathered_bytes / bytes_per_s
