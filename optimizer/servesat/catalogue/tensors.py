"""The matrices of a model, by group: what a checkpoint stores, and may store in different dtypes."""

from typing import NamedTuple

from servesat.catalogue.model import ModelSpec, TensorGroup


class Matrix(NamedTuple):
    """A matrix that some layers have, or of no layer; that of the routed experts is all of theirs."""

    group: TensorGroup
    name: str
    parameters: int  # in each of the layers
    layers: int = 1


def matrices(model: ModelSpec) -> list[Matrix]:
    """Every matrix of a model; biases and norms are left out, which are less than 0.1 % (scaling book, part 4)."""
    return [*_tables(model), *_attention(model), *_mlps(model)]


def _tables(model: ModelSpec) -> list[Matrix]:
    """The embedding D·V, and the head, as large, unless they are tied."""
    table = model.d_model * model.vocab_size
    embedding = Matrix(TensorGroup.EMBEDDING, "embedding", table)
    return [embedding] if model.tied_embeddings else [embedding, Matrix(TensorGroup.HEAD, "head", table)]


def _attention(model: ModelSpec) -> list[Matrix]:
    """D·N·H each for queries and output, D·K·H each for keys and values; of latent attention, projections down and up.

    Those are D·r_q and r_q·N·(H_n + H_r), or D·N·(H_n + H_r) without a query latent; D·(r + H_r) and r·N·(H_n + H_v);
    and N·H_v·D (DeepSeek-V2, appendix C). Sparse attention adds its indexer: queries of each of its heads from the
    queries' latent, one key, and a weight for each head (DeepSeek-V3.2, section 2.1).
    """
    d_model, heads, mla, sparse = model.d_model, model.query_heads, model.mla, model.sparse
    queries_from = (mla.q_lora_rank if mla else None) or d_model
    sizes: dict[str, int]
    if mla is None:
        sizes = {
            "q": d_model * heads * model.head_dim,
            "k": d_model * model.kv_heads * model.head_dim,
            "v": d_model * model.kv_heads * model.head_dim,
            "o": heads * model.head_dim * d_model,
        }
    else:
        of_queries = queries_from * heads * model.head_dim
        sizes = {"q_a": d_model * mla.q_lora_rank, "q_b": of_queries} if mla.q_lora_rank else {"q": of_queries}
        sizes |= {
            "kv_a": d_model * (mla.kv_lora_rank + mla.rope_head_dim),
            "kv_b": mla.kv_lora_rank * heads * (mla.nope_head_dim + mla.v_head_dim),
            "o": heads * mla.v_head_dim * d_model,
        }
    if sparse is not None:
        sizes["index_q"] = queries_from * sparse.index_heads * sparse.index_head_dim
        sizes["index_k"] = d_model * sparse.index_head_dim
        sizes["index_weights"] = d_model * sparse.index_heads
    of_heads = [
        Matrix(
            TensorGroup.ATTENTION,
            name,
            size,
            model.index_layers if name.startswith("index") else model.attention_layers,
        )
        for name, size in sizes.items()
        if model.attention_layers
    ]
    return of_heads + [
        Matrix(TensorGroup.ATTENTION, "cached" if other.kv_heads else "state", other.parameters, other.layers)
        for other in model.other_layers
    ]


def _mlps(model: ModelSpec) -> list[Matrix]:
    """D·F for each of gate, up and down, or up and down alone; of experts E · D·F_e and D·F_s, and a router D·E.

    Experts that work at a width of their own, E · D_e·F_e, have two projections D·D_e before and after them.
    """
    moe, names = model.moe, ("gate", "up", "down") if model.gated_mlp else ("up", "down")
    found = []
    for layers, width in model.dense_mlps:
        found += [Matrix(TensorGroup.MLP, name, model.d_model * width, layers) for name in names]
    if moe is not None:
        experts, shared = moe.experts * model.expert_width * moe.d_ff, model.d_model * moe.shared_d_ff
        found += [Matrix(TensorGroup.EXPERTS, name, experts, moe.layers) for name in names]
        found += [Matrix(TensorGroup.SHARED_EXPERTS, name, shared, moe.layers) for name in names if shared]
        if moe.d_model is not None:
            found.append(Matrix(TensorGroup.SHARED_EXPERTS, "latent", 2 * model.d_model * moe.d_model, moe.layers))
        found.append(Matrix(TensorGroup.ROUTER, "router", model.d_model * moe.experts, moe.layers))
    return found
