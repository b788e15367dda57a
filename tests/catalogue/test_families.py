"""Models of each family, by their published shape: parameters, and the KV cache of a token.

The parameters are those of an instance of the public model class (transformers 5.24.0), norms and biases included; the
caches follow from the class. GLM-5.1's and others' figures that depend on storage are in test_memory.
"""

import csv
import json
from pathlib import Path

import pytest

from servesat.catalogue.families import FAMILIES, WRAPPERS
from servesat.catalogue.load import load_model
from servesat.catalogue.template import model_template
from servesat.cost_model.memory import counted_parameters
from servesat.cost_model.storage import Storage
from tests.catalogue.configs import read

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "published/families.csv").read_text().splitlines()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_a_model_has_its_published_size(tmp_path: Path, row: dict[str, str]) -> None:
    model = read(tmp_path, json.loads(row["config"]))
    assert counted_parameters(model) == pytest.approx(float(row["parameters"]), rel=5e-4)
    state, one, two = (Storage(model).kv_cache_bytes("bf16", tokens) for tokens in (0, 1, 2))
    within_every_window = float(row["kv_bytes_per_token"]) + float(row["window_kv_bytes_per_token"] or 0)
    assert one - state == two - one == within_every_window
    assert state == float(row["state_bytes"] or 0)


def test_every_wrapper_names_types_that_are_known() -> None:
    assert not {text for allowed in WRAPPERS.values() for text in allowed} - FAMILIES.keys()


def test_the_template_of_a_model_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(model_template())
    model = load_model("new.toml", tmp_path)
    assert (model.layers, model.d_ff) == (32, 14336)
    with_experts = model_template().replace("# [moe]", "[moe]")
    for name in ("layers", "experts", "experts_per_token", "d_ff"):
        with_experts = with_experts.replace(f"\n# {name} = ", f"\n{name} = ")
    (tmp_path / "new.toml").write_text(with_experts.replace("d_ff = 14336", "", 1))
    assert load_model("new.toml", tmp_path).moe is not None
