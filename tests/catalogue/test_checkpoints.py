"""The size of checkpoints that were published or measured, by the shape of their model and their scheme."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from servesat import CatalogueError
from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec
from servesat.catalogue.quantisation import native_weights
from servesat.cost_model.storage import Storage
from tests.helpers import moe_model

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "published/checkpoints.csv").read_text().splitlines()))


def published_as(model: ModelSpec, scheme: dict[str, Any], model_type: str | None = None) -> ModelSpec:
    """A model, its layers with experts last, quantised so."""
    shape = model.model_dump(exclude_none=True, exclude={"native", "nominal_parameters", "sources"})
    with_experts = range(model.layers - (model.moe.layers if model.moe else 0), model.layers)
    config = ConfigJson({"quantization_config": scheme, "model_type": model_type}, "config.json", "a config.json")
    return ModelSpec.model_validate(shape | native_weights(config, ModelSpec.model_validate(shape), with_experts))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["source"].partition(":")[0])
def test_a_checkpoint_is_as_large_as_published(row: dict[str, str]) -> None:
    model = published_as(load_model(row["model"]), json.loads(row["scheme"]))
    assert model.native is not None
    stored = Storage(model).weights_bytes(model.native.dtype)
    assert stored / 1e9 == pytest.approx(float(row["weights_gb"]), rel=float(row["tolerance"]))


def shares(*entries: str, **scheme: Any) -> dict[str, float]:
    """What a scheme leaves out of the mixture: layer 0 is dense, 1 to 3 have 8 experts and shared ones."""
    model = published_as(moe_model(), {"quant_method": "fp8", "modules_to_not_convert": list(entries), **scheme})
    return {group.value: left.share for group, left in (model.native.wider if model.native else {}).items()}


ATTENTION = 256 * 32 * (8 + 4) * 2  # parameters of a layer: q and o of 8 heads, k and v of 4


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["lm_head", "mlp.gate", "visual", "model.layers.1.mlp.gate"], {}),
        (["self_attn"], {"attention": 1.0}),
        (["q_proj"], {"attention": 256 * 32 * 8 / ATTENTION}),
        (["model.layers.2"], {"attention": 0.25, "experts": 1 / 3, "shared_experts": 1 / 3}),
        (["model.language_model.layers.2.self_attn"], {"attention": 0.25}),
        (["model.layers.0*"], {"attention": 0.25, "mlp": 1.0}),
        (["model.layers.1.*"], {"attention": 0.25, "experts": 1 / 3, "shared_experts": 1 / 3}),
        (["model.layers.1.mlp.experts.5.gate_proj"], {"experts": 1 / 3 / 8 / 3}),
        (["model.layers.1.mlp.experts.5", "model.layers.1.mlp.experts.6"], {"experts": 2 / 3 / 8}),
        (["model.layers.*.mlp.shared_expert"], {"shared_experts": 1.0}),
        (["*down_proj"], {"mlp": 1 / 3, "experts": 1 / 3, "shared_experts": 1 / 3}),
        (["re:.*\\.mlp\\.(gate|up|down)_proj$"], {"mlp": 1.0}),
        (["re:^model\\.language_model\\.layers\\.[01]\\.self_attn"], {"attention": 0.5}),
    ],
)
def test_what_a_list_of_modules_leaves_out(entries: list[str], expected: dict[str, float]) -> None:
    assert shares(*entries) == pytest.approx(expected)


def test_gptqmodel_autoround_and_mlx_say_it_of_single_modules() -> None:
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    assert shares(**gptq, dynamic={r"-:.*\.self_attn\..*": {}, r"+:.*down_proj": {"bits": 4}}) == {"attention": 1.0}
    kept = {"model.layers.0.mlp.down_proj": {"bits": 16}}
    assert shares(quant_method="auto-round", bits=4, extra_config=kept) == pytest.approx({"mlp": 1 / 3})
    assert shares(quant_method="mlx", bits=4, **{"model.layers.0.mlp.down_proj": False}) == pytest.approx(
        {"mlp": 1 / 3}
    )
    assert shares(quant_method="mlx", bits=4, **{"model.layers.1.mlp.gate": {"bits": 8}}) == {}
    with pytest.raises(CatalogueError, match=r"'model.layers.0.mlp.down_proj' has bits 8, not 4: not supported"):
        shares(quant_method="mlx", bits=4, **{"model.layers.0.mlp.down_proj": {"bits": 8}})


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [("re:(", "not a regular expression"), ("x" * 2000, "expected at most 1000 characters")],
)
def test_a_malformed_pattern_is_named(entry: str, complaint: str) -> None:
    with pytest.raises(CatalogueError, match=complaint):
        shares(entry)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": -1,
          "modules_in_block_to_quantize": [["mlp.gate_proj", "mlp.up_proj"]]},
         {"attention": 1.0, "mlp": 1 / 3, "experts": 1.0, "shared_experts": 1.0}),
        ({"quant_method": "awq", "bits": 4, "group_size": -1, "modules_to_not_convert": ["attn", "down"]},
         {"attention": 1.0, "mlp": 1 / 3, "experts": 1 / 3, "shared_experts": 1 / 3}),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {
            "targets": ["re:.*mlp\\.experts\\..*"], "weights": {"type": "int", "num_bits": 4}}}},
         {"attention": 1.0, "mlp": 1.0, "shared_experts": 1.0}),
    ],
)  # fmt: skip
def test_a_scheme_may_name_what_alone_it_quantises(scheme: dict[str, Any], expected: dict[str, float]) -> None:
    model = published_as(moe_model(), scheme)
    assert model.native is not None
    assert {group.value: left.share for group, left in model.native.wider.items()} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scheme", "complaint"),
    [
        ({"quant_method": "fp8", "modules_to_not_convert": "self_attn"}, "expected a list of the names of modules"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": {"+:.*": {"group_size": 32}}},
         "has group_size 32, not 128: not supported"),
        ({"quant_method": "compressed-tensors", "config_groups": 3}, "expected weights of one dtype"),
        ({"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"},
          "config_groups": {"a": {"weights": {"type": "float", "num_bits": 8}}}}, "sparse weights are not supported"),
        ({"quant_method": "compressed-tensors", "format": "marlin-24",
          "config_groups": {"a": {"weights": {"type": "int", "num_bits": 4}}}}, "expected one of dense"),
        ({"bits": 4, "group_size": 64, "mode": "mxfp8"}, "mode = 'mxfp8' is not supported"),
        ({"bits": 4, "group_size": 64, "lm_head": {"bits": 8}, "model.embed_tokens": {"bits": 8}},
         "'model.embed_tokens' has bits 8, not 4: not supported"),
        ({"quant_method": "auto-round", "bits": 8, "data_type": "fp"}, "data_type = 'fp' is not supported"),
        ({"quant_method": "fp8", "weight_block_size": "1" * 5000}, "expected two whole numbers"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["re:(.+)+\\.zz$"]}, "repeats within repeats take too long"),
    ],
)  # fmt: skip
def test_what_would_be_a_guess_is_refused(scheme: dict[str, Any], complaint: str) -> None:
    with pytest.raises(CatalogueError) as fault:
        published_as(moe_model(), scheme)
    assert complaint in str(fault.value)


def test_formats_say_their_groups_themselves() -> None:
    mlx = published_as(moe_model(), {"bits": 4, "group_size": 32, "mode": "mxfp4", "lm_head": False})
    assert mlx.native is not None
    assert (mlx.native.dtype, mlx.native.group, [table.value for table in mlx.native.tables]) == (
        "mxfp4", None, ["embedding"]
    )  # fmt: skip
    auto = published_as(moe_model(), {"quant_method": "auto-round", "bits": 4, "group_size": 16, "data_type": "nv_fp"})
    assert auto.native is not None
    assert (auto.native.dtype, auto.native.group) == ("nvfp4", None)


def test_experts_beside_an_mlp_are_not_within_it() -> None:
    """Gemma 4 has layers.N.experts beside layers.N.mlp, which NVIDIA leaves out: its size was 186 % too large."""
    beside = moe_model(mlp_layers=4, moe={"layers": 4, "experts": 8, "experts_per_token": 2, "d_ff": 512})
    scheme = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.*.mlp*"]}
    model = published_as(beside, scheme)
    assert model.native is not None
    assert {group.value for group in model.native.wider} == {"mlp"}
    of_experts = published_as(beside, {**scheme, "modules_to_not_convert": ["re:.*layers\\.\\d+\\.experts.*"]})
    assert of_experts.native is not None
    assert {group.value for group in of_experts.native.wider} == {"experts"}


@pytest.mark.parametrize(
    ("model_type", "entry", "expected"),
    [
        ("mixtral", "gate", {"mlp": 1 / 3, "shared_experts": 1 / 3}),  # its experts are w1, w2 and w3
        ("qwen2_moe", "gate", {"mlp": 1 / 3, "shared_experts": 1 / 3, "experts": 1 / 3}),
        ("qwen2_moe", "mlp.gate", {"mlp": 1 / 3}),  # mlp.shared_expert.gate_proj and mlp.experts.0.gate_proj are apart
        ("hunyuan_v1_moe", "mlp.shared_mlp", {"shared_experts": 1.0}),
    ],
)
def test_a_part_of_a_name_is_one_of_the_names_that_a_model_has(
    model_type: str, entry: str, expected: dict[str, float]
) -> None:
    """AutoAWQ leaves out `gate`, the router, of Mixtral 8x7B, whose experts were counted as 16-bit: 69 GB for 25."""
    scheme = {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": [entry]}
    model = published_as(moe_model(), scheme, model_type)
    assert model.native is not None
    assert {group.value: left.share for group, left in model.native.wider.items()} == pytest.approx(expected)


def test_the_mixing_of_other_layers_is_left_out_whole_or_not_at_all() -> None:
    state = {"layers": 4, "parameters": 1000, "heads": 8, "state_bytes": 8}
    hybrid = moe_model(other_layers=[state])
    scheme = {"quant_method": "fp8", "modules_to_not_convert": ["linear_attn.in_proj_qkvz", "linear_attn.out_proj"]}
    model = published_as(hybrid, scheme)
    assert model.native is not None
    assert {group.value: left.share for group, left in model.native.wider.items()} == {"attention": 1.0}
    with pytest.raises(CatalogueError, match="names parts of the mixing of layer 0 alone"):
        published_as(hybrid, {**scheme, "modules_to_not_convert": ["linear_attn.out_proj"]})


def test_a_dtype_for_each_module() -> None:
    """ModelOpt's MIXED_PRECISION: attention in fp8, experts in nvfp4, the MLP in bf16."""
    layers = {f"model.layers.{at}.self_attn.{name}_proj": {"quant_algo": "FP8"} for at in range(4) for name in "qkvo"}
    layers |= {f"model.layers.{at}.mlp.{kind}": {"quant_algo": "NVFP4", "group_size": 16}
               for at in (1, 2, 3) for kind in ("experts", "shared_expert")}  # fmt: skip
    layers["lm_head"] = {"quant_algo": "NVFP4"}
    scheme = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    native = published_as(moe_model(), scheme).native
    assert native is not None
    assert (native.dtype, [table.value for table in native.tables]) == ("nvfp4", ["head"])
    assert {group.value: (left.dtype, left.share) for group, left in native.wider.items()} == {
        "attention": ("fp8", 1.0),
        "mlp": ("bf16", 1.0),
    }
    some = {name: entry for name, entry in layers.items() if "layers.0" not in name}
    some["model.layers.0.self_attn.q_proj"] = {"quant_algo": "NVFP4"}
    with pytest.raises(CatalogueError, match="attention has weights of three dtypes"):
        published_as(moe_model(), scheme | {"quantized_layers": some})
    with pytest.raises(CatalogueError, match="expected the quant_algo of each module"):
        published_as(moe_model(), scheme | {"quantized_layers": None})
