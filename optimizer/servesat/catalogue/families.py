"""What each `model_type` of Hugging Face means: which fields it needs, and what its defaults are."""

from dataclasses import replace
from functools import partial

from servesat.catalogue import mixed_attention, recurrent_layers
from servesat.catalogue.derived_fields import (
    four_widths,
    of_bigcode,
    of_chatglm,
    of_falcon,
    of_hunyuan,
    of_mamba,
    of_mpt,
    of_step,
)
from servesat.catalogue.family import Family
from servesat.catalogue.layer_patterns import (
    every,
    experts_after_first,
    experts_between,
    experts_but_listed,
    experts_by_step,
    experts_enumerated,
    experts_interleaved,
    window_above,
    window_alternating,
    window_but_nth,
    window_by_letters,
    window_listed,
    window_rotary,
    window_unrotated,
)

_KV, _HEADS = ("num_key_value_heads",), ("num_key_value_heads", "head_dim")
_SHARED_D_FF = "shared_expert_intermediate_size"
_GPT_NAMES = {
    "num_hidden_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
}
_D_MODEL_NAMES = {
    "num_hidden_layers": "n_layers",
    "hidden_size": "d_model",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "attn_config.kv_n_heads",
    "max_position_embeddings": "max_seq_len",
}

_LLAMA = Family()
_GQA = Family(required=_KV)
_GLM = Family(required=(*_KV, "n_shared_experts"), experts=experts_after_first, shared="n_shared_experts")
_DEEPSEEK = replace(_GLM, required=("q_lora_rank", "n_shared_experts"), latent=True)
_GEMMA = Family(required=(*_HEADS, "sliding_window"), tied_embeddings=True)
_MIXTRAL = Family(required=_KV, experts=every, expert_d_ff="intermediate_size", window=every)
_MISTRAL = Family(required=(*_KV, "sliding_window"), window=every)
_QWEN = Family(required=_KV, window=window_above, window_switch="use_sliding_window")
_QWEN3 = replace(_QWEN, required=_HEADS)
_QWEN_MOE = replace(_QWEN, experts=experts_by_step, window=window_listed)
_GPT = Family(gated_mlp=False, renamed=_GPT_NAMES, derived=four_widths)
_COHERE = Family(required=_KV, tied_embeddings=True)
_ONE_IN_FOUR = partial(window_but_nth, nth=4)
_HUNYUAN = Family(
    required=_KV,
    experts=every,
    shared="num_shared_expert",
    renamed={"head_dim": "attention_head_dim"},
    derived=of_hunyuan,
)
_BAILING = Family(required=(*_HEADS, "num_shared_experts"), experts=experts_after_first, shared="num_shared_experts")

_NEXT = Family(required=_HEADS, experts=experts_by_step, shared=_SHARED_D_FF, hybrid=recurrent_layers.gated_delta)
_KIMI_LINEAR = replace(
    _DEEPSEEK,
    required=("q_lora_rank", "num_shared_experts"),
    shared="num_shared_experts",
    renamed={"num_experts_per_tok": "num_experts_per_token", "max_position_embeddings": "model_max_length"},
    hybrid=recurrent_layers.kimi_linear,
)
_GRANITE_HYBRID = Family(
    required=(*_KV, "shared_intermediate_size"),
    d_ff="shared_intermediate_size",
    may_be_dense=True,
    experts=every,
    expert_d_ff="intermediate_size",
    shared="shared_intermediate_size",
    derived=of_mamba,
    hybrid=recurrent_layers.granite_hybrid,
)

_STEP_NAMES = {
    "num_key_value_heads": "num_attention_groups",
    "num_experts": "moe_num_experts",
    "num_experts_per_tok": "moe_top_k",
}
_STEP_FLASH = Family(
    required=(*_HEADS, "sliding_window"),
    experts=experts_enumerated,
    shared="share_expert_dim",
    window=window_listed,
    renamed=_STEP_NAMES,
    derived=of_step,
    hybrid=mixed_attention.step3_flash,
)

_MINIMAX_M3 = Family(
    required=(*_HEADS, "dense_intermediate_size", "moe_layer_freq", "n_shared_experts", "sparse_attention_config"),
    d_ff="dense_intermediate_size",
    experts=mixed_attention.experts_listed,
    expert_d_ff="intermediate_size",
    hybrid=mixed_attention.minimax_m3,
)

FAMILIES = {
    "apertus": Family(required=_KV, gated_mlp=False),
    "arcee": Family(required=_KV, gated_mlp=False),
    "baichuan": _LLAMA,
    "bailing_hybrid": replace(_KIMI_LINEAR, hybrid=recurrent_layers.bailing_hybrid),
    "bailing_moe": _BAILING,
    "bailing_moe_v2": _BAILING,
    "bloom": replace(_GPT, tied_embeddings=True, renamed={**_GPT_NAMES, "hidden_size": "n_embed"}),
    "chatglm": Family(
        required=_HEADS,
        renamed={
            "num_hidden_layers": "num_layers",
            "num_key_value_heads": "multi_query_group_num",
            "head_dim": "kv_channels",
            "intermediate_size": "ffn_hidden_size",
            "vocab_size": "padded_vocab_size",
            "max_position_embeddings": "seq_length",
        },
        derived=of_chatglm,
    ),
    "cohere": _COHERE,
    "cohere2": replace(
        _COHERE,
        required=(*_KV, "sliding_window"),
        window=partial(window_but_nth, nth=4, field="sliding_window_pattern"),
    ),
    "dbrx": Family(
        experts=every,
        renamed={
            **_D_MODEL_NAMES,
            "moe_intermediate_size": "ffn_config.ffn_hidden_size",
            "num_local_experts": "ffn_config.moe_num_experts",
            "num_experts_per_tok": "ffn_config.moe_top_k",
        },
        required=_KV,
    ),
    "deepseek": _GLM,
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": replace(_DEEPSEEK, sparse=True),
    "deepseek_v4": Family(
        required=(*_HEADS, "n_shared_experts", "sliding_window"),
        experts=every,
        shared="n_shared_experts",
        hybrid=mixed_attention.deepseek_v4,
    ),
    "ernie4_5": Family(required=_HEADS, tied_embeddings=True),
    "ernie4_5_moe": Family(
        required=(*_KV, "moe_num_shared_experts", "moe_layer_start_index"),
        tied_embeddings=True,
        experts=experts_between,
        shared="moe_num_shared_experts",
        renamed={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
    ),
    "exaone": Family(required=_KV, renamed={"num_hidden_layers": "num_layers"}),
    "exaone4": Family(required=(*_KV, "sliding_window"), window=window_by_letters),
    "falcon": Family(
        gated_mlp=False,
        tied_embeddings=True,
        renamed={
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "ffn_hidden_size",
        },
        derived=of_falcon,
    ),
    "falcon_h1": Family(required=_HEADS, derived=of_mamba, hybrid=recurrent_layers.falcon_h1),
    "gemma": replace(_GEMMA, required=_HEADS),
    "gemma2": replace(_GEMMA, window=window_alternating),
    "gemma3_text": replace(
        _GEMMA,
        window=partial(window_but_nth, nth=6, field="sliding_window_pattern"),
        defaults={"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    ),
    "gemma4_text": Family(
        required=(*_HEADS, "sliding_window", "global_head_dim", "hidden_size_per_layer_input"),
        tied_embeddings=True,
        window=window_listed,
        hybrid=mixed_attention.gemma4,
    ),
    "glm": Family(required=_HEADS),
    "glm4": Family(required=_HEADS),
    "glm4_moe": _GLM,
    "glm4_moe_lite": _DEEPSEEK,
    "glm4v_moe_text": _GLM,
    "glm4v_text": _GQA,
    "glm_moe_dsa": replace(_DEEPSEEK, sparse=True),
    "gpt2": replace(_GPT, tied_embeddings=True),
    "gpt_bigcode": replace(_GPT, tied_embeddings=True, derived=of_bigcode),
    "gpt_neox": Family(gated_mlp=False),
    "gpt_oss": replace(_MIXTRAL, required=(*_HEADS, "sliding_window"), window=window_alternating, sinks=True),
    "gptj": _GPT,
    "granite": _GQA,
    "granitemoe": replace(_MIXTRAL, window=None),
    "granitemoehybrid": _GRANITE_HYBRID,
    "grok-1": replace(_MIXTRAL, required=_HEADS, tied_embeddings=True, window=None),
    "hunyuan": _HUNYUAN,
    "hunyuan_v1_dense": _GQA,
    "hunyuan_v1_moe": _HUNYUAN,
    "internlm": _LLAMA,
    "internlm2": _GQA,
    "internlm3": _GQA,
    "jamba": Family(
        required=_KV,
        experts=recurrent_layers.jamba_experts,
        expert_d_ff="intermediate_size",
        hybrid=recurrent_layers.jamba,
    ),
    "kimi_k2": _DEEPSEEK,
    "kimi_linear": _KIMI_LINEAR,
    "llama": _LLAMA,
    "llama4_text": Family(
        required=(*_HEADS, "attention_chunk_size"),
        d_ff="intermediate_size_mlp",
        experts=experts_interleaved,
        expert_d_ff="intermediate_size",
        shared="intermediate_size",
        window=window_rotary,
        window_tokens="attention_chunk_size",
    ),
    "longcat_flash": Family(
        latent=True,
        required=("q_lora_rank", "zero_expert_num"),
        experts=every,
        renamed={"num_experts_per_tok": "moe_topk", "moe_intermediate_size": "expert_ffn_hidden_size"},
        derived=lambda config: {"num_hidden_layers": 2 * config.count("num_layers")},
        hybrid=mixed_attention.longcat,
    ),
    "mamba2": Family(
        defaults={"num_key_value_heads": 1, "intermediate_size": 1},
        renamed={"num_attention_heads": "num_heads"},
        hybrid=recurrent_layers.mamba_2,
    ),
    "mimo": _QWEN3,
    "mimo_v2_flash": Family(
        required=(*_HEADS, "v_head_dim", "sliding_window", "n_shared_experts"),
        experts=mixed_attention.experts_listed,
        shared="n_shared_experts",
        sinks=True,
        hybrid=mixed_attention.mimo_v2,
    ),
    "minimax": replace(_MIXTRAL, required=_KV, window=None, hybrid=recurrent_layers.lightning),
    "minimax_m1": replace(
        _MIXTRAL, required=_HEADS, shared="shared_intermediate_size", window=None, hybrid=recurrent_layers.lightning
    ),
    "minimax_m2": replace(_MIXTRAL, required=_HEADS, window=None),
    "minimax_m3": _MINIMAX_M3,
    "minimax_m3_vl_text": _MINIMAX_M3,
    "minimax_text_01": replace(
        _MIXTRAL, required=_HEADS, shared="shared_intermediate_size", window=None, hybrid=recurrent_layers.lightning
    ),
    "ministral": _MISTRAL,
    "ministral3": replace(_MISTRAL, required=(*_HEADS, "sliding_window")),
    "mistral": _MISTRAL,
    "mixtral": _MIXTRAL,
    "mpt": Family(gated_mlp=False, tied_embeddings=True, renamed=_D_MODEL_NAMES, derived=of_mpt),
    "nemotron": Family(required=_KV, gated_mlp=False),
    "nemotron-nas": Family(
        derived=lambda config: {"num_key_value_heads": 1, "intermediate_size": 1},  # by layer
        hybrid=mixed_attention.decilm,
    ),
    "nemotron_h": Family(
        required=_HEADS,
        gated_mlp=False,
        experts=recurrent_layers.nemotron_experts,
        shared="n_shared_experts",
        derived=recurrent_layers.nemotron_blocks,
        hybrid=recurrent_layers.nemotron_h,
    ),
    "olmo": _LLAMA,
    "olmo2": _GQA,
    "olmo3": Family(required=(*_KV, "sliding_window"), window=_ONE_IN_FOUR),
    "olmoe": replace(_MIXTRAL, window=None),
    "opt": Family(tied_embeddings=True, gated_mlp=False, d_ff="ffn_dim"),
    "phi": Family(gated_mlp=False),
    "phi-msft": _GPT,
    "phi3": Family(window=every),
    "phimoe": replace(_MIXTRAL, required=(*_KV, "sliding_window")),
    "qwen2": _QWEN,
    "qwen2_5_vl_text": _QWEN,
    "qwen2_moe": replace(_QWEN_MOE, required=(*_KV, _SHARED_D_FF), shared=_SHARED_D_FF),
    "qwen2_vl_text": _QWEN,
    "qwen3": _QWEN3,
    "qwen3_5_moe_text": replace(_NEXT, required=(*_HEADS, _SHARED_D_FF), experts=experts_but_listed),
    "qwen3_5_text": Family(required=_HEADS, hybrid=recurrent_layers.gated_delta),
    "qwen3_moe": _QWEN_MOE,
    "qwen3_next": replace(_NEXT, required=(*_HEADS, _SHARED_D_FF)),
    "qwen3_vl_moe_text": _QWEN_MOE,
    "qwen3_vl_text": _QWEN3,
    "seed_oss": Family(required=_HEADS),
    "smollm3": replace(_QWEN, tied_embeddings=True, window=window_unrotated),
    "stablelm": _GQA,
    "starcoder2": Family(required=(*_KV, "sliding_window"), gated_mlp=False, tied_embeddings=True, window=every),
    "step3_text": Family(
        required=(*_HEADS, "share_expert_dim", "share_q_dim"),
        experts=experts_enumerated,
        shared="share_expert_dim",
        renamed=_STEP_NAMES,
        hybrid=mixed_attention.step3,
    ),
    "step3p5": _STEP_FLASH,
}
"""What is read of each `model_type`."""

_ANY: tuple[str, ...] = ()

WRAPPERS: dict[str, tuple[str, ...]] = {
    "aya_vision": ("cohere2",),
    "gemma3": ("gemma3_text",),
    "gemma4": ("gemma4_text",),
    "glm4v": ("glm4v_text",),
    "glm4v_moe": ("glm4v_moe_text",),
    "internvl": _ANY,
    "kimi_k25": ("kimi_k2", "deepseek_v3"),
    "kimi_vl": ("deepseek_v3",),
    "llama4": ("llama4_text",),
    "llava": _ANY,
    "llava_next": _ANY,
    "llava_onevision": _ANY,
    "minimax_m3_vl": ("minimax_m3", "minimax_m3_vl_text", "minimax_m2"),
    "mistral3": ("mistral", "ministral3"),
    "pixtral": ("mistral",),
    "qwen2_5_vl": ("qwen2_5_vl_text",),
    "qwen2_vl": ("qwen2_vl_text",),
    "qwen3_5": ("qwen3_5_text",),
    "qwen3_5_moe": ("qwen3_5_moe_text",),
    "qwen3_vl": ("qwen3_vl_text",),
    "qwen3_vl_moe": ("qwen3_vl_moe_text",),
    "step3_vl": ("step3_text",),
    "step3p7": ("step3p5",),
    "voxtral": ("llama",),
}
"""The types that a `text_config` may state within each type, all read as the first; where none is named, any."""
