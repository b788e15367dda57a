"""Which engines run which layouts, and what they take of the memory."""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np

from servesat.catalogue.chip import Chip, axis_sizes
from servesat.catalogue.engine import Engine
from servesat.catalogue.model import ModelSpec, NativeWeights
from servesat.core.arrays import Bools, Ints
from servesat.core.plan import Assignment, Mode
from servesat.core.result import Loading
from servesat.cost_model.sharding import scales_divide
from servesat.cost_model.storage import Storage
from servesat.spec.spec import Spec


class Dtypes(NamedTuple):
    """What weights and KV cache are stored in, what the matmuls compute in, and what runs and drafts, if anything."""

    weights: str
    kv_cache: str
    compute: str
    engine: str = ""
    draft: str = ""
    draft_tokens: int = 0


def searched_dtypes(spec: Spec) -> tuple[Dtypes, ...]:
    """The dtypes of the search; under engines those that one of them runs on some chip, and all that the spec lists."""
    choices = product(spec.weights, spec.kv_cache, spec.compute)
    drafts = [("", 0), *((one.draft, one.tokens) for one in spec.drafts)]
    listed = [Dtypes(*choice, engine, *draft) for engine, choice, draft in product(spec.engine_ids, choices, drafts)]
    if not spec.engine or _are_listed(spec):
        return tuple(listed)
    somewhere = np.any(runs(spec, [chip.id for chip in spec.chips], listed), axis=0)
    return tuple(dtypes for dtypes, run in zip(listed, somewhere, strict=True) if run) or tuple(listed)


def runs(spec: Spec, chips: Sequence[str], dtypes: Sequence[Dtypes]) -> Bools:
    """Whether the engine of each choice of dtypes runs it on each chip; shape [chips, dtypes].

    Weights that the spec lists are taken to be at hand; others must be published, made by the engine, or known.
    """
    if not spec.engine:
        return np.ones((len(chips), len(dtypes)), dtype=np.bool_)
    run = np.zeros((len(chips), len(dtypes)), dtype=np.bool_)
    for row, chip in zip(run, chips, strict=True):
        matmuls = {engine.id: _matmuls(spec, engine, chip) for engine in spec.engine}
        kv_caches = {engine.id: frozenset(engine.kv_dtypes(spec.model, chip)) for engine in spec.engine}
        drafts = {engine.id: {"", *engine.drafts} for engine in spec.engine}
        row[:] = [
            (choice.weights, choice.compute) in matmuls[choice.engine]
            and choice.kv_cache in kv_caches[choice.engine]
            and draft_kind(choice.draft) in drafts[choice.engine]
            for choice in dtypes
        ]
    return run


def _matmuls(spec: Spec, engine: Engine, chip: str) -> set[tuple[str, str]]:
    """The dtypes of weights that an engine can have on a chip, each with those that it computes them in."""
    if not_served(spec, engine) is not None:
        return set()
    of_weights = engine.weights_for(spec.model, chip)
    listed = spec.search.weights is not None
    at_hand = [
        weights
        for weights in of_weights
        if listed or _is_published(engine, spec.model, weights) or makes_weights(engine, spec.model, chip, weights)
    ]
    return {(weights, str(compute)) for weights in at_hand for compute in of_weights[weights].compute}


def not_served(spec: Spec, engine: Engine) -> str | None:
    """Why an engine serves a spec's model on no chip, as a clause; None where nothing keeps it from that."""
    if spec.model.id in engine.without_models:
        return f"does not serve {spec.model.id}"
    if spec.workload.cached_share and spec.model.has_states and not engine.caches_states:
        return f"is not planned to reuse prefixes of {spec.model.id}, whose layers keep states"
    return None


def window_held(spec: Spec, engine: str | None) -> tuple[float, float]:
    """What layers with a window hold under an engine, if there is one, as in `Engine.window_held`."""
    if not engine:
        return 1.0, 0.0
    return spec.engine_of(engine).window_held(spec.model, hits=spec.workload.cached_share > 0)


def leaves_out_what_cannot_run(spec: Spec) -> bool:
    """Whether dtypes that an engine does not run are left out of the search, as the spec lists none of them."""
    return bool(spec.engine) and not _are_listed(spec)


def _are_listed(spec: Spec) -> bool:
    search = spec.search
    return any(listed is not None for listed in (search.weights, search.kv_cache, search.compute))


def _is_published(engine: Engine, model: ModelSpec, weights: str) -> bool:
    """Whether a checkpoint with the weights in a dtype is known that an engine loads.

    A model that is not of the catalogue names no repository of its own weights, which are taken to be at hand.
    """
    native = "bf16" if model.native is None else model.native.dtype
    unnamed = weights == native and weights not in {str(dtype) for dtype in model.checkpoints}
    return unnamed or engine.checkpoint_of(model, weights) is not None


def usable_bytes(spec: Spec, chip: Chip, engine: Engine | None) -> float:
    """The memory of a chip that is shared out: M, or of what the driver reports the part that an engine uses [bytes].

    A headroom that the spec states goes in place of the engine's own share. Where activations need what that leaves, it
    can only add to it.
    """
    if engine is None:
        return chip.hbm_bytes
    reported, share = chip.usable_hbm_bytes or chip.hbm_bytes, engine.memory.utilisation
    if spec.headroom is None:
        return reported * share
    return reported if engine.memory.activations is not None else reported * min(1.0, share / (1 - spec.headroom))


def unsupported(spec: Spec) -> tuple[str, ...]:
    """What the spec asks for and its engines do not do: `vLLM 0.32 stores no int8 KV cache beside latent attention`."""
    found: dict[str, None] = {}
    for engine in spec.engine:
        for reason in _reasons(spec, engine):
            found[f"{engine.name} {reason}"] = None
    return tuple(found)


def _reasons(spec: Spec, engine: Engine) -> Iterator[str]:
    """What an engine does not do of a search, on no chip of it where it runs on some."""
    chips = [chip.id for chip in spec.chips if engine.support_of(chip.id) is not None]
    if not chips:
        yield f"does not run on {', '.join(chip.id for chip in spec.chips[:5])}"
        return
    here = f" on {', '.join(chips)}" if len(chips) <= 3 else ""
    if (reason := not_served(spec, engine)) is not None:
        yield reason
        return
    if spec.search.weights is None and not any(_matmuls(spec, engine, chip) for chip in chips):
        runs_any = any(engine.weights_for(spec.model, chip) for chip in chips)
        yield f"{'loads no known checkpoint' if runs_any else 'runs no weights'} of {spec.model.id}{here}"
    for weights in spec.search.weights or ():
        if all(weights not in engine.weights_for(spec.model, chip) for chip in chips):
            yield f"runs no {weights} weights{here}"
    for kv_cache in spec.search.kv_cache or ():
        if all(kv_cache not in engine.kv_dtypes(spec.model, chip) for chip in chips):
            yield f"stores no {kv_cache} KV cache{_beside(spec.model)}{here}"
    yield from _not_done(spec, engine)


def _not_done(spec: Spec, engine: Engine) -> Iterator[str]:
    """What an engine does not do on any chip."""
    for layout in spec.search.kv_layouts or ():
        if layout not in engine.layouts_of(spec.model):
            yield f"has no KV cache in the layout {layout}"
    for mode in spec.search.modes or ():
        if mode not in engine.modes:
            yield f"has no mode {mode}"
        elif mode not in engine.modes_for(spec.workload.new_prompt_tokens):
            yield f"takes prompts of more than {engine.whole_prompt_tokens:,} tokens only in chunks"
    unit, chunks = engine.chunk_unit or 1, spec.search.chunk_tokens
    if Mode.CHUNKED in (spec.search.modes or ()) and all(chunk % unit for chunk in chunks):
        yield f"takes chunks of prompts in multiples of {unit} tokens a group"
    if spec.lora is not None and not engine.serves_adapters(spec.model):
        yield f"is planned without LoRA adapters beside {spec.model.id}"
    if spec.workload.host_cache is not None and not engine.host_cache:
        yield "is planned without a prefix cache in the memory of hosts"


def draft_kind(draft: str) -> str:
    """What an engine must have to draft so: mtp, eagle3, or a model, which has an id; nothing without a draft."""
    return draft if draft in {"", "mtp", "eagle3"} else "model"


def _beside(model: ModelSpec) -> str:
    return "" if model.mla is None else " beside latent attention" if model.sparse is None else " with an indexer"


def loading(spec: Spec, plan: Assignment) -> Loading | None:
    """How a plan's engine comes by the weights: from a checkpoint in their dtype, or one that it quantises itself.

    A checkpoint of which tensor parallelism would cut blocks that share a scale is as good as unknown.
    """
    if plan.engine is None:
        return None
    engine = spec.engine_of(plan.engine)
    known = {weights: engine.checkpoint_of(spec.model, weights) for weights in {"bf16", plan.weights}}
    made = engine.weights_for(spec.model, plan.chip).get(plan.weights)
    tp = prod(axis_sizes(plan.topology)[axis] for axis in plan.tp_axes)
    own = engine.has_own_checkpoint(spec.model, plan.weights)
    if not own and cuts_checkpoint(spec.model, plan.weights, np.array([tp])).any():
        known[plan.weights] = None
    at_hand = known[plan.weights] is not None or spec.model.native is not None
    quantises = None if made is None or at_hand else made.quantises
    names = {str(dtype): name for dtype, name in engine.kv_dtypes(spec.model, plan.chip).items()}
    return Loading(
        engine=engine.name,
        checkpoint=known[plan.weights if quantises is None else "bf16"],
        quantises=quantises,
        kv_cache=names.get(plan.kv_cache, plan.kv_cache),
    )


def cuts_checkpoint(model: ModelSpec, weights: str, tp: Ints) -> Bools:
    """Whether tensor parallelism cuts weights that share a scale in the checkpoint of a dtype that is not `native`."""
    block = {str(dtype): size for dtype, size in model.checkpoint_blocks.items()}.get(weights)
    if block is None:
        return np.zeros(len(tp), dtype=np.bool_)
    stored = model.model_copy(update={"native": NativeWeights.model_validate({"dtype": weights, "group": block})})
    return ~scales_divide(Storage(stored), weights, tp)


def makes_weights(engine: Engine, model: ModelSpec, chip: str, weights: str) -> bool:
    """Whether an engine quantises the bf16 weights of a model to a dtype while it loads them on a chip."""
    of_weights = engine.weights_for(model, chip)
    return model.native is None and weights in of_weights and bool(of_weights[weights].quantises)
