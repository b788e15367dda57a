"""Hugging Face `config.json` files, read as the shape of a model."""

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.encoders import PROJECTOR_SIZES, encoder_parameters
from servesat.catalogue.families import FAMILIES, WRAPPERS
from servesat.catalogue.family import Family
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.catalogue.quantisation import QUANTISATIONS, native_weights
from servesat.catalogue.resaved import as_published
from servesat.catalogue.tensors import matrices
from servesat.core.errors import CatalogueError
from servesat.core.validation import nearest, shorten, validate

_TIED = "tie_word_embeddings"
_WRAPPER_FIELDS = (
    "_name_or_path", *QUANTISATIONS, _TIED, "vision_config", "audio_config",
    *(size for sizes in PROJECTOR_SIZES.values() for size in sizes),
)  # fmt: skip

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

_INDEXED = ("deepseek_sparse_attention", "indexed_attention")
_WINDOWS = ("full_attention", "sliding_attention", "chunked_attention")
_EXPERT_LAYERS = (
    "first_k_dense_replace", "moe_layers", "interleave_moe_layer_step", "moe_layer_start_index", "moe_layers_enum",
)  # fmt: skip
"""Fields that say which layers have experts, as `mlp_layer_types` does."""

_WHOLE_IMAGES = {"gemma3": 256, "gemma4": 2496}
"""Tokens of the largest image or video that is attended to both ways: of Gemma 4 a video, 32 frames of 78 tokens."""

_COUNTS_SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
"""Fields with the number of shared experts, rather than their width."""

_ALREADY_SCALED = ("llama3", "longrope", "su", "default", "mrope")
"""Kinds of rope scaling after which max_position_embeddings holds as it stands."""

_STRETCHED = ("yarn", "dynamic", "linear", "proportional")
"""Kinds that stretch positions by their factor."""

MAX_ROPE_FACTOR = 10_000
MAX_LAYERS = 10_000


def model_fields(config: object, where: str) -> dict[str, Any]:
    """Translate a `config.json` into the keys of a model file.

    Raises CatalogueError for an unsupported architecture, or a missing or malformed field.
    """
    opened, family = _open(config, where)
    missing = [field for field in _SHAPE.values() if opened.get(field) is None]
    missing += [field for field in family.required if field not in opened.fields]
    if missing:
        raise opened.missing(*missing)
    if opened.get("word_embed_proj_dim") not in (None, opened.get("hidden_size")):
        raise opened.wrong("word_embed_proj_dim", f"hidden_size = {opened.get('hidden_size')}")

    fields: dict[str, Any] = {name: opened.count(source) for name, source in _SHAPE.items()}
    if fields["layers"] > MAX_LAYERS:
        raise opened.wrong("num_hidden_layers", f"at most {MAX_LAYERS:,}")
    _refuse_other_shapes(opened, family)
    fields["name"] = _name(opened)
    fields["gated_mlp"] = family.gated_mlp
    fields["tied_embeddings"] = opened.flag(_TIED, family.tied_embeddings)
    fields |= _latent(opened, family) if family.latent else _heads(opened)
    with_experts = _layers_with_experts(opened, family, fields["layers"])
    fields |= _mlp(opened, family, fields["layers"], with_experts)
    fields |= _window(opened, family, fields["layers"])
    fields |= _longest_context(opened)
    if family.hybrid is not None:
        fields |= family.hybrid(opened, fields)
    shape = validate(ModelSpec, fields, where=where, error=CatalogueError)
    return fields | _apart(opened, family, shape) | native_weights(opened, shape, with_experts)


def _refuse_other_shapes(config: ConfigJson, family: Family) -> None:
    """Refuse fields that change a shape, of a type that has none of them."""
    if family.experts is None and "moe" not in str(config.get("model_type")):
        for name in _EXPERTS:
            if family.hybrid is None and config.count_or_zero(name) > 1:
                raise config.wrong(name, "none: the type has no experts")
    if not family.latent and config.get("kv_lora_rank") is not None:
        raise config.wrong("kv_lora_rank", "none: the type has no latent attention")
    if config.get("per_layer_config") not in (None, {}):
        raise config.wrong("per_layer_config", "none: layers of widths of their own are not supported")
    if config.count_or_zero("num_kv_shared_layers"):
        raise config.wrong("num_kv_shared_layers", "0: layers that share a cache are not supported")
    if config.get("layer_types") is not None and family.window is None and family.hybrid is None:
        listed = config.entry_per_layer("layer_types", config.count("num_hidden_layers"), (*_WINDOWS, *_INDEXED))
        if set(listed) - {"full_attention", *(_INDEXED if family.sparse else ())}:
            raise config.wrong("layer_types", "full_attention alone: the type has no window")


def _open(config: object, where: str) -> tuple[ConfigJson, Family]:
    """The fields of the text model, in a wrapper those of `text_config`, and its family."""
    if not isinstance(config, Mapping):
        raise CatalogueError(f"{where}: expected a JSON object, as in a Hugging Face config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CatalogueError(f"{where}: model_type is missing; expected a Hugging Face config.json")
    opened = ConfigJson(config, where, f"a {model_type} config.json")
    if model_type in FAMILIES:
        return _usual(opened, model_type)
    if model_type not in WRAPPERS:
        raise opened.fault(
            f"model_type = {model_type!r} is not understood; {nearest(model_type, {*FAMILIES, *WRAPPERS})} "
            "(`servesat models new` writes a model file to fill in)"
        )

    inner, allowed = config.get("text_config"), WRAPPERS[model_type] or tuple(FAMILIES)
    if inner is None and WRAPPERS[model_type] and config.get("num_hidden_layers") is not None:  # as of 2024
        return _usual(opened, WRAPPERS[model_type][0])
    if inner is None:
        raise opened.missing("text_config")
    if not isinstance(inner, Mapping):
        raise opened.wrong("text_config", "a JSON object")
    text_type = inner.get("model_type", allowed[0] if WRAPPERS[model_type] else "llama")
    if text_type not in allowed:
        named = " or ".join(map(repr, WRAPPERS[model_type])) or "a type that is supported"
        raise opened.wrong("text_config.model_type", f"{named} in {opened.container}")
    outer = {name: config[name] for name in _WRAPPER_FIELDS if name in config and inner.get(name) in (None, "")}
    if config.get(_TIED) is not None:  # that of the text model is its class's default, once transformers 5 has saved it
        outer[_TIED] = config[_TIED]
    names = {name: f"text_config.{name}" for name in inner if name not in outer}
    fields = {**inner, **outer, "model_type": model_type}
    text_model = ConfigJson(fields, where, f"the text_config of {opened.container}", names)
    return _usual(text_model, (WRAPPERS[model_type] or (text_type,))[0])


def _usual(config: ConfigJson, kind: str) -> tuple[ConfigJson, Family]:
    """The configuration of a type under the usual names of its fields, and the type's family."""
    return FAMILIES[kind].with_usual_fields(as_published(config, kind)), FAMILIES[kind]


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
            f"head_dim is missing, and {config.named('hidden_size')} = {d_model} is not a multiple of "
            f"{config.named('num_attention_heads')} = {heads}"
        )
    return {"kv_heads": kv_heads, "head_dim": d_model // heads}


def _latent(config: ConfigJson, family: Family) -> dict[str, Any]:
    """Latent attention, and the indexer of sparse attention; a layer may share the selection of the one before."""
    mla = {name: config.count(source) for name, source in _LATENT.items()}
    if config.get("q_lora_rank") is not None:
        mla["q_lora_rank"] = config.count("q_lora_rank")
    if not family.sparse:
        return {"mla": mla}
    stated = config.get("index_topk_freq") not in (None, 1) or config.get("index_topk_pattern") is not None
    if stated and config.get("indexer_types") is None:
        raise config.fault("index_topk_freq or index_topk_pattern: an indexer for some layers is read of indexer_types")
    sparse = {name: config.count(source) for name, source in _SPARSE.items()}
    if config.get("indexer_types") is not None:
        kinds = config.entry_per_layer("indexer_types", config.count("num_hidden_layers"), ("full", "shared"))
        sparse |= {"layers": kinds.count("full")} if "shared" in kinds else {}
    return {"mla": mla, "sparse": sparse}


def _layers_with_experts(config: ConfigJson, family: Family, layers: int) -> Collection[int]:
    stated = [name for name in _EXPERTS if config.get(name) is not None]
    none = family.may_be_dense and any(config.count(name, minimum=0) == 0 for name in stated)
    if family.experts is None or none:
        return ()
    if config.get("mlp_layer_types") is None:
        return family.experts(config, layers)
    kinds = config.entry_per_layer("mlp_layer_types", layers, ("dense", "sparse"))
    listed = [layer for layer, kind in enumerate(kinds) if kind == "sparse"]
    beside = [name for name in _EXPERT_LAYERS if config.get(name) is not None]
    if beside and listed != sorted(family.experts(config, layers)):
        raise config.wrong("mlp_layer_types", f"the layers with experts of {', '.join(map(config.named, beside))}")
    return listed


def _mlp(config: ConfigJson, family: Family, layers: int, with_experts: Collection[int]) -> dict[str, Any]:
    """The width of the dense MLPs, and the experts, where the model has them."""
    dense = {"d_ff": config.count(family.d_ff)} if len(with_experts) < layers else {}
    if not with_experts:
        return dense

    stated = {name: config.count(name) for name in _EXPERTS if config.get(name) is not None}
    if not stated:
        raise config.missing(" or ".join(_EXPERTS))
    if len(set(stated.values())) > 1:
        raise config.fault(" but ".join(f"{config.named(name)} = {count}" for name, count in stated.items()))
    d_ff = config.count(family.expert_d_ff)
    shared = config.count_or_zero(family.shared)
    there = sorted(with_experts)
    nearest_two = min((after - before for before, after in pairwise(there)), default=1)
    moe = {
        "layers": len(there),
        "experts": max(stated.values()),
        "experts_per_token": config.count("num_experts_per_tok"),
        "d_ff": d_ff,
        "shared_d_ff": shared * (d_ff if family.shared in _COUNTS_SHARED else 1),
    }
    moe |= {"every": nearest_two} if nearest_two > 1 else {}
    return dense | {"moe": moe}


def _window(config: ConfigJson, family: Family, layers: int) -> dict[str, Any]:
    """The window, where the model type has one and the configuration enables it."""
    if family.window is None:
        return {}
    listed = config.get("layer_types") is not None
    kinds = config.entry_per_layer("layer_types", layers, _WINDOWS) if listed else []
    if family.window_switch and not config.flag(family.window_switch, False):
        return {}
    if config.get(family.window_tokens) is None:
        if (family.window_switch and family.window_tokens not in config.fields) or set(kinds) - {"full_attention"}:
            raise config.missing(family.window_tokens)
        return {}
    windowed = layers - kinds.count("full_attention") if listed else len(family.window(config, layers))
    return {"window_tokens": config.count(family.window_tokens), "window_layers": windowed} if windowed else {}


def _apart(config: ConfigJson, family: Family, shape: ModelSpec) -> dict[str, Any]:
    """Parameters beside the text model: of a vision encoder of a known kind, and of multi-token prediction.

    An encoder of an unknown kind, or without a size, is not counted, which `sources` says. A prediction layer is a last
    layer of the model, and a projection 2·D·D of a token and its hidden state (DeepSeek-V3, section 2.2); of other
    models with experts it is not known.
    """
    found: dict[str, Any] = {}
    encoder = encoder_parameters(config, shape.d_model)
    if encoder:
        found["vision_parameters"] = encoder
    elif config.get("vision_config"):
        kind = shorten(config.get("vision_config.model_type") or config.get("model_type"))
        found["sources"] = {
            "vision_parameters": f"the encoder {kind} is not counted, as its kind or one of its sizes is not known"
        }
    if config.get("audio_config"):
        said = found.get("sources", {}).get("vision_parameters")
        of_sound = "the audio encoder is not counted"
        found["sources"] = {"vision_parameters": of_sound if said is None else f"{said}; {of_sound}"}
    if str(config.get("model_type")) in _WHOLE_IMAGES:
        found["whole_image_tokens"] = _WHOLE_IMAGES[str(config.get("model_type"))]
    if family.sinks:
        found["attention_sinks"] = True
    like_the_last = shape.moe is None or family.latent or str(config.get("model_type")).startswith("glm")
    ahead = config.count_or_zero("num_nextn_predict_layers")
    if ahead and like_the_last:
        outside = {TensorGroup.EMBEDDING, TensorGroup.HEAD, TensorGroup.MLP if shape.moe else TensorGroup.EXPERTS}
        layer = sum(matrix.parameters for matrix in matrices(shape) if matrix.group not in outside)
        found["mtp_parameters"] = ahead * (layer + 2 * shape.d_model**2)
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
    for kind_of_layer in ("full_attention", "compress"):  # as transformers 5 saves what differs between layers
        if isinstance(scaling.get(kind_of_layer), Mapping):
            field, scaling = f"{field}.{kind_of_layer}", scaling[kind_of_layer]
            break
    name = "type" if "type" in scaling and "rope_type" not in scaling else "rope_type"
    kind = scaling.get(name)
    kind = kind.removeprefix("deepseek_") if isinstance(kind, str) else kind
    factor = 1.0 if scaling.get("factor") is None else scaling["factor"]
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= MAX_ROPE_FACTOR:
        raise config.wrong(f"{field}.factor", f"a number above 0, and at most {MAX_ROPE_FACTOR}")
    if kind in _ALREADY_SCALED or (kind is None and factor == 1):
        return {"max_context_tokens": int(tokens)}
    if kind not in _STRETCHED:
        raise config.wrong(f"{field}.{name}", f"one of {', '.join((*_ALREADY_SCALED, *_STRETCHED))}")
    if kind == "yarn" and scaling.get("factor") is None:
        raise config.wrong(f"{field}.factor", f"a number above 0, and at most {MAX_ROPE_FACTOR}")
    if kind == "yarn" and scaling.get("original_max_position_embeddings") is not None:
        tokens = float(config.count(f"{field}.original_max_position_embeddings"))
    return {"max_context_tokens": int(tokens * factor)}
