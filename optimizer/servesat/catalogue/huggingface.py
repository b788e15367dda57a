"""Hugging Face `config.json` files, read as the shape of a model."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.catalogue.quantisation import QUANTISATIONS, native_weights
from servesat.catalogue.tensors import matrices
from servesat.core.errors import CatalogueError
from servesat.core.validation import validate

WhichLayers = Callable[[ConfigJson, int], Collection[int]]
"""Which layers of a model have a property, by number from 0: of all its layers, those with experts or with a window."""


def _every(config: ConfigJson, layers: int) -> Collection[int]:
    return range(layers)


def _experts_after_first(config: ConfigJson, layers: int) -> Collection[int]:
    """DeepSeek and GLM: the layers from the first_k_dense_replace-th whose number moe_layer_freq divides."""
    first = config.count("first_k_dense_replace", minimum=0)
    step = 1 if config.get("moe_layer_freq") is None else config.count("moe_layer_freq")
    return range(-(-first // step) * step, layers, step)


def _experts_by_step(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen: every decoder_sparse_step-th layer, except mlp_only_layers."""
    step = config.count("decoder_sparse_step")
    return set(range(step - 1, layers, step)) - config.layer_numbers("mlp_only_layers", layers)


def _experts_interleaved(config: ConfigJson, layers: int) -> Collection[int]:
    """Llama 4: moe_layers, or every interleave_moe_layer_step-th layer."""
    if config.get("moe_layers") is not None:
        return config.layer_numbers("moe_layers", layers)
    step = config.count("interleave_moe_layer_step")
    return range(step - 1, layers, step)


def _window_above(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen: the layers above max_window_layers."""
    if config.get("max_window_layers") is None:
        raise config.missing("max_window_layers", "beside use_sliding_window")
    return range(config.count("max_window_layers", minimum=0), layers)


def _window_listed(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen with experts: releases of transformers disagree on the layers, so the list is required."""
    raise config.missing("layer_types", "beside use_sliding_window")


def _window_but_nth(config: ConfigJson, layers: int, nth: int, field: str = "") -> Collection[int]:
    """All layers except every nth, which has full attention."""
    step = config.count(field) if field and config.get(field) is not None else nth
    return set(range(layers)) - set(range(step - 1, layers, step))


_window_alternating = partial(_window_but_nth, nth=2)


def _window_rotary(config: ConfigJson, layers: int) -> Collection[int]:
    """Llama 4: the layers with rotary positions, 1 in no_rope_layers; without the list, all but every fourth."""
    if config.get("no_rope_layers"):
        rotary = config.entry_per_layer("no_rope_layers", layers, (0, 1))
        return [layer for layer, is_rotary in enumerate(rotary) if is_rotary]
    return _window_but_nth(config, layers, 4, "no_rope_layer_interval")


@dataclass(frozen=True)
class _Family:
    """Defaults and required fields of a model type's `config.json`.

    A field whose default in the type's configuration class is a number, rather than derived from other fields, is
    required, because a wrong guess would go unnoticed. The exceptions: which layers have a window, if all models of the
    type share it, and `defaults`, which published models of the type omit.
    """

    required: tuple[str, ...] = ()
    tied_embeddings: bool = False
    gated_mlp: bool = True
    latent: bool = False
    sparse: bool = False
    d_ff: str = "intermediate_size"
    experts: WhichLayers | None = None
    expert_d_ff: str = "moe_intermediate_size"
    shared: str = ""  # field with the width of the shared experts, or their number (n_shared_experts)
    window: WhichLayers | None = None  # used where there is no `layer_types`
    window_tokens: str = "sliding_window"
    window_switch: str = ""
    defaults: Mapping[str, int] = field(default_factory=dict)


_KV, _HEADS = ("num_key_value_heads",), ("num_key_value_heads", "head_dim")
_GLM = _Family(required=(*_KV, "n_shared_experts"), experts=_experts_after_first, shared="n_shared_experts")
_DEEPSEEK = replace(_GLM, required=("q_lora_rank", "n_shared_experts"), latent=True)
_GEMMA = _Family(required=(*_HEADS, "sliding_window"), tied_embeddings=True)
_MIXTRAL = _Family(required=_KV, experts=_every, expert_d_ff="intermediate_size", window=_every)
_QWEN = _Family(required=_KV, window=_window_above, window_switch="use_sliding_window")
_QWEN_MOE = replace(_QWEN, experts=_experts_by_step, window=_window_listed)
_SHARED_D_FF = "shared_expert_intermediate_size"

_FAMILIES = {
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": replace(_DEEPSEEK, sparse=True),
    "gemma": replace(_GEMMA, required=_HEADS),
    "gemma2": replace(_GEMMA, window=_window_alternating),
    "gemma3_text": replace(
        _GEMMA,
        window=partial(_window_but_nth, nth=6, field="sliding_window_pattern"),
        defaults={"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    ),
    "glm4_moe": _GLM,
    "glm_moe_dsa": replace(_DEEPSEEK, sparse=True),
    "gpt_oss": replace(_MIXTRAL, required=(*_HEADS, "sliding_window"), window=_window_alternating),
    "kimi_k2": _DEEPSEEK,
    "llama": _Family(),
    "llama4_text": _Family(
        required=(*_HEADS, "attention_chunk_size"),
        d_ff="intermediate_size_mlp",
        experts=_experts_interleaved,
        expert_d_ff="intermediate_size",
        shared="intermediate_size",
        window=_window_rotary,
        window_tokens="attention_chunk_size",
    ),
    "minimax_m2": replace(_MIXTRAL, required=_HEADS, window=None),
    "mistral": _Family(required=(*_KV, "sliding_window"), window=_every),
    "mixtral": _MIXTRAL,
    "opt": _Family(tied_embeddings=True, gated_mlp=False, d_ff="ffn_dim"),
    "phi3": _Family(window=_every),
    "qwen2": _QWEN,
    "qwen2_moe": replace(_QWEN_MOE, required=(*_KV, _SHARED_D_FF), shared=_SHARED_D_FF),
    "qwen3": replace(_QWEN, required=_HEADS),
    "qwen3_moe": _QWEN_MOE,
}
_WRAPPERS = {"gemma3": "gemma3_text", "llama4": "llama4_text"}
_WRAPPER_FIELDS = ("_name_or_path", *QUANTISATIONS, "tie_word_embeddings", "vision_config")

_SHAPE = {
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "query_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
}
_LATENT = {
    "kv_lora_rank": "kv_lora_rank",
    "nope_head_dim": "qk_nope_head_dim",
    "rope_head_dim": "qk_rope_head_dim",
    "v_head_dim": "v_head_dim",
}
_SPARSE = {"tokens": "index_topk", "index_heads": "index_n_heads", "index_head_dim": "index_head_dim"}
_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")  # synonyms to transformers

_ALREADY_SCALED = ("llama3", "longrope", "su", "default", "mrope")
"""Kinds of rope scaling after which max_position_embeddings holds as it stands."""

MAX_ROPE_FACTOR = 10_000


def model_fields(config: object, where: str) -> dict[str, Any]:
    """Translate a `config.json` into the keys of a model file.

    Raises CatalogueError for an unsupported architecture, or a missing or malformed field.
    """
    opened, family = _open(config, where)
    missing = [field for field in _SHAPE.values() if opened.get(field) is None]
    missing += [field for field in family.required if field not in opened.fields]
    if missing:
        raise opened.missing(", ".join(missing))
    if opened.get("word_embed_proj_dim") not in (None, opened.get("hidden_size")):
        raise opened.wrong("word_embed_proj_dim", f"hidden_size = {opened.get('hidden_size')}")

    fields: dict[str, Any] = {name: opened.count(source) for name, source in _SHAPE.items()}
    fields["name"] = _name(opened)
    fields["gated_mlp"] = family.gated_mlp
    fields["tied_embeddings"] = opened.flag("tie_word_embeddings", family.tied_embeddings)
    fields |= _latent(opened, family) if family.latent else _heads(opened)
    with_experts = _layers_with_experts(opened, family, fields["layers"])
    fields |= _mlp(opened, family, fields["layers"], len(with_experts))
    fields |= _window(opened, family, fields["layers"])
    fields |= _longest_context(opened)
    shape = validate(ModelSpec, fields, where=where, error=CatalogueError)
    return fields | _apart(opened, shape) | native_weights(opened, shape, with_experts)


def _open(config: object, where: str) -> tuple[ConfigJson, _Family]:
    """The fields of the text model, in a wrapper those of `text_config`, and its family."""
    if not isinstance(config, Mapping):
        raise CatalogueError(f"{where}: expected a JSON object, as in a Hugging Face config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CatalogueError(f"{where}: model_type is missing; expected a Hugging Face config.json")
    opened = ConfigJson(config, where, f"a {model_type} config.json")
    if model_type in _FAMILIES:
        family = _FAMILIES[model_type]
        return replace(opened, fields={**family.defaults, **config}), family
    if model_type not in _WRAPPERS:
        known = ", ".join(sorted((*_FAMILIES, *_WRAPPERS)))
        raise opened.fault(f"model_type = {model_type!r} is not supported; known: {known}")

    inner, expected = config.get("text_config"), _WRAPPERS[model_type]
    if inner is None:
        raise opened.missing("text_config")
    if not isinstance(inner, Mapping):
        raise opened.wrong("text_config", "a JSON object")
    if inner.get("model_type", expected) != expected:
        raise opened.wrong("text_config.model_type", f"{expected!r} in {opened.container}")
    outer = {name: config[name] for name in _WRAPPER_FIELDS if name in config and inner.get(name) in (None, "")}
    fields = {**_FAMILIES[expected].defaults, **inner, **outer, "model_type": model_type}
    return ConfigJson(fields, where, f"the text_config of {opened.container}"), _FAMILIES[expected]


def _name(config: ConfigJson) -> str:
    """The repository that a configuration names; of a path on the publisher's machine the last folder only."""
    name = str(config.get("_name_or_path") or "").replace("\\", "/").rstrip("/")
    is_repository = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    return (name if is_repository else name.rpartition("/")[2]) or str(config.get("model_type"))


def _heads(config: ConfigJson) -> dict[str, Any]:
    heads = config.count("num_attention_heads")
    kv_heads = heads if config.get("num_key_value_heads") is None else config.count("num_key_value_heads")
    if config.get("head_dim") is not None:
        return {"kv_heads": kv_heads, "head_dim": config.count("head_dim")}
    d_model = config.count("hidden_size")
    if d_model % heads:
        raise config.fault(
            f"head_dim is missing, and hidden_size = {d_model} is not a multiple of num_attention_heads = {heads}"
        )
    return {"kv_heads": kv_heads, "head_dim": d_model // heads}


def _latent(config: ConfigJson, family: _Family) -> dict[str, Any]:
    """Latent attention, and the indexer of sparse attention, which must not be shared between layers."""
    mla = {name: config.count(source) for name, source in _LATENT.items()}
    if config.get("q_lora_rank") is not None:
        mla["q_lora_rank"] = config.count("q_lora_rank")
    if not family.sparse:
        return {"mla": mla}
    indexers = f"{config.get('index_topk_pattern')} {config.get('indexer_types')}"
    if config.get("index_topk_freq") not in (None, 1) or re.search("S|shared", indexers):
        raise config.fault("index_topk_freq, index_topk_pattern or indexer_types: a shared indexer is not supported")
    return {"mla": mla, "sparse": {name: config.count(source) for name, source in _SPARSE.items()}}


def _layers_with_experts(config: ConfigJson, family: _Family, layers: int) -> Collection[int]:
    if family.experts is None:
        return ()
    if config.get("mlp_layer_types") is None:
        return family.experts(config, layers)
    kinds = config.entry_per_layer("mlp_layer_types", layers, ("dense", "sparse"))
    return [layer for layer, kind in enumerate(kinds) if kind == "sparse"]


def _mlp(config: ConfigJson, family: _Family, layers: int, with_experts: int) -> dict[str, Any]:
    """The width of the dense MLPs, and the experts, where the model has them."""
    dense = {"d_ff": config.count(family.d_ff)} if with_experts < layers else {}
    if not with_experts:
        return dense

    stated = {name: config.count(name) for name in _EXPERTS if config.get(name) is not None}
    if not stated:
        raise config.missing(" or ".join(_EXPERTS))
    if len(set(stated.values())) > 1:
        raise config.fault(" but ".join(f"{name} = {count}" for name, count in stated.items()))
    d_ff = config.count(family.expert_d_ff)
    shared = 0 if config.get(family.shared) is None else config.count(family.shared, minimum=0)
    moe = {
        "layers": with_experts,
        "experts": max(stated.values()),
        "experts_per_token": config.count("num_experts_per_tok"),
        "d_ff": d_ff,
        "shared_d_ff": shared * (d_ff if family.shared == "n_shared_experts" else 1),
    }
    return dense | {"moe": moe}


def _window(config: ConfigJson, family: _Family, layers: int) -> dict[str, Any]:
    """The window, where the model type has one and the configuration enables it."""
    if family.window is None or config.get(family.window_tokens) is None:
        return {}
    if family.window_switch and not config.flag(family.window_switch, False):
        return {}
    if config.get("layer_types") is None:
        windowed = len(family.window(config, layers))
    else:
        known = ("full_attention", "sliding_attention", "chunked_attention")
        windowed = layers - config.entry_per_layer("layer_types", layers, known).count("full_attention")
    return {"window_tokens": config.count(family.window_tokens), "window_layers": windowed} if windowed else {}


def _apart(config: ConfigJson, shape: ModelSpec) -> dict[str, Any]:
    """Parameters beside the text model: of a vision encoder whose shape is given, and of multi-token prediction.

    An encoder has 4·D² + 2·D·F a layer, a patch embedding of 3·p²·D, and a projector D·D_text. A prediction layer is a
    last layer of the model, and a projection 2·D·D of a token and its hidden state (DeepSeek-V3, section 2.2).
    """
    found = {}
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "patch_size")
    if all(config.get(f"vision_config.{name}") is not None for name in names):
        width, inner, layers, patch = (config.count(f"vision_config.{name}") for name in names)
        encoder = layers * (4 * width**2 + 2 * width * inner) + 3 * patch**2 * width
        found["vision_parameters"] = encoder + width * shape.d_model
    if config.get("num_nextn_predict_layers"):
        outside = {TensorGroup.EMBEDDING, TensorGroup.HEAD, TensorGroup.MLP if shape.moe else TensorGroup.EXPERTS}
        layer = sum(matrix.parameters for matrix in matrices(shape) if matrix.group not in outside)
        found["mtp_parameters"] = config.count("num_nextn_predict_layers") * (layer + 2 * shape.d_model**2)
    return found


def _longest_context(config: ConfigJson) -> dict[str, Any]:
    """How far positions reach, as vLLM derives it: yarn stretches the original length, others the one stated.

    The length stated includes the scaling of llama3 and longrope, and of Gemma 3.
    """
    if config.get("max_position_embeddings") is None:
        return {}
    tokens = float(config.count("max_position_embeddings"))
    field = "rope_scaling" if config.get("rope_scaling") is not None else "rope_parameters"
    scaling = config.get(field)
    if scaling is None or str(config.get("model_type")).startswith("gemma3"):
        return {"max_context_tokens": int(tokens)}
    if not isinstance(scaling, Mapping):
        raise config.wrong(field, "a JSON object")
    kind = scaling.get("rope_type", scaling.get("type"))
    factor = 1.0 if scaling.get("factor") is None else scaling["factor"]
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= MAX_ROPE_FACTOR:
        raise config.wrong(f"{field}.factor", f"a number above 0, and at most {MAX_ROPE_FACTOR}")
    if kind in _ALREADY_SCALED:
        return {"max_context_tokens": int(tokens)}
    if kind == "yarn" and scaling.get("original_max_position_embeddings") is not None:
        tokens = float(config.count(f"{field}.original_max_position_embeddings"))
    return {"max_context_tokens": int(tokens * factor)}
