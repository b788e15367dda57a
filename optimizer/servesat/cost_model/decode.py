"""Time of one decode step, assembled from memory, roofline and collectives (docs/cost-model.md, "Step")."""

from dataclasses import dataclass

import numpy as np

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array, Bools, Rows
from servesat.cost_model.collectives import COLLECTIVES_PER_LAYER, activations_s
from servesat.cost_model.memory import (
    ACTIVATION_BYTES,
    active_parameters,
    experts_touched,
    kv_cache_bytes,
    kv_read_bytes,
    mlp_matrices,
)
from servesat.cost_model.roofline import flops_s, load_s
from servesat.cost_model.speculation import NO_DRAFT, Drafting
from servesat.cost_model.storage import StoredWeights


@dataclass(frozen=True)
class Replica(Rows):
    """The chips, links and dtypes of one replica, as numbers or as arrays of one shape over layouts."""

    tp: Array
    hbm_bytes_per_s: Array
    flop_per_s: Array
    tp_bytes_per_s: Array
    weights: StoredWeights
    kv_token_bytes: Array  # KV cache of one token in one layer
    kv_value_bytes: Array = 0.0  # of one value, in layers of other kinds
    ep: Array = 1.0  # groups of tp chips that the experts are spread over; each has the rest of the model
    ep_bytes_per_s: Array = float("inf")
    head_flop_per_s: Array = float("inf")  # peak of the output head, which stays 16-bit
    kv_copied_over: Array = 1.0  # chips over which KV heads are copied: tp, or 1
    kv_split_over: Array = 1.0  # chips over which sequences are split: tp, or 1
    pp: Array = 1.0  # stages that the layers are split into
    pp_bytes_per_s: Array = float("inf")  # of a chip to that of the next stage
    dearest_stage: Array = 1.0  # λ: what it has of the layers, over the mean of all stages
    drafting: Drafting = NO_DRAFT
    host_bytes_per_s: Array = float("inf")  # of a chip, from the memory of its host
    window_times: Array = 1.0  # windows that layers with one hold of a sequence; inf: all of it
    window_slack: Array = 0.0  # tokens that they hold beyond that

    @property
    def stage_chips(self) -> Array:
        """Chips of one stage."""
        return self.tp * self.ep

    @property
    def chips(self) -> Array:
        """Y: chips of the replica."""
        return self.stage_chips * self.pp

    @property
    def resident_bytes(self) -> Array:
        """Weights that every token needs, with as many in each stage as the dearest has [bytes].

        λ · layers + pp · the larger table: the first stage has the embedding, the last the head.
        """
        stored = self.weights
        tables = stored.embedding + stored.head
        staged = self.dearest_stage * (stored.resident - tables) + self.pp * np.maximum(stored.embedding, stored.head)
        return np.where(np.asarray(self.pp) > 1, staged, stored.resident)

    @property
    def expert_bytes(self) -> Array:
        """The same of routed experts: λ · experts [bytes]."""
        return self.dearest_stage * self.weights.experts


def replica_weights_bytes(replica: Replica) -> Array:
    """Weights that a replica holds on all its chips: each of its ep groups all but the routed experts [bytes].

    With those of a draft, and adapters.
    """
    draft = replica.drafting
    each = replica.resident_bytes + replica.weights.idle * replica.pp + draft.held_bytes
    return each * replica.ep + replica.expert_bytes + draft.expert_bytes + replica.weights.adapters


def replica_kv_bytes(model: ModelSpec, context_tokens: float, replica: Replica) -> Array:
    """KV cache of one sequence with every copy that a replica holds, each stage counted as the dearest [bytes].

    A draft has a share of it more, and k slots for what it is ahead.
    """
    draft = replica.drafting

    def held(tokens: float) -> Array:
        of = (replica.kv_token_bytes, replica.kv_value_bytes, replica.kv_copied_over)
        windows = {"window_times": replica.window_times, "window_slack": replica.window_slack}
        return kv_cache_bytes(model, tokens, *of, **windows)

    whole = held(context_tokens)
    ahead = draft.tokens * (held(context_tokens + 1) - whole) if np.any(draft.tokens) else 0.0
    return replica.dearest_stage * (1.0 + draft.kv_share) * (whole + ahead)


def replica_kv_read_s(model: ModelSpec, context_tokens: float, replica: Replica) -> Array:
    """Time for a step to read one sequence's KV cache, on all chips at once: λ · bytes / (Y · W_hbm) [s]."""
    read = kv_read_bytes(model, context_tokens, replica.kv_token_bytes, replica.kv_value_bytes, replica.kv_copied_over)
    return replica.dearest_stage * load_s(read, replica.chips, replica.hbm_bytes_per_s)


def draft_s(model: ModelSpec, replica: Replica, batch: Array, context_tokens: float) -> Array:
    """Time to draft δ tokens of each sequence: δ · (max(t_weights, t_flops) + its share of t_kv); 0 without one [s].

    One token after another, each of which loads the draft.
    """
    draft = replica.drafting
    if not np.any(draft.tokens):
        return 0.0 * batch
    load = load_s(draft.read_bytes, replica.tp, replica.hbm_bytes_per_s)
    load = load + load_s(draft.expert_bytes, replica.stage_chips, replica.hbm_bytes_per_s) * experts_touched(
        model, batch
    )
    busy = np.maximum(load, batch * load_s(draft.flop, replica.chips, replica.head_flop_per_s))
    return draft.tokens * (busy + batch * draft.kv_share * replica_kv_read_s(model, context_tokens, replica))


def stage_hop_s(model: ModelSpec, replica: Replica) -> Array:
    """What a token sends from a stage to the next: 2 · b_a · D / (tp · ep · W_pp); 0 with one stage [s].

    Its hidden state and its residual; each chip sends its part, and the next stage gathers them (vLLM,
    `send_tensor_dict`).
    """
    return activations_s(2.0, model.d_model, replica.stage_chips * replica.pp_bytes_per_s)


def weights_load_s(model: ModelSpec, replica: Replica, tokens: Array) -> Array:
    """Time to load the weights that a step needs: all but the experts that none of its tokens visits [s]."""
    resident, experts = load_parts_s(replica)
    return resident + experts * experts_touched(model, tokens) if model.moe else resident


def load_parts_s(replica: Replica) -> tuple[Array, Array]:
    """Time to load the weights that every token needs, and time to load all routed experts, stage after stage [s]."""
    bandwidth = replica.hbm_bytes_per_s
    return (
        load_s(replica.resident_bytes, replica.tp, bandwidth),
        load_s(replica.expert_bytes, replica.stage_chips, bandwidth),
    )


@dataclass(frozen=True)
class Step:
    """The terms of a decode step [s]."""

    weights_s: Array
    flops_s: Array
    ici_s: Array
    kv_cache_s: Array
    kv_exchange_s: Array
    pipeline_s: Array = 0.0
    draft_s: Array = 0.0

    @property
    def total_s(self) -> Array:
        """max(t_weights, t_flops, t_ici) and all else in turn: weights, FLOPs and ICI overlap [s]."""
        overlapped = np.maximum(np.maximum(self.weights_s, self.flops_s), self.ici_s)
        return overlapped + self.kv_cache_s + self.kv_exchange_s + self.pipeline_s + self.draft_s


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


def decode_step(
    model: ModelSpec,
    context_tokens: float,
    replica: Replica,
    batch: Array,
    *,
    pay_ici: bool,
    chunk_tokens: Array = 0.0,
    chunk_s: Array = 0.0,
) -> Step:
    """One token for each of B sequences, the scaling book's roofline (part 7, "Theoretical step time").

    `pay_ici` adds four collectives of [B, D] activations a layer; otherwise the interconnect is assumed hidden, which
    the requirement `ici` then demands. With a prefill chunk scheduled with the step, `chunk_tokens` join the
    collectives and its FLOPs take `chunk_s`; the weights are loaded once for both.

    Over pp stages the batch is pp micro-batches, one in each stage. The step is that of a token through all stages, at
    the pace of the dearest: all weights are loaded once for each micro-batch, and all else is spread over all chips.

    With a draft, a step drafts δ tokens of each sequence and verifies δ + 1: it computes and sends as many, visits the
    experts of all, and reads the KV cache once.
    """
    verified = batch * replica.drafting.verified
    tokens = verified + chunk_tokens
    computed_s = flops_s(active_parameters(model), verified, replica.chips, replica.flop_per_s)
    return Step(
        weights_s=weights_load_s(model, replica, tokens / replica.pp),
        flops_s=replica.dearest_stage * computed_s + chunk_s,
        ici_s=layers_ici_s(model, replica, tokens) if pay_ici else 0.0 * batch,
        kv_cache_s=batch * replica_kv_read_s(model, context_tokens, replica),
        kv_exchange_s=kv_exchange_s(model, replica, verified),
        pipeline_s=batch * stage_hop_s(model, replica),
        draft_s=draft_s(model, replica, batch, context_tokens),
    )


def kv_exchange_s(model: ModelSpec, replica: Replica, batch: Array) -> Array:
    """What chips exchange that split the sequences of a KV head among them: b_a · B / ep · width / (m · W_ici) [s].

    In each layer with more chips than heads they gather the queries of the N / K heads that share a KV head, and
    combine N / K partial results, each with the logarithm of its sum in 4 bytes: width = N / K · (H + H_v + 2). Of a
    latent the queries have its width and that of the rotary key, the results its width.
    """
    mla = model.mla
    wide = (model.head_dim, model.head_dim) if mla is None else (mla.kv_lora_rank + mla.rope_head_dim, mla.kv_lora_rank)
    kinds = [(model.attention_layers, model.query_heads, model.kv_heads, *wide)]
    kinds += [
        (other.layers, other.heads, other.kv_heads, other.head_dim, other.value_dim)
        for other in model.other_layers
        if other.kv_heads
    ]
    total: Array = 0.0 * batch
    for layers, heads, kv_heads, query_dim, value_dim in kinds:
        width = layers * heads / kv_heads * (query_dim + value_dim + 4 / ACTIVATION_BYTES)
        is_split = np.asarray(replica.kv_split_over) > kv_heads
        total = total + np.where(is_split, activations_s(batch / replica.ep, 1, replica.tp_bytes_per_s) * width, 0.0)
    return replica.dearest_stage / replica.pp * total


def layers_ici_s(model: ModelSpec, replica: Replica, tokens: Array) -> Array:
    """Four collectives of [tokens, D] activations a layer: L · 4 · b_a · tokens · D / (m · W_ici) [s].

    Two are around the mixing of tokens, two around the MLP: those of experts, see `experts_ici_s`. Of pp stages each
    has λ · L / pp of the layers.
    """
    gather_s = activations_s(tokens / replica.ep, model.d_model, replica.tp_bytes_per_s)
    total = COLLECTIVES_PER_LAYER // 2 * (model.layers + model.dense_layers) * gather_s
    if model.moe is not None:
        total = total + 2 * model.moe.layers * experts_ici_s(model, replica, tokens)
    return replica.dearest_stage / replica.pp * total


def experts_ici_s(model: ModelSpec, replica: Replica, tokens: Array) -> Array:
    """One way to or from the experts of a layer: an AllToAll over the groups, then a gather within each [s].

    b_a · T · min(k, ep) · D over the groups: a token is sent to each group that holds one of its experts. What arrives,
    and the token itself where experts are shared, is gathered over the tensor-parallel axes. Without groups (ep = 1) it
    is the gather of [T, D] alone. What is sent to experts that work at a width of their own has that width.
    """
    moe = model.moe
    if moe is None:
        return 0.0 * tokens
    sent = np.minimum(moe.experts_per_token, replica.ep)
    shared = model.d_model if moe.shared_d_ff else 0
    width = np.where(np.asarray(replica.ep) > 1, sent * model.expert_width + shared, model.d_model)
    gather_s = activations_s(tokens / replica.ep * width, 1, replica.tp_bytes_per_s)
    return gather_s + activations_s(tokens * sent, model.expert_width, replica.ep_bytes_per_s)


def mlp_matmuls(model: ModelSpec, replica: Replica, tokens: Array) -> list[Matmul]:
    """The sharded MLP matmul of each kind of layer.

    Dense: t_ici = b_a·B·D / (m·W_ici), t_hbm = b_w·D·F / (Y·W_hbm), t_math = 2·B·D·F / (Y·C), where b_w·D·F is the mean
    over matrices. With experts: t_ici from `experts_ici_s`, t_hbm of the experts visited and the shared ones, t_math of
    those that each token visits.
    """
    matmuls = []
    tp, group_tokens = replica.tp, tokens / replica.ep
    if model.dense_layers:
        matrix = float(model.d_model) * sum(layers * width for layers, width in model.dense_mlps) / model.dense_layers
        count = mlp_matrices(model) * model.dense_layers
        matmuls.append(
            Matmul(
                ici_s=activations_s(group_tokens, model.d_model, replica.tp_bytes_per_s),
                hbm_s=load_s(replica.weights.mlp / count, tp, replica.hbm_bytes_per_s),
                math_s=flops_s(matrix, group_tokens, tp, replica.flop_per_s),
            )
        )
    if model.moe is not None:
        shared, experts = expert_matrix_s(model, replica)
        projections = 2 * model.d_model * (model.moe.d_model or 0) / mlp_matrices(model)
        visited = float(model.expert_width) * model.moe.experts_per_token * model.moe.d_ff + projections
        visited += model.d_model * model.moe.shared_d_ff
        matmuls.append(
            Matmul(
                ici_s=experts_ici_s(model, replica, tokens),
                hbm_s=shared + experts * experts_touched(model, tokens),
                math_s=flops_s(visited, group_tokens, tp, replica.flop_per_s),
            )
        )
    return matmuls


def waits_for_ici(model: ModelSpec, replica: Replica, tokens: Array, slack: float) -> Bools:
    """Whether an MLP matmul of some kind of layer waits for the interconnect by more than the slack, relatively."""
    matmuls = mlp_matmuls(model, replica, tokens)
    waits: Bools = np.zeros_like(np.asarray(tokens + 0 * replica.tp), dtype=np.bool_)
    for matmul in matmuls:
        waits = waits | np.asarray(matmul.ici_s > matmul.hidden_s * (1 + slack))
    return waits


def expert_matrix_s(model: ModelSpec, replica: Replica) -> tuple[Array, Array]:
    """Time to load one MLP matrix of the shared experts, and that of all routed experts of a layer [s]."""
    count = mlp_matrices(model) * (model.moe.layers if model.moe else 1)
    stored, bandwidth = replica.weights, replica.hbm_bytes_per_s
    return (
        load_s(stored.shared_experts / count, replica.tp, bandwidth),
        load_s(stored.experts / count, replica.stage_chips, bandwidth),
    )


def usd_per_million_tokens(usd_per_hour: Array, tokens_per_s: Array) -> Array:
    """Cost of output: dollars an hour / 3600 / tokens a second · 10⁶ [$/1M tokens]."""
    return usd_per_hour / 3600.0 / tokens_per_s * 1e6
