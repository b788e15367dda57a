"""Bytes: what a model's weights and KV cache take (docs/cost-model.md, "Memory")."""

from servesat.arrays import Array
from servesat.catalogue import Chip, ModelSpec, chips_in

BYTES_PER_VALUE = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
"""Storage of one value by dtype [bytes]."""

ACTIVATION_BYTES = 2.0
"""b_a: activations are bf16, whatever the weights are stored in [bytes]."""


def mlp_parameters(model: ModelSpec) -> float:
    """Parameters of the MLPs alone: L · 3·D·F, two matrices instead of three when the MLP is not gated."""
    return float(model.layers * (3 if model.gated_mlp else 2) * model.d_model * model.d_ff)


def counted_parameters(model: ModelSpec) -> float:
    """Parameters counted from the shape: L · (3·D·F + 2·D·H·(N + K)) + 2·D·V; biases and norms are left out.

    Two MLP matrices when the MLP is not gated, one embedding when it is tied (scaling book, part 4).
    """
    attention = 2 * model.d_model * model.head_dim * (model.query_heads + model.kv_heads)
    embeddings = (1 if model.tied_embeddings else 2) * model.d_model * model.vocab_size
    return mlp_parameters(model) + model.layers * attention + embeddings


def parameters(model: ModelSpec) -> float:
    """P: the nominal parameters where the model states them, else the counted ones."""
    return counted_parameters(model) if model.nominal_parameters is None else model.nominal_parameters


def weights_bytes(model: ModelSpec, bytes_per_value: Array) -> Array:
    """Weights of one replica: P · b_w [bytes]."""
    return parameters(model) * bytes_per_value


def kv_cache_bytes(model: ModelSpec, context_tokens: float, bytes_per_value: Array) -> Array:
    """Keys and values of one sequence: 2 · kv_heads · head_dim · b_kv a token and layer (scaling book, part 7) [bytes].

    Layers with a sliding window hold min(context, window) tokens, the others the whole context.
    """
    window = min(context_tokens, model.window_tokens or context_tokens)
    tokens = (model.layers - model.window_layers) * context_tokens + model.window_layers * window
    return 2.0 * model.kv_heads * model.head_dim * tokens * bytes_per_value


def sequences_that_fit(usable_bytes: Array, weights_bytes: Array, sequence_bytes: Array) -> Array:
    """Sequences whose KV cache fits beside the weights, not rounded: (usable - weights) / bytes of a sequence."""
    return (usable_bytes - weights_bytes) / sequence_bytes


def activation_bytes(rows: float, width: int) -> float:
    """One activation matrix [rows, width]: b_a · rows · width [bytes]."""
    return ACTIVATION_BYTES * rows * width


def attention_scores_bytes(model: ModelSpec, batch: int, context_tokens: int) -> float:
    """Attention scores of one layer if they were written out: b_a · B · N · S² [bytes]; FlashAttention never does."""
    return ACTIVATION_BYTES * batch * model.query_heads * float(context_tokens) ** 2


def chips_to_hold(held_bytes: float, chip: Chip, headroom: float = 0.0) -> float:
    """Chips whose memory holds so many bytes, not rounded: bytes / ((1 - headroom) · M)."""
    return held_bytes / ((1 - headroom) * chip.hbm_bytes)


def smallest_slice(held_bytes: float, chip: Chip, headroom: float = 0.0) -> str | None:
    """The slice with fewest chips that holds so many bytes; None where no slice of the chip does."""
    needed = chips_to_hold(held_bytes, chip, headroom)
    fitting = [topology for topology in chip.topologies if chips_in(topology) >= needed]
    return min(fitting, key=lambda topology: (chips_in(topology), topology), default=None)
