"""Usual fields of a configuration that follow from those of a type of its own."""

from typing import Any

from servesat.catalogue.config_json import ConfigJson


def four_widths(config: ConfigJson) -> dict[str, Any]:
    """GPT: an MLP of four times the width, unless it is stated."""
    return {} if config.get("intermediate_size") is not None else {"intermediate_size": 4 * config.count("hidden_size")}


def of_falcon(config: ConfigJson) -> dict[str, Any]:
    """One KV head, unless the decoder is the new one or each head has its own; the MLP has four times the width."""
    heads = config.count("num_attention_heads")
    stated = heads if config.get("num_kv_heads") is None else config.count("num_kv_heads")
    one = config.flag("multi_query", True)
    kv_heads = stated if config.flag("new_decoder_architecture", False) else 1 if one else heads
    return {**four_widths(config), "num_key_value_heads": kv_heads}


def of_mpt(config: ConfigJson) -> dict[str, Any]:
    """An MLP of expansion_ratio times the width."""
    ratio = 4 if config.get("expansion_ratio") is None else config.count("expansion_ratio")
    return {"intermediate_size": ratio * config.count("hidden_size")}


def of_bigcode(config: ConfigJson) -> dict[str, Any]:
    """One KV head for all, unless multi_query is off."""
    kv_heads = 1 if config.flag("multi_query", True) else config.count("num_attention_heads")
    return {**four_widths(config), "num_key_value_heads": kv_heads}


def of_chatglm(config: ConfigJson) -> dict[str, Any]:
    """As many KV heads as query heads, unless groups of queries share one."""
    if config.flag("multi_query_attention", True):
        return {}
    return {"num_key_value_heads": config.count("num_attention_heads")}


def of_step(config: ConfigJson) -> dict[str, Any]:
    """The width of all shared experts, from their number if it is not stated."""
    if config.get("share_expert_dim") is not None:
        return {}
    return {"share_expert_dim": config.count("n_shared_experts", minimum=0) * config.count("moe_intermediate_size")}


def of_mamba(config: ConfigJson) -> dict[str, Any]:
    """The width of a Mamba-2 head that is `auto`: of all heads together mamba_d_ssm, or mamba_expand · D."""
    if config.get("mamba_d_head") != "auto":
        return {}
    stated = config.get("mamba_d_ssm") is not None
    inner = config.count("mamba_d_ssm") if stated else config.count("mamba_expand") * config.count("hidden_size")
    heads = config.count("mamba_n_heads")
    if inner % heads:
        raise config.wrong("mamba_n_heads", f"a divisor of {inner}, the width of all heads together")
    return {"mamba_d_head": inner // heads}


def of_hunyuan(config: ConfigJson) -> dict[str, Any]:
    """Experts by layer, which must be alike, and no cache that layers share."""
    if config.flag("use_cla", False):
        raise config.wrong("use_cla", "false: a KV cache that layers share is not supported")
    if config.get("num_shared_expert") is None:
        raise config.missing("num_shared_expert")
    lists = {"num_experts_per_tok": "moe_topk", "moe_intermediate_size": "", "num_shared_expert": "", "num_experts": ""}
    return {usual: _same_in_every_layer(config, own or usual) for usual, own in lists.items()}


def _same_in_every_layer(config: ConfigJson, name: str) -> Any:
    """A value, or that of a list whose entries are the same. Raises CatalogueError for others."""
    value = config.get(name)
    if not isinstance(value, list):
        return value
    if len(value) != config.get("num_hidden_layers") or any(type(one) is not int or one != value[0] for one in value):
        raise config.wrong(name, f"the same whole number for each of {config.get('num_hidden_layers')} layers")
    return value[0]
