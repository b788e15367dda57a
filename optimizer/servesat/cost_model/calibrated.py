"""The calibrated cost model: a roofline with launches, collectives and the host (docs/cost-model.md, "Calibrated").

Every term of a step is a constant, linear in the batch, or the concave loading of experts, so that a step's time over
its batch never rises with the batch.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from servesat.catalogue.model import ModelSpec
from servesat.core.arrays import Array, Rows
from servesat.cost_model.collectives import activations_s
from servesat.cost_model.decode import Replica, kv_exchange_s, replica_kv_read_s, stage_hop_s
from servesat.cost_model.memory import ACTIVATION_BYTES, active_parameters, expert_parameters, not_visited
from servesat.cost_model.prefill import attention_flop
from servesat.cost_model.roofline import flops_s, load_s

KERNELS_OF_LAYER, COLLECTIVES_OF_LAYER = 8.0, 2.0
"""Launches of a layer: its matmuls, norms, attention and cache writes; and the collectives of tensor parallelism."""

LAUNCHES_OF_EXPERTS = 12.0
"""More launches of a layer with experts: it routes, sorts, gathers and scatters tokens, and multiplies in groups."""

ATTENTION_EFFICIENCY = 0.7
"""The share of a matmul's efficiency that attention over a prompt reaches."""


@dataclass(frozen=True)
class Constants(Rows):
    """How much of its peaks a chip reaches, and the time an engine's host takes; numbers, or arrays over layouts."""

    weights: Array  # e_b, of its bandwidth, loading weights
    kv_cache: Array  # e_k, of its bandwidth, reading the KV cache
    flops: Array  # e_f, of its peak in the dtype of the matmuls
    link: Array  # e_u, of its links
    launch_s: Array  # t_0, of a kernel
    collective_s: Array  # a_l, the latency of a collective
    experts: Array  # u_e, of the efficiency of matmuls, those of experts
    step_s: Array  # a, of a step
    sequence_s: Array  # b, of each sequence of a step
    request_s: Array  # t_r, of a request, before its first token
    prompts_first: Array  # q, how far prompts go before the tokens of others: 1, a prompt waits for all before it
    prompt_s: Array  # t_p, of a prompt in each stage
    host_launch_s: Array  # t_h, of the host for a kernel, where no graph launches them: a step takes no less
    draft_s: Array = 0.0  # t_d, of the host, for each token drafted

    def slowed(self, factor: float) -> "Constants":
        """The constants of steps and prompts that take `factor` times as long; the wait before a request stays."""
        reached = {name: getattr(self, name) / factor for name in ("weights", "kv_cache", "flops", "link")}
        return replace(self.with_times(factor), request_s=self.request_s, **reached)

    def with_times(self, factor: Array) -> "Constants":
        """The constants with every time multiplied by `factor`, and the efficiencies of chips unchanged."""
        times = [part.name for part in fields(self) if part.name.endswith("_s")]
        return replace(self, **{name: getattr(self, name) * factor for name in times})


@dataclass(frozen=True)
class Work(Rows):
    """What a replica does at the peaks of its chips, as numbers or arrays [s]; its groups of `tp` chips attend apart.

    The layers' weights are loaded for a step and for a prompt, of the experts those that some token visits; the head is
    apart. Of each sequence of a step the FLOPs, the KV cache read, and what is sent; of a prompt its FLOPs, its
    attention and what is sent. Over stages, a step is that of a token through all of them at the pace of the dearest,
    and of a prompt the part of one stage, as others wait for no more.
    """

    kernels: Array  # launches of a step
    host_kernels: Array  # those with what experts add, which a graph holds
    collectives: Array  # of a step
    groups: Array
    stages: Array  # that the layers are split into
    resident_s: Array
    experts_s: Array
    not_visited: Array  # share of the experts that one token does not visit
    head_s: Array
    sequence_flops_s: Array  # without experts
    sequence_experts_flops_s: Array
    sequence_head_flops_s: Array
    sequence_kv_s: Array
    sequence_sent_s: Array
    sequence_exchange_s: Array  # of KV heads whose sequences are split
    prompt_tokens: Array
    prompt_flops_s: Array  # without experts
    prompt_experts_flops_s: Array
    prompt_attention_s: Array
    prompt_sent_s: Array
    draft_tokens: Array = 0.0  # δ of each sequence in a step, and the weights, experts and FLOPs of one of them
    draft_resident_s: Array = 0.0
    draft_experts_s: Array = 0.0
    draft_flops_s: Array = 0.0
    draft_layers: Array = 0.0
    draft_kv_share: Array = 0.0
    accepted: Array = 1.0  # mean tokens of a step


@dataclass(frozen=True)
class Request:
    """A request: the cached and the new tokens of its prompt, and the context that a decode step reads [tokens]."""

    cached_tokens: float
    new_tokens: float
    read_tokens: float


def work_of(model: ModelSpec, replica: Replica, request: Request) -> Work:
    """The work of replicas for requests of one kind.

    A step looks up rows of the embedding, and does not read the whole table. Each layer all-reduces a token twice over
    tp chips, 2 · (tp - 1) / tp of it each way; experts over ep groups add two exchanges of b_a · min(k, ep) · D_e, one
    way each. A token is sent once between stages. The last stage also runs the head, for each micro-batch of a step.
    """
    stored, tp = replica.weights, np.asarray(replica.tp)
    embedding = model.d_model * float(model.vocab_size)
    tables = embedding * (1 if model.tied_embeddings else 2)
    experts_flop = 2 * expert_parameters(model) * (1.0 - not_visited(model))
    flop = 2 * (active_parameters(model) - tables) - experts_flop
    dearest, stages = replica.dearest_stage, np.asarray(replica.pp)
    peak = replica.chips * replica.flop_per_s / dearest
    layers_bytes = dearest * (stored.resident - stored.embedding - stored.head)
    head_bytes = stages * (stored.embedding if model.tied_embeddings else stored.head)
    reduced = COLLECTIVES_OF_LAYER * 2 * (tp - 1) / tp * ACTIVATION_BYTES * model.d_model
    sent_s = model.layers * reduced / (replica.tp_bytes_per_s * replica.ep)
    collectives = np.where(tp > 1, COLLECTIVES_OF_LAYER * model.layers, 0.0)
    if model.moe is not None:
        is_spread, exchanges = np.asarray(replica.ep) > 1, COLLECTIVES_OF_LAYER * model.moe.layers
        visited_groups = np.minimum(model.moe.experts_per_token, replica.ep)
        exchange_s = activations_s(visited_groups, model.expert_width, replica.ep_bytes_per_s)
        sent_s = sent_s + np.where(is_spread, exchanges * exchange_s, 0.0)
        collectives = collectives + np.where(is_spread, exchanges, 0.0)
    draft, with_experts = replica.drafting, model.moe.layers if model.moe else 0
    sent_s = dearest / stages * sent_s + stage_hop_s(model, replica)
    return Work(
        kernels=dearest * KERNELS_OF_LAYER * model.layers + 0.0 * tp,
        host_kernels=dearest * (KERNELS_OF_LAYER * model.layers + LAUNCHES_OF_EXPERTS * with_experts) + 0.0 * tp,
        collectives=dearest * collectives + np.where(stages > 1, stages, 0.0),
        groups=replica.ep,
        stages=stages,
        resident_s=load_s(layers_bytes, replica.tp, replica.hbm_bytes_per_s),
        experts_s=load_s(replica.expert_bytes, replica.stage_chips, replica.hbm_bytes_per_s),
        not_visited=not_visited(model),
        head_s=load_s(head_bytes, replica.tp, replica.hbm_bytes_per_s),
        sequence_flops_s=flop / peak,
        sequence_experts_flops_s=experts_flop / peak,
        sequence_head_flops_s=flops_s(embedding, 1.0, replica.stage_chips, replica.head_flop_per_s),
        sequence_kv_s=replica_kv_read_s(model, request.read_tokens, replica),
        sequence_sent_s=sent_s,
        sequence_exchange_s=kv_exchange_s(model, replica, 1.0 + 0.0 * tp),
        draft_tokens=draft.tokens,
        draft_resident_s=load_s(draft.read_bytes, replica.tp, replica.hbm_bytes_per_s),
        draft_experts_s=load_s(draft.expert_bytes, replica.stage_chips, replica.hbm_bytes_per_s),
        draft_flops_s=load_s(draft.flop, replica.chips, replica.head_flop_per_s),
        draft_layers=draft.layers,
        draft_kv_share=draft.kv_share,
        accepted=draft.accepted,
        prompt_tokens=request.new_tokens + 0.0 * tp,
        prompt_flops_s=flop * request.new_tokens / peak,
        prompt_experts_flops_s=experts_flop * request.new_tokens / peak,
        prompt_attention_s=attention_flop(model, request.cached_tokens, request.new_tokens) / peak,
        prompt_sent_s=sent_s * request.new_tokens,
    )


@dataclass(frozen=True)
class StepCurve:
    """The time of a step by its batch: fixed + max(load(B), B · flops) + max(head, B · head_flops) + B · each [s].

    load(B) = resident + experts · (1 - not_visited^B). What drafts adds max(load(B), B · flops) of its own. A step
    takes `least_s` at least.
    """

    fixed_s: Array
    resident_s: Array
    experts_s: Array
    not_visited: Array
    flops_s: Array
    head_s: Array
    head_flops_s: Array
    each_s: Array
    least_s: Array = 0.0
    draft_resident_s: Array = 0.0
    draft_experts_s: Array = 0.0
    draft_not_visited: Array = 0.0
    draft_flops_s: Array = 0.0

    def load_s(self, batch: Array) -> Array:
        """The time to load the layers' weights that a batch needs [s]."""
        if not np.any(self.not_visited):
            return self.resident_s + 0.0 * batch
        return self.resident_s + self.experts_s * (1.0 - self.not_visited**batch)

    def at(self, batch: Array) -> Array:
        """The time for a batch [s]."""
        layers = np.maximum(self.load_s(batch), batch * self.flops_s)
        head = np.maximum(self.head_s, batch * self.head_flops_s)
        busy_s = self.fixed_s + layers + head + batch * self.each_s + self.draft_s(batch)
        return np.asarray(np.maximum(self.least_s, busy_s))

    def draft_s(self, batch: Array) -> Array:
        """The time to load the draft as often as it drafts, or to compute with it [s]."""
        if not np.any(self.draft_resident_s):
            return 0.0 * batch
        visited = self.draft_experts_s * (1.0 - self.draft_not_visited**batch)
        return np.maximum(self.draft_resident_s + visited, batch * self.draft_flops_s)


def step_curve(work: Work, constants: Constants) -> StepCurve:
    """A step of replicas: a + launches + collectives, weights / e_b, FLOPs / e_f, and what each sequence adds.

    Each stage prepares each of its micro-batches, which have a pp-th of the tokens that visit experts. With a draft
    δ + 1 tokens of each sequence are computed, sent, and visit experts; drafting launches the layers of the draft δ
    times, and takes its host t_d for each.
    """
    verified = work.draft_tokens + 1.0
    visits_all = np.where(np.asarray(work.not_visited) > 0, 0.0, work.experts_s)
    return StepCurve(
        fixed_s=work.stages * constants.step_s
        + launched_s(work, constants)
        + work.draft_tokens * (draft_launched_s(work, constants) + constants.draft_s),
        resident_s=(work.resident_s + visits_all) / constants.weights,
        experts_s=(work.experts_s - visits_all) / constants.weights,
        not_visited=work.not_visited ** (verified / work.stages),
        flops_s=verified * matmuls_s(work.sequence_flops_s, work.sequence_experts_flops_s, constants),
        head_s=work.head_s / constants.weights,
        head_flops_s=verified * work.sequence_head_flops_s / constants.flops,
        each_s=verified * (work.sequence_sent_s + work.sequence_exchange_s) / constants.link
        + constants.sequence_s / work.groups
        + (1.0 + work.draft_tokens * work.draft_kv_share) * work.sequence_kv_s / constants.kv_cache,
        least_s=least_s(work, constants) + draft_least_s(work, constants),
        draft_resident_s=work.draft_tokens * work.draft_resident_s / constants.weights,
        draft_experts_s=work.draft_tokens * work.draft_experts_s / constants.weights,
        draft_not_visited=work.not_visited,
        draft_flops_s=work.draft_tokens * work.draft_flops_s / constants.flops,
    )


def launched_s(work: Work, constants: Constants) -> Array:
    """What kernels and collectives take however little they do [s]."""
    return work.kernels * constants.launch_s + work.collectives * constants.collective_s


def least_s(work: Work, constants: Constants) -> Array:
    """What the host takes to launch a step, during which chips compute [s]."""
    return work.host_kernels * constants.host_launch_s


def draft_least_s(work: Work, constants: Constants) -> Array:
    """What the host takes to launch the layers of a draft, as often as it drafts in a step [s]."""
    return KERNELS_OF_LAYER * work.draft_tokens * work.draft_layers * constants.host_launch_s


def matmuls_s(dense_s: Array, experts_s: Array, constants: Constants) -> Array:
    """FLOPs at what matmuls reach, those of experts at a part of it [s]."""
    return (dense_s + experts_s / constants.experts) / constants.flops


def draft_launched_s(work: Work, constants: Constants) -> Array:
    """What kernels and collectives of a draft's layers take for each token that it drafts [s]."""
    collectives = np.where(work.collectives > 0, COLLECTIVES_OF_LAYER, 0.0)
    return work.draft_layers * (KERNELS_OF_LAYER * constants.launch_s + collectives * constants.collective_s)


def prompt_work_s(work: Work, constants: Constants) -> Array:
    """The part of a prompt's time in a stage that other prompts wait for: t_p, its FLOPs, and what is sent [s]."""
    return constants.prompt_s + _prompt_computed_s(work, constants) + work.prompt_sent_s / constants.link


def _prompt_computed_s(work: Work, constants: Constants) -> Array:
    attention = work.prompt_attention_s / (ATTENTION_EFFICIENCY * constants.flops)
    return matmuls_s(work.prompt_flops_s, work.prompt_experts_flops_s, constants) + attention


def prompt_s(work: Work, constants: Constants) -> Array:
    """One prompt on an idle replica, through all stages [s].

    t_p + max(t_h · launches of the host, a + launches + max(t_w / e_b, FLOPs) + what is sent).
    """
    sent = work.prompt_sent_s / constants.link
    loaded = work.resident_s + work.experts_s * (1.0 - work.not_visited**work.prompt_tokens)
    busy = np.maximum(loaded / constants.weights, work.stages * _prompt_computed_s(work, constants))
    step = work.stages * (constants.step_s + sent) + launched_s(work, constants) + busy
    return np.asarray(np.maximum(least_s(work, constants), step) + work.stages * constants.prompt_s)


def queue_s(prompts_first: Array, work_s: Array, step_s: Array, batch: Array, output_tokens: Array) -> Array:
    """What a request waits for of the (B - 1) · work of other prompts, before its first token [s].

    `step_s` is the time of a step for each token that it makes of a sequence.

    The part q of it, and what a queue at the same load adds; the rest is waited for in the steps that make its tokens.
    """
    others = np.maximum(batch - 1, 0.0) * work_s
    load = others / (output_tokens * step_s)
    return np.minimum(prompts_first * others + work_s * load / 2, others)


def closed_loop_s(work: Work, constants: Constants, batch: Array, output_tokens: Array) -> tuple[Array, Array]:
    """The mean time to the first token and per output token, with B requests under way all the time [s]."""
    step, one = step_curve(work, constants).at(batch), prompt_work_s(work, constants)
    queue = queue_s(constants.prompts_first, one, step / work.accepted, batch, output_tokens)
    beside = (np.maximum(batch - 1, 0.0) * one - queue) / output_tokens  # each token, the first too
    ttft = constants.request_s + queue + prompt_s(work, constants) + beside + step
    return ttft, step / work.accepted + beside
