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


def published_as(model: ModelSpec, scheme: dict[str, Any]) -> ModelSpec:
    """A model, its layers with experts last, quantised so."""
    shape = model.model_dump(exclude_none=True, exclude={"native", "nominal_parameters", "sources"})
    with_experts = range(model.layers - (model.moe.layers if model.moe else 0), model.layers)
    config = ConfigJson({"quantization_config": scheme}, "config.json", "a config.json")
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
    with pytest.raises(CatalogueError, match=r"'model.layers.0.mlp.down_proj' has 8 bits, not 4: not supported"):
        shares(quant_method="mlx", bits=4, **{"model.layers.0.mlp.down_proj": {"bits": 8}})


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [("re:(", "not a regular expression"), ("x" * 2000, "expected at most 1000 characters")],
)
def test_a_malformed_pattern_is_named(entry: str, complaint: str) -> None:
    with pytest.raises(CatalogueError, match=complaint):
        shares(entry)
