"""Linear attention and state spaces, read from configurations: layers whose cache does not grow."""

from collections.abc import Collection, Sequence

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.layer_kinds import CONVOLUTION_BYTES, STATE_BYTES, Fields, other_layers


def gated_delta(config: ConfigJson, fields: Fields) -> Fields:
    """Qwen3-Next and 3.5: gated DeltaNet layers, and attention whose output is gated by a second query projection."""
    layers, width, heads, head_dim = (fields[name] for name in ("layers", "d_model", "query_heads", "head_dim"))
    if config.get("layer_types") is None:
        full = layers // config.count("full_attention_interval")
    else:
        kinds = config.entry_per_layer("layer_types", layers, ("linear_attention", "full_attention"))
        full = kinds.count("full_attention")
    queries = 2 * heads if config.flag("attn_output_gate", True) else heads
    attention = {
        "layers": full,
        "parameters": width * head_dim * (queries + 2 * fields["kv_heads"] + heads),
        "heads": heads,
        "kv_heads": fields["kv_heads"],
        "head_dim": head_dim,
    }
    key_heads, value_heads = (config.count(f"linear_num_{kind}_heads") for kind in ("key", "value"))
    key_dim, value_dim = (config.count(f"linear_{kind}_head_dim") for kind in ("key", "value"))
    taps, values = config.count("linear_conv_kernel_dim"), value_heads * value_dim
    channels, state = 2 * key_heads * key_dim + values, value_heads * key_dim * value_dim
    projections = width * (channels + values) + 2 * width * value_heads + values * width
    linear = {
        "layers": layers - full,
        "parameters": projections + channels * taps,
        "heads": key_heads,
        "state_bytes": STATE_BYTES * state + CONVOLUTION_BYTES * channels * (taps - 1),
        "state_flops": 7 * state + 2 * channels * taps,
    }
    return other_layers(attention, linear)


def _kimi_delta(width: int, heads: int, head_dim: int, taps: int, *, full_rank_gates: bool) -> Fields:
    """A layer of Kimi delta attention: queries, keys and values with a convolution each, and two gates."""
    inner = heads * head_dim
    gates = 2 * (width * inner if full_rank_gates else width * head_dim + head_dim * inner)
    return {
        "parameters": 4 * width * inner + 3 * inner * taps + gates + width * heads,
        "heads": heads,
        "state_bytes": STATE_BYTES * inner * head_dim + CONVOLUTION_BYTES * 3 * inner * (taps - 1),
        "state_flops": 7 * inner * head_dim + 6 * inner * taps,
    }


def kimi_linear(config: ConfigJson, fields: Fields) -> Fields:
    """Kimi Linear: the layers listed in `kda_layers`; the rest have the latent attention."""
    layers = config.get("linear_attn_config.kda_layers")
    full = config.get("linear_attn_config.full_attn_layers")
    both = [layer for listed in (layers, full) if isinstance(listed, list) for layer in listed]
    if not all(type(layer) is int for layer in both) or sorted(both) != list(range(1, fields["layers"] + 1)):
        raise config.wrong("linear_attn_config.kda_layers", "each layer in it or in full_attn_layers, from 1")
    heads, head_dim, taps = (
        config.count(f"linear_attn_config.{name}") for name in ("num_heads", "head_dim", "short_conv_kernel_size")
    )
    mixing = _kimi_delta(fields["d_model"], heads, head_dim, taps, full_rank_gates=False)
    return other_layers({"layers": len(layers), **mixing})


def bailing_hybrid(config: ConfigJson, fields: Fields) -> Fields:
    """Ling 3: Kimi delta attention whose gates have full rank, and latent attention in the other layers."""
    if config.get("layer_types") is None:
        group = config.count("layer_group_size")
        linear = fields["layers"] // group * (group - 1)  # those after the last whole group have full attention
    else:
        kinds = config.entry_per_layer("layer_types", fields["layers"], ("linear_attention", "full_attention"))
        linear = kinds.count("linear_attention")
    names = {
        "linear_num_heads": "num_attention_heads", "linear_head_dim": "head_dim",
        "linear_conv_kernel_dim": "short_conv_kernel_size",
    }  # fmt: skip
    heads, head_dim, taps = (config.count(other if config.get(own) is None else own) for own, other in names.items())
    mixing = _kimi_delta(fields["d_model"], heads, head_dim, taps, full_rank_gates=True)
    return other_layers({"layers": linear, **mixing})


def lightning(config: ConfigJson, fields: Fields) -> Fields:
    """MiniMax-01 and M1: lightning attention where attn_type_list has 0, with as many KV heads as query heads."""
    kinds = config.entry_per_layer("attn_type_list", fields["layers"], (0, 1))
    heads, head_dim = fields["query_heads"], fields["head_dim"]
    state = heads * head_dim**2
    mixing = {"parameters": 5 * fields["d_model"] * heads * head_dim, "heads": heads}
    of_state = {"state_bytes": STATE_BYTES * state, "state_flops": 5 * state}
    return other_layers({"layers": kinds.count(0), **mixing, **of_state})


def _mamba_2(config: ConfigJson, width: int, names: Sequence[str]) -> Fields:
    """A Mamba-2 layer; `names` are its fields: heads, width of a head, state, groups, taps."""
    heads, head_dim, state, groups, taps = (config.count(name) for name in names)
    inner = heads * head_dim
    channels = inner + 2 * groups * state
    return {
        "parameters": width * (inner + channels + heads) + channels * taps + inner * width,
        "heads": heads,
        "state_bytes": STATE_BYTES * inner * state + CONVOLUTION_BYTES * channels * (taps - 1),
        "state_flops": 5 * inner * state + 2 * channels * taps,
    }


_NEMOTRON = ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", "n_groups", "conv_kernel")


_IBM = ("mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv")


_CODESTRAL = ("num_heads", "head_dim", "state_size", "n_groups", "conv_kernel")


def nemotron_blocks(config: ConfigJson) -> Fields:
    """Usual fields of Nemotron-H, whose layers are each a mixer or an MLP: M Mamba-2, * attention, - MLP, E experts."""
    letters = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
    if config.get("layers_block_type") is not None:
        blocks = config.get("layers_block_type")
        known = isinstance(blocks, list) and all(isinstance(block, str) and block in letters for block in blocks)
        pattern = "".join(letters[block] for block in blocks) if known else ""
        if not pattern:
            raise config.wrong("layers_block_type", f"a list with one of {', '.join(letters)} for each block")
        if config.get("hybrid_override_pattern") not in (None, pattern):
            raise config.wrong("hybrid_override_pattern", f"{pattern}, as layers_block_type says")
    else:
        pattern = config.get("hybrid_override_pattern")
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(letters.values()):
        raise config.wrong("hybrid_override_pattern", "one of M, *, - and E for each layer")
    if config.get("num_hidden_layers") is not None and config.count("num_hidden_layers") != len(pattern):
        raise config.wrong("num_hidden_layers", f"{len(pattern)}, the number of blocks listed")
    usual = {"num_hidden_layers": pattern.count("M") + pattern.count("*"), "_pattern": pattern}
    return usual if config.get("head_dim") is not None else usual | {"head_dim": config.count("attention_head_dim")}


def nemotron_experts(config: ConfigJson, layers: int) -> Collection[int]:
    """As many layers as the pattern has E."""
    return range(config.get("_pattern").count("E"))


def nemotron_h(config: ConfigJson, fields: Fields) -> Fields:
    """Nemotron-H: Mamba-2 and attention layers, and MLPs or experts, each on their own."""
    pattern = config.get("_pattern")
    dense = pattern.count("-")
    own = {"mlp_layers": dense} | ({"d_ff": config.count("intermediate_size")} if dense else {"d_ff": 0})
    if "moe" in fields:
        own["moe"] = dict(fields["moe"])
        if own["moe"]["shared_d_ff"] or config.get("moe_shared_expert_intermediate_size") is not None:
            own["moe"]["shared_d_ff"] = config.count("moe_shared_expert_intermediate_size")
        if config.get("moe_latent_size") is not None:
            own["moe"]["d_model"] = config.count("moe_latent_size")
    mamba = {"layers": pattern.count("M"), **_mamba_2(config, fields["d_model"], _NEMOTRON)}
    return other_layers(mamba) | own


def falcon_h1(config: ConfigJson, fields: Fields) -> Fields:
    """Falcon-H1: Mamba-2 beside the attention of every layer."""
    inner = config.count("mamba_n_heads") * config.count("mamba_d_head")
    if config.get("mamba_d_ssm") is not None and config.count("mamba_d_ssm") != inner:
        raise config.wrong("mamba_d_ssm", f"{inner}, mamba_n_heads · mamba_d_head")
    return other_layers({"layers": fields["layers"], "beside": True, **_mamba_2(config, fields["d_model"], _IBM)})


def granite_hybrid(config: ConfigJson, fields: Fields) -> Fields:
    """Granite 4: Mamba-2 where layer_types says so; without experts, MLPs of the shared width."""
    kinds = config.entry_per_layer("layer_types", fields["layers"], ("mamba", "attention"))
    return other_layers({"layers": kinds.count("mamba"), **_mamba_2(config, fields["d_model"], _IBM)})


def mamba_2(config: ConfigJson, fields: Fields) -> Fields:
    """Mamba-2 alone: no attention, and no MLP."""
    mixing = _mamba_2(config, fields["d_model"], _CODESTRAL)
    return other_layers({"layers": fields["layers"], **mixing}) | {"d_ff": 0, "mlp_layers": 0}


def jamba_attention(config: ConfigJson, layers: int) -> Collection[int]:
    """The layers with attention: every attn_layer_period-th from attn_layer_offset on."""
    return _every(config, "attn_layer", layers)


def jamba_experts(config: ConfigJson, layers: int) -> Collection[int]:
    """The layers with experts: every expert_layer_period-th from expert_layer_offset on."""
    return _every(config, "expert_layer", layers)


def _every(config: ConfigJson, name: str, layers: int) -> Collection[int]:
    """Every `_period`-th layer from `_offset` on, which is less. Raises CatalogueError."""
    offset, period = config.count(f"{name}_offset", minimum=0), config.count(f"{name}_period")
    if offset >= period:
        raise config.wrong(f"{name}_offset", f"less than {name}_period, {period}")
    return range(offset, layers, period)


def jamba(config: ConfigJson, fields: Fields) -> Fields:
    """Jamba: Mamba-1 in the layers without attention; its channels are what tensor parallelism divides."""
    width = fields["d_model"]
    inner = width * config.count("mamba_expand")
    state, taps = config.count("mamba_d_state"), config.count("mamba_d_conv")
    rank = -(-width // 16) if config.get("mamba_dt_rank") == "auto" else config.count("mamba_dt_rank")
    of_state = inner * (rank + 2 * state) + rank * inner + inner * state
    mixing = {
        "parameters": 2 * width * inner + inner * taps + of_state + inner * width,
        "heads": inner,
        "state_bytes": STATE_BYTES * inner * state + CONVOLUTION_BYTES * inner * (taps - 1),
        "state_flops": 6 * inner * state + 2 * inner * taps,
    }
    return other_layers({"layers": fields["layers"] - len(jamba_attention(config, fields["layers"])), **mixing})
