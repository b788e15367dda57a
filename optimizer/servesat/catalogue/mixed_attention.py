"""Models whose layers attend in different ways, read from configurations: by heads, windows and selections."""

from collections.abc import Collection

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.layer_kinds import CONVOLUTION_BYTES, STATE_BYTES, Fields, other_layers


def gemma4(config: ConfigJson, fields: Fields) -> Fields:
    """Gemma 4: full attention with heads of its own width, which may take its values from its keys' projection.

    Both are cached, as only one of them is rotated. The experts stand beside a dense MLP in every layer.
    """
    for name in ("num_kv_shared_layers", "hidden_size_per_layer_input"):
        if config.count_or_zero(name):
            raise config.wrong(name, "0: layers that share a cache, or have inputs of their own, are not supported")
    if config.flag("use_double_wide_mlp", False):
        raise config.wrong("use_double_wide_mlp", "false")
    kinds = config.entry_per_layer("layer_types", fields["layers"], ("full_attention", "sliding_attention"))
    if kinds[-1] != "full_attention":
        raise config.wrong("layer_types", "full_attention in the last layer, which every Gemma 4 has there")
    width, heads, head_dim = fields["d_model"], fields["query_heads"], config.count("global_head_dim")
    one_projection, own = config.flag("attention_k_eq_v", False), "num_global_key_value_heads"
    kv_heads = config.count(own) if one_projection and config.get(own) is not None else fields["kv_heads"]
    projections = 1 if one_projection else 2
    full = {
        "layers": kinds.count("full_attention"),
        "parameters": width * head_dim * (2 * heads + projections * kv_heads),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
    }
    found = other_layers(full)
    if config.flag("enable_moe_block", False):
        experts = {"layers": fields["layers"], "experts": config.count("num_experts")}
        experts |= {"experts_per_token": config.count("top_k_experts"), "d_ff": config.count("moe_intermediate_size")}
        found |= {"moe": experts, "mlp_layers": fields["layers"]}
    return found


def mimo_v2(config: ConfigJson, fields: Fields) -> Fields:
    """MiMo-V2: full attention and windows with KV heads and widths of their own."""
    kinds = config.entry_per_layer("hybrid_layer_pattern", fields["layers"], (0, 1))

    def of(prefix: str, kind: int) -> Fields:
        heads, kv_heads, head_dim, v_head_dim = (
            config.count(f"{prefix}{name}")
            for name in ("num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim")
        )
        return {
            "layers": kinds.count(kind),
            "parameters": fields["d_model"] * (heads + kv_heads) * (head_dim + v_head_dim),
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
            "v_head_dim": v_head_dim,
        }

    return other_layers(of("", 0), of("swa_", 1) | {"window_tokens": config.count("sliding_window")})


def experts_listed(config: ConfigJson, layers: int) -> Collection[int]:
    """The layers for which moe_layer_freq, a list, has 1."""
    return [layer for layer, has in enumerate(config.entry_per_layer("moe_layer_freq", layers, (0, 1))) if has]


def step3(config: ConfigJson, fields: Fields) -> Fields:
    """Step 3: queries through a shared width, and one KV head."""
    width, heads, head_dim, shared = fields["d_model"], fields["query_heads"], fields["head_dim"], "share_q_dim"
    kv_heads = fields["kv_heads"]
    queries = config.count(shared) * (width + heads * head_dim)
    return other_layers(
        {
            "layers": fields["layers"],
            "parameters": queries + 2 * width * kv_heads * head_dim + heads * head_dim * width,
            "heads": heads,
            "kv_heads": kv_heads,
            "head_dim": head_dim,
        }
    )


def step3_flash(config: ConfigJson, fields: Fields) -> Fields:
    """Step 3.5 and 3.7 Flash: layers with a window have more query heads than those without.

    A copy of a configuration may lack `attention_other_setting`; both models have 96 heads there beside 64.
    """
    if "window_layers" not in fields:
        return {}
    if config.get("attention_other_setting") is None:
        windowed = {name: fields[name] for name in ("kv_heads", "head_dim")} | {"heads": fields["query_heads"] * 3 // 2}
    else:
        names = {"heads": "num_attention_heads", "kv_heads": "num_attention_groups", "head_dim": "head_dim"}
        windowed = {name: config.count(f"attention_other_setting.{own}") for name, own in names.items()}
    per_head = 2 * fields["d_model"] * windowed["head_dim"]
    return {
        "window_tokens": None,
        "window_layers": 0,
        "other_layers": [
            {
                "layers": fields["window_layers"],
                "parameters": per_head * (windowed["heads"] + windowed["kv_heads"]),
                "window_tokens": fields["window_tokens"],
                **windowed,
            }
        ],
    }


def minimax_m3(config: ConfigJson, fields: Fields) -> Fields:
    """MiniMax-M3: in some layers an indexer with heads of its own selects blocks of tokens."""
    key = "sparse_attention_config"
    kinds = config.entry_per_layer(f"{key}.sparse_attention_freq", fields["layers"], (0, 1))
    if not config.flag(f"{key}.use_sparse_attention", True):
        raise config.wrong(f"{key}.use_sparse_attention", "true")
    of_values = f"{key}.sparse_disable_index_value"
    off = kinds if config.get(of_values) is None else config.entry_per_layer(of_values, fields["layers"], (0, 1))
    if any(sparse > has_none for sparse, has_none in zip(kinds, off, strict=True)):
        raise config.wrong(of_values, "1 for every sparse layer: index values are not supported")
    index_heads, index_dim, blocks, block = (
        config.count(f"{key}.sparse_{name}") for name in ("num_index_heads", "index_dim", "topk_blocks", "block_size")
    )
    always = [f"{key}.sparse_{name}" for name in ("init_block", "local_block")]
    blocks += sum(config.count(name, minimum=0) for name in always if config.get(name) is not None)
    width, heads, kv_heads, head_dim = (fields[name] for name in ("d_model", "query_heads", "kv_heads", "head_dim"))
    if config.flag("attention_output_gate", False):
        raise config.wrong("attention_output_gate", "false")
    sparse = {
        "layers": kinds.count(1),
        "parameters": width * (2 * head_dim * (heads + kv_heads) + index_dim * (index_heads + 1)),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "selected_tokens": blocks * block,
        "index_bytes": CONVOLUTION_BYTES * index_dim,
        "index_flops": 2 * index_heads * index_dim,
    }
    if "moe" not in fields:
        return other_layers(sparse)
    return other_layers(sparse) | {"moe": fields["moe"] | {"shared_d_ff": _shared_of_minimax(config)}}


def _shared_of_minimax(config: ConfigJson) -> int:
    shared = config.count_or_zero("n_shared_experts")
    return shared * config.count("shared_intermediate_size") if shared else 0


def deepseek_v4(config: ConfigJson, fields: Fields) -> Fields:
    """DeepSeek-V4: one head serves as key and value, within a window, and of compressed entries in most layers.

    A layer with compress_ratios of 4 has an indexer that selects entries, and entries that overlap; one of 128 has
    neither. What a block not yet complete holds, and the streams of hyper-connections, count as state and parameters.
    """
    layers, width, heads, head_dim = (fields[name] for name in ("layers", "d_model", "query_heads", "head_dim"))
    ratios = config.get("compress_ratios")
    is_known = isinstance(ratios, list) and all(type(ratio) is int and ratio in {0, 4, 128} for ratio in ratios)
    if not is_known or len(ratios) < layers:
        raise config.wrong("compress_ratios", f"0, 4 or 128 for each of {layers} layers")
    if fields["kv_heads"] != 1:
        raise config.wrong("num_key_value_heads", "1, the key and value of all heads")
    rank, groups, output_rank = (config.count(name) for name in ("q_lora_rank", "o_groups", "o_lora_rank"))
    index_heads, index_dim, selected = (
        config.count(name) for name in ("index_n_heads", "index_head_dim", "index_topk")
    )
    streams = 0 if config.get("hc_mult") is None else config.count("hc_mult")
    mixed = 2 * (2 * streams + streams**2) * streams * width  # two hyper-connections a layer
    queries, output = rank * (width + heads * head_dim), heads * head_dim * output_rank + groups * output_rank * width
    one_head = {"heads": heads, "kv_heads": 1, "head_dim": head_dim, "v_head_dim": 0}
    window = {
        "layers": layers,
        "parameters": queries + width * head_dim + output + mixed,
        "window_tokens": config.count("sliding_window"),
        **one_head,
    }
    indexer = width * 4 * index_dim + rank * index_heads * index_dim + width * index_heads
    fine = {
        "layers": ratios[:layers].count(4),
        "beside": True,
        "parameters": 4 * width * head_dim + indexer,
        "entry_tokens": 4,
        "selected_tokens": 4 * selected,
        "index_bytes": CONVOLUTION_BYTES * index_dim,
        "index_flops": 2 * index_heads * index_dim,
        "state_bytes": STATE_BYTES * 8 * 2 * (2 * head_dim + 2 * index_dim),
        **one_head,
    }
    coarse = {
        "layers": ratios[:layers].count(128),
        "beside": True,
        "parameters": 2 * width * head_dim,
        "entry_tokens": 128,
        "state_bytes": STATE_BYTES * 128 * 2 * head_dim,
        **one_head,
    }
    return other_layers(window, fine, coarse)


def decilm(config: ConfigJson, fields: Fields) -> Fields:
    """Llama-Nemotron, found by architecture search: attention and MLP of each layer by its own `block_configs`.

    A linear layer may stand in place of either: D · D parameters, no cache.
    """
    blocks, total = config.get("block_configs"), config.count("num_hidden_layers")
    if not isinstance(blocks, list) or len(blocks) != total or not all(isinstance(block, dict) for block in blocks):
        raise config.wrong("block_configs", f"an object for each of {total} layers")
    width, heads, head_dim = fields["d_model"], fields["query_heads"], fields["head_dim"]
    kv_heads: dict[int, int] = {}
    widths: dict[int, int] = {}
    linear = 0
    for layer, block in enumerate(blocks):
        here = f"block_configs.{layer}"
        attention = ConfigJson(block.get("attention") or {}, f"{config.where}: {here}.attention", here)
        mlp = ConfigJson(block.get("ffn") or {}, f"{config.where}: {here}.ffn", here)
        for part in (attention, mlp):
            if part.get("sparsify") or part.get("window_length") or part.get("mamba") or part.get("moe"):
                raise part.fault("sparsify, window_length, mamba and moe are not supported")
            linear += part.flag("replace_with_linear", False)
        if not (attention.flag("no_op", False) or attention.flag("replace_with_linear", False)):
            group = attention.count("n_heads_in_group")
            if heads % group:
                raise attention.wrong("n_heads_in_group", f"a divisor of {heads} heads")
            kv_heads[heads // group] = kv_heads.get(heads // group, 0) + 1
        if not (mlp.flag("no_op", False) or mlp.flag("replace_with_linear", False)):
            multiple = mlp.get("ffn_mult")
            if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not 0 < multiple <= 1000:
                raise mlp.wrong("ffn_mult", "a number above 0")
            d_ff = -(-int(2 * multiple * width / 3) // 256) * 256
            widths[d_ff] = widths.get(d_ff, 0) + 1
    kinds = [
        {
            "layers": count,
            "parameters": 2 * width * head_dim * (heads + each),
            "heads": heads,
            "kv_heads": each,
            "head_dim": head_dim,
        }
        for each, count in sorted(kv_heads.items())
    ]
    kinds += [{"layers": linear, "parameters": width**2, "heads": width}] if linear else []
    return other_layers(*kinds) | {
        "layers": sum(kv_heads.values()) + linear,
        "kv_heads": max(kv_heads, default=heads),
        "d_ff": 0,
        "mlp_layers": 0,
        "other_mlps": [{"layers": count, "d_ff": d_ff} for d_ff, count in sorted(widths.items())],
    }


def longcat(config: ConfigJson, fields: Fields) -> Fields:
    """LongCat-Flash: two attentions and two MLPs a layer beside its experts, some of which do nothing.

    Of the experts that a token visits, the share that does something counts, which its router aims at on average.
    """
    blocks, experts = config.count("num_layers"), fields["moe"]["experts"]
    idle = config.count("zero_expert_num", minimum=0)
    visited = round(fields["moe"]["experts_per_token"] * experts / (experts + idle))
    moe = fields["moe"] | {"layers": blocks, "every": 2, "experts_per_token": max(1, visited)}
    return {"mlp_layers": 2 * blocks, "d_ff": config.count("ffn_hidden_size"), "moe": moe}
