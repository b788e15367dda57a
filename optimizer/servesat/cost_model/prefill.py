"""Prefill, and how its pace compares with decoding (scaling book, part 8, "What about prefill?")."""

from math import inf

import numpy as np

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array
from servesat.core.tolerances import round_up
from servesat.cost_model.decode import Replica, layers_ici_s, replica_kv_bytes, stage_hop_s, weights_load_s
from servesat.cost_model.memory import active_parameters
from servesat.cost_model.roofline import flops_s, load_s


def prefill_s(parameters: float, prompt_tokens: float, tp: Array, flop_per_s: Array, mfu: float = 1.0) -> Array:
    """Time of the matmuls of a prompt: 2 · Θ_active · tokens / (Y · C · mfu) [s]; attention is left out."""
    return flops_s(parameters, prompt_tokens, tp, flop_per_s * mfu)


def attention_flop(model: ModelSpec, cached_tokens: float, new_tokens: float) -> float:
    """FLOPs of attention over a prompt, causal: 4 · N · H for each layer and pair of a token and one before it [FLOP].

    Two matmuls, scores and values, of a multiply and an add each; 2 · N · (H + H_v) where values have another width. A
    token meets all before it, or as many as its layer's window holds, or an indexer selects after it met them all;
    tokens whose KV cache is there already are met, but meet none themselves. Layers of other kinds have their own heads
    and windows, or `state_flops` a token.
    """
    last = cached_tokens + new_tokens

    def pairs(tokens: float, reach: float) -> float:
        return min(tokens, reach) ** 2 / 2 + max(tokens - reach, 0.0) * reach

    def met(reach: float) -> float:
        return pairs(last, reach) - pairs(cached_tokens, reach)

    def of_window(tokens: int | None) -> float:
        return met(last if tokens is None else float(tokens))

    others = 0.0
    for other in model.other_layers:
        a_pair = 2.0 * other.heads * (other.head_dim + other.value_dim)
        reach = min(other.window_tokens or inf, other.selected_tokens or inf)
        entries = a_pair * met(min(reach, last)) + other.index_flops * of_window(other.window_tokens)
        others += other.layers * (entries / other.entry_tokens + other.state_flops * new_tokens)

    v_head_dim = model.mla.v_head_dim if model.mla else model.head_dim
    each, layers = 2.0 * model.query_heads * (model.head_dim + v_head_dim), model.attention_layers
    if model.sparse is not None:
        index = 2.0 * model.sparse.index_heads * model.sparse.index_head_dim
        return others + layers * each * met(float(model.sparse.tokens)) + model.index_layers * index * met(last)
    windowed = model.window_layers * of_window(model.window_tokens)
    return others + each * ((layers - model.window_layers) * met(last) + windowed)


def prompt_flops_s(model: ModelSpec, cached_tokens: float, new_tokens: float, replica: Replica, mfu: float) -> Array:
    """Time of a prompt's FLOPs, matmuls and attention: (2 · Θ_active · tokens + attention) / (Y · C · mfu) [s].

    Groups that share experts share a prompt, too: its tokens are spread over all chips of the replica. Of stages it is
    the time of the dearest: λ times that of all chips together.
    """
    matmuls = prefill_s(active_parameters(model), new_tokens, replica.chips, replica.flop_per_s, mfu)
    attention = attention_flop(model, cached_tokens, new_tokens)
    return replica.dearest_stage * (matmuls + load_s(attention, replica.chips, replica.flop_per_s * mfu))


def prompt_s(
    model: ModelSpec, cached_tokens: float, new_tokens: float, replica: Replica, *, mfu: float, pay_ici: bool
) -> Array:
    """Time to prefill one prompt on a replica of its own: max(t_weights, t_flops, t_ici), from stage to stage [s].

    Usually the FLOPs; loading the weights is the floor of a short prompt. `pay_ici` as in `decode_step`. It passes pp
    stages one after another, each in a pp-th of this.
    """
    load = weights_load_s(model, replica, new_tokens)
    busy = np.maximum(load, replica.pp * prompt_flops_s(model, cached_tokens, new_tokens, replica, mfu))
    busy = np.maximum(busy, replica.pp * layers_ici_s(model, replica, new_tokens)) if pay_ici else busy
    return busy + replica.pp * new_tokens * stage_hop_s(model, replica)


def chunked_prefill_s(prompt_tokens: int, chunk_tokens: int, step_s: float) -> float:
    """Time to prefill a prompt in chunks, one scheduled with each decode step: ceil(prompt / chunk) · step [s]."""
    return float(round_up(prompt_tokens / chunk_tokens)) * step_s


def sequences_finished(batch: int, output_tokens: int) -> float:
    """Sequences that finish a step, on average: B / G."""
    return batch / output_tokens


def tokens_evicted(batch: int, prompt_tokens: int, output_tokens: int) -> float:
    """Tokens that leave the KV cache a step, on average: B · (P + G) / G."""
    return batch * (prompt_tokens + output_tokens) / output_tokens


def prefill_replicas_per_decode(prefill_s: float, batch: int, step_s: float, output_tokens: int) -> float:
    """Prefill replicas that keep one decode replica full: t_prefill · B / (G · step)."""
    return prefill_s * batch / (output_tokens * step_s)


HOST_LINK_REACH = 0.8
"""e_h, the share of its bandwidth at which a chip loads from the memory of its host.

25.1 of 32 GB/s on an A100, 26.3 on an RTX 4090 (NVIDIA/nvbandwidth, issues 42 and 15).
"""


def host_load_s(model: ModelSpec, replica: Replica, tokens: float, reach: float = 1.0) -> Array:
    """Time to load a prompt's KV cache from the memory of the host: kv_bytes / (tp · pp · W_host · e_h) [s].

    Each chip of the group that attends to it loads its part; `reach` is e_h, 1 under the ideal cost model.
    """
    if not tokens:
        return 0.0 * np.asarray(replica.tp)
    group_bytes_per_s = replica.tp * replica.pp * replica.host_bytes_per_s * reach
    return replica_kv_bytes(model, tokens, replica) / group_bytes_per_s


def kv_transfer_s(kv_bytes: Array, network_bytes_per_s: Array) -> Array:
    """Time to ship one sequence's KV cache from a prefill replica to a decode replica [s]."""
    return kv_bytes / network_bytes_per_s
