"""Parameters, and the bytes of a model's weights and KV cache (docs/cost-model.md, "Memory")."""

from typing import NamedTuple

import numpy as np

from servesat.catalogue.chip import Chip, chips_in
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.catalogue.tensors import matrices
from servesat.core.arrays import Array

ACTIVATION_BYTES = 2.0
"""b_a: activations are bf16, whatever the weights are stored in [bytes]."""


def mlp_matrices(model: ModelSpec) -> int:
    """Matrices of an MLP or an expert: gate, up and down, or only two if it is not gated."""
    return 3 if model.gated_mlp else 2


def parameters_by_group(model: ModelSpec) -> dict[TensorGroup, float]:
    """Parameters of each of a model's groups of tensors."""
    counts: dict[TensorGroup, float] = {}
    for matrix in matrices(model):
        counts[matrix.group] = counts.get(matrix.group, 0.0) + float(matrix.layers * matrix.parameters)
    return counts


def expert_parameters(model: ModelSpec) -> float:
    """Parameters of the routed experts: L_e · E · 3·D·F_e; 0 without experts."""
    moe = model.moe
    return float(moe.layers * moe.experts * mlp_matrices(model) * model.expert_width * moe.d_ff) if moe else 0.0


def counted_parameters(model: ModelSpec) -> float:
    """Parameters counted from the shape: L · (3·D·F + 2·D·H·(N + K)) + 2·D·V, of a dense model.

    An MLP that is not gated has two matrices, and tied embeddings count once (scaling book, part 4). Layers with
    experts have the routed and shared experts and a router D·E in place of the MLP; latent attention has its own
    projections.
    """
    return sum(parameters_by_group(model).values())


def parameters(model: ModelSpec) -> float:
    """Θ: the nominal parameters if the model states them, else the counted ones."""
    return counted_parameters(model) if model.nominal_parameters is None else model.nominal_parameters


def active_parameters(model: ModelSpec) -> float:
    """Θ_active: the parameters that one token is multiplied by, all but those of the experts it does not visit."""
    return parameters(model) - expert_parameters(model) * not_visited(model)


def not_visited(model: ModelSpec) -> float:
    """The share of a layer's experts that one token does not visit: 1 - k / E; 0 without experts."""
    return 1.0 - model.moe.experts_per_token / model.moe.experts if model.moe else 0.0


def experts_touched(model: ModelSpec, tokens: Array) -> Array:
    """The expected share of a layer's experts that at least one token visits: 1 - (1 - k / E)^tokens.

    Each token visits k of E experts, independently of the others.
    """
    return 1.0 - not_visited(model) ** tokens


INDEX_SCALE_BYTES = 4 / 128
"""An indexer's key is stored in fp8 with a 4-byte scale per 128 values, whatever the dtype of the cache."""


def kv_head_copies(kv_heads: int, copied_over: Array) -> Array:
    """Copies of each KV head when heads are spread over more chips than there are heads: max(1, chips / K)."""
    return np.maximum(1.0, copied_over / max(1, kv_heads))


def kv_cache_bytes(
    model: ModelSpec,
    context_tokens: float,
    token_bytes: Array,
    value_bytes: Array = 0.0,
    copied_over: Array = 1.0,
    *,
    window_times: Array = 1.0,
    window_slack: Array = 0.0,
) -> Array:
    """KV cache of one sequence; `token_bytes` is that of one token in one layer (scaling book, part 7) [bytes].

    Layers with a window hold min(context, window) tokens, or `window_times` as many and `window_slack` more; the others
    the whole context. An indexer stores a key of its own for each token, one byte a value and a scale: 132 bytes for
    128 values (DeepSeek-V3.2). Layers of other kinds hold their own keys and values, at `value_bytes`, or a state.
    Heads may be `copied_over` more chips than there are heads.
    """
    copies = kv_head_copies(model.kv_heads, copied_over)
    windowed = _held_tokens(model.window_tokens, context_tokens, window_times, window_slack)
    tokens = (model.attention_layers - model.window_layers) * context_tokens + model.window_layers * windowed
    held = (token_bytes * tokens + model.index_layers * index_bytes(model) * context_tokens) * copies
    windows = {"window_times": window_times, "window_slack": window_slack}
    others = _other_cache_bytes(model, context_tokens, value_bytes, copied_over, **windows)
    return held + others + _state_bytes(model)


def _held_tokens(window: int | None, context_tokens: float, times: Array, slack: Array) -> Array:
    """min(S, times · window + slack), of layers without a window S."""
    return context_tokens if window is None else np.minimum(context_tokens, times * window + slack)


def kv_read_bytes(
    model: ModelSpec, context_tokens: float, token_bytes: Array, value_bytes: Array = 0.0, copied_over: Array = 1.0
) -> Array:
    """Bytes of one sequence's KV cache that a step reads: all of it, or the index and the tokens that it selects.

    A state is read and written, so it counts twice.
    """
    apart = _state_bytes(model) - _other_unread_bytes(model, context_tokens, value_bytes, copied_over)
    if model.sparse is None:
        return kv_cache_bytes(model, context_tokens, token_bytes, value_bytes, copied_over) + apart
    copies = kv_head_copies(model.kv_heads, copied_over)
    selected = min(context_tokens, model.sparse.tokens)
    index = model.index_layers * index_bytes(model) * context_tokens
    read = (model.attention_layers * token_bytes * selected + index) * copies
    return read + _other_cache_bytes(model, context_tokens, value_bytes, copied_over) + _state_bytes(model) + apart


def _other_cache_bytes(
    model: ModelSpec,
    context_tokens: float,
    value_bytes: Array,
    copied_over: Array,
    *,
    window_times: Array = 1.0,
    window_slack: Array = 0.0,
) -> Array:
    """Cache of `other_layers`, each copies · (K · (H + H_v) · b_kv + index) · tokens / entry [bytes]."""
    held: Array = 0.0
    for other in model.other_layers:
        tokens = _held_tokens(other.window_tokens, context_tokens, window_times, window_slack)
        of_entry = other.kv_width * value_bytes + other.index_bytes
        held = (
            held + kv_head_copies(other.kv_heads, copied_over) * other.layers * tokens / other.entry_tokens * of_entry
        )
    return held


def _other_unread_bytes(model: ModelSpec, context_tokens: float, value_bytes: Array, copied_over: Array) -> Array:
    """The part of the `other_layers` cache that their indexers skip and a step does not read [bytes]."""
    unread_bytes: Array = 0.0
    for other in model.other_layers:
        if other.selected_tokens is not None:
            held = min(context_tokens, other.window_tokens or context_tokens)
            unread = max(0.0, held - other.selected_tokens) / other.entry_tokens
            copies = kv_head_copies(other.kv_heads, copied_over)
            unread_bytes = unread_bytes + copies * other.layers * unread * other.kv_width * value_bytes
    return unread_bytes


def _state_bytes(model: ModelSpec) -> float:
    """The fixed-size state of one sequence, in the layers that keep one [bytes]."""
    return float(sum(other.layers * other.state_bytes for other in model.other_layers))


def index_bytes(model: ModelSpec) -> float:
    """The indexer's key of one token in one layer; 0 without an indexer [bytes]."""
    return model.sparse.index_head_dim * (1 + INDEX_SCALE_BYTES) if model.sparse else 0.0


class ActivationFactors(NamedTuple):
    """The activation factors of an engine, as in `catalogue.engine.EngineMemory`, as numbers or arrays."""

    d_model: Array
    d_ff: Array
    logits: Array


def peak_activations_bytes(
    model: ModelSpec, tp: Array, tokens: Array, sequences: Array, factors: ActivationFactors
) -> tuple[Array, Array]:
    """Peak activations of one chip, within a layer and while sampling; the larger counts [bytes].

    `tokens` and `sequences` are those of a step in a group of tp chips; both results are linear in them. A dense layer
    holds b_a · T · (c_1 · D + c_2 · F / tp); sampling holds 4 · c_3 · B · V and the hidden states, b_a · T · D. Experts
    run while those are still held, and add b_a · T · k · (max(F_e / tp, D_e) + max(2 · F_e / tp, D_e)). The factors are
    fitted to logs, see tests/published/engine_memory.csv.
    """
    sampling = 4.0 * factors.logits * sequences * model.vocab_size + ACTIVATION_BYTES * tokens * model.d_model
    if model.moe is not None:
        width, d_ff = float(model.expert_width), model.moe.d_ff / tp
        of_experts = model.moe.experts_per_token * (np.maximum(d_ff, width) + np.maximum(2 * d_ff, width))
        busy = sampling + ACTIVATION_BYTES * tokens * of_experts
        return busy, busy
    widest = max((width for _, width in model.dense_mlps), default=0)
    each = factors.d_model * model.d_model + factors.d_ff * widest / tp
    return ACTIVATION_BYTES * tokens * each, sampling


def sequences_that_fit(usable_bytes: Array, weights_bytes: Array, sequence_bytes: Array) -> Array:
    """Sequences whose KV cache fits alongside the weights, not rounded: (usable - weights) / bytes of a sequence."""
    return (usable_bytes - weights_bytes) / sequence_bytes


def activation_bytes(rows: float, width: int) -> float:
    """One activation matrix [rows, width]: b_a · rows · width [bytes]."""
    return ACTIVATION_BYTES * rows * width


def attention_scores_bytes(model: ModelSpec, batch: int, context_tokens: int) -> float:
    """Attention scores of one layer if they were materialised: b_a · B · N · S² [bytes]; FlashAttention never does."""
    return ACTIVATION_BYTES * batch * model.query_heads * float(context_tokens) ** 2


def chips_to_hold(held_bytes: float, chip: Chip, headroom: float = 0.0) -> float:
    """Chips whose memory holds these bytes, not rounded: bytes / ((1 - headroom) · M)."""
    return held_bytes / ((1 - headroom) * chip.hbm_bytes)


def smallest_slice(held_bytes: float, chip: Chip, headroom: float = 0.0) -> str | None:
    """The slice with the fewest chips that holds these bytes; None if no slice of the chip does."""
    needed = chips_to_hold(held_bytes, chip, headroom)
    fitting = [topology for topology in chip.topologies if chips_in(topology) >= needed]
    return min(fitting, key=lambda topology: (chips_in(topology), topology), default=None)
