"""Layers of hybrid models, each worked by hand on a small shape; published sizes are in test_families."""

import pytest

from servesat import CatalogueError
from servesat.catalogue import mixed_attention
from servesat.catalogue.config_json import ConfigJson
from tests.catalogue.configs import SHAPE, config


def test_heads_by_kind_of_layer() -> None:
    kinds = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    gemma = config(layer_types=kinds, global_head_dim=6, num_global_key_value_heads=1, attention_k_eq_v=True)
    (full,) = mixed_attention.gemma4(gemma, SHAPE)["other_layers"]
    assert full == {"layers": 1, "parameters": 8 * 6 * (2 * 2 + 1), "heads": 2, "kv_heads": 1, "head_dim": 6}
    apart = ConfigJson({**gemma.fields, "attention_k_eq_v": False}, "", "")  # whose keys and values have all heads
    (full,) = mixed_attention.gemma4(apart, SHAPE)["other_layers"]
    assert (full["parameters"], full["kv_heads"]) == (8 * 6 * (2 * 2 + 2 * SHAPE["kv_heads"]), SHAPE["kv_heads"])
    with pytest.raises(CatalogueError, match=r"layer_types = .*: expected full_attention in the last layer"):
        mixed_attention.gemma4(config(layer_types=kinds[::-1]), SHAPE)
    with pytest.raises(CatalogueError, match="num_kv_shared_layers = 2: expected 0"):
        mixed_attention.gemma4(config(layer_types=kinds, num_kv_shared_layers=2), SHAPE)
    mimo = config(
        hybrid_layer_pattern=[0, 1, 1, 1], num_attention_heads=4, num_key_value_heads=1, head_dim=3, v_head_dim=2,
        swa_num_attention_heads=4, swa_num_key_value_heads=2, swa_head_dim=3, swa_v_head_dim=2, sliding_window=16,
    )  # fmt: skip
    whole, windowed = mixed_attention.mimo_v2(mimo, SHAPE)["other_layers"]
    assert (whole["layers"], whole["parameters"], whole["v_head_dim"]) == (1, 8 * 5 * 5, 2)
    assert (windowed["layers"], windowed["parameters"], windowed["window_tokens"]) == (3, 8 * 6 * 5, 16)
    setting = {"num_attention_heads": 4, "num_attention_groups": 2, "head_dim": 3}
    wide = mixed_attention.step3_flash(
        config(attention_other_setting=setting), {**SHAPE, "window_layers": 3, "window_tokens": 16}
    )
    assert wide["other_layers"][0]["parameters"] == 2 * 8 * 3 * 6
    assert wide["window_layers"] == 0
    unsaid = mixed_attention.step3_flash(config(), {**SHAPE, "query_heads": 4, "window_layers": 3, "window_tokens": 16})
    assert unsaid["other_layers"][0]["heads"] == 6
    assert mixed_attention.step3_flash(config(), SHAPE) == {}


def test_longcat_counts_the_experts_that_do_something() -> None:
    moe = {"experts": 6, "experts_per_token": 4}
    fields = mixed_attention.longcat(config(num_layers=2, zero_expert_num=2, ffn_hidden_size=9), {**SHAPE, "moe": moe})
    assert fields["moe"] == {"layers": 2, "every": 2, "experts": 6, "experts_per_token": 3}
    assert (fields["mlp_layers"], fields["d_ff"]) == (4, 9)


def test_a_compressed_cache() -> None:
    given = config(
        compress_ratios=[0, 4, 4, 128, 0], q_lora_rank=5, o_groups=2, o_lora_rank=3, index_n_heads=2, index_head_dim=4,
        index_topk=16, hc_mult=2, sliding_window=32,
    )  # fmt: skip
    window, fine, coarse = mixed_attention.deepseek_v4(given, {**SHAPE, "head_dim": 6})["other_layers"]
    # queries 5 · (8 + 12), the one head 8 · 6, output 12 · 3 + 2 · 3 · 8, and two connections of 8 · 2 · 8
    assert window["parameters"] == 100 + 48 + 84 + 256
    assert (window["layers"], window["window_tokens"], window["v_head_dim"]) == (4, 32, 0)
    # compressors 4 · 8 · 6, and an indexer of 8 · 16 + 5 · 8 + 8 · 2
    assert (fine["layers"], fine["beside"], fine["parameters"]) == (2, True, 192 + 184)
    assert (fine["entry_tokens"], fine["selected_tokens"], fine["index_bytes"]) == (4, 64, 8)
    assert (coarse["layers"], coarse["parameters"], coarse["state_bytes"]) == (1, 96, 4 * 128 * 12)


def test_an_indexer_that_selects_blocks() -> None:
    sparse = {
        "sparse_attention_freq": [0, 1, 1, 1], "sparse_disable_index_value": [0, 1, 1, 1], "sparse_num_index_heads": 2,
        "sparse_index_dim": 4, "sparse_topk_blocks": 3, "sparse_block_size": 16, "sparse_local_block": 1,
    }  # fmt: skip
    fields = {**SHAPE, "moe": {"layers": 3}}
    given = config(sparse_attention_config=sparse, n_shared_experts=2, shared_intermediate_size=7)
    found = mixed_attention.minimax_m3(given, fields)
    (layers,) = found["other_layers"]
    assert layers["parameters"] == 8 * (2 * 3 * 3 + 4 * 3)
    assert (layers["layers"], layers["selected_tokens"], layers["index_bytes"]) == (3, 64, 8)
    assert found["moe"]["shared_d_ff"] == 14
    with pytest.raises(CatalogueError, match="index values are not supported"):
        mixed_attention.minimax_m3(
            config(sparse_attention_config=sparse | {"sparse_disable_index_value": [0] * 4}), fields
        )


def test_layers_found_by_architecture_search() -> None:
    blocks = [
        {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 96.0}},  # 2 · 96 · 8 / 3 = 512
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},  # 5, rounded up to 256
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
        {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": 96.0}},
    ]
    found = mixed_attention.decilm(config(block_configs=blocks, num_hidden_layers=4), SHAPE)
    one, two, linear = found["other_layers"]
    assert (one["kv_heads"], two["kv_heads"], linear["parameters"]) == (1, 2, 64)
    assert (one["parameters"], two["parameters"]) == (2 * 8 * 3 * 3, 2 * 8 * 3 * 4)
    assert found["other_mlps"] == [{"layers": 1, "d_ff": 256}, {"layers": 2, "d_ff": 512}]
    assert (found["layers"], found["mlp_layers"]) == (3, 0)
    with pytest.raises(CatalogueError, match=r"block_configs.0.attention: n_heads_in_group is missing"):
        mixed_attention.decilm(config(block_configs=[{}], num_hidden_layers=1), SHAPE)
