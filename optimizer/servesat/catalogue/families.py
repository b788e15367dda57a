"""What each `model_type` of Hugging Face means: which fields it needs, and what its defaults are."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from servesat.catalogue import hybrids
from servesat.catalogue.config_json import ConfigJson

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


def _experts_but_listed(config: ConfigJson, layers: int) -> Collection[int]:
    """Qwen 3.5: every layer, except mlp_only_layers."""
    return set(range(layers)) - config.layer_numbers("mlp_only_layers", layers)


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


def _window_by_letters(config: ConfigJson, layers: int) -> Collection[int]:
    """EXAONE 4: `LLLG`, three layers with a window and one without, or the number of layers to one without."""
    pattern = config.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        return [layer for layer in range(layers) if pattern[layer % len(pattern)] == "L"]
    return _window_but_nth(config, layers, 4, "sliding_window_pattern")


def _experts_between(config: ConfigJson, layers: int) -> Collection[int]:
    """ERNIE 4.5: every moe_layer_interval-th layer from moe_layer_start_index to moe_layer_end_index."""
    first = config.count("moe_layer_start_index", minimum=0)
    end = config.get("moe_layer_end_index")
    last = layers - 1 if end in (None, -1) else config.count("moe_layer_end_index", minimum=0)
    step = 1 if config.get("moe_layer_interval") is None else config.count("moe_layer_interval")
    return [layer for layer in range(first, min(last + 1, layers)) if (layer + 1) % step == 0]


def _four_widths(config: ConfigJson) -> dict[str, Any]:
    """GPT: an MLP of four times the width, unless it is stated."""
    return {} if config.get("intermediate_size") is not None else {"intermediate_size": 4 * config.count("hidden_size")}


def _of_falcon(config: ConfigJson) -> dict[str, Any]:
    """One KV head, unless the decoder is the new one or each head has its own; the MLP has four times the width."""
    heads = config.count("num_attention_heads")
    stated = heads if config.get("num_kv_heads") is None else config.count("num_kv_heads")
    one = config.flag("multi_query", True)
    kv_heads = stated if config.flag("new_decoder_architecture", False) else 1 if one else heads
    return {**_four_widths(config), "num_key_value_heads": kv_heads}


def _of_mpt(config: ConfigJson) -> dict[str, Any]:
    """An MLP of expansion_ratio times the width."""
    ratio = 4 if config.get("expansion_ratio") is None else config.count("expansion_ratio")
    return {"intermediate_size": ratio * config.count("hidden_size")}


def _of_bigcode(config: ConfigJson) -> dict[str, Any]:
    """One KV head for all, unless multi_query is off."""
    kv_heads = 1 if config.flag("multi_query", True) else config.count("num_attention_heads")
    return {**_four_widths(config), "num_key_value_heads": kv_heads}


def _of_chatglm(config: ConfigJson) -> dict[str, Any]:
    """As many KV heads as query heads, unless groups of queries share one."""
    if config.flag("multi_query_attention", True):
        return {}
    return {"num_key_value_heads": config.count("num_attention_heads")}


def _experts_enumerated(config: ConfigJson, layers: int) -> Collection[int]:
    """Step 3: the layers of `moe_layers_enum`, a text such as 4,5,6, or those from first_k_dense_replace on."""
    listed = config.get("moe_layers_enum")
    if listed is None:
        return _experts_after_first(config, layers)
    numbers = [text.strip() for text in listed.split(",")] if isinstance(listed, str) else []
    if not numbers or not all(text.isdecimal() and len(text) < 6 and int(text) < layers for text in numbers):
        raise config.wrong("moe_layers_enum", f"layers, from 0 to {layers - 1}, with commas between them")
    return {int(text) for text in numbers}


def _of_step(config: ConfigJson) -> dict[str, Any]:
    """The width of all shared experts, from their number if it is not stated."""
    if config.get("share_expert_dim") is not None:
        return {}
    return {"share_expert_dim": config.count("n_shared_experts", minimum=0) * config.count("moe_intermediate_size")}


def _of_hunyuan(config: ConfigJson) -> dict[str, Any]:
    """Experts by layer, which must be alike, and no cache that layers share."""
    if config.flag("use_cla", False):
        raise config.wrong("use_cla", "false: a KV cache that layers share is not supported")
    lists = {"num_experts_per_tok": "moe_topk", "moe_intermediate_size": "", "num_shared_expert": "", "num_experts": ""}
    return {usual: _same_in_every_layer(config, own or usual) for usual, own in lists.items()}


def _same_in_every_layer(config: ConfigJson, name: str) -> Any:
    """A value, or that of a list whose entries are the same. Raises CatalogueError for others."""
    value = config.get(name)
    if not isinstance(value, list):
        return value
    if not value or any(entry != value[0] for entry in value):
        raise config.wrong(name, "the same value for every layer")
    return value[0]


@dataclass(frozen=True)
class Family:
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
    may_be_dense: bool = False  # where the number of experts is 0
    expert_d_ff: str = "moe_intermediate_size"
    shared: str = ""  # field with the width of the shared experts, or their number (n_shared_experts)
    window: WhichLayers | None = None  # used where there is no `layer_types`
    window_tokens: str = "sliding_window"
    window_switch: str = ""
    defaults: Mapping[str, int] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)  # usual name of a field, and the one of this type
    derived: Callable[[ConfigJson], Mapping[str, Any]] | None = None  # usual fields that follow from those of this type
    hybrid: Callable[[ConfigJson, dict[str, Any]], dict[str, Any]] | None = None  # fields of a model that mixes layers

    def with_usual_fields(self, config: ConfigJson) -> ConfigJson:
        """The fields under their usual names, those that are derived and the defaults of the type among them."""
        found = {usual: config.get(own) for usual, own in self.renamed.items() if config.get(usual) is None}
        stated = {name: value for name, value in found.items() if value is not None}
        config = replace(config, fields={**self.defaults, **config.fields, **stated})
        return config if self.derived is None else replace(config, fields={**config.fields, **self.derived(config)})


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
_GLM = Family(required=(*_KV, "n_shared_experts"), experts=_experts_after_first, shared="n_shared_experts")
_DEEPSEEK = replace(_GLM, required=("q_lora_rank", "n_shared_experts"), latent=True)
_GEMMA = Family(required=(*_HEADS, "sliding_window"), tied_embeddings=True)
_MIXTRAL = Family(required=_KV, experts=_every, expert_d_ff="intermediate_size", window=_every)
_MISTRAL = Family(required=(*_KV, "sliding_window"), window=_every)
_QWEN = Family(required=_KV, window=_window_above, window_switch="use_sliding_window")
_QWEN3 = replace(_QWEN, required=_HEADS)
_QWEN_MOE = replace(_QWEN, experts=_experts_by_step, window=_window_listed)
_GPT = Family(gated_mlp=False, renamed=_GPT_NAMES, derived=_four_widths)
_COHERE = Family(required=_KV, tied_embeddings=True)
_ONE_IN_FOUR = partial(_window_but_nth, nth=4)
_HUNYUAN = Family(
    required=_KV,
    tied_embeddings=True,
    experts=_every,
    shared="num_shared_expert",
    renamed={"head_dim": "attention_head_dim"},
    derived=_of_hunyuan,
)
_BAILING = Family(required=(*_HEADS, "num_shared_experts"), experts=_experts_after_first, shared="num_shared_experts")

_NEXT = Family(required=_HEADS, experts=_experts_by_step, shared=_SHARED_D_FF, hybrid=hybrids.gated_delta)
_KIMI_LINEAR = replace(
    _DEEPSEEK,
    required=("q_lora_rank", "num_shared_experts"),
    shared="num_shared_experts",
    renamed={"num_experts_per_tok": "num_experts_per_token", "max_position_embeddings": "model_max_length"},
    hybrid=hybrids.kimi_linear,
)
_GRANITE_HYBRID = Family(
    required=_KV,
    d_ff="shared_intermediate_size",
    may_be_dense=True,
    experts=_every,
    expert_d_ff="intermediate_size",
    shared="shared_intermediate_size",
    hybrid=hybrids.granite_hybrid,
)

_STEP_NAMES = {
    "num_key_value_heads": "num_attention_groups",
    "num_experts": "moe_num_experts",
    "num_experts_per_tok": "moe_top_k",
}
_STEP_FLASH = Family(
    required=(*_HEADS, "sliding_window"),
    experts=_experts_enumerated,
    shared="share_expert_dim",
    window=_window_listed,
    renamed=_STEP_NAMES,
    derived=_of_step,
    hybrid=hybrids.step3_flash,
)

_MINIMAX_M3 = Family(
    required=(*_HEADS, "dense_intermediate_size", "moe_layer_freq", "sparse_attention_config"),
    d_ff="dense_intermediate_size",
    experts=hybrids.experts_listed,
    expert_d_ff="intermediate_size",
    hybrid=hybrids.minimax_m3,
)

FAMILIES = {
    "apertus": Family(required=_KV, gated_mlp=False),
    "arcee": Family(required=_KV, gated_mlp=False),
    "baichuan": _LLAMA,
    "bailing_hybrid": replace(_KIMI_LINEAR, hybrid=hybrids.bailing_hybrid),
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
        derived=_of_chatglm,
    ),
    "cohere": _COHERE,
    "cohere2": replace(
        _COHERE,
        required=(*_KV, "sliding_window"),
        window=partial(_window_but_nth, nth=4, field="sliding_window_pattern"),
    ),
    "dbrx": Family(
        experts=_every,
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
        experts=_every,
        shared="n_shared_experts",
        hybrid=hybrids.deepseek_v4,
    ),
    "ernie4_5": Family(required=_HEADS, tied_embeddings=True),
    "ernie4_5_moe": Family(
        required=(*_KV, "moe_num_shared_experts", "moe_layer_start_index"),
        tied_embeddings=True,
        experts=_experts_between,
        shared="moe_num_shared_experts",
        renamed={"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
    ),
    "exaone": Family(required=_KV, renamed={"num_hidden_layers": "num_layers"}),
    "exaone4": Family(required=(*_KV, "sliding_window"), window=_window_by_letters),
    "falcon": Family(
        gated_mlp=False,
        tied_embeddings=True,
        renamed={
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "intermediate_size": "ffn_hidden_size",
        },
        derived=_of_falcon,
    ),
    "falcon_h1": Family(required=_HEADS, hybrid=hybrids.falcon_h1),
    "gemma": replace(_GEMMA, required=_HEADS),
    "gemma2": replace(_GEMMA, window=_window_alternating),
    "gemma3_text": replace(
        _GEMMA,
        window=partial(_window_but_nth, nth=6, field="sliding_window_pattern"),
        defaults={"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
    ),
    "gemma4_text": Family(
        required=(*_HEADS, "sliding_window", "global_head_dim"),
        tied_embeddings=True,
        window=_window_listed,
        hybrid=hybrids.gemma4,
    ),
    "glm": _GQA,
    "glm4": _GQA,
    "glm4_moe": _GLM,
    "glm4_moe_lite": _DEEPSEEK,
    "glm4v_moe_text": _GLM,
    "glm4v_text": _GQA,
    "glm_moe_dsa": replace(_DEEPSEEK, sparse=True),
    "gpt2": replace(_GPT, tied_embeddings=True),
    "gpt_bigcode": replace(_GPT, tied_embeddings=True, derived=_of_bigcode),
    "gpt_neox": Family(gated_mlp=False),
    "gpt_oss": replace(_MIXTRAL, required=(*_HEADS, "sliding_window"), window=_window_alternating),
    "gptj": _GPT,
    "granite": _GQA,
    "granitemoe": replace(_MIXTRAL, window=None),
    "granitemoehybrid": _GRANITE_HYBRID,
    "grok-1": replace(_MIXTRAL, required=_HEADS, tied_embeddings=True, window=None),
    "hunyuan": _HUNYUAN,
    "hunyuan_v1_dense": replace(_GQA, tied_embeddings=True),
    "hunyuan_v1_moe": _HUNYUAN,
    "internlm": _LLAMA,
    "internlm2": _GQA,
    "internlm3": _GQA,
    "jamba": Family(required=_KV, experts=hybrids.jamba_experts, expert_d_ff="intermediate_size", hybrid=hybrids.jamba),
    "kimi_k2": _DEEPSEEK,
    "kimi_linear": _KIMI_LINEAR,
    "llama": _LLAMA,
    "llama4_text": Family(
        required=(*_HEADS, "attention_chunk_size"),
        d_ff="intermediate_size_mlp",
        experts=_experts_interleaved,
        expert_d_ff="intermediate_size",
        shared="intermediate_size",
        window=_window_rotary,
        window_tokens="attention_chunk_size",
    ),
    "longcat_flash": Family(
        latent=True,
        required=("q_lora_rank", "zero_expert_num"),
        experts=_every,
        renamed={"num_experts_per_tok": "moe_topk", "moe_intermediate_size": "expert_ffn_hidden_size"},
        derived=lambda config: {"num_hidden_layers": 2 * config.count("num_layers")},
        hybrid=hybrids.longcat,
    ),
    "mamba2": Family(
        defaults={"num_key_value_heads": 1, "intermediate_size": 1},
        renamed={"num_attention_heads": "num_heads"},
        hybrid=hybrids.mamba_2,
    ),
    "mimo": _QWEN3,
    "mimo_v2_flash": Family(
        required=(*_HEADS, "v_head_dim", "sliding_window", "n_shared_experts"),
        experts=hybrids.experts_listed,
        shared="n_shared_experts",
        hybrid=hybrids.mimo_v2,
    ),
    "minimax_m1": replace(
        _MIXTRAL, required=_HEADS, shared="shared_intermediate_size", window=None, hybrid=hybrids.lightning
    ),
    "minimax_m2": replace(_MIXTRAL, required=_HEADS, window=None),
    "minimax_m3": _MINIMAX_M3,
    "minimax_m3_vl_text": _MINIMAX_M3,
    "minimax_text_01": replace(
        _MIXTRAL, required=_HEADS, shared="shared_intermediate_size", window=None, hybrid=hybrids.lightning
    ),
    "ministral": _MISTRAL,
    "ministral3": replace(_MISTRAL, required=(*_HEADS, "sliding_window")),
    "mistral": _MISTRAL,
    "mixtral": _MIXTRAL,
    "mpt": Family(gated_mlp=False, tied_embeddings=True, renamed=_D_MODEL_NAMES, derived=_of_mpt),
    "nemotron": Family(required=_KV, gated_mlp=False),
    "nemotron-nas": Family(
        derived=lambda config: {"num_key_value_heads": 1, "intermediate_size": 1},  # by layer
        hybrid=hybrids.decilm,
    ),
    "nemotron_h": Family(
        required=_HEADS,
        gated_mlp=False,
        experts=hybrids.nemotron_experts,
        shared="n_shared_experts",
        derived=hybrids.nemotron_blocks,
        hybrid=hybrids.nemotron_h,
    ),
    "olmo": _LLAMA,
    "olmo2": _GQA,
    "olmo3": Family(required=(*_KV, "sliding_window"), window=_ONE_IN_FOUR),
    "olmoe": replace(_MIXTRAL, window=None),
    "opt": Family(tied_embeddings=True, gated_mlp=False, d_ff="ffn_dim"),
    "phi": Family(gated_mlp=False),
    "phi-msft": _GPT,
    "phi3": Family(window=_every),
    "phimoe": replace(_MIXTRAL, required=(*_KV, "sliding_window")),
    "qwen2": _QWEN,
    "qwen2_5_vl_text": _QWEN,
    "qwen2_moe": replace(_QWEN_MOE, required=(*_KV, _SHARED_D_FF), shared=_SHARED_D_FF),
    "qwen2_vl_text": _QWEN,
    "qwen3": _QWEN3,
    "qwen3_5_moe_text": replace(_NEXT, required=(*_HEADS, _SHARED_D_FF), experts=_experts_but_listed),
    "qwen3_5_text": Family(required=_HEADS, hybrid=hybrids.gated_delta),
    "qwen3_moe": _QWEN_MOE,
    "qwen3_next": replace(_NEXT, required=(*_HEADS, _SHARED_D_FF)),
    "qwen3_vl_moe_text": _QWEN_MOE,
    "qwen3_vl_text": _QWEN3,
    "seed_oss": Family(required=_HEADS),
    "smollm3": replace(_QWEN, tied_embeddings=True),
    "stablelm": _GQA,
    "starcoder2": Family(required=(*_KV, "sliding_window"), gated_mlp=False, tied_embeddings=True, window=_every),
    "step3_text": Family(
        required=(*_HEADS, "share_expert_dim", "share_q_dim"),
        experts=_experts_enumerated,
        shared="share_expert_dim",
        renamed=_STEP_NAMES,
        hybrid=hybrids.step3,
    ),
    "step3p5": _STEP_FLASH,
    "step3p7": _STEP_FLASH,
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
    "voxtral": ("llama",),
}
"""The types that a `text_config` may state within each type, all read as the first; where none is named, any."""
