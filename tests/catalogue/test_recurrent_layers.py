"""Layers of hybrid models, each worked by hand on a small shape; published sizes are in test_families."""

import pytest

from servesat import CatalogueError
from servesat.catalogue import recurrent_layers
from servesat.catalogue.config_json import ConfigJson
from tests.catalogue.configs import SHAPE, config


def test_gated_delta_layers() -> None:
    fields = recurrent_layers.gated_delta(
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
    attention, linear = recurrent_layers.gated_delta(config(**sizes), SHAPE)["other_layers"]
    assert (attention["layers"], linear["layers"]) == (2, 2)


def test_kimi_delta_layers() -> None:
    given = {
        "kda_layers": [1, 2, 3],
        "full_attn_layers": [4],
        "num_heads": 2,
        "head_dim": 3,
        "short_conv_kernel_size": 4,
    }
    (kimi,) = recurrent_layers.kimi_linear(config(linear_attn_config=given), SHAPE)["other_layers"]
    # 4 · 8 · 6 + 3 · 6 · 4 + 2 · (8 · 3 + 3 · 6) + 8 · 2 parameters; a state of 2 · 3², 3 · 6 · 3 inputs
    assert kimi["parameters"] == 192 + 72 + 84 + 16
    assert kimi["state_bytes"] == 4 * 18 + 2 * 54
    assert kimi["state_flops"] == 7 * 18 + 6 * 6 * 4
    ling = config(
        layer_types=["linear_attention"] * 3 + ["full_attention"], linear_num_heads=2, linear_head_dim=3,
        linear_conv_kernel_dim=4,
    )  # fmt: skip
    (full_rank,) = recurrent_layers.bailing_hybrid(ling, SHAPE)["other_layers"]
    assert full_rank["parameters"] == 192 + 72 + 2 * 8 * 6 + 16
    with pytest.raises(CatalogueError, match="each layer in it or in full_attn_layers, from 1"):
        recurrent_layers.kimi_linear(config(linear_attn_config={**given, "kda_layers": [1, 2]}), SHAPE)


def test_lightning_layers() -> None:
    (layer,) = recurrent_layers.lightning(config(attn_type_list=[0, 0, 0, 1]), SHAPE)["other_layers"]
    assert layer == {"layers": 3, "parameters": 5 * 8 * 6, "heads": 2, "state_bytes": 4 * 18, "state_flops": 5 * 18}


def test_mamba_layers() -> None:
    ibm = config(mamba_n_heads=2, mamba_d_head=4, mamba_d_state=5, mamba_n_groups=1, mamba_d_conv=4)
    (beside,) = recurrent_layers.falcon_h1(ibm, SHAPE)["other_layers"]
    # d_i = 8, c = 8 + 10; 8 · (8 + 18 + 2) + 18 · 4 + 8 · 8 parameters; a state of 8 · 5, 18 · 3 inputs
    assert beside == {
        "layers": 4, "beside": True, "parameters": 360, "heads": 2, "state_bytes": 160 + 108, "state_flops": 200 + 144
    }  # fmt: skip
    first = config(
        mamba_expand=2, mamba_dt_rank=3, mamba_d_state=5, mamba_d_conv=4, attn_layer_offset=1, attn_layer_period=2
    )
    (mamba,) = recurrent_layers.jamba(first, SHAPE)["other_layers"]
    # d_i = 16: 2 · 8 · 16 + 16 · 4 + 16 · 13 + 3 · 16 + 16 · 5 + 16 · 8 parameters; a state of 16 · 5, 16 · 3 inputs
    assert mamba == {
        "layers": 2, "parameters": 784, "heads": 16, "state_bytes": 320 + 96, "state_flops": 480 + 128
    }  # fmt: skip


def test_half_layers_of_nemotron() -> None:
    given = config(
        hybrid_override_pattern="ME*-ME", mamba_num_heads=2, mamba_head_dim=4, ssm_state_size=5, n_groups=1,
        conv_kernel=4, intermediate_size=7, moe_shared_expert_intermediate_size=9, attention_head_dim=8,
    )  # fmt: skip
    usual = recurrent_layers.nemotron_blocks(given)
    assert usual["num_hidden_layers"] == 3
    read = ConfigJson({**given.fields, **usual}, "", "")
    fields = recurrent_layers.nemotron_h(read, {**SHAPE, "layers": 3, "moe": {"shared_d_ff": 1}})
    assert (fields["mlp_layers"], fields["d_ff"], fields["moe"]) == (1, 7, {"shared_d_ff": 9})
    assert fields["other_layers"][0]["layers"] == 2
    assert len(recurrent_layers.nemotron_experts(read, 3)) == 2
    with pytest.raises(CatalogueError, match="attention_head_dim is missing"):
        recurrent_layers.nemotron_blocks(config(hybrid_override_pattern="ME*-ME"))
    without = ConfigJson({**read.fields, "moe_shared_expert_intermediate_size": None}, "", "")
    with pytest.raises(CatalogueError, match="moe_shared_expert_intermediate_size is missing"):
        recurrent_layers.nemotron_h(without, {**SHAPE, "layers": 3, "moe": {"shared_d_ff": 1}})
    with pytest.raises(CatalogueError, match=r"one of M, \*, - and E for each layer"):
        recurrent_layers.nemotron_blocks(config(hybrid_override_pattern="MX"))
    with pytest.raises(CatalogueError, match="num_hidden_layers = 52: expected 2, the number of blocks listed"):
        recurrent_layers.nemotron_blocks(config(hybrid_override_pattern="ME", num_hidden_layers=52))
    latent = ConfigJson({**read.fields, "moe_latent_size": 4}, "", "")
    narrow = recurrent_layers.nemotron_h(latent, {**SHAPE, "layers": 3, "moe": {"shared_d_ff": 1}})
    assert narrow["moe"] == {"shared_d_ff": 9, "d_model": 4}
