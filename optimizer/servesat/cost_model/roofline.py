"""Seconds on one replica of Y chips, each term alone (docs/cost-model.md, "Roofline")."""

from servesat.core.arrays import Array


def load_s(bytes_loaded: Array, tp: Array, hbm_bytes_per_s: Array) -> Array:
    """Time to stream bytes from the HBM of Y chips: bytes / (Y · W_hbm) (scaling book, part 1) [s]."""
    return bytes_loaded / (tp * hbm_bytes_per_s)


def flops_s(parameters: Array, batch: Array, tp: Array, flop_per_s: Array) -> Array:
    """Time of the matmuls of one token a sequence: 2 · Θ_active · B / (Y · C) (scaling book, part 7) [s]."""
    return 2.0 * parameters * batch / (tp * flop_per_s)
