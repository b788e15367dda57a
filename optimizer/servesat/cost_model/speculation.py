"""Speculative decoding: the memory and time of a draft (docs/cost-model.md, "Speculation")."""

from dataclasses import dataclass

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array, Rows
from servesat.cost_model.memory import active_parameters, mlp_matrices, parameters
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage

DRAFT_BYTES = BYTES_PER_VALUE["bf16"]
"""Storage of a weight, in drafts that have their own [bytes]."""


@dataclass(frozen=True)
class Drafting(Rows):
    """A replica's draft of δ tokens, as numbers or arrays over layouts; without one δ = 0 and A = 1.

    The draft's KV cache is `kv_share` of the model's. Each drafted token loads `read_bytes`, once in each
    tensor-parallel group, and the part of `expert_bytes` that is visited.
    """

    tokens: Array = 0.0  # δ
    accepted: Array = 1.0  # A, mean tokens per step, including the one that the model adds itself
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
"""Vocabulary of an EAGLE-3 draft's head: the most frequent tokens of the model's."""


def eagle_parameters(model: ModelSpec) -> float:
    """Parameters of an EAGLE-3 draft whose shape has not been published.

    A Llama layer with twice the input width, the model's heads and its widest MLP (3 · D if it has none); 3 · D² to
    fuse three of the model's hidden states; and a head of 32,000 tokens.
    """
    d_model, head_dim = float(model.d_model), model.head_dim or 128
    heads, kv_heads = model.query_heads * head_dim, (model.kv_heads if model.mla is None else 8) * head_dim
    d_ff = max((width for _, width in model.dense_mlps), default=0) or 3 * d_model
    layer = 2 * d_model * (heads + 2 * kv_heads) + heads * d_model + 3 * d_model * d_ff
    return layer + 3 * d_model**2 + EAGLE_HEAD * d_model


def eagle_drafting(model: ModelSpec, weights: float, tokens: int, accepted: float) -> Drafting:
    """A draft with its own layer and head, `weights` parameters in bf16."""
    size = DRAFT_BYTES * weights
    return Drafting(tokens, accepted, size, size, 0.0, 2 * weights, 1.0, 1 / model.layers)


def mtp_drafting(model: ModelSpec, storage: Storage, weights: str, tokens: int, accepted: float) -> Drafting:
    """One more layer like the model's last, in the dtype of its weights, that joins two states of width D.

    It shares embedding and head with the model: it reads the head, but stores neither.
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
    """A smaller model, in bf16, that drafts on the same chips."""
    size = Storage(draft).weights_bytes("bf16")
    ours, theirs = (Storage(one).kv_cache_bytes("bf16", 1000) for one in (model, draft))
    flop = 2 * active_parameters(draft)
    return Drafting(tokens, accepted, size, size, 0.0, flop, float(draft.layers), theirs / ours)
