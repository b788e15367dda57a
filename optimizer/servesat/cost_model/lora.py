"""The memory of LoRA adapters on the chips of a replica (docs/cost-model.md, "Adapters")."""

from dataclasses import dataclass

import numpy as np

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array
from servesat.cost_model.decode import Replica
from servesat.cost_model.memory import kv_head_copies, mlp_matrices

ADAPTER_BYTES = 2.0
"""Adapters are held in 16 bits, whatever the weights are stored in [bytes]."""


@dataclass(frozen=True)
class Widths:
    """Widths of LoRA matrices, summed over layers; times the rank they give parameters.

    An adapter of rank r adds A [r, inputs] and B [outputs, r] to a matrix. Where tensor parallelism splits the outputs
    of the matrix, every chip holds all of A and a part of B; where it splits the inputs, a part of A and all of B.
    `whole` is the width that every chip holds in full, `split` the width that is divided among the chips.
    """

    whole: Array
    split: Array

    def __add__(self, other: "Widths") -> "Widths":
        return Widths(self.whole + other.whole, self.split + other.split)

    def times(self, count: float) -> "Widths":
        """The widths of `count` identical layers or experts."""
        return Widths(count * self.whole, count * self.split)

    def on(self, chips: Array) -> Array:
        """The total width held by `chips` chips that split the matrices between them."""
        return chips * self.whole + self.split


def adapters_bytes(model: ModelSpec, replica: Replica, ranks: int, *, attention_only: bool) -> Array:
    """Memory that adapters take on all chips of a replica; `ranks` is the number of adapters times their rank [bytes].

    2 · ranks · (λ · (ep · dense + experts) + Y · tables · (D + V)): dense is the width of attention, MLPs and shared
    experts, experts that of the routed ones. λ counts every stage as the dearest one. The two tables, the embedding and
    the output head, are in full on every chip; with several stages a chip has at most one of them.
    """
    tp, ep, pp = (np.asarray(each, dtype=np.float64) for each in (replica.tp, replica.ep, replica.pp))
    layers = ep * _attention_widths(model, tp).on(tp)
    tables: Array = 0.0
    if not attention_only:
        layers = layers + ep * _mlp_widths(model).on(tp) + _expert_widths(model).on(tp)
        tables = replica.chips * np.where(pp > 1, 1.0, 2.0) * (model.d_model + model.vocab_size)
    return ADAPTER_BYTES * ranks * (replica.dearest_stage * layers + tables)


def _attention_widths(model: ModelSpec, tp: Array) -> Widths:
    """The query, key, value and output projections of all layers; for latent attention, the down and up projections.

    Every chip holds the down projections to a latent, and the projections of an indexer, in full. The catalogue does
    not list the matrices of layers of other kinds; each layer counts as four of them, from D to one common width.
    """
    d_model, heads, mla, sparse = model.d_model, model.query_heads, model.mla, model.sparse
    if mla is None:
        cached = 2 * kv_head_copies(model.kv_heads, tp) * model.kv_heads * model.head_dim
        each = Widths(4 * d_model, 2 * heads * model.head_dim + cached)
    else:
        queries = heads * (mla.nope_head_dim + mla.rope_head_dim)
        down = 0 if mla.q_lora_rank is None else d_model + mla.q_lora_rank
        latent = mla.kv_lora_rank + mla.rope_head_dim
        each = Widths(down + (mla.q_lora_rank or d_model), queries)
        each += Widths(d_model + latent, 0) + Widths(mla.kv_lora_rank, heads * (mla.nope_head_dim + mla.v_head_dim))
        each += Widths(d_model, heads * mla.v_head_dim)
    found = each.times(model.attention_layers)
    if sparse is not None:
        queries_from = (mla.q_lora_rank if mla else None) or d_model
        index = queries_from + sparse.index_heads * sparse.index_head_dim
        index += 2 * d_model + sparse.index_head_dim + sparse.index_heads
        found += Widths(index, 0).times(model.index_layers)
    for other in model.other_layers:
        found += Widths(4 * d_model, other.parameters / d_model).times(other.layers)
    return found


def _mlp(model: ModelSpec, d_model: int, d_ff: int) -> Widths:
    """The gate, up and down projections of one MLP; without a gate, up and down."""
    matrices = mlp_matrices(model)
    return Widths(matrices * d_model, matrices * d_ff)


def _mlp_widths(model: ModelSpec) -> Widths:
    """The dense MLPs, the shared experts, and the projections around experts of another width than D."""
    found, moe = Widths(0.0, 0.0), model.moe
    for layers, d_ff in model.dense_mlps:
        found += _mlp(model, model.d_model, d_ff).times(layers)
    if moe is not None:
        if moe.shared_d_ff:
            found += _mlp(model, model.d_model, moe.shared_d_ff).times(moe.layers)
        if moe.d_model is not None:
            found += Widths(2 * (model.d_model + moe.d_model), 0).times(moe.layers)
    return found


def _expert_widths(model: ModelSpec) -> Widths:
    """The routed experts, each with its own adapter."""
    moe = model.moe
    if moe is None:
        return Widths(0.0, 0.0)
    return _mlp(model, model.expert_width, moe.d_ff).times(moe.layers * moe.experts)
