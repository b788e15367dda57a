"""Models of each family, by their published shape: parameters, and the KV cache of a token.

The parameters are those of an instance of the public model class (transformers 5.24.0), norms and biases included; the
caches follow from the class. GLM-5.1's and others' figures that depend on storage are in test_memory.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue.families import FAMILIES, WRAPPERS
from servesat.catalogue.huggingface import model_fields
from servesat.catalogue.load import load_model
from servesat.catalogue.model import (
    Experts,
    LatentAttention,
    NativeWeights,
    OtherLayers,
    OtherMlps,
    SparseAttention,
    WiderWeights,
)
from servesat.catalogue.template import model_template
from servesat.cost_model.memory import counted_parameters
from servesat.cost_model.storage import Storage
from servesat.deployment.solve import solve
from tests.catalogue.configs import GLM, SLIDING, read, small

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "published/families.csv").read_text().splitlines()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_a_model_has_its_published_size(tmp_path: Path, row: dict[str, str]) -> None:
    model = read(tmp_path, json.loads(row["config"]))
    assert counted_parameters(model) == pytest.approx(float(row["parameters"]), rel=5e-4)
    state, one, two = (Storage(model).kv_cache_bytes("bf16", tokens) for tokens in (0, 1, 2))
    within_every_window = float(row["kv_bytes_per_token"]) + float(row["window_kv_bytes_per_token"] or 0)
    assert one - state == two - one == within_every_window
    assert state == float(row["state_bytes"] or 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (small("hunyuan_v1_moe", num_experts=8, moe_topk=2), "num_shared_expert is missing"),
        (small("granitemoehybrid", layer_types=["attention"] * 8), "shared_intermediate_size is missing"),
        (small("gemma4_text", sliding_window=8, global_head_dim=64, layer_types=SLIDING), "hidden_size_per"),
        (small("qwen3", use_sliding_window=True, max_window_layers=2), "sliding_window is missing"),
        (small("llama", per_layer_config={"2": {"intermediate_size": 128}}), "per_layer_config = .*: expected none"),
    ],
    ids=lambda value: value["model_type"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_transformers_would_fill_in_with_a_number_is_asked_for(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        model_fields(config, "")


def test_defaults_of_types_that_leave_the_embedding_untied_and_the_encoder_unknown() -> None:
    assert model_fields(small("hunyuan_v1_dense"), "")["tied_embeddings"] is False
    internvl = {"model_type": "internvl", "text_config": small("qwen3"), "vision_config": {"patch_size": [14, 14]}}
    assert "is not counted" in model_fields(internvl, "")["sources"]["vision_parameters"]


def test_every_wrapper_names_types_that_are_known() -> None:
    assert not {text for allowed in WRAPPERS.values() for text in allowed} - FAMILIES.keys()


def test_the_template_of_a_model_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(model_template())
    model = load_model("new.toml", tmp_path)
    assert (model.layers, model.d_ff) == (32, 14336)
    for record in (Experts, LatentAttention, SparseAttention, OtherLayers, OtherMlps, NativeWeights, WiderWeights):
        for name in record.model_fields:
            assert f"# {name} = " in model_template() or name == "wider"
    before, _, after = model_template().partition("# [moe]\n")
    section, _, rest = after.partition("\n\n")
    lines = [line.removeprefix("# ") for line in section.splitlines()]
    with_experts = "\n".join([before, "[moe]", *lines, "", rest])
    (tmp_path / "new.toml").write_text(with_experts.replace("d_ff = 14336", "", 1))
    assert load_model("new.toml", tmp_path).moe is not None


@pytest.mark.parametrize(
    ("model_type", "fields", "complaint"),
    [
        ("llama", {"num_local_experts": 8}, "num_local_experts = 8: expected none: the type has no experts"),
        ("llama", {"kv_lora_rank": 512}, "kv_lora_rank = 512: expected none: the type has no latent attention"),
        ("llama", {"num_kv_shared_layers": 2}, "layers that share a cache are not supported"),
        ("llama", {"layer_types": ["sliding_attention"] * 8, "sliding_window": 64}, "the type has no window"),
        ("llama", {"num_experts": True}, "num_experts = True: expected a whole number of at least 0"),
        ("llama", {"layer_types": ["banana"] * 8}, "layer_types = ['banana', "),
        ("gemma2", {"layer_types": SLIDING, "sliding_window": None}, "sliding_window is missing"),
        ("glm4", {"head_dim": "32"}, "head_dim = '32': expected a whole number"),
        ("gpt2", {"hidden_size": None, "num_attention_heads": None}, "n_embd, n_head are missing; expected in a gpt2"),
        ("gpt2", {"n_embd": 0, "hidden_size": None}, "n_embd = 0: expected a whole number of at least 1"),
        ("qwen3", {"num_nextn_predict_layers": False}, "num_nextn_predict_layers = False: expected a whole number"),
        ("qwen3", {"layer_types": ["full_attention"] * 3}, "for each of 8 layers"),
        (
            "glm4_moe",
            GLM | {"first_k_dense_replace": 99},
            "first_k_dense_replace = 99: expected at most 8, the number of layers",
        ),
        (
            "ernie4_5_moe",
            {"moe_num_shared_experts": 1, "moe_layer_start_index": 7, "moe_layer_end_index": 2},
            "moe_layer_start_index = 7: expected at most moe_layer_end_index, 2",
        ),
        (
            "hunyuan_v1_moe",
            {"num_shared_expert": [1, 1], "num_experts": 8, "moe_topk": 2},
            "num_shared_expert = [1, 1]: expected the same whole number for each of 8 layers",
        ),
        ("qwen3_moe", {"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000: expected at most 10,000"),
    ],
)
def test_a_field_that_changes_the_shape_is_never_passed_over(
    tmp_path: Path, model_type: str, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(CatalogueError) as fault:
        read(tmp_path, small(model_type, **fields))
    assert complaint in str(fault.value)


def test_forms_that_publishers_use(tmp_path: Path) -> None:
    flat = small("qwen2_5_vl", vision_config={"depth": 1})  # as of 2024, without a text_config
    assert read(tmp_path, flat | {"vision_config": {}}).layers == 8
    bloom = small("bloom", "hidden_size", "num_hidden_layers", "num_attention_heads", "head_dim", "intermediate_size")
    assert read(tmp_path, bloom | {"n_embed": 64, "n_layer": 8, "n_head": 4, "num_key_value_heads": None}).d_ff == 256
    dense = small(
        "granitemoehybrid", "intermediate_size", num_local_experts=0, shared_intermediate_size=96,
        layer_types=["attention"] * 8, mamba_n_heads=2, mamba_d_head=4, mamba_d_state=5, mamba_n_groups=1,
        mamba_d_conv=4,
    )  # fmt: skip
    assert (read(tmp_path, dense).moe, read(tmp_path, dense).d_ff) == (None, 96)
    step = small(
        "step3p7", "num_key_value_heads", num_attention_groups=2, moe_num_experts=16, moe_top_k=2, sliding_window=64,
        moe_intermediate_size=32, share_expert_dim=48, moe_layers_enum="2,3,4,5,6,7", layer_types=SLIDING,
    )  # fmt: skip
    model = read(tmp_path, step)
    assert model.moe is not None
    assert (model.moe.layers, model.moe.shared_d_ff, model.kv_heads) == (6, 48, 2)


def test_a_model_without_mlps_is_planned() -> None:
    """A model of states alone gave a traceback."""
    mamba = {
        "name": "mamba", "layers": 8, "d_model": 1024, "mlp_layers": 0, "query_heads": 8, "kv_heads": 1,
        "head_dim": 64, "vocab_size": 32_000,
        "other_layers": [{"layers": 8, "parameters": 10**7, "heads": 8, "state_bytes": 10**6}],
    }  # fmt: skip
    plan = solve(
        {"cost_model": "ideal", "model": mamba, "workload": {"context_tokens": 4096}, "search": {"chips": ["h100-sxm"]}}
    ).plan
    assert plan is not None
    assert plan.kv_cache_bytes == plan.batch * 8 * 10**6


def test_encoders_whose_mergers_count(tmp_path: Path) -> None:
    """Qwen3-VL-4B: 0.41e9 beside its 4.02e9 parameters."""
    vision = {
        "depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 16, "spatial_merge_size": 2,
        "deepstack_visual_indexes": [5, 11, 17], "model_type": "qwen3_vl",
    }  # fmt: skip
    text = small("qwen3_vl_text", hidden_size=2560, head_dim=128)
    model = read(tmp_path, {"model_type": "qwen3_vl", "text_config": text, "vision_config": vision})
    assert model.vision_parameters == pytest.approx(0.415e9, rel=0.01)


def test_the_encoders_of_gemma_4_and_of_kimi(tmp_path: Path) -> None:
    """As instances of transformers 5.24.0 have them: 572.8e6 with Gemma 4 26B, 471.1e6 with Kimi K2.6."""
    siglip = {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "patch_size": 16,
        "position_embedding_size": 10240, "model_type": "gemma4_vision",
    }  # fmt: skip
    text = small(
        "gemma4_text",
        hidden_size=2816,
        sliding_window=8,
        global_head_dim=128,
        layer_types=["full_attention"] * 8,
        hidden_size_per_layer_input=0,
    )
    model = read(tmp_path, {"model_type": "gemma4", "text_config": text, "vision_config": siglip})
    assert model.vision_parameters == pytest.approx(572_792_112, rel=1e-3)
    moonvit = {
        "vt_hidden_size": 1152, "vt_intermediate_size": 4304, "vt_num_hidden_layers": 27, "patch_size": 14,
        "init_pos_emb_height": 64, "init_pos_emb_width": 64,
    }  # fmt: skip
    text = json.loads((Path(__file__).parent / "deepseek-v3.json").read_text())  # of the same width
    model = read(tmp_path, {"model_type": "kimi_k25", "text_config": text, "vision_config": moonvit})
    assert model.vision_parameters == pytest.approx(471_143_920, rel=1e-3)
    assert "vision_parameters" not in model.sources


def test_an_encoder_of_an_unknown_kind_is_said_not_to_be_counted(tmp_path: Path) -> None:
    given = {
        "model_type": "gemma3",
        "text_config": small("gemma3_text", sliding_window=8),
        "vision_config": {"model_type": "new_vision"},
    }
    model = read(tmp_path, given)
    assert model.vision_parameters == 0
    assert model.sources["vision_parameters"].startswith("the encoder 'new_vision' is not counted")


def test_smollm_3_has_windows_where_it_has_no_positions() -> None:
    """Every fourth layer, unless no_rope_layers says otherwise; max_window_layers is of Qwen alone."""
    fields = {"use_sliding_window": True, "sliding_window": 32}
    assert model_fields(small("smollm3", **fields, max_window_layers=0), "")["window_layers"] == 2
    assert model_fields(small("smollm3", **fields, no_rope_layers=[1] * 7 + [0]), "")["window_layers"] == 1


def test_heads_of_glm_are_as_wide_as_stated() -> None:
    """Without head_dim its class takes 128, whatever hidden_size / num_attention_heads is."""
    with pytest.raises(CatalogueError, match="head_dim is missing"):
        model_fields(small("glm4", "head_dim"), "")


def test_states_of_mamba_may_be_sized_by_others() -> None:
    mamba = {"mamba_n_heads": 16, "mamba_n_groups": 1, "mamba_d_state": 16, "mamba_d_conv": 3, "mamba_expand": 2}
    granite = small("granitemoehybrid", **mamba, num_local_experts=0, shared_intermediate_size=128,
                    layer_types=["mamba"] * 7 + ["attention"])  # fmt: skip
    (auto,) = model_fields(granite | {"mamba_d_head": "auto"}, "")["other_layers"]
    inner, channels = 2 * 64, 2 * 64 + 2 * 16  # twice the width; with an input and an output of the state
    assert auto["state_bytes"] == 4 * inner * 16 + 2 * channels * 2
    with pytest.raises(CatalogueError, match="mamba_n_heads = 24: expected a divisor of 128, the width of all heads"):
        model_fields(granite | {"mamba_d_head": "auto", "mamba_n_heads": 24}, "")
    periods = {"attn_layer_offset": 3, "attn_layer_period": 8, "expert_layer_offset": 1, "expert_layer_period": 2}
    jamba = small("jamba", **mamba, **periods, num_experts=4, num_experts_per_tok=2)
    of_rank = [model_fields(jamba | {"mamba_dt_rank": rank}, "")["other_layers"][0] for rank in (1, "auto")]
    assert of_rank[1]["parameters"] - of_rank[0]["parameters"] == 3 * (128 + 128)  # ranks of 64 / 16 and 1, in and out
    falcon = small("falcon_h1", **mamba, mamba_d_head=8, mamba_d_ssm=100)
    with pytest.raises(CatalogueError, match="mamba_d_ssm = 100: expected 128, mamba_n_heads · mamba_d_head"):
        model_fields(falcon, "")


def test_layers_without_experts_are_no_fault_of_minimax_m3() -> None:
    sparse: dict[str, Any] = {
        "sparse_num_index_heads": 2,
        "sparse_index_dim": 32,
        "sparse_topk_blocks": 2,
        "sparse_block_size": 16,
    }
    sparse["sparse_attention_freq"] = [1] * 8
    dense = small("minimax_m3", num_local_experts=4, dense_intermediate_size=640, n_shared_experts=1,
                  moe_layer_freq=[0] * 8, sparse_attention_config=sparse)  # fmt: skip
    assert model_fields(dense, "")["d_ff"] == 640


def test_what_a_wrapper_leaves_wrong_is_named_inside_it() -> None:
    wrapper = {"model_type": "qwen3_vl", "text_config": small("qwen3_vl_text", hidden_size=0), "vision_config": 3}
    with pytest.raises(CatalogueError, match=r"text_config\.hidden_size = 0: expected a whole number"):
        model_fields(wrapper, "")
    with pytest.raises(CatalogueError, match=r": vision_config = 3: expected a JSON object"):
        model_fields(wrapper | {"text_config": small("qwen3_vl_text")}, "")
    encoder = {"hidden_size": 8, "intermediate_size": 8, "depth": 1, "patch_size": 2, "spatial_merge_size": 2,
               "deepstack_visual_indexes": "x"}  # fmt: skip
    with pytest.raises(
        CatalogueError, match=r": vision_config\.deepstack_visual_indexes = 'x': expected a list of lay"
    ):
        model_fields(wrapper | {"text_config": small("qwen3_vl_text"), "vision_config": encoder}, "")


def test_what_stands_between_an_encoder_and_its_text_model() -> None:
    """Of two layers of width 32 and MLPs of 48: 2 · (4·32² + 2·32·48) + 3·14²·32, and a projector to 64."""
    siglip = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48,
              "num_hidden_layers": 2, "patch_size": 14}  # fmt: skip
    encoder = 2 * (4 * 32**2 + 2 * 32 * 48) + 3 * 14**2 * 32

    def seen(wrapper: str, text: str, **more: Any) -> int:
        inner = small(text, sliding_window=8)
        return int(
            model_fields({"model_type": wrapper, "text_config": inner, "vision_config": siglip, **more}, "")[
                "vision_parameters"
            ]
        )

    assert seen("gemma3", "gemma3_text") == encoder + 32 * 64
    assert seen("llava", "qwen3") == encoder + 32 * 64 + 64**2
    assert seen("mistral3", "mistral", spatial_merge_size=2) == encoder + 4 * 32 * 32 + 32 * 64 + 64**2
    unsized = {"model_type": "mistral3", "text_config": small("mistral", sliding_window=8), "vision_config": siglip}
    assert "is not counted" in model_fields(unsized, "")["sources"]["vision_parameters"]
    aya = {"downsample_factor": 2, "alignment_intermediate_size": 96}
    assert seen("aya_vision", "cohere2", **aya) == encoder + 4 * 32 * 96 + 48 * 64


def test_an_audio_encoder_is_said_to_be_left_out() -> None:
    voxtral = {"model_type": "voxtral", "text_config": small("llama"), "audio_config": {"hidden_size": 1280}}
    assert model_fields(voxtral, "")["sources"] == {"vision_parameters": "the audio encoder is not counted"}


def test_layers_of_ling_after_the_last_whole_group_have_full_attention() -> None:
    """Of 22 layers in groups of 5, four groups have 4 linear ones each: 16."""
    ling = small("bailing_hybrid", num_hidden_layers=22, layer_group_size=5, short_conv_kernel_size=4, kv_lora_rank=40,
                 qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=20, q_lora_rank=48, num_experts=8,
                 num_experts_per_tok=2, moe_intermediate_size=32, num_shared_experts=1,
                 first_k_dense_replace=1)  # fmt: skip
    assert model_fields(ling, "")["other_layers"][0]["layers"] == 16


def test_what_says_nothing_of_the_layers_stands_beside_their_list() -> None:
    glm = small("glm4_moe", **{key: value for key, value in GLM.items() if key != "first_k_dense_replace"})
    listed = glm | {"mlp_layer_types": ["dense"] + ["sparse"] * 7, "moe_layer_freq": 1, "mlp_only_layers": []}
    assert model_fields(listed, "")["moe"]["layers"] == 7
