"""What an engine can start, and the memory it needs: an independent reading of its catalogue entry."""

import fnmatch
from dataclasses import replace
from math import inf

from servesat.catalogue.chip import Chip
from servesat.catalogue.engine import LOADED_SHARE, UNPLANNED_CHUNK, Engine
from servesat.core.plan import Assignment, KvLayout, Mode
from servesat.deployment.check.replica import CheckedReplica
from servesat.spec.spec import Spec

LOADED_RTOL = 1e-9
"""Relative rounding error allowed when 16-bit weights are compared with the memory they must fit in."""


def usable_bytes(spec: Spec, chip: Chip, engine: Engine | None) -> float:
    """The memory of a chip that a plan may fill: the maker's figure, or an engine's share of what is usable."""
    if engine is None:
        return chip.hbm_bytes
    real = chip.hbm_bytes if chip.usable_hbm_bytes is None else chip.usable_hbm_bytes
    if spec.headroom is None:
        return real * engine.memory.utilisation
    used = 1 - spec.headroom  # capped at the engine's own share where it keeps activations outside of it
    allowed = used if engine.memory.activations is not None else min(used, engine.memory.utilisation)
    return real * allowed / used


def runtime_bytes(engine: Engine | None, replica: CheckedReplica) -> float:
    """CUDA context, graphs and, with several chips, collective buffers; summed over the chips [bytes]."""
    if engine is None:
        return 0.0
    memory = engine.memory
    of_chip = memory.runtime_bytes + memory.graphs_bytes
    return replica.chips * (of_chip if replica.chips == 1 else of_chip + memory.collectives_bytes)


def activation_bytes(engine: Engine | None, replica: CheckedReplica, sequences: float, prompt_tokens: float) -> float:
    """Peak activation memory of a step with `sequences` and, in each group, `prompt_tokens`; all chips [bytes]."""
    if engine is None:
        return 0.0
    model, kept, bf16 = replica.model, engine.memory.activations, 2
    if kept is None:
        return 0.0
    ahead = 0 if replica.draft is None else replica.draft.tokens
    in_group = sequences * (1 + ahead) / (replica.ep * replica.pp)
    tokens = in_group + prompt_tokens
    sampling = 4 * kept.logits_factor * in_group * model.vocab_size + bf16 * tokens * model.d_model
    if model.moe is not None:
        width, columns = model.moe.d_model or model.d_model, model.moe.d_ff / replica.tp
        first, second = max(columns, width), max(2 * columns, width)
        return replica.chips * (sampling + bf16 * tokens * model.moe.experts_per_token * (first + second))
    of_width, of_mlp = kept.width_factors
    layer = bf16 * tokens * (of_width * model.d_model + of_mlp * replica.widest_mlp / replica.tp)
    return replica.chips * max(layer, sampling)


def cannot_start(
    engine: Engine, assignment: Assignment, sides: list[CheckedReplica], prompt_tokens: float = 0.0
) -> str | None:
    """Why an engine cannot start a plan, as a clause; None if it can.

    `sides` holds the replica that decodes, then the one that prefills if the plan has a prefill pool. `prompt_tokens`
    are those of a prompt that are not cached.
    """
    reason = _cannot_take_prompts(engine, assignment.mode, prompt_tokens)
    if (reason := reason or _cannot_cut_prompts(engine, assignment, sides[0].ep, prompt_tokens)) is not None:
        return reason
    for side in sides:
        reason = _cannot_load(engine, side) or _cannot_serve(engine, side) or _cannot_draft(engine, assignment, side)
        reason = reason or _cannot_run(engine, side) or _cannot_split(engine, side) or _cannot_span(engine, side)
        if reason is not None:
            return reason
    return _cannot_move(engine, *sides) if len(sides) > 1 else None


def _cannot_move(engine: Engine, decode: CheckedReplica, prefill: CheckedReplica) -> str | None:
    """Why an engine cannot move the KV cache from a prefill pool to the one that decodes; None if it can."""
    for side in (decode, prefill):
        if side.kv_layout not in _moved(engine, side):
            return f"cannot move a KV cache in the layout {side.kv_layout} between pools"
        if side.pp > 1:
            return "is not planned with pipeline stages in a disaggregated deployment"
    if prefill.kv_layout is KvLayout.SEQUENCE and not _may_split_prefills(engine):
        return "cannot move a KV cache from a prefill pool that splits sequences"
    if _split_apart(engine, decode, prefill):
        return "cannot move latents and states between pools that split sequences over different numbers of chips"
    return None


def _cannot_take_prompts(engine: Engine, mode: Mode, prompt_tokens: float) -> str | None:
    """Why an engine cannot take prompts with this many uncached tokens in a mode; None if it can."""
    if mode not in engine.modes:
        return f"has no mode {mode}"
    largest = engine.whole_prompt_tokens
    if mode in {Mode.INTERLEAVED, Mode.DISAGGREGATED} and largest is not None and prompt_tokens > largest:
        return f"takes prompts of more than {largest:,} tokens only in chunks"
    return None


def _cannot_cut_prompts(engine: Engine, assignment: Assignment, groups: int, prompt_tokens: float) -> str | None:
    """Why an engine cannot cut prompts into the chunks of a plan, of which each group has a part; None if it can."""
    unit, chunk = engine.chunk_unit, assignment.chunk_tokens
    if unit is None or chunk is None or chunk >= prompt_tokens or chunk % (unit * groups) == 0:
        return None
    return f"takes chunks of prompts in multiples of {unit} tokens a group"


def _split_apart(engine: Engine, decode: CheckedReplica, prefill: CheckedReplica) -> bool:
    """Whether the pools split sequences over different numbers of chips, which the engine refuses beside states."""
    of_pools = engine.disaggregation
    if of_pools is None or not of_pools.splits_alike or not decode.model.has_states_beside_latent:
        return False
    over = [side.tp if side.kv_layout is KvLayout.SEQUENCE else 1 for side in (decode, prefill)]
    return over[0] != over[1]


def _may_split_prefills(engine: Engine) -> bool:
    return engine.disaggregation is None or engine.disaggregation.prefill_splits


def has_weights(engine: Engine, side: CheckedReplica) -> bool:
    """Whether the engine can get weights in this dtype: from a known checkpoint, or by quantising at load time."""
    return _can_load(engine, side) or _quantises(engine, side)


def _can_load(engine: Engine, side: CheckedReplica) -> bool:
    """Whether a repository of the weights is known in a format that the engine loads, or is the user's own."""
    of_engine = {str(dtype): name for dtype, name in engine.own_checkpoints.get(side.model.id, {}).items()}
    of_catalogue = {str(dtype): name for dtype, name in side.model.checkpoints.items()}
    named = of_engine.get(side.weights, of_catalogue.get(side.weights))
    if named is None:
        return side.weights == _published(side)
    return not any(fnmatch.fnmatchcase(named, refused) for refused in engine.refused_checkpoints)


def loads_whole_blocks(spec: Spec, engine: Engine, side: CheckedReplica) -> bool:
    """Whether no quantisation block is split between chips, or the engine quantises the weights at load time.

    Weights that the spec lists may be the user's own, whose blocks are not known; int4 only with an `int4_group`.
    """
    blocks = {str(dtype): block for dtype, block in side.model.checkpoint_blocks.items()}
    own = spec.int4_group is not None if side.weights == "int4" else spec.search.weights is not None
    if side.weights not in blocks or side.weights == _published(side) or own or _names_own(engine, side):
        return True
    return not side.cuts_blocks(blocks[side.weights]) or _quantises(engine, side)


def _names_own(engine: Engine, side: CheckedReplica) -> bool:
    """Whether the engine has a repository of its own for the weights, in which no blocks are known."""
    return side.weights in map(str, engine.own_checkpoints.get(side.model.id, ()))


def _published(side: CheckedReplica) -> str:
    return "bf16" if side.model.native is None else side.model.native.dtype


def _quantises(engine: Engine, side: CheckedReplica) -> bool:
    if side.model.native is not None:
        return False
    here = [support for support in engine.runs if side.chip.id in support.chips]
    return any(str(name) == side.weights and bool(one.quantises) for name, one in here[0].weights.items())


def _moved(engine: Engine, side: CheckedReplica) -> tuple[KvLayout, ...]:
    of_pools = engine.disaggregation
    if of_pools is None:
        return ()
    return of_pools.kv_layouts if side.model.mla is None else of_pools.latent_kv_layouts


def _cannot_load(engine: Engine, side: CheckedReplica) -> str | None:
    """Why the engine cannot load the model or reuse its prefixes, or runs out of memory while loading it."""
    if side.model.id in engine.without_models:
        return f"does not serve {side.model.id}"
    if side.hits_prefixes and not engine.caches_states and side.model.has_states:
        return f"is not planned to reuse prefixes of {side.model.id}, whose layers keep states"
    if engine.quantises_whole and _makes_weights(engine, side):
        reported = side.chip.hbm_bytes if side.chip.usable_hbm_bytes is None else side.chip.usable_hbm_bytes
        unquantised = replace(side, weights="bf16", draft=None, lora=None).weights_bytes / side.chips
        if unquantised > LOADED_SHARE * reported * (1 + LOADED_RTOL):
            needed, available = f"{unquantised / 1e9:.1f} GB", f"{reported / 1e9:.1f} GB"
            return f"needs {needed} a chip for the 16-bit weights before it quantises them, of {available} in all"
    return None


def _makes_weights(engine: Engine, side: CheckedReplica) -> bool:
    """Whether the engine has to quantise the weights itself: no checkpoint is known whose blocks stay whole."""
    blocks = {str(dtype): block for dtype, block in side.model.checkpoint_blocks.items()}
    cut = side.weights in blocks and not _names_own(engine, side) and side.cuts_blocks(blocks[side.weights])
    return _quantises(engine, side) and (cut or not _can_load(engine, side))


def _cannot_serve(engine: Engine, side: CheckedReplica) -> str | None:
    """LoRA adapters, or a prefix cache in host memory, that the engine does not support."""
    if side.lora is not None and (not engine.adapters or side.model.id in engine.without_adapters):
        return f"serves no LoRA adapters beside {side.model.id}"
    if side.lora is not None and side.ep > 1 and side.tp > 1:
        return "is not planned with LoRA adapters when experts are spread over groups of several chips"
    if side.loads_from_host and not engine.host_cache:
        return "has no prefix cache in host memory"
    if side.loads_from_host and side.kv_layout is KvLayout.SEQUENCE:
        return "is not planned with split sequences when prefixes are cached in host memory"
    return None


def _cannot_draft(engine: Engine, assignment: Assignment, side: CheckedReplica) -> str | None:
    """A way of drafting tokens that the engine does not support."""
    if assignment.draft is None:
        return None
    kind = assignment.draft if assignment.draft in {"mtp", "eagle3"} else "model"
    if kind not in engine.drafts:
        return f"cannot draft tokens with {assignment.draft}"
    if assignment.mode is Mode.CHUNKED and not engine.drafts_beside_chunks:
        return "cannot draft tokens in a step that processes a chunk of a prompt"
    if kind == "model" and side.ep > 1 and not engine.models_draft_in_groups:
        return "cannot draft with another model where groups of chips run their own attention"
    return None


def _cannot_run(engine: Engine, side: CheckedReplica) -> str | None:
    """A dtype that the engine does not support on the chip."""
    chip, model = side.chip.id, side.model
    here = [support for support in engine.runs if chip in support.chips]
    if not here:
        return f"does not run on {chip}"
    of_weights = {str(name): one for name, one in here[0].weights.items()}
    if side.weights not in of_weights or model.id in here[0].without_models:
        return f"runs no {side.weights} weights on {chip}"
    experts = "any" if model.moe is None else of_weights[side.weights].experts
    if experts == "none" or (experts == "together" and side.ep > 1):
        return f"runs no experts{' spread over groups' if experts == 'together' else ''} in {side.weights} on {chip}"
    if side.compute not in of_weights[side.weights].compute:
        return f"does not compute {side.weights} weights in {side.compute} on {chip}"
    uneven = any(other.v_head_dim not in {None, 0, other.head_dim} for other in model.other_layers if other.kv_heads)
    if model.mla is None and uneven and here[0].uneven_kv_cache:
        stored, kind = here[0].uneven_kv_cache, " of keys and values that differ in width"
    elif model.mla is None and (model.attention_sinks or model.whole_image_tokens) and here[0].sink_kv_cache:
        stored, kind = here[0].sink_kv_cache, " with sinks, or images attended to both ways,"
    elif model.mla is None:
        stored, kind = here[0].kv_cache, ""
    elif model.sparse is None:
        stored, kind = here[0].latent_kv_cache, " beside latent attention"
    else:
        stored, kind = here[0].sparse_kv_cache, " with an indexer"
    return None if side.kv_cache in set(map(str, stored)) else f"stores no {side.kv_cache} KV cache{kind} on {chip}"


def _cannot_split(engine: Engine, side: CheckedReplica) -> str | None:
    """A KV layout, or a way of spreading experts, that the engine does not support."""
    layouts = engine.kv_layouts if side.model.mla is None else engine.latent_kv_layouts
    if side.kv_layout not in layouts:
        return f"has no KV cache in the layout {side.kv_layout}"
    if side.kv_layout is KvLayout.SEQUENCE and side.kv_cache not in set(map(str, engine.split_kv_cache)):
        return f"cannot split sequences of a KV cache in {side.kv_cache}"
    if side.kv_layout is KvLayout.SEQUENCE and not _splits_here(engine, side):
        return f"cannot split sequences of {side.model.id} on {side.chip.id}"
    return _cannot_spread(engine, side)


def _splits_here(engine: Engine, side: CheckedReplica) -> bool:
    """Whether sequences of the model may lie on several chips of a kind."""
    model = side.model
    windows = [model.window_tokens, *(layers.window_tokens for layers in model.other_layers)]
    if not engine.split_windows and any(windows):
        return False
    kind = "heads" if model.mla is None else "sparse" if model.sparse is not None else "latent"
    return any(side.chip.id in support.chips and kind in support.splits for support in engine.runs)


def _cannot_spread(engine: Engine, side: CheckedReplica) -> str | None:
    """Heads over devices, or experts over chips, where the engine does not put them so."""
    if engine.kv_row_bytes is not None and side.model.mla is None and _leaves_rows_empty(engine.kv_row_bytes, side):
        return f"leaves rows of a KV cache in {side.kv_cache} empty over {side.tp} chips"
    if side.ep > 1 and engine.experts == "none":
        return "does not spread experts"
    if side.ep > 1 and side.tp > 1 and engine.experts == "data_parallel":
        return "spreads experts over single chips only"
    if any(axis > beyond for axis in side.tp_axes for beyond in side.ep_axes):
        return "needs the chips of a tensor-parallel group to be adjacent"
    return None


def _leaves_rows_empty(row_bytes: int, side: CheckedReplica) -> bool:
    """Whether a device's keys and values of a token are no multiple of a row, or one head is on several devices.

    What splits the batch may leave a device as many heads as it likes, of fewer sequences.
    """
    model, devices = side.model, side.tp * side.chip.devices
    bits = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "mxfp4": 4.25, "nvfp4": 4.5}[side.kv_cache]
    for kv_heads in (model.kv_heads, *(layers.kv_heads or 0 for layers in model.other_layers)):
        if not kv_heads:
            continue
        if side.kv_layout is KvLayout.BATCH and side.tp > kv_heads:
            held = float(kv_heads)
        else:
            held = 1.0 if side.tp >= kv_heads and side.chip.devices == 1 else kv_heads / devices
        if held < 1 or (held * (1 if model.head_dim == 64 else 2) * bits / 8) % row_bytes:
            return True
    return False


def _cannot_span(engine: Engine, side: CheckedReplica) -> str | None:
    """Pipeline stages or several nodes, where the engine does not support them."""
    if side.pp > 1 and engine.pipelines == "none":
        return "does not support pipeline stages"
    if side.pp > 1 and side.ep > 1 and engine.pipelines == "tensor_parallel":
        return "cannot spread experts within a pipeline stage"
    if engine.nodes == "one" and side.chips > (side.chip.node_chips or inf):
        return "cannot span several nodes"
    return None


def prompt_tokens_of_step(spec: Spec, assignment: Assignment, groups: int) -> float:
    """Prompt tokens in the largest step of a decoding group: its part of the chunk, or a whole prompt.

    A plan for decoding alone counts 2,048, because its servers still have to process prompts.
    """
    new = float(spec.workload.new_prompt_tokens)
    match assignment.mode:
        case Mode.INTERLEAVED:
            return new
        case Mode.CHUNKED:
            chunk = float(assignment.chunk_tokens or 0)
            return new if chunk >= new else chunk / groups
        case Mode.DECODE_ONLY:
            return float(UNPLANNED_CHUNK)
        case _:
            return 0.0
