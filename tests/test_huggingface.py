import json
from pathlib import Path
from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue.huggingface import model_fields
from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec
from servesat.cost_model.memory import counted_parameters, kv_cache_bytes

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "rope_theta": 500000.0,
}


def read(tmp_path: Path, config: Any) -> ModelSpec:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return load_model("config.json", tmp_path)


def test_a_llama_config_is_the_catalogue_model(tmp_path: Path) -> None:
    model, known = read(tmp_path, LLAMA), load_model("llama-3-8b")
    assert counted_parameters(model) == counted_parameters(known)
    assert kv_cache_bytes(model, 8192, 2) == kv_cache_bytes(known, 8192, 2)
    assert model.head_dim == 128


def without(*fields: str, **changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**LLAMA, **changes}.items() if key not in fields}


def test_what_a_config_leaves_out_has_the_meaning_of_its_type(tmp_path: Path) -> None:
    bare = without("num_key_value_heads", "tie_word_embeddings")
    assert read(tmp_path, bare).kv_heads == 32
    assert read(tmp_path, bare).tied_embeddings is False
    gemma = without("tie_word_embeddings", model_type="gemma", head_dim=256)
    assert read(tmp_path, gemma).tied_embeddings is True
    assert read(tmp_path, gemma).head_dim == 256


def test_a_sliding_window_counts_only_where_it_is_used(tmp_path: Path) -> None:
    mistral = LLAMA | {"model_type": "mistral", "sliding_window": 4096}
    assert (read(tmp_path, mistral).window_tokens, read(tmp_path, mistral).window_layers) == (4096, 32)
    assert read(tmp_path, mistral | {"sliding_window": None}).window_layers == 0
    assert read(tmp_path, LLAMA | {"sliding_window": 4096}).window_layers == 0  # llama has no window
    qwen = LLAMA | {"model_type": "qwen2", "sliding_window": 4096, "max_window_layers": 28}
    assert read(tmp_path, qwen).window_layers == 0
    assert read(tmp_path, qwen | {"use_sliding_window": False}).window_layers == 0
    assert read(tmp_path, qwen | {"use_sliding_window": True}).window_layers == 4
    assert read(tmp_path, qwen | {"use_sliding_window": True, "max_window_layers": 32}).window_layers == 0


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({key: value for key, value in LLAMA.items() if key != "intermediate_size"}, "intermediate_size is missing"),
        (LLAMA | {"model_type": "mixtrall"}, "model_type = 'mixtrall' is not supported; known: deepseek_v2"),
        (LLAMA | {"model_type": "olmo"}, "model_type = 'olmo' is not supported; "),
        ({"hidden_size": 3}, "model_type is missing"),
        ([1], "expected a JSON object"),
        (LLAMA | {"hidden_size": 4095}, "hidden_size = 4095 is not a multiple of num_attention_heads = 32"),
        (LLAMA | {"num_hidden_layers": -2}, "num_hidden_layers = -2: expected a whole number of at least 1"),
        (LLAMA | {"num_hidden_layers": "32"}, "num_hidden_layers = '32': expected a whole number"),
        (LLAMA | {"head_dim": 0}, "head_dim = 0: expected a whole number of at least 1"),
        (LLAMA | {"model_type": "mistral"}, "sliding_window is missing; expected in a mistral config.json"),
        (LLAMA | {"model_type": "qwen3"}, "head_dim is missing; expected in a qwen3 config.json"),
        (
            LLAMA | {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True},
            "max_window_layers is missing; expected beside use_sliding_window",
        ),
        (
            LLAMA
            | {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": "28"},
            "max_window_layers = '28': expected a whole number",
        ),
        (LLAMA | {"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no': expected true or false"),
        (LLAMA | {"num_key_value_heads": 5}, "query_heads = 32 is not a multiple of kv_heads = 5"),
        (LLAMA | {"vocab_size": "many"}, "vocab_size = 'many': expected a whole number"),
    ],
)
def test_a_config_that_cannot_be_used_is_named(tmp_path: Path, config: Any, complaint: str) -> None:
    with pytest.raises(CatalogueError, match=r"config\.json") as error:
        read(tmp_path, config)
    assert complaint in str(error.value)


# One of each kind of architecture, small: what a config must say, and what is read from it.
SMALL = {
    "num_hidden_layers": 8,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 1000,
}
READ = {
    "layers": 8,
    "d_model": 64,
    "d_ff": 128,
    "query_heads": 4,
    "kv_heads": 2,
    "head_dim": 24,
    "vocab_size": 1000,
    "gated_mlp": True,
    "tied_embeddings": False,
}
EXPERTS = {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MOE = {"layers": 8, "experts": 16, "experts_per_token": 2, "d_ff": 32, "shared_d_ff": 0}
WIDE = MOE | {"d_ff": 128}
LOCAL = {"num_local_experts": 16, "num_experts_per_tok": 2}
GLM = {
    "n_routed_experts": 16,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 2,
    "first_k_dense_replace": 3,
}
RANKS = {"q_lora_rank": 48, "kv_lora_rank": 40, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 20}
MLA = {"q_lora_rank": 48, "kv_lora_rank": 40, "nope_head_dim": 16, "rope_head_dim": 8, "v_head_dim": 20}
INDEX = {"index_topk": 512, "index_n_heads": 6, "index_head_dim": 12}
SPARSE = {"tokens": 512, "index_heads": 6, "index_head_dim": 12}
CHUNKS = {"attention_chunk_size": 256, "intermediate_size_mlp": 512}
SLIDING = ["sliding_attention"] * 3 + ["full_attention"] * 5


def small(model_type: str, *left_out: str, **more: Any) -> dict[str, Any]:
    config = SMALL | {"model_type": model_type} | more
    return {key: value for key, value in config.items() if key not in left_out}


def window(tokens: int, layers: int) -> dict[str, Any]:
    return {"window_tokens": tokens, "window_layers": layers}


def without_heads(**more: Any) -> dict[str, Any]:
    return {key: value for key, value in READ.items() if key not in {"kv_heads", "head_dim"}} | more


def without_dense(**more: Any) -> dict[str, Any]:
    return {key: value for key, value in READ.items() if key != "d_ff"} | more


DENSE = [
    (small("llama"), READ),
    (small("llama", "num_key_value_heads", "head_dim"), READ | {"kv_heads": 4, "head_dim": 16}),
    (small("llama", tie_word_embeddings=True), READ | {"tied_embeddings": True}),
    (small("mistral", sliding_window=None), READ),
    (small("mistral", sliding_window=99), READ | window(99, 8)),
    (small("phi3"), READ),
    (small("phi3", sliding_window=99), READ | window(99, 8)),
    (small("qwen3", use_sliding_window=True, sliding_window=99, layer_types=SLIDING), READ | window(99, 3)),
    (small("qwen3", use_sliding_window=False, sliding_window=99, layer_types=SLIDING), READ),
    (small("qwen2", use_sliding_window=True, sliding_window=99, max_window_layers=0), READ | window(99, 8)),
    (small("gemma"), READ | {"tied_embeddings": True}),
    (small("gemma2", sliding_window=99), READ | {"tied_embeddings": True} | window(99, 4)),
    (
        small("gemma2", sliding_window=99, num_hidden_layers=7),
        READ | {"tied_embeddings": True, "layers": 7} | window(99, 4),
    ),
    (small("gemma3_text", sliding_window=99), READ | {"tied_embeddings": True} | window(99, 7)),
    (
        small("gemma3_text", sliding_window=99, sliding_window_pattern=2),
        READ | {"tied_embeddings": True} | window(99, 4),
    ),
    (small("gemma3_text", sliding_window=99, layer_types=SLIDING), READ | {"tied_embeddings": True} | window(99, 3)),
    (small("gemma3_text", sliding_window=99, layer_types=["full_attention"] * 8), READ | {"tied_embeddings": True}),
    (
        small("opt", "num_key_value_heads", "head_dim", "intermediate_size", ffn_dim=256, word_embed_proj_dim=64),
        READ | {"kv_heads": 4, "head_dim": 16, "d_ff": 256, "gated_mlp": False, "tied_embeddings": True},
    ),
]
SPARSE_MLPS = [
    (small("mixtral", **LOCAL), without_dense(moe=WIDE)),
    (small("mixtral", **LOCAL, sliding_window=99), without_dense(moe=WIDE, **window(99, 8))),
    (small("minimax_m2", **LOCAL, shared_intermediate_size=0), without_dense(moe=WIDE)),
    (small("gpt_oss", **LOCAL, sliding_window=99), without_dense(moe=WIDE, **window(99, 4))),
    (small("gpt_oss", **LOCAL, sliding_window=99, layer_types=SLIDING), without_dense(moe=WIDE, **window(99, 3))),
    (small("qwen3_moe", "intermediate_size", **EXPERTS, decoder_sparse_step=1), without_dense(moe=MOE)),
    (small("qwen3_moe", **EXPERTS, decoder_sparse_step=3), READ | {"moe": MOE | {"layers": 2}}),
    (
        small("qwen3_moe", **EXPERTS, decoder_sparse_step=2, mlp_only_layers=[0, 3, 3]),
        READ | {"moe": MOE | {"layers": 3}},  # of 1, 3, 5 and 7, the layer 3 is dense; 0 was already
    ),
    (small("qwen3_moe", **EXPERTS, decoder_sparse_step=9), READ),
    (
        small("qwen2_moe", **EXPERTS, decoder_sparse_step=1, shared_expert_intermediate_size=96),
        without_dense(moe=MOE | {"shared_d_ff": 96}),
    ),
    (
        small("qwen2_moe", **EXPERTS, decoder_sparse_step=1, shared_expert_intermediate_size=0)
        | {"use_sliding_window": True, "sliding_window": 99, "layer_types": SLIDING},
        without_dense(moe=MOE, **window(99, 3)),
    ),
    (small("glm4_moe", **GLM), READ | {"moe": MOE | {"layers": 5, "shared_d_ff": 64}}),
    (small("glm4_moe", **GLM | {"n_shared_experts": None}), READ | {"moe": MOE | {"layers": 5}}),
    (small("glm4_moe", **GLM | {"first_k_dense_replace": 0}), without_dense(moe=MOE | {"shared_d_ff": 64})),
    (small("glm4_moe", **GLM | {"first_k_dense_replace": 8}), READ),
    (
        small("glm4_moe", **GLM, mlp_layer_types=["sparse"] + ["dense"] * 7),
        READ | {"moe": MOE | {"layers": 1, "shared_d_ff": 64}},
    ),
]
LLAMA_4 = [
    (
        small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=1),
        without_dense(moe=WIDE | {"shared_d_ff": 128}, **window(256, 6)),
    ),
    (
        small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=3, no_rope_layer_interval=2),
        READ | {"d_ff": 512, "moe": WIDE | {"layers": 2, "shared_d_ff": 128}} | window(256, 4),
    ),
    (
        small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=3, moe_layers=[1, 3, 5, 7])
        | {"no_rope_layers": [1] * 7 + [0]},
        READ | {"d_ff": 512, "moe": WIDE | {"layers": 4, "shared_d_ff": 128}} | window(256, 7),
    ),
    (
        small("llama4_text", **CHUNKS | {"attention_chunk_size": None}, moe_layers=[], num_local_experts=0),
        READ | {"d_ff": 512},
    ),
    (
        small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=1, no_rope_layers=[])
        | {"layer_types": ["chunked_attention"] * 5 + ["full_attention"] * 3},
        without_dense(moe=WIDE | {"shared_d_ff": 128}, **window(256, 5)),
    ),
]
LATENT_MOE = {"moe": MOE | {"layers": 5, "shared_d_ff": 64}, "mla": MLA}
LATENT = [
    *((small(kind, **GLM, **RANKS), without_heads(**LATENT_MOE)) for kind in ("deepseek_v2", "deepseek_v3", "kimi_k2")),
    (
        small("deepseek_v2", **GLM, **RANKS | {"q_lora_rank": None}),
        without_heads(**LATENT_MOE | {"mla": {key: value for key, value in MLA.items() if key != "q_lora_rank"}}),
    ),
    (
        small("deepseek_v3", **GLM, **RANKS, moe_layer_freq=2),
        without_heads(**LATENT_MOE | {"moe": MOE | {"layers": 2, "shared_d_ff": 64}}),  # 4 and 6
    ),
    *(
        (small(kind, **GLM, **RANKS, **INDEX), without_heads(**LATENT_MOE, sparse=SPARSE))
        for kind in ("deepseek_v32", "glm_moe_dsa")
    ),
    (
        small("glm_moe_dsa", "first_k_dense_replace", **GLM, **RANKS, **INDEX)
        | {"mlp_layer_types": ["dense"] * 3 + ["sparse"] * 5, "indexer_types": ["full"] * 8, "index_topk_freq": 1},
        without_heads(**LATENT_MOE, sparse=SPARSE),
    ),
]


@pytest.mark.parametrize(("config", "expected"), [*DENSE, *SPARSE_MLPS, *LLAMA_4, *LATENT])
def test_each_architecture_is_read_from_its_own_fields(
    tmp_path: Path, config: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert model_fields(config, "config.json") == expected | {"name": config["model_type"]}
    assert read(tmp_path, config).layers == config["num_hidden_layers"]


def test_a_wrapper_holds_the_model_in_its_text_config(tmp_path: Path) -> None:
    inner = small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=1)
    wrapper = {"model_type": "llama4", "text_config": inner, "vocab_size": 7, "vision_config": {"hidden_size": 9}}
    plain = model_fields(inner, "")
    assert model_fields(wrapper, "") == plain | {"name": "llama4"}
    gemma = {"model_type": "gemma3", "text_config": small("gemma3_text", "model_type", sliding_window=99)}
    assert read(tmp_path, gemma).window_layers == 7
    # What a wrapper says of the whole holds for the text, unless that says it itself.
    said = wrapper | {
        "_name_or_path": "a/b",
        "tie_word_embeddings": True,
        "quantization_config": {"quant_method": "fp8"},
    }
    whole = {"name": "a/b", "tied_embeddings": True, "native": {"dtype": "fp8"}}
    assert model_fields(said, "") == plain | whole
    own = said | {"text_config": inner | {"tie_word_embeddings": False, "_name_or_path": ""}}
    assert model_fields(own, "") == plain | whole | {"tied_embeddings": False}


def groups(kind: str, bits: int, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"type": kind, "num_bits": bits}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}} | more


KEEPS = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"]
EACH = [f"model.layers.{layer}.self_attn*" for layer in range(8)]


@pytest.mark.parametrize(
    ("scheme", "native"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3"}, {"dtype": "fp8"}),
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "gate"]}, {"dtype": "fp8"}),
        ({"quant_method": "fp8", "modules_to_not_convert": None}, {"dtype": "fp8"}),
        ({"quant_method": "mxfp4"}, {"dtype": "mxfp4"}),
        (
            {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
            {"dtype": "mxfp4", "experts_only": True},
        ),
        ({"quant_method": "awq", "bits": 4}, {"dtype": "int4"}),
        ({"quant_method": "gptq", "bits": 4}, {"dtype": "int4"}),
        ({"quant_method": "gptq", "bits": 8}, {"dtype": "int8"}),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, {"dtype": "nvfp4"}),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": EACH}, {"dtype": "nvfp4", "experts_only": True}),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": EACH[1:]}, {"dtype": "nvfp4"}),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}, {"dtype": "fp8"}),
        (groups("int", 4), {"dtype": "int4"}),
        (groups("int", 8), {"dtype": "int8"}),
        (groups("float", 8), {"dtype": "fp8"}),
        (groups("float", 4, format="nvfp4-pack-quantized"), {"dtype": "nvfp4"}),
        (groups("float", 4, format="mxfp4-pack-quantized"), {"dtype": "mxfp4"}),
        (groups("int", 4, ignore=KEEPS), {"dtype": "int4", "experts_only": True}),
        (groups("int", 4, ignore=["re:.*self_attn.(q|k|v|o)_proj$"]), {"dtype": "int4", "experts_only": True}),
        (groups("int", 4, ignore=["model.layers.0.self_attn.indexer.weights_proj"]), {"dtype": "int4"}),
        (groups("int", 4, ignore=["re:.*vision_tower.*attn.*", 3]), {"dtype": "int4"}),
    ],
)
def test_published_weights_have_the_dtype_of_their_quantization(
    tmp_path: Path, scheme: dict[str, Any], native: dict[str, Any]
) -> None:
    config = small("mixtral", **LOCAL, quantization_config=scheme)
    assert model_fields(config, "")["native"] == native
    assert read(tmp_path, config).native is not None
    assert "native" not in model_fields(config | {"quantization_config": None}, "")


def test_a_dense_model_has_no_experts_to_quantise_alone() -> None:
    dense = small("llama", quantization_config=groups("int", 4, ignore=KEEPS))
    with pytest.raises(CatalogueError, match="leaves attention out of int4: not supported without experts"):
        model_fields(dense, "config.json")


QWEN_MOE = small("qwen3_moe", **EXPERTS, decoder_sparse_step=1)
SCOUT = small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=1)
DSA = small("glm_moe_dsa", **GLM, **RANKS, **INDEX)


def quantised(**scheme: Any) -> dict[str, Any]:
    return small("llama", quantization_config=scheme)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"model_type": "llama4"}, "text_config is missing; expected in a llama4 config.json"),
        ({"model_type": "gemma3", "text_config": 3}, "text_config = 3: expected a JSON object"),
        (
            {"model_type": "llama4", "text_config": small("gemma3_text")},
            "text_config.model_type = 'gemma3_text': expected 'llama4_text' in a llama4 config.json",
        ),
        (
            {"model_type": "gemma3", "text_config": small("gemma3_text", "hidden_size", sliding_window=9)},
            "hidden_size is missing; expected in the text_config of a gemma3 config.json",
        ),
        (small("gemma2"), "sliding_window is missing; expected in a gemma2 config.json"),
        (small("gpt_oss", **LOCAL), "sliding_window is missing; expected in a gpt_oss config.json"),
        (small("mixtral", "num_key_value_heads", **LOCAL), "num_key_value_heads is missing"),
        (small("mixtral"), "n_routed_experts or num_experts or num_local_experts is missing"),
        (small("mixtral", num_local_experts=8), "num_experts_per_tok is missing"),
        (small("mixtral", **LOCAL, num_experts=8), "num_experts = 8 but num_local_experts = 16"),
        (small("mixtral", **LOCAL | {"num_local_experts": 0}), "num_local_experts = 0: expected a whole number"),
        (small("mixtral", **LOCAL | {"num_experts_per_tok": 17}), "experts_per_token = 17 is more than experts = 16"),
        (small("qwen3_moe", **EXPERTS), "decoder_sparse_step is missing"),
        (QWEN_MOE | {"moe_intermediate_size": None}, "moe_intermediate_size is missing"),
        (QWEN_MOE | {"mlp_only_layers": [8]}, "mlp_only_layers = [8]: expected a list of layers, from 0 to 7"),
        (QWEN_MOE | {"mlp_only_layers": 3}, "mlp_only_layers = 3: expected a list of layers"),
        (
            QWEN_MOE | {"mlp_layer_types": ["sparse"] * 7},
            "expected a list with one of dense, sparse for each of 8 layers",
        ),
        (QWEN_MOE | {"mlp_layer_types": ["other"] * 8}, "expected a list with one of dense, sparse"),
        (
            QWEN_MOE | {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
            "layer_types is missing; expected beside use_sliding_window",
        ),
        (QWEN_MOE | {"use_sliding_window": "yes", "sliding_window": 9}, "use_sliding_window = 'yes': expected true"),
        (small("qwen2_moe", **EXPERTS, decoder_sparse_step=1), "shared_expert_intermediate_size is missing"),
        (small("glm4_moe", "n_shared_experts", **GLM), "n_shared_experts is missing"),
        (
            small("glm4_moe", **GLM | {"n_shared_experts": -1}),
            "n_shared_experts = -1: expected a whole number of at least 0",
        ),
        (small("glm4_moe", "first_k_dense_replace", **GLM), "first_k_dense_replace is missing"),
        (small("deepseek_v3", **GLM), "q_lora_rank is missing"),
        (small("deepseek_v3", "kv_lora_rank", **GLM, **RANKS), "kv_lora_rank is missing"),
        (small("deepseek_v3", **GLM, **RANKS, moe_layer_freq=0), "moe_layer_freq = 0: expected a whole number"),
        (small("deepseek_v32", **GLM, **RANKS), "index_topk is missing"),
        (DSA | {"index_topk_freq": 4}, "a shared indexer is not supported"),
        (DSA | {"index_topk_pattern": "FFSS"}, "a shared indexer is not supported"),
        (DSA | {"indexer_types": ["full"] * 4 + ["shared"] * 4}, "a shared indexer is not supported"),
        (SCOUT | {"interleave_moe_layer_step": 0}, "interleave_moe_layer_step = 0: expected a whole number"),
        (SCOUT | {"interleave_moe_layer_step": 2, "intermediate_size_mlp": None}, "intermediate_size_mlp is missing"),
        (SCOUT | {"moe_layers": [-1]}, "moe_layers = [-1]: expected a list of layers, from 0 to 7"),
        (SCOUT | {"no_rope_layers": [1, 0]}, "no_rope_layers = [1, 0]: expected a list with one of 0, 1 for each of 8"),
        (SCOUT | {"layer_types": ["linear_attention"] * 8}, "expected a list with one of full_attention, sliding"),
        (SCOUT | {"attention_chunk_size": "x"}, "attention_chunk_size = 'x': expected a whole number"),
        (small("llama4_text", **LOCAL, interleave_moe_layer_step=1), "attention_chunk_size is missing"),
        (small("gemma3_text", sliding_window=9, sliding_window_pattern=0), "sliding_window_pattern = 0: expected"),
        (small("opt"), "ffn_dim is missing; expected in a opt config.json"),
        (small("opt", ffn_dim=9, word_embed_proj_dim=32), "word_embed_proj_dim = 32: expected hidden_size = 64"),
        (
            quantised(quant_method="quark"),
            "quantization_config.quant_method = 'quark' is not supported; "
            "known: awq, compressed-tensors, fp8, gptq, modelopt, mxfp4",
        ),
        (quantised(bits=4), "quantization_config.quant_method is missing"),
        (quantised(quant_method=["fp8"]), "quantization_config.quant_method = ['fp8'] is not supported"),
        (quantised(quant_method="gptq", bits=3), "quantization_config.bits = 3 is not supported; known: 4, 8"),
        (quantised(quant_method="awq"), "quantization_config.bits is missing"),
        (
            quantised(quant_method="modelopt", quant_algo="W6A6"),
            "quantization_config.quant_algo = 'W6A6' is not supported",
        ),
        (quantised(**groups("int", 3)), "expected weights of one dtype, of int4, int8, float8"),
        (quantised(quant_method="compressed-tensors"), "quantization_config.config_groups = None: expected weights"),
        (
            quantised(**groups("int", 4) | {"config_groups": {"a": {"weights": {}}, "b": 3}}),
            "expected weights of one dtype",
        ),
        (small("llama", quantization_config="fp8"), "quantization_config = 'fp8': expected a JSON object"),
    ],
)
def test_what_an_architecture_lacks_is_named(tmp_path: Path, config: Any, complaint: str) -> None:
    with pytest.raises(CatalogueError, match=r"config\.json") as error:
        read(tmp_path, config)
    assert complaint in str(error.value)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CatalogueError, match=r"config\.json: malformed JSON"):
        load_model("config.json", tmp_path)
