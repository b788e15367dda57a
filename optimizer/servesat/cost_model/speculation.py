"""Tokens drafted ahead: what a draft takes of memory and time (docs/cost-model.md, "Speculation")."""

from dataclasses import dataclass

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array, Rows
from servesat.cost_model.memory import active_parameters, mlp_matrices, parameters
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage

DRAFT_BYTES = BYTES_PER_VALUE["bf16"]
"""Of a weight of a draft with weights of its own."""


@dataclass(frozen=True)
class Drafting(Rows):
    """A draft of δ tokens beside a replica, as numbers or arrays over layouts; without one δ = 0 and A = 1.

    The draft's KV cache is `kv_share` of the model's. Loading reads `read_bytes`, once for each group of tensor
    parallelism, and of `expert_bytes` the experts visited.
    """

    tokens: Array = 0.0  # δ
    accepted: Array = 1.0  # A, mean tokens of a step, the one that it makes anyway included
    held_bytes: Array = 0.0
    read_bytes: Array = 0.0
    expert_bytes: Array = 0.0
    flop: Array = 0.0  # of a token
    layers: Array = 0.0
    kv_share: Array = 0.0

    @property
    def verified(self) -> Array:
        """Tokens that a step verifies of each sequence: δ + 1."""
        return self.tokens + 1.0


NO_DRAFT = Drafting()


EAGLE_HEAD = 32_000
"""Words of the head of an EAGLE-3 draft: the most frequent of the model's."""


def eagle_parameters(model: ModelSpec) -> float:
    """Parameters of an EAGLE-3 draft of which nobody published more than that it is one.

    A Llama layer of twice the input, with the model's heads and its widest MLP (3 · D without one), 3 · D² that fuse
    three states of the model, and a head of 32,000 words.
    """
    d_model, head_dim = float(model.d_model), model.head_dim or 128
    heads, kv_heads = model.query_heads * head_dim, (model.kv_heads if model.mla is None else 8) * head_dim
    d_ff = max((width for _, width in model.dense_mlps), default=0) or 3 * d_model
    layer = 2 * d_model * (heads + 2 * kv_heads) + heads * d_model + 3 * d_model * d_ff
    return layer + 3 * d_model**2 + EAGLE_HEAD * d_model


def eagle_drafting(model: ModelSpec, weights: float, tokens: int, accepted: float) -> Drafting:
    """A layer of its own, with a head of its own, of so many weights in bf16."""
    size = DRAFT_BYTES * weights
    return Drafting(tokens, accepted, size, size, 0.0, 2 * weights, 1.0, 1 / model.layers)


def mtp_drafting(model: ModelSpec, storage: Storage, weights: str, tokens: int, accepted: float) -> Drafting:
    """A further layer of the model as its last, in the dtype of its weights, that joins two states of width D.

    It shares embedding and head with the model: it reads the head, and holds neither.
    """
    stored, d_model = storage.weights(weights), float(model.d_model)
    table = d_model * model.vocab_size
    inside = parameters(model) - table * (1 if model.tied_embeddings else 2)
    resident = (stored.resident - stored.embedding - stored.head) / model.layers
    joined = DRAFT_BYTES * 2 * d_model**2
    head = stored.embedding if model.tied_embeddings else stored.head
    of_layer = inside / model.layers
    experts: Array = 0.0
    if model.moe is not None:
        of_experts = model.moe.experts * mlp_matrices(model) * float(model.expert_width) * model.moe.d_ff
        active = of_experts * model.moe.experts_per_token / model.moe.experts
        others = (inside - model.moe.layers * of_experts) / model.layers
        of_layer, experts = others + active, stored.experts / model.moe.layers
    return Drafting(
        tokens=tokens,
        accepted=accepted,
        held_bytes=resident + joined,
        read_bytes=resident + joined + head,
        expert_bytes=experts,
        flop=2 * (of_layer + 2 * d_model**2 + table),
        layers=1.0,
        kv_share=1 / model.layers,
    )


def model_drafting(model: ModelSpec, draft: ModelSpec, tokens: int, accepted: float) -> Drafting:
    """Another, smaller model in bf16 that drafts on the same chips."""
    size = Storage(draft).weights_bytes("bf16")
    ours, theirs = (Storage(one).kv_cache_bytes("bf16", 1000) for one in (model, draft))
    flop = 2 * active_parameters(draft)
    return Drafting(tokens, accepted, size, size, 0.0, flop, float(draft.layers), theirs / ours)
