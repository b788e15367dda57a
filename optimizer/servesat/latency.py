"""Time of one decode step, assembled from memory, roofline and collectives (docs/cost-model.md, "Step")."""

from dataclasses import dataclass

import numpy as np

from servesat.arrays import Array, Rows
from servesat.catalogue import ModelSpec
from servesat.collectives import COLLECTIVES_PER_LAYER, activations_s
from servesat.memory import kv_cache_bytes, parameters, weights_bytes
from servesat.roofline import flops_s, load_s


@dataclass(frozen=True)
class Replica(Rows):
    """One replica's machine and dtypes as the cost model sees them: numbers, or arrays of one shape over layouts."""

    tp: Array
    hbm_bytes_per_s: Array
    flop_per_s: Array
    tp_bytes_per_s: Array
    weights_value_bytes: Array
    kv_cache_value_bytes: Array


@dataclass(frozen=True)
class Step:
    """The terms of a decode step [s]."""

    weights_s: Array
    flops_s: Array
    ici_s: Array
    kv_cache_s: Array

    @property
    def total_s(self) -> Array:
        """max(t_weights, t_flops, t_ici) + t_kv: weights, FLOPs and ICI overlap, attention does not [s]."""
        overlapped = np.maximum(np.maximum(self.weights_s, self.flops_s), self.ici_s)
        return overlapped + self.kv_cache_s


@dataclass(frozen=True)
class Matmul:
    """The three times of one sharded [B, D] x [D, F] matmul, which `ici: forbid` compares [s]."""

    ici_s: Array
    hbm_s: Array
    math_s: Array

    @property
    def hidden_s(self) -> Array:
        """What the interconnect may take without being waited for: max(t_hbm, t_math) [s]."""
        return np.maximum(self.hbm_s, self.math_s)


def decode_step(
    model: ModelSpec,
    context_tokens: float,
    replica: Replica,
    batch: Array,
    *,
    pay_ici: bool,
    chunk_tokens: Array = 0.0,
    chunk_s: Array = 0.0,
) -> Step:
    """One token for each of B sequences, the scaling book's roofline (part 7, "Theoretical step time").

    `pay_ici` adds four collectives of [B, D] activations a layer; otherwise the interconnect is assumed hidden, which
    the requirement `ici` then demands. A chunk of a prompt rides along: its tokens join the collectives, and its FLOPs
    take `chunk_s`; the weights are loaded once for both.
    """
    ici_s = layers_ici_s(model, replica, batch + chunk_tokens) if pay_ici else 0.0 * batch
    kv_bytes = batch * kv_cache_bytes(model, context_tokens, replica.kv_cache_value_bytes)
    return Step(
        weights_s=load_s(weights_bytes(model, replica.weights_value_bytes), replica.tp, replica.hbm_bytes_per_s),
        flops_s=flops_s(parameters(model), batch, replica.tp, replica.flop_per_s) + chunk_s,
        ici_s=ici_s,
        kv_cache_s=load_s(kv_bytes, replica.tp, replica.hbm_bytes_per_s),
    )


def layers_ici_s(model: ModelSpec, replica: Replica, tokens: Array) -> Array:
    """Four collectives of [tokens, D] activations a layer: L · 4 · b_a · tokens · D / (m · W_ici) [s]."""
    return model.layers * COLLECTIVES_PER_LAYER * activations_s(tokens, model.d_model, replica.tp_bytes_per_s)


def mlp_matmul(model: ModelSpec, replica: Replica, batch: Array) -> Matmul:
    """The sharded MLP matmul: t_ici = b_a·B·D / (m·W_ici), t_hbm = b_w·D·F / (Y·W_hbm), t_math = 2·B·D·F / (Y·C)."""
    matrix = float(model.d_model) * model.d_ff
    return Matmul(
        ici_s=activations_s(batch, model.d_model, replica.tp_bytes_per_s),
        hbm_s=load_s(replica.weights_value_bytes * matrix, replica.tp, replica.hbm_bytes_per_s),
        math_s=flops_s(matrix, batch, replica.tp, replica.flop_per_s),
    )


def usd_per_million_tokens(usd_per_hour: Array, tokens_per_s: Array) -> Array:
    """Cost of output: dollars an hour / 3600 / tokens a second · 10⁶ [$/1M tokens]."""
    return usd_per_hour / 3600.0 / tokens_per_s * 1e6


@dataclass(frozen=True)
class Line:
    """Time that grows with the batch: fixed + slope · B [s]."""

    fixed_s: Array
    slope_s: Array


@dataclass(frozen=True)
class StepShape:
    """The time per output token as a function of the batch: max(base, flops, ici) + kv · B [s].

    `base` is loading the weights; the two lines are the FLOPs and the interconnect; `kv` is a sequence's cache, and
    what else each sequence adds.
    """

    base_s: Array
    flops: Line
    ici: Line
    kv_s: Array

    def at(self, batch: Array) -> Array:
        """The time per output token at a batch [s]."""
        flops, ici = (line.fixed_s + line.slope_s * batch for line in (self.flops, self.ici))
        return np.maximum(np.maximum(self.base_s, flops), ici) + self.kv_s * batch

    def largest_batch_within(self, limit_s: Array) -> Array:
        """The largest B, not rounded, that takes no longer than the limit; below 1 where there is none."""
        flops, ici = ((limit_s - line.fixed_s) / (line.slope_s + self.kv_s) for line in (self.flops, self.ici))
        return np.minimum((limit_s - self.base_s) / self.kv_s, np.minimum(flops, ici))

    def least_batch_for(self, sequences_per_s: Array) -> Array:
        """The least B, not rounded, at which so many sequences a second get a token; infinite where none does."""
        budget_s = 1 / np.asarray(sequences_per_s)  # what a sequence of the batch may add to the step
        least = _least(self.base_s, budget_s - self.kv_s)
        for line in (self.flops, self.ici):
            least = np.maximum(least, _least(line.fixed_s, budget_s - self.kv_s - line.slope_s))
        return least


def _least(fixed_s: Array, left_s: Array) -> Array:
    """The least B with fixed ≤ left · B; infinite where nothing is left."""
    fixed_s, left_s = np.broadcast_arrays(fixed_s, left_s)
    enough = (left_s > 0) | ((left_s >= 0) & (fixed_s <= 0))
    return np.where(enough, fixed_s / np.where(left_s > 0, left_s, 1.0), np.inf)
