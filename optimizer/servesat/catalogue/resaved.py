"""Configurations saved by transformers 5 under keys of its own, put back under those that publishers use."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.layer_kinds import Fields

_ATTENDING = ("full_attention", "sliding_attention")
_RECURRENT = ("linear_attention", "full_attention")
_INDEXED = ("full_attention", "minimax_m3_sparse")
_RATES = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
_HASHED = ("hash_moe", "moe")


def as_published(config: ConfigJson, kind: str) -> ConfigJson:
    """The configuration of a model type, under the keys that its publisher wrote. Raises CatalogueError."""
    return config.changed(_REWRITTEN[kind](config)) if kind in _REWRITTEN else config


def _kinds(config: ConfigJson, known: Collection[str]) -> list[str]:
    """The kinds of the layers, by `layer_types`."""
    return config.entry_per_layer("layer_types", config.count("num_hidden_layers"), known)


def _agreeing(config: ConfigJson, key: str, value: Any, source: str) -> Fields:
    """A key as published, which may stand beside what it is now saved under. Raises CatalogueError if they differ."""
    if config.get(key) not in (None, value):
        raise config.wrong(key, f"{value}, as {source} says")
    return {key: value}


def _of_layers(config: ConfigJson, kind: str, known: tuple[str, ...]) -> Fields:
    """The keys that `per_layer_config` gives to every layer of a kind, the same in each, and to no other layer."""
    layers = [str(layer) for layer, each in enumerate(_kinds(config, _ATTENDING)) if each == kind]
    listed, wanted = config.get("per_layer_config"), f"the same {' and '.join(known)} for each layer with {kind}"
    if not isinstance(listed, Mapping):
        raise config.wrong("per_layer_config", wanted)
    if not listed:
        return {}
    found = {layer.lstrip("0") or "0": own for layer, own in listed.items()}
    own = found.get(layers[0]) if layers else None
    alike = len(found) == len(listed) and found == dict.fromkeys(layers, own)
    if not alike or not isinstance(own, Mapping) or not set(own) <= set(known):
        raise config.wrong("per_layer_config", wanted)
    return dict(own)


def _gemma4(config: ConfigJson) -> Fields:
    """Layers with full attention have heads of their own in `per_layer_config`, where these differ from the others."""
    if config.get("per_layer_config") is None:
        return {}
    own = _of_layers(config, "full_attention", ("head_dim", "num_key_value_heads"))
    head_dim = own["head_dim"] if "head_dim" in own else config.count("head_dim")
    found = _agreeing(config, "global_head_dim", head_dim, "per_layer_config") | {"per_layer_config": None}
    if "num_key_value_heads" in own:
        found |= _agreeing(config, "num_global_key_value_heads", own["num_key_value_heads"], "per_layer_config")
    return found


def _step(config: ConfigJson) -> Fields:
    """Heads of layers with a window have a key; their KV heads and width are those of the others.

    A list of layers may go on with those that predict further tokens.
    """
    listed, layers = config.get("layer_types"), config.count("num_hidden_layers")
    further = config.count_or_zero("num_nextn_predict_layers")
    cut = {"layer_types": listed[:layers]} if isinstance(listed, list) and len(listed) == layers + further else {}
    if config.get("num_sliding_attention_heads") is None:
        return cut
    heads = config.count("num_sliding_attention_heads")
    own = _of_layers(config.changed(cut), "sliding_attention", ("num_attention_heads",))
    if own.get("num_attention_heads", heads) != heads:
        raise config.wrong("num_sliding_attention_heads", f"{own['num_attention_heads']}, as per_layer_config says")
    other = {"num_attention_heads": heads, "num_attention_groups": config.count("num_key_value_heads")}
    return cut | {
        "attention_other_setting": other | {"head_dim": config.count("head_dim")},
        "per_layer_config": None,
    }


def _minimax_m3(config: ConfigJson) -> Fields:
    """The indexer's keys stand alone, and layers are listed by name; a shared expert is always there."""
    if config.get("sparse_attention_config") is not None or config.get("index_topk_blocks") is None:
        return {}
    names = {
        "num_index_heads": "index_n_heads", "index_dim": "index_head_dim", "block_size": "index_block_size",
        "topk_blocks": "index_topk_blocks", "local_block": "index_local_blocks",
    }  # fmt: skip
    sparse: Fields = {
        f"sparse_{name}": config.count(own, minimum=0 if name == "local_block" else 1) for name, own in names.items()
    }
    sparse["sparse_attention_freq"] = [int(kind == "minimax_m3_sparse") for kind in _kinds(config, _INDEXED)]
    mlps = config.entry_per_layer("mlp_layer_types", config.count("num_hidden_layers"), ("dense", "sparse"))
    shared = {} if config.get("n_shared_experts") is not None else {"n_shared_experts": 1}
    with_experts = [int(mlp == "sparse") for mlp in mlps]
    return shared | {"sparse_attention_config": sparse, "moe_layer_freq": with_experts}


def _deepseek_v4(config: ConfigJson) -> Fields:
    """Kinds of layers, with a rate of compression each, in place of a list of rates; all layers have experts."""
    if config.get("layer_types") is None:
        return {}
    for kind, rate in _RATES.items():
        if config.count(f"compress_rates.{kind}") != rate:
            raise config.wrong(f"compress_rates.{kind}", f"{rate}, as every DeepSeek-V4 has")
    ratios = [_RATES.get(kind, 0) for kind in _kinds(config, ("sliding_attention", *_RATES))]
    if config.get("mlp_layer_types") is not None:
        config.entry_per_layer("mlp_layer_types", len(ratios), _HASHED)
    published = config.get("compress_ratios")  # which goes on with layers that predict further tokens
    if isinstance(published, list) and published[: len(ratios)] == ratios:
        return {"mlp_layer_types": None}
    return _agreeing(config, "compress_ratios", ratios, "layer_types") | {"mlp_layer_types": None}


def _kimi_linear(config: ConfigJson) -> Fields:
    """The layers with linear attention by `layer_types`, and its sizes as keys of their own."""
    if config.get("linear_attn_config") is not None or config.get("layer_types") is None:
        return {}
    kinds = list(enumerate(_kinds(config, _RECURRENT), start=1))
    names = {
        "num_heads": "linear_num_heads", "head_dim": "linear_head_dim",
        "short_conv_kernel_size": "linear_conv_kernel_dim",
    }  # fmt: skip
    linear: Fields = {name: config.count(own) for name, own in names.items()}
    linear["kda_layers"] = [layer for layer, kind in kinds if kind == "linear_attention"]
    linear["full_attn_layers"] = [layer for layer, kind in kinds if kind == "full_attention"]
    return {"linear_attn_config": linear}


def _mimo_v2(config: ConfigJson) -> Fields:
    """Windows by `layer_types`, of one token more than `sliding_window_size`; no shared expert unless one is stated."""
    if config.get("layer_types") is None:
        return {}
    windowed = [int(kind == "sliding_attention") for kind in _kinds(config, _ATTENDING)]
    found = {"n_shared_experts": config.get("n_shared_experts")}
    if config.get("sliding_window_size") is not None:
        found["sliding_window"] = config.count("sliding_window_size")
    return found | _agreeing(config, "hybrid_layer_pattern", windowed, "layer_types")


def _minimax(config: ConfigJson) -> Fields:
    """Lightning attention by `layer_types`."""
    if config.get("layer_types") is None:
        return {}
    full = [int(kind == "full_attention") for kind in _kinds(config, _RECURRENT)]
    return _agreeing(config, "attn_type_list", full, "layer_types")


def _nemotron_h(config: ConfigJson) -> Fields:
    """Blocks under the names that other types have for the same."""
    blocks = config.get("layers_block_type")
    return {} if blocks is None else {"layers_block_type": _as_mamba(blocks)}


def _granite(config: ConfigJson) -> Fields:
    """The same, under either of two keys."""
    blocks, other = (_as_mamba(config.get(key)) for key in ("layer_types", "layers_block_type"))
    if None not in (blocks, other) and blocks != other:
        raise config.wrong("layers_block_type", "the blocks of layer_types")
    return {"layer_types": other if blocks is None else blocks}


def _as_mamba(blocks: Any) -> Any:
    """A list of blocks under the names of Mamba's publishers; anything else as it is."""
    names = {"linear_attention": "mamba", "full_attention": "attention"}
    if not isinstance(blocks, list):
        return blocks
    return [names.get(block, block) if isinstance(block, str) else block for block in blocks]


_REWRITTEN: dict[str, Callable[[ConfigJson], Fields]] = {
    "deepseek_v4": _deepseek_v4,
    "gemma4_text": _gemma4,
    "granitemoehybrid": _granite,
    "kimi_linear": _kimi_linear,
    "mimo_v2_flash": _mimo_v2,
    "minimax": _minimax,
    "minimax_m3": _minimax_m3,
    "minimax_m3_vl_text": _minimax_m3,
    "nemotron_h": _nemotron_h,
    "step3p5": _step,
}
"""Model types that transformers 5 (5.24) saves under other keys, and how each is put back."""
