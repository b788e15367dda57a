import json
from pathlib import Path
from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue.huggingface import model_fields
from servesat.catalogue.model import NativeWeights
from tests.catalogue.configs import LOCAL, groups, read, small

KEEPS = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"]
EACH = [f"model.layers.{layer}.self_attn*" for layer in range(8)]


@pytest.mark.parametrize(
    ("scheme", "native"),
    [
        ({"quant_method": "fp8", "fmt": "e4m3"}, {"dtype": "fp8"}),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head", "gate"]},
            {"dtype": "fp8", "group": 128, "group_bits": 0.25},
        ),
        ({"quant_method": "fp8", "modules_to_not_convert": None}, {"dtype": "fp8"}),
        ({"quant_method": "mxfp4"}, {"dtype": "mxfp4", "pad": 256, "wider": {"attention": {}}}),
        (
            {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
            {"dtype": "mxfp4", "pad": 256, "wider": {"attention": {}}},
        ),
        (
            {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {}}}},
            {"dtype": "int4", "group": 128, "group_bits": 32.0},
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": {"default": {"_type": "Int8WeightOnlyConfig", "_data": {"group_size": 64}}},
            },
            {"dtype": "int8", "group": 64, "group_bits": 16.0},
        ),
        (
            {"quant_method": "torchao", "quant_type": "int4_weight_only", "quant_type_kwargs": {"group_size": 32}},
            {"dtype": "int4", "group": 32, "group_bits": 32.0},
        ),
        (
            {
                "quant_method": "torchao",
                "quant_type": "float8_weight_only",
                "modules_to_not_convert": None,
                "include_input_output_embeddings": True,
            },
            {"dtype": "fp8", "tables": ["embedding", "head"]},
        ),
        ({"quant_method": "awq", "bits": 4, "group_size": -1}, {"dtype": "int4"}),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 128}, {"dtype": "int4", "group": 128, "group_bits": 20.0}),
        ({"quant_method": "auto-round", "bits": 4}, {"dtype": "int4"}),
        ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]}, {"dtype": "fp8"}),
        ({"quant_algo": "FP8", "ignore": ["lm_head"]}, {"dtype": "fp8"}),
        (
            {"bits": 4, "group_size": 64},
            {"dtype": "int4", "group": 64, "group_bits": 32.0, "tables": ["embedding", "head"]},
        ),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, {"dtype": "int8"}),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": 64, "lm_head": True},
            {"dtype": "int8", "group": 64, "group_bits": 24.0, "tables": ["head"]},
        ),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, {"dtype": "nvfp4"}),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": EACH},
            {"dtype": "nvfp4", "wider": {"attention": {}}},
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": EACH[1:]},
            {"dtype": "nvfp4", "wider": {"attention": {"share": 0.875}}},
        ),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}, {"dtype": "fp8"}),
        (groups("int", 4), {"dtype": "int4"}),
        (groups("int", 8), {"dtype": "int8"}),
        (groups("float", 8), {"dtype": "fp8"}),
        (groups("float", 4, format="nvfp4-pack-quantized"), {"dtype": "nvfp4"}),
        (groups("float", 4, format="mxfp4-pack-quantized"), {"dtype": "mxfp4"}),
        (groups("int", 4, ignore=KEEPS), {"dtype": "int4", "wider": {"attention": {}}}),
        (groups("int", 4, ignore=["re:.*self_attn.(q|k|v|o)_proj$"]), {"dtype": "int4", "wider": {"attention": {}}}),
        (groups("int", 4, ignore=["model.layers.0.self_attn.indexer.weights_proj"]), {"dtype": "int4"}),
        (groups("int", 4, ignore=["re:.*vision_tower.*attn.*"]), {"dtype": "int4"}),
    ],
)
def test_published_weights_have_the_dtype_of_their_quantization(
    tmp_path: Path, scheme: dict[str, Any], native: dict[str, Any]
) -> None:
    config = small("mixtral", **LOCAL, quantization_config=scheme)
    assert model_fields(config, "")["native"] == native
    assert read(tmp_path, config).native is not None
    assert "native" not in model_fields(config | {"quantization_config": None}, "")


def test_experts_may_be_narrower_than_their_scheme_says() -> None:
    """DeepSeek-V4: fp8 in blocks, and expert_dtype fp4."""
    scheme = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    config = small("mixtral", **LOCAL, quantization_config=scheme, expert_dtype="fp4")
    native = model_fields(config, "")["native"]
    assert native == {"dtype": "mxfp4", "wider": {"attention": {"dtype": "fp8"}, "shared_experts": {"dtype": "fp8"}}}
    with pytest.raises(CatalogueError, match="expert_dtype = 'int3' is not supported; known: NVFP4, fp4"):
        model_fields(config | {"expert_dtype": "int3"}, "config.json")


@pytest.mark.parametrize("key", ["compression_config", "quantization"])
def test_a_quantisation_is_found_wherever_it_is_written(tmp_path: Path, key: str) -> None:
    config = {**small("llama"), key: groups("int", 4)}
    assert read(tmp_path, config).native == NativeWeights(dtype="int4")


def test_modelopt_writes_its_quantisation_beside_the_config(tmp_path: Path) -> None:
    """Read as bf16, DeepSeek-V3.1-NVFP4 was 3.5 times too large."""
    beside = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside))
    assert read(tmp_path, small("llama")).native == NativeWeights(dtype="nvfp4")
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"kv_cache_quant_algo": "FP8"}}))
    assert read(tmp_path, small("llama")).native is None
    (tmp_path / "hf_quant_config.json").write_text("[]")
    with pytest.raises(CatalogueError, match=r"hf_quant_config.json: quantization is missing"):
        read(tmp_path, small("llama"))


@pytest.mark.parametrize(
    ("scheme", "complaint"),
    [
        ({"group_size": 64}, "quantization_config.quant_method is missing"),
        ({"quant_method": "hqq"}, "quantization_config.quant_method = 'hqq' is not supported"),
        ({"quant_method": "torchao"}, "quantization_config.quant_type is missing"),
        (
            {"quant_method": "torchao", "quant_type": {"default": {"_type": "FqnToConfig", "_data": {}}}},
            "quantization_config.quant_type = 'FqnToConfig' is not supported; known: Float8Dynamic",
        ),
        (
            {"quant_algo": "MIXED_PRECISION"},
            "quantization_config.quantized_layers = None: expected the quant_algo of each module",
        ),
        ({"quant_method": "awq", "bits": 3}, "quantization_config.bits = 3 is not supported"),
        ({"quant_method": "awq"}, "quantization_config.bits is missing"),
        ({"quant_method": "gptq", "bits": 4}, "quantization_config.group_size is missing"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "a": {"targets": ["Linear"], "weights": {"type": "int", "num_bits": 4, "strategy": "group"}}
                },
            },
            "config_groups.*.weights.group_size is missing",
        ),
        (
            groups("int", 4, ignore=["lm_head", 3]),
            "ignore = ['lm_head', 3]: expected a list of the names",
        ),
    ],
)
def test_a_quantisation_that_is_not_known_is_never_taken_for_bf16(scheme: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CatalogueError) as fault:
        model_fields(small("llama", quantization_config=scheme), "config.json")
    assert complaint in str(fault.value)
