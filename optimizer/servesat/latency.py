"""Time of one decode step, assembled from memory, roofline and collectives (docs/cost-model.md, "Step")."""

from dataclasses import dataclass, fields

import numpy as np

from servesat.arrays import Array, Ints
from servesat.catalogue import ModelSpec
from servesat.collectives import COLLECTIVES_PER_LAYER, activations_s
from servesat.memory import kv_cache_bytes, parameters, weights_bytes
from servesat.roofline import flops_s, load_s


@dataclass(frozen=True)
class Replica:
    """One replica's machine and dtypes as the cost model sees them: numbers, or arrays of one shape over layouts."""

    tp: Array
    hbm_bytes_per_s: Array
    flop_per_s: Array
    tp_bytes_per_s: Array
    weights_value_bytes: Array
    kv_cache_value_bytes: Array

    def take(self, rows: Ints) -> "Replica":
        """The replicas at `rows`, where the fields are arrays."""
        return Replica(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def join(self, other: "Replica") -> "Replica":
        """These replicas followed by others, where the fields are arrays."""
        return Replica(
            **{
                field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            }
        )


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


def decode_step(model: ModelSpec, context_tokens: int, replica: Replica, batch: Array, *, pay_ici: bool) -> Step:
    """One token for each of B sequences, the scaling book's roofline (part 7, "Theoretical step time").

    `pay_ici` adds four collectives of [B, D] activations a layer; otherwise the interconnect is assumed hidden, which
    the requirement `ici` then demands.
    """
    one_layer_s = COLLECTIVES_PER_LAYER * activations_s(batch, model.d_model, replica.tp_bytes_per_s)
    kv_bytes = batch * kv_cache_bytes(model, context_tokens, replica.kv_cache_value_bytes)
    return Step(
        weights_s=load_s(weights_bytes(model, replica.weights_value_bytes), replica.tp, replica.hbm_bytes_per_s),
        flops_s=flops_s(parameters(model), batch, replica.tp, replica.flop_per_s),
        ici_s=model.layers * one_layer_s if pay_ici else 0.0 * batch,
        kv_cache_s=load_s(kv_bytes, replica.tp, replica.hbm_bytes_per_s),
    )


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


def largest_batch_within(limit_s: Array, base_s: Array, slope_s: Array, kv_s: Array) -> Array:
    """The largest B, not rounded, with max(base, slope·B) + kv·B ≤ limit; below 1 where there is none."""
    return np.minimum((limit_s - base_s) / kv_s, limit_s / (slope_s + kv_s))
