"""Layers of hybrid models, each worked by hand on a small shape; published sizes are in test_families."""

from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue import hybrids
from servesat.catalogue.config_json import ConfigJson

Config = dict[str, Any]
SHAPE: Config = {"layers": 4, "d_model": 8, "query_heads": 2, "kv_heads": 1, "head_dim": 3}


def config(**fields: Any) -> ConfigJson:
    return ConfigJson(fields, "config.json", "a config.json")


def test_gated_delta_layers() -> None:
    fields = hybrids.gated_delta(
        config(
            layer_types=["linear_attention"] * 3 + ["full_attention"], linear_num_key_heads=1, linear_num_value_heads=2,
            linear_key_head_dim=2, linear_value_head_dim=2, linear_conv_kernel_dim=4,
        ),
        SHAPE,
    )  # fmt: skip
    # c = 2 · 1 · 2 + 2 · 2 = 8 channels; 8 · (8 + 4) + 2 · 8 · 2 + 8 · 4 + 4 · 8 parameters; a state of 2 · 2 · 2
    attention, linear = fields["other_layers"]
    assert linear == {"layers": 3, "parameters": 192, "heads": 1, "state_bytes": 4 * 8 + 2 * 24, "state_flops": 56 + 64}
    # queries twice, their output, and one head of keys and of values: 8 · 3 · (4 + 2 + 2)
    assert attention == {"layers": 1, "parameters": 192, "heads": 2, "kv_heads": 1, "head_dim": 3}


def test_every_nth_layer_has_full_attention_where_no_list_says_which() -> None:
    sizes = {"linear_num_key_heads": 1, "linear_num_value_heads": 2, "linear_key_head_dim": 2}
    sizes |= {"linear_value_head_dim": 2, "linear_conv_kernel_dim": 4, "full_attention_interval": 2}
    attention, linear = hybrids.gated_delta(config(**sizes), SHAPE)["other_layers"]
    assert (attention["layers"], linear["layers"]) == (2, 2)


def test_kimi_delta_layers() -> None:
    given = {
        "kda_layers": [1, 2, 3],
        "full_attn_layers": [4],
        "num_heads": 2,
        "head_dim": 3,
        "short_conv_kernel_size": 4,
    }
    (kimi,) = hybrids.kimi_linear(config(linear_attn_config=given), SHAPE)["other_layers"]
    # 4 · 8 · 6 + 3 · 6 · 4 + 2 · (8 · 3 + 3 · 6) + 8 · 2 parameters; a state of 2 · 3², 3 · 6 · 3 inputs
    assert kimi["parameters"] == 192 + 72 + 84 + 16
    assert kimi["state_bytes"] == 4 * 18 + 2 * 54
    assert kimi["state_flops"] == 7 * 18 + 6 * 6 * 4
    ling = config(
        layer_types=["linear_attention"] * 3 + ["full_attention"], linear_num_heads=2, linear_head_dim=3,
        linear_conv_kernel_dim=4,
    )  # fmt: skip
    (full_rank,) = hybrids.bailing_hybrid(ling, SHAPE)["other_layers"]
    assert full_rank["parameters"] == 192 + 72 + 2 * 8 * 6 + 16
    with pytest.raises(CatalogueError, match="each layer in it or in full_attn_layers, from 1"):
        hybrids.kimi_linear(config(linear_attn_config={**given, "kda_layers": [1, 2]}), SHAPE)


def test_lightning_layers() -> None:
    (layer,) = hybrids.lightning(config(attn_type_list=[0, 0, 0, 1]), SHAPE)["other_layers"]
    assert layer == {"layers": 3, "parameters": 5 * 8 * 6, "heads": 2, "state_bytes": 4 * 18, "state_flops": 5 * 18}


def test_mamba_layers() -> None:
    ibm = config(mamba_n_heads=2, mamba_d_head=4, mamba_d_state=5, mamba_n_groups=1, mamba_d_conv=4)
    (beside,) = hybrids.falcon_h1(ibm, SHAPE)["other_layers"]
    # d_i = 8, c = 8 + 10; 8 · (8 + 18 + 2) + 18 · 4 + 8 · 8 parameters; a state of 8 · 5, 18 · 3 inputs
    assert beside == {
        "layers": 4, "beside": True, "parameters": 360, "heads": 2, "state_bytes": 160 + 108, "state_flops": 200 + 144
    }  # fmt: skip
    first = config(
        mamba_expand=2, mamba_dt_rank=3, mamba_d_state=5, mamba_d_conv=4, attn_layer_offset=1, attn_layer_period=2
    )
    (mamba,) = hybrids.jamba(first, SHAPE)["other_layers"]
    # d_i = 16: 2 · 8 · 16 + 16 · 4 + 16 · 13 + 3 · 16 + 16 · 5 + 16 · 8 parameters; a state of 16 · 5, 16 · 3 inputs
    assert mamba == {
        "layers": 2, "parameters": 784, "heads": 16, "state_bytes": 320 + 96, "state_flops": 480 + 128
    }  # fmt: skip


def test_half_layers_of_nemotron() -> None:
    given = config(
        hybrid_override_pattern="ME*-ME", mamba_num_heads=2, mamba_head_dim=4, ssm_state_size=5, n_groups=1,
        conv_kernel=4, intermediate_size=7, moe_shared_expert_intermediate_size=9,
    )  # fmt: skip
    usual = hybrids.nemotron_blocks(given)
    assert usual["num_hidden_layers"] == 3
    read = ConfigJson({**given.fields, **usual}, "", "")
    fields = hybrids.nemotron_h(read, {**SHAPE, "layers": 3, "moe": {"shared_d_ff": 1}})
    assert (fields["mlp_layers"], fields["d_ff"], fields["moe"]) == (1, 7, {"shared_d_ff": 9})
    assert fields["other_layers"][0]["layers"] == 2
    assert len(hybrids.nemotron_experts(read, 3)) == 2
    with pytest.raises(CatalogueError, match=r"one of M, \*, - and E for each layer"):
        hybrids.nemotron_blocks(config(hybrid_override_pattern="MX"))
    latent = ConfigJson({**read.fields, "moe_latent_size": 4}, "", "")
    narrow = hybrids.nemotron_h(latent, {**SHAPE, "layers": 3, "moe": {"shared_d_ff": 1}})
    assert narrow["moe"] == {"shared_d_ff": 9, "d_model": 4}


def test_heads_by_kind_of_layer() -> None:
    kinds = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    gemma = config(layer_types=kinds, global_head_dim=6, num_global_key_value_heads=1, attention_k_eq_v=True)
    (full,) = hybrids.gemma4(gemma, SHAPE)["other_layers"]
    assert full == {"layers": 1, "parameters": 8 * 6 * (2 * 2 + 1), "heads": 2, "kv_heads": 1, "head_dim": 6}
    with pytest.raises(CatalogueError, match="num_kv_shared_layers = 2: expected 0"):
        hybrids.gemma4(config(layer_types=kinds, num_kv_shared_layers=2), SHAPE)
    mimo = config(
        hybrid_layer_pattern=[0, 1, 1, 1], num_attention_heads=4, num_key_value_heads=1, head_dim=3, v_head_dim=2,
        swa_num_attention_heads=4, swa_num_key_value_heads=2, swa_head_dim=3, swa_v_head_dim=2, sliding_window=16,
    )  # fmt: skip
    whole, windowed = hybrids.mimo_v2(mimo, SHAPE)["other_layers"]
    assert (whole["layers"], whole["parameters"], whole["v_head_dim"]) == (1, 8 * 5 * 5, 2)
    assert (windowed["layers"], windowed["parameters"], windowed["window_tokens"]) == (3, 8 * 6 * 5, 16)
    setting = {"num_attention_heads": 4, "num_attention_groups": 2, "head_dim": 3}
    wide = hybrids.step3_flash(
        config(attention_other_setting=setting), {**SHAPE, "window_layers": 3, "window_tokens": 16}
    )
    assert wide["other_layers"][0]["parameters"] == 2 * 8 * 3 * 6
    assert wide["window_layers"] == 0
    unsaid = hybrids.step3_flash(config(), {**SHAPE, "query_heads": 4, "window_layers": 3, "window_tokens": 16})
    assert unsaid["other_layers"][0]["heads"] == 6
    assert hybrids.step3_flash(config(), SHAPE) == {}


def test_longcat_counts_the_experts_that_do_something() -> None:
    moe = {"experts": 6, "experts_per_token": 4}
    fields = hybrids.longcat(config(num_layers=2, zero_expert_num=2, ffn_hidden_size=9), {**SHAPE, "moe": moe})
    assert fields["moe"] == {"layers": 2, "every": 2, "experts": 6, "experts_per_token": 3}
    assert (fields["mlp_layers"], fields["d_ff"]) == (4, 9)


def test_a_compressed_cache() -> None:
    given = config(
        compress_ratios=[0, 4, 4, 128, 0], q_lora_rank=5, o_groups=2, o_lora_rank=3, index_n_heads=2, index_head_dim=4,
        index_topk=16, hc_mult=2, sliding_window=32,
    )  # fmt: skip
    window, fine, coarse = hybrids.deepseek_v4(given, {**SHAPE, "head_dim": 6})["other_layers"]
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
    found = hybrids.minimax_m3(given, fields)
    (layers,) = found["other_layers"]
    assert layers["parameters"] == 8 * (2 * 3 * 3 + 4 * 3)
    assert (layers["layers"], layers["selected_tokens"], layers["index_bytes"]) == (3, 64, 8)
    assert found["moe"]["shared_d_ff"] == 14
    with pytest.raises(CatalogueError, match="index values are not supported"):
        hybrids.minimax_m3(config(sparse_attention_config=sparse | {"sparse_disable_index_value": [0] * 4}), fields)


def test_layers_found_by_architecture_search() -> None:
    blocks = [
        {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 96.0}},  # 2 · 96 · 8 / 3 = 512
        {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},  # 5, rounded up to 256
        {"attention": {"replace_with_linear": True}, "ffn": {"no_op": True}},
        {"attention": {"n_heads_in_group": 1}, "ffn": {"ffn_mult": 96.0}},
    ]
    found = hybrids.decilm(config(block_configs=blocks, num_hidden_layers=4), SHAPE)
    one, two, linear = found["other_layers"]
    assert (one["kv_heads"], two["kv_heads"], linear["parameters"]) == (1, 2, 64)
    assert (one["parameters"], two["parameters"]) == (2 * 8 * 3 * 3, 2 * 8 * 3 * 4)
    assert found["other_mlps"] == [{"layers": 1, "d_ff": 256}, {"layers": 2, "d_ff": 512}]
    assert (found["layers"], found["mlp_layers"]) == (3, 0)
    with pytest.raises(CatalogueError, match=r"block_configs.0.attention: n_heads_in_group is missing"):
        hybrids.decilm(config(block_configs=[{}], num_hidden_layers=1), SHAPE)
