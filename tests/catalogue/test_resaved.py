"""Configurations that transformers 5.24 saved are read as they were published: of each kind both, small."""

from typing import Any

import pytest

from servesat.catalogue.huggingface import model_fields
from servesat.core.errors import CatalogueError
from tests.catalogue.configs import GLM, RANKS, small

FOUR = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"] * 2
MAMBA = {"mamba_n_heads": 16, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_d_conv": 3}
NEMOTRON = {"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 3}
TOP_2 = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
V4 = {
    "num_key_value_heads": 1, "q_lora_rank": 48, "n_routed_experts": 6, "n_shared_experts": 1, "o_groups": 2,
    "o_lora_rank": 48, "index_n_heads": 4, "index_head_dim": 32, "index_topk": 32, "sliding_window": 32, "hc_mult": 4,
}  # fmt: skip
STEP = {"moe_intermediate_size": 96, "share_expert_dim": 128, "sliding_window": 32, "layer_types": FOUR}
MIMO = {
    "v_head_dim": 16, "n_routed_experts": 6, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4,
    "swa_head_dim": 24, "swa_v_head_dim": 16,
}  # fmt: skip
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "gemma4_text": (
        {"sliding_window": 32, "hidden_size_per_layer_input": 0, "layer_types": FOUR, "attention_k_eq_v": True},
        {"global_head_dim": 64, "num_global_key_value_heads": 1},
        {"per_layer_config": {"03": {"head_dim": 64, "num_key_value_heads": 1},
                              "07": {"head_dim": 64, "num_key_value_heads": 1}}},
    ),
    "minimax_m3_vl_text": (
        {"num_local_experts": 6, "num_experts_per_tok": 2, "dense_intermediate_size": 640,
         "shared_intermediate_size": 96},
        {"n_shared_experts": 1, "moe_layer_freq": [0] + [1] * 7, "sparse_attention_config": {
            "use_sparse_attention": True, "sparse_attention_freq": [0, 0] + [1] * 6, "sparse_num_index_heads": 2,
            "sparse_index_dim": 32, "sparse_topk_blocks": 2, "sparse_block_size": 16, "sparse_init_block": 0,
            "sparse_local_block": 1, "sparse_disable_index_value": [1] * 8}},
        {"mlp_layer_types": ["dense"] + ["sparse"] * 7, "index_n_heads": 2, "index_head_dim": 32,
         "layer_types": ["full_attention"] * 2 + ["minimax_m3_sparse"] * 6, "index_topk_blocks": 2,
         "index_block_size": 16, "index_local_blocks": 1},
    ),
    "deepseek_v4": (
        V4 | TOP_2,
        {"compress_ratios": [0, 0, 4, 128, 4, 128, 4, 128, 0], "num_hash_layers": 2},
        {"layer_types": ["sliding_attention"] * 2
            + ["compressed_sparse_attention", "heavily_compressed_attention"] * 3,
         "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128},
         "mlp_layer_types": ["hash_moe"] * 2 + ["moe"] * 6},
    ),
    "granitemoehybrid": (
        MAMBA | {"num_local_experts": 6, "num_experts_per_tok": 2, "shared_intermediate_size": 128},
        {"layer_types": ["mamba", "mamba", "mamba", "attention"] * 2},
        {"layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 2},
    ),
    "nemotron_h": (
        NEMOTRON | TOP_2 | {"n_routed_experts": 6, "n_shared_experts": 1, "moe_shared_expert_intermediate_size": 48},
        {"hybrid_override_pattern": "MEM*EM-E"},
        {"layers_block_type": ["linear_attention", "moe", "linear_attention", "full_attention", "moe",
                               "linear_attention", "mlp", "moe"]},
    ),
    "kimi_linear": (
        RANKS | {"num_experts": 6, "num_experts_per_token": 2, "num_shared_experts": 1, "moe_intermediate_size": 32},
        {"first_k_dense_replace": 1, "linear_attn_config": {"kda_layers": [1, 2, 3, 5, 6, 7], "num_heads": 4,
            "full_attn_layers": [4, 8], "head_dim": 32, "short_conv_kernel_size": 3}},
        {"layer_types": ["linear_attention"] * 3 + ["full_attention"] + ["linear_attention"] * 3 + ["full_attention"],
         "mlp_layer_types": ["dense"] + ["sparse"] * 7, "linear_num_heads": 4, "linear_head_dim": 32,
         "linear_conv_kernel_dim": 3},
    ),
    "step3p5": (
        STEP,
        {"num_attention_groups": 2, "moe_num_experts": 6, "moe_top_k": 2, "moe_layers_enum": "3,4,5,6,7",
         "attention_other_setting": {"num_attention_heads": 6, "num_attention_groups": 2, "head_dim": 24}},
        {"n_routed_experts": 6, "num_experts_per_tok": 2, "num_sliding_attention_heads": 6,
         "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 5,
         "per_layer_config": {str(layer): {"num_attention_heads": 6} for layer in (0, 1, 2, 4, 5, 6)}},
    ),
    "mimo_v2_flash": (
        MIMO | TOP_2,
        {"n_shared_experts": None, "sliding_window": 32, "hybrid_layer_pattern": [1, 1, 1, 0] * 2,
         "moe_layer_freq": [0] + [1] * 7},
        {"layer_types": FOUR, "sliding_window": 33, "sliding_window_size": 32,
         "mlp_layer_types": ["dense"] + ["sparse"] * 7},
    ),
    "minimax": (
        {"num_local_experts": 6, "num_experts_per_tok": 2},
        {"attn_type_list": [0, 1] * 4},
        {"layer_types": ["linear_attention", "full_attention"] * 4},
    ),
}  # fmt: skip
"""By model type: fields that stay, those that were published, and those that are saved in place of them."""


@pytest.mark.parametrize("model_type", PUBLISHED)
def test_what_is_saved_is_read_as_what_was_published(model_type: str) -> None:
    same, published, saved = PUBLISHED[model_type]
    assert model_fields(small(model_type, **same | saved), "") == model_fields(
        small(model_type, **same | published), ""
    )


def test_what_differs_from_no_other_layer_is_left_out() -> None:
    """Gemma 4 whose full attention is as wide as the others has no layer with fields of its own."""
    same, _, _ = PUBLISHED["gemma4_text"]
    (full,) = model_fields(small("gemma4_text", **same, per_layer_config={}), "")["other_layers"]
    assert (full["layers"], full["head_dim"], full["kv_heads"]) == (2, 24, 2)


@pytest.mark.parametrize(
    ("model_type", "changes", "message"),
    [
        ("gemma4_text", {"per_layer_config": {"3": {"head_dim": 64}}}, "head_dim and num_key_value_heads for each lay"),
        ("gemma4_text", {"per_layer_config": {"3": {"head_dim": 64}, "7": {"head_dim": 32}}}, "for each layer with fu"),
        ("gemma4_text", {"per_layer_config": {"3": {"skip": 1}, "7": {"skip": 1}}}, "for each layer with full_attent"),
        ("gemma4_text", {"per_layer_config": [1]}, r"per_layer_config = \[1\]: expected the same head_dim"),
        ("gemma4_text", {"global_head_dim": 48}, "global_head_dim = 48: expected 64, as per_layer_config says"),
        (
            "deepseek_v4",
            {"compress_ratios": [0] * 8},
            r"compress_ratios = .*: expected \[0, 0, 4, 128.*layer_types say",
        ),
        ("deepseek_v4", {"mlp_layer_types": ["dense"] * 8}, "mlp_layer_types = .*: expected a list with one of hash_m"),
        (
            "gemma4_text",
            {"per_layer_config": {"3": {"head_dim": 64}, "03": {"head_dim": 32}, "7": {"head_dim": 32}}},
            "for each layer with full_attention",
        ),
        (
            "granitemoehybrid",
            {"layers_block_type": ["mamba"] * 8},
            "layers_block_type = .*: expected the blocks of ",
        ),
        (
            "minimax_m3_vl_text",
            {"index_topk_blocks": 0},
            "index_topk_blocks = 0: expected a whole number of at least 1",
        ),
        (
            "deepseek_v4",
            {"compress_rates": {"compressed_sparse_attention": 8}},
            "compressed_sparse_attention = 8: ",
        ),
        ("deepseek_v4", {"compress_rates": {}}, "compress_rates.compressed_sparse_attention is missing"),
        ("nemotron_h", {"hybrid_override_pattern": "MEM*EM--"}, "expected MEM.EM-E, as layers_block_type says"),
        ("step3p5", {"num_sliding_attention_heads": 8}, "= 8: expected 6, as per_layer_config says"),
        ("mimo_v2_flash", {"hybrid_layer_pattern": [0] * 8}, "hybrid_layer_pattern = .* as layer_types says"),
        ("minimax", {"layer_types": ["mamba"] * 8}, "layer_types = .* one of linear_attention, full_attention"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(model_type: str, changes: dict[str, Any], message: str) -> None:
    same, _, saved = PUBLISHED[model_type]
    with pytest.raises(CatalogueError, match=message):
        model_fields(small(model_type, **same | saved | changes), "")


def test_positions_of_layers_that_differ_reach_as_far_as_those_of_full_attention() -> None:
    yarn = {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 512}
    nested = {"full_attention": yarn, "sliding_attention": {"rope_type": "default"}}
    olmo = small("olmo3", sliding_window=32, max_position_embeddings=512)
    assert model_fields(olmo | {"rope_parameters": nested}, "")["max_context_tokens"] == 2048
    with pytest.raises(CatalogueError, match=r"rope_parameters\.full_attention\.rope_type = 'x': expected"):
        model_fields(olmo | {"rope_parameters": {"full_attention": {"rope_type": "x"}}}, "")


def test_the_indexer_of_sparse_attention_is_a_kind_of_layer() -> None:
    index = {"index_topk": 512, "index_n_heads": 6, "index_head_dim": 12}
    config = small("deepseek_v32", **GLM, **RANKS, **index)
    saved = config | {"layer_types": ["indexed_attention"] * 8}
    assert model_fields(saved, "") == model_fields(config, "")
    with pytest.raises(CatalogueError, match=r"layer_types = .*: expected full_attention alone"):
        model_fields(small("llama", layer_types=["indexed_attention"] * 8), "")
