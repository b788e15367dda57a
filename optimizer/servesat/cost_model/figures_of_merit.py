"""Figures of merit of a chip: what a dollar buys, and where its bottlenecks lie (scaling book, parts 1, 3 and 7)."""

from servesat.catalogue.chip import Chip
from servesat.catalogue.model import ModelSpec
from servesat.cost_model.memory import ACTIVATION_BYTES, active_parameters


def flop_per_usd(flop_per_s: float, usd_per_chip_hour: float) -> float:
    """FLOPs that one dollar buys: C · 3600 / price [FLOP/$]."""
    return flop_per_s * 3600 / usd_per_chip_hour


def hbm_bytes_per_usd(chip: Chip, usd_per_chip_hour: float) -> float:
    """Bytes of HBM traffic that one dollar buys: W_hbm · 3600 / price [bytes/$]."""
    return chip.hbm_bytes_per_s * 3600 / usd_per_chip_hour


def held_bytes_per_usd(chip: Chip, usd_per_chip_hour: float) -> float:
    """Bytes of HBM that one dollar holds for an hour: M / price [bytes·h/$]."""
    return chip.hbm_bytes / usd_per_chip_hour


def bytes_per_active_parameter(model: ModelSpec, weights_bytes: float) -> float:
    """The bytes of all weights for each parameter that a token is multiplied with: more of a model with experts."""
    return weights_bytes / active_parameters(model)


def critical_batch(chip: Chip, compute: str, weights_value_bytes: float) -> float:
    """The batch from which matmuls are compute-bound: C · b_w / (2 · W_hbm) [sequences].

    With experts, b_w is the bytes of all weights for each parameter that a token is multiplied with.
    """
    return chip.flop_per_s.by_dtype()[compute] * weights_value_bytes / (2 * chip.hbm_bytes_per_s)


def alpha(chip: Chip, compute: str) -> float:
    """FLOPs to do for each byte received over one axis: C / W_ici of the first axis [FLOP/byte]."""
    return chip.flop_per_s.by_dtype()[compute] / chip.axes[0].bytes_per_s


def beta(chip: Chip) -> float:
    """Memory over interconnect bandwidth: W_hbm / W_ici of the first axis."""
    return chip.hbm_bytes_per_s / chip.axes[0].bytes_per_s


def compute_bound_ways(model: ModelSpec, axes: int, alpha: float) -> float:
    """Tensor parallelism that large batches can hide: Y ≤ F · m / alpha, not rounded."""
    return model.d_ff * axes / alpha


def bandwidth_bound_ways(model: ModelSpec, axes: int, beta: float, batch: float, weights_value_bytes: float) -> float:
    """Tensor parallelism that loading the weights can hide: Y ≤ (b_w / b_a) · F · m / (B · beta), not rounded."""
    return weights_value_bytes / ACTIVATION_BYTES * model.d_ff * axes / (batch * beta)
