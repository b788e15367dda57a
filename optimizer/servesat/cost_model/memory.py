"""Parameters, and bytes: what a model's weights and KV cache take (docs/cost-model.md, "Memory")."""

from servesat.catalogue.chip import Chip, chips_in
from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array

ACTIVATION_BYTES = 2.0
"""b_a: activations are bf16, whatever the weights are stored in [bytes]."""


def mlp_matrices(model: ModelSpec) -> int:
    """Matrices of an MLP or an expert: gate, up and down, or two when it is not gated."""
    return 3 if model.gated_mlp else 2


def mlp_parameters(model: ModelSpec) -> float:
    """Parameters of the dense MLPs alone: 3·D·F a layer, two matrices instead of three when the MLP is not gated."""
    dense_layers = model.layers - (model.moe.layers if model.moe else 0)
    return float(dense_layers * mlp_matrices(model) * model.d_model * model.d_ff)


def expert_parameters(model: ModelSpec) -> float:
    """Parameters of the routed experts: L_e · E · 3·D·F_e; 0 without experts."""
    moe = model.moe
    return float(moe.layers * moe.experts * mlp_matrices(model) * model.d_model * moe.d_ff) if moe else 0.0


def attention_parameters(model: ModelSpec) -> float:
    """Parameters of attention: 2·D·H·(N + K) a layer; of latent attention, its projections down and up.

    Those are D·r_q + r_q·N·(H_n + H_r), or D·N·(H_n + H_r) without a query latent; D·(r + H_r) + r·N·(H_n + H_v); and
    N·H_v·D (DeepSeek-V2, appendix C). Sparse attention adds its indexer.
    """
    d_model, heads, mla, sparse = model.d_model, model.query_heads, model.mla, model.sparse
    queries_from = (mla.q_lora_rank if mla else None) or d_model
    if mla is None:
        layer = 2 * d_model * model.head_dim * (heads + model.kv_heads)
    else:
        down = d_model * ((mla.q_lora_rank or 0) + mla.kv_lora_rank + mla.rope_head_dim)
        up = mla.kv_lora_rank * heads * (mla.nope_head_dim + mla.v_head_dim)
        layer = down + queries_from * heads * model.head_dim + up + heads * mla.v_head_dim * d_model
    if sparse is not None:
        queries = queries_from * sparse.index_heads * sparse.index_head_dim
        layer += queries + d_model * (sparse.index_head_dim + sparse.index_heads)
    return float(model.layers * layer)


def counted_parameters(model: ModelSpec) -> float:
    """Parameters counted from the shape: L · (3·D·F + 2·D·H·(N + K)) + 2·D·V; biases and norms are left out.

    Two MLP matrices when the MLP is not gated, one embedding when it is tied (scaling book, part 4). Layers with
    experts have those, the shared ones, and a router D·E instead of the MLP.
    """
    embeddings = (1 if model.tied_embeddings else 2) * model.d_model * model.vocab_size
    total = mlp_parameters(model) + attention_parameters(model) + embeddings + expert_parameters(model)
    if model.moe is not None:
        shared = mlp_matrices(model) * model.d_model * model.moe.shared_d_ff
        total += model.moe.layers * (shared + model.d_model * model.moe.experts)
    return total


def parameters(model: ModelSpec) -> float:
    """P: the nominal parameters where the model states them, else the counted ones."""
    return counted_parameters(model) if model.nominal_parameters is None else model.nominal_parameters


def active_parameters(model: ModelSpec) -> float:
    """P_active: what one token is multiplied with, all but the experts that it does not visit."""
    return parameters(model) - expert_parameters(model) * not_visited(model)


def not_visited(model: ModelSpec) -> float:
    """The share of a layer's experts that one token does not visit: 1 - k / E; 0 without experts."""
    return 1.0 - model.moe.experts_per_token / model.moe.experts if model.moe else 0.0


def experts_touched(model: ModelSpec, tokens: Array) -> Array:
    """The share of a layer's experts that some of the tokens visit, expected: 1 - (1 - k / E)^tokens.

    Each token visits k of E experts, whichever the others visit.
    """
    return 1.0 - not_visited(model) ** tokens


def weights_bytes(
    model: ModelSpec, bytes_per_value: Array, expert_bytes_per_value: Array | None = None, ep: Array = 1.0
) -> Array:
    """Weights of one replica: P · b_w; with experts spread over ep groups, which each hold the rest: [bytes].

    (P - P_experts) · b_w · ep + P_experts · b_e, where b_e is b_w unless given.
    """
    experts = expert_parameters(model)
    of_experts = bytes_per_value if expert_bytes_per_value is None else expert_bytes_per_value
    return (parameters(model) - experts) * bytes_per_value * ep + experts * of_experts


def kv_cache_bytes(model: ModelSpec, context_tokens: float, bytes_per_value: Array) -> Array:
    """KV cache of one sequence: 2 · kv_heads · head_dim · b_kv a token and layer (scaling book, part 7) [bytes].

    Layers with a window hold min(context, window) tokens, the others the whole context. Latent attention holds its
    latent and the rotary key instead, an indexer a key of its own.
    """
    window = min(context_tokens, model.window_tokens or context_tokens)
    tokens = (model.layers - model.window_layers) * context_tokens + model.window_layers * window
    index = model.sparse.index_head_dim if model.sparse else 0
    return (_token_values(model) + index) * tokens * bytes_per_value


def kv_read_bytes(model: ModelSpec, context_tokens: float, bytes_per_value: Array) -> Array:
    """What a step reads of one sequence's KV cache: all of it, or the index and the tokens it selects [bytes]."""
    if model.sparse is None:
        return kv_cache_bytes(model, context_tokens, bytes_per_value)
    selected = min(context_tokens, model.sparse.tokens)
    values = _token_values(model) * selected + model.sparse.index_head_dim * context_tokens
    return model.layers * values * bytes_per_value


def _token_values(model: ModelSpec) -> float:
    """Values that a layer's cache holds of one token."""
    if model.mla is not None:
        return float(model.mla.kv_lora_rank + model.mla.rope_head_dim)
    return 2.0 * model.kv_heads * model.head_dim


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
