from pathlib import Path
from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue.huggingface import model_fields
from tests.catalogue.configs import (
    CHUNKS,
    EXPERTS,
    GLM,
    INDEX,
    LOCAL,
    MLA,
    MOE,
    RANKS,
    READ,
    SLIDING,
    SPARSE,
    WIDE,
    groups,
    read,
    small,
    window,
    without_dense,
    without_heads,
)

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
    (small("gpt_oss", **LOCAL, sliding_window=99), without_dense(moe=WIDE, **window(99, 4), attention_sinks=True)),
    (
        small("gpt_oss", **LOCAL, sliding_window=99, layer_types=SLIDING),
        without_dense(moe=WIDE, **window(99, 3), attention_sinks=True),
    ),
    (small("qwen3_moe", "intermediate_size", **EXPERTS, decoder_sparse_step=1), without_dense(moe=MOE)),
    (small("qwen3_moe", **EXPERTS, decoder_sparse_step=3), READ | {"moe": MOE | {"layers": 2, "every": 3}}),
    (
        small("qwen3_moe", **EXPERTS, decoder_sparse_step=2, mlp_only_layers=[0, 3, 3]),
        READ | {"moe": MOE | {"layers": 3, "every": 2}},  # of 1, 3, 5 and 7, the layer 3 is dense; 0 was already
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
        small("glm4_moe", "first_k_dense_replace", **GLM) | {"mlp_layer_types": ["sparse"] + ["dense"] * 7},
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
        READ | {"d_ff": 512, "moe": WIDE | {"layers": 2, "every": 3, "shared_d_ff": 128}} | window(256, 4),
    ),
    (
        small("llama4_text", **LOCAL, **CHUNKS, interleave_moe_layer_step=3, moe_layers=[1, 3, 5, 7])
        | {"no_rope_layers": [1] * 7 + [0]},
        READ | {"d_ff": 512, "moe": WIDE | {"layers": 4, "every": 2, "shared_d_ff": 128}} | window(256, 7),
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
        without_heads(**LATENT_MOE | {"moe": MOE | {"layers": 2, "every": 2, "shared_d_ff": 64}}),  # 4 and 6
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
        (
            small("glm4_moe", **GLM, mlp_layer_types=["sparse"] * 8),
            "expected the layers with experts of first_k_dense_replace",
        ),
        (QWEN_MOE | {"mlp_layer_types": ["other"] * 8}, "expected a list with one of dense, sparse"),
        (
            QWEN_MOE | {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 2},
            "layer_types is missing; expected in a qwen3_moe config.json",
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
        (DSA | {"index_topk_freq": 4}, "an indexer for some layers is read of indexer_types"),
        (DSA | {"index_topk_pattern": "FFSS"}, "an indexer for some layers is read of indexer_types"),
        (DSA | {"indexer_types": ["full"] * 4}, "a list with one of full, shared for each of 8 layers"),
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
            "known: auto-round, awq, compressed-tensors, fbgemm_fp8, fp8, gptq, gptq_marlin, intel/auto-round, mlx, "
            "modelopt, modelopt_fp4, mxfp4",
        ),
        (quantised(group_size=64), "quantization_config.quant_method is missing"),
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
