"""The calibrated cost model: a roofline with launches, collectives and the host (docs/cost-model.md, "Calibrated").

Every term of a step is a constant, linear in the batch, or the concave loading of experts, so that a step's time over
its batch never rises with the batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from servesat.catalogue.chip import Chip
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.core.arrays import Array
from servesat.cost_model.memory import ACTIVATION_BYTES, active_parameters, experts_touched, kv_read_bytes
from servesat.cost_model.prefill import attention_flop
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage

KERNELS_OF_LAYER, COLLECTIVES_OF_LAYER = 8.0, 2.0
"""Launches of a layer: its matmuls, norms, attention and cache writes; and the collectives of tensor parallelism."""

ATTENTION_EFFICIENCY = 0.7
"""The share of a matmul's efficiency that attention over a prompt reaches."""


class ChipConstants(NamedTuple):
    """What a chip reaches of its peaks, and what a launch and a collective cost on it."""

    weights: Array  # e_b, of its bandwidth, loading weights
    kv_cache: Array  # e_k, of its bandwidth, reading the KV cache
    flops: Array  # e_f, of its peak in the dtype of the matmuls
    link: Array  # e_u, of its link
    launch_s: Array  # t_0, of a kernel
    collective_s: Array  # a_l, the latency of a collective


class StackConstants(NamedTuple):
    """What an engine's host costs."""

    step_s: Array  # a, of a step
    sequence_s: Array  # b, of each sequence of a step
    request_s: Array  # c, of a request, before its first token
    prompts_first: Array  # q, how far prompts go before the tokens of others: 1, a prompt waits for all before it


@dataclass(frozen=True)
class Work:
    """What a replica does at the peaks of its chips, as numbers or arrays [s]; `groups` of `tp` chips attend apart.

    The layers' weights are loaded for a step (`weights_s`) and for a prompt; the head is apart. Of each sequence of a
    step the FLOPs, the KV cache read, and the activations sent; of a prompt its FLOPs and attention.
    """

    layers: Array
    tp: Array
    groups: Array
    weights_s: Array
    head_s: Array
    sequence_flops_s: Array
    sequence_head_flops_s: Array
    sequence_kv_s: Array
    sequence_sent_s: Array
    prompt_weights_s: Array
    prompt_flops_s: Array
    prompt_attention_s: Array
    prompt_sent_s: Array


class Placed(NamedTuple):
    """How a model lies on chips: `groups` of `tp` chips, its dtypes, and in how many copies a group has a KV cache."""

    tp: int
    groups: int
    weights: str
    kv_cache: str
    compute: str
    kv_copies: float = 1.0


def step_s(work: Work, chip: ChipConstants, stack: StackConstants, batch: Array) -> Array:
    """One token for each of B sequences: a + L · (8 t_0 + 2 a_l) + max(t_w / e_b, B t_f / e_f) + head + B · i [s]."""
    layers = np.maximum(work.weights_s / chip.weights, batch * work.sequence_flops_s / chip.flops)
    head = np.maximum(work.head_s / chip.weights, batch * work.sequence_head_flops_s / chip.flops)
    each = work.sequence_sent_s / chip.link + stack.sequence_s / work.groups + work.sequence_kv_s / chip.kv_cache
    return np.asarray(stack.step_s + _launched_s(work, chip) + layers + head + batch * each)


def _launched_s(work: Work, chip: ChipConstants) -> Array:
    """What kernels and collectives take however little they do [s]."""
    collectives = np.where(np.asarray(work.tp) > 1, COLLECTIVES_OF_LAYER * chip.collective_s, 0.0)
    return work.layers * (KERNELS_OF_LAYER * chip.launch_s + collectives)


def prompt_work_s(work: Work, chip: ChipConstants) -> Array:
    """The part of a prompt's time that grows with it, and that other prompts wait for [s]."""
    attention = work.prompt_attention_s / (ATTENTION_EFFICIENCY * chip.flops)
    return work.prompt_flops_s / chip.flops + attention + work.prompt_sent_s / chip.link


def prompt_s(work: Work, chip: ChipConstants, stack: StackConstants) -> Array:
    """One prompt on an idle replica [s]: a + launches + max(t_w / e_b, FLOPs) + what is sent."""
    sent = work.prompt_sent_s / chip.link
    busy = np.maximum(work.prompt_weights_s / chip.weights, prompt_work_s(work, chip) - sent)
    return np.asarray(stack.step_s + _launched_s(work, chip) + busy + sent)


def closed_loop_s(
    work: Work, chip: ChipConstants, stack: StackConstants, batch: Array, output_tokens: Array
) -> tuple[Array, Array]:
    """The mean time to the first token and per output token, with B requests under way all the time [s].

    The prompts of the others share the replica: of (B - 1) · work a request waits for a part before its first token,
    and for the rest between its tokens. The part is q of it, and what a queue at the same load adds.
    """
    step, prompt = step_s(work, chip, stack, batch), prompt_s(work, chip, stack)
    one = prompt_work_s(work, chip)
    others = np.maximum(batch - 1, 0.0) * one
    load = others / (output_tokens * step)
    queue = np.minimum(stack.prompts_first * others + one * load / 2, others)
    return stack.request_s + queue + prompt + step, step + (others - queue) / output_tokens


def work_of(
    model: ModelSpec,
    chip: Chip,
    placed: Placed,
    *,
    batch: float,
    prompt_tokens: float,
    output_tokens: float,
) -> Work:
    """The work of a replica of tp · groups chips that spread the experts, at a mean context of P + G / 2.

    Embeddings are looked up, not read; the head is as large as published. Each group reads the KV cache of its own
    sequences, in all copies.
    """
    storage, chips = Storage(model), placed.tp * placed.groups
    stored, by_group = storage.weights(placed.weights), storage.bytes_by_group(placed.weights)
    embedding, head = by_group.get(TensorGroup.EMBEDDING, 0.0), by_group.get(TensorGroup.HEAD, 0.0)
    resident = stored.resident - embedding - head
    bandwidth, peaks = chip.hbm_bytes_per_s, chip.flop_per_s.by_dtype()
    peak = chips * peaks[placed.compute]

    def loaded_s(tokens: float) -> float:
        visited = float(experts_touched(model, tokens)) if model.moe is not None else 0.0
        return float(resident / (placed.tp * bandwidth) + stored.experts * visited / (chips * bandwidth))

    of_head = float(model.d_model * model.vocab_size)
    tables = of_head * (1 if model.tied_embeddings else 2)
    read = kv_read_bytes(
        model,
        prompt_tokens + output_tokens / 2,
        storage.kv_token_bytes(placed.kv_cache),
        BYTES_PER_VALUE[placed.kv_cache],
        placed.kv_copies,
    )
    sent = COLLECTIVES_OF_LAYER * 2 * (placed.tp - 1) / placed.tp * ACTIVATION_BYTES * model.d_model
    sent_s = model.layers * sent / max(axis.bytes_per_s for axis in chip.axes)
    flops = 2 * (active_parameters(model) - tables)
    return Work(
        layers=float(model.layers),
        tp=float(placed.tp),
        groups=float(placed.groups),
        weights_s=loaded_s(batch),
        head_s=(head or embedding) / (placed.tp * bandwidth),
        sequence_flops_s=flops / peak,
        sequence_head_flops_s=2 * of_head / (chips * peaks["bf16"]),
        sequence_kv_s=float(read) / (chips * bandwidth),
        sequence_sent_s=sent_s / placed.groups,
        prompt_weights_s=loaded_s(prompt_tokens),
        prompt_flops_s=flops * prompt_tokens / peak,
        prompt_attention_s=attention_flop(model, 0.0, prompt_tokens) / peak,
        prompt_sent_s=sent_s * prompt_tokens,
    )
