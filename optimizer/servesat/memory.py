"""Bytes: what a model's weights and KV cache take (docs/cost-model.md, "Memory")."""

from servesat.arrays import Array
from servesat.catalogue import ModelSpec

BYTES_PER_VALUE = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}
"""Storage of one value by dtype [bytes]."""


def counted_parameters(model: ModelSpec) -> float:
    """Parameters counted from the shape: L · (3·D·F + 2·D·H·(N + K)) + 2·D·V; biases and norms are left out.

    Two MLP matrices when the MLP is not gated, one embedding when it is tied (scaling book, part 4).
    """
    mlp = (3 if model.gated_mlp else 2) * model.d_model * model.d_ff
    attention = 2 * model.d_model * model.head_dim * (model.query_heads + model.kv_heads)
    embeddings = (1 if model.tied_embeddings else 2) * model.d_model * model.vocab_size
    return float(model.layers * (mlp + attention) + embeddings)


def parameters(model: ModelSpec) -> float:
    """P: the nominal parameters where the model states them, else the counted ones."""
    return counted_parameters(model) if model.nominal_parameters is None else model.nominal_parameters


def weights_bytes(model: ModelSpec, bytes_per_value: Array) -> Array:
    """Weights of one replica: P · b_w [bytes]."""
    return parameters(model) * bytes_per_value


def kv_cache_bytes(model: ModelSpec, context_tokens: int, bytes_per_value: Array) -> Array:
    """Keys and values of one sequence: 2 · kv_heads · head_dim · b_kv a token and layer (scaling book, part 7) [bytes].

    Layers with a sliding window hold min(context, window) tokens, the others the whole context.
    """
    window = min(context_tokens, model.window_tokens or context_tokens)
    tokens = (model.layers - model.window_layers) * context_tokens + model.window_layers * window
    return 2.0 * model.kv_heads * model.head_dim * tokens * bytes_per_value
