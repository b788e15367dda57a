import csv
import json
import tomllib
from datetime import date
from pathlib import Path

import jsonschema
import pytest

from servesat import CatalogueError
from servesat.catalogue.chip import Chip, chips_in
from servesat.catalogue.load import (
    chip_ids,
    json_schema,
    load_chip,
    load_model,
    load_price_book,
    model_ids,
    price_book_ids,
)
from servesat.catalogue.model import ModelSpec
from servesat.cost_model.memory import counted_parameters
from tests.helpers import ROOT, moe_model

NOT_FIGURES = {"id", "name", "vendor", "checked", "sources", "note"}


def test_the_catalogue_holds_what_the_book_needs() -> None:
    assert {"llama-3-8b", "llama-3-70b", "llama-3-405b", "llama-2-13b", "gemma-7b"} <= set(model_ids())
    assert {"tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "h100-sxm", "h200", "a100-80gb", "l4"} <= set(chip_ids())
    book = load_price_book("scaling-book-2025-02")
    assert {chip: price.usd_per_chip_hour for chip, (price,) in book.chips.items()} == {
        "tpu-v5e": 1.20, "tpu-v5p": 4.20, "h100-sxm": 10.80,
    }  # fmt: skip


FOLDERS = {"models": "models", "chips": "hardware/chips", "prices": "hardware/prices", "engines": "engines"}


@pytest.mark.parametrize("kind", FOLDERS)
def test_schema_is_generated_and_true_of_every_file(kind: str) -> None:
    folder = ROOT / FOLDERS[kind]
    schema = json.loads((folder / "schema.json").read_text())
    assert schema == json_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in folder.glob("*.toml"):
        validator.validate(json.loads(json.dumps(tomllib.loads(path.read_text()), default=str)))


def test_editors_are_told_which_schema_a_file_has() -> None:
    rules = tomllib.loads((ROOT / ".taplo.toml").read_text())["rule"]
    told = {rule["schema"]["path"]: rule["include"] for rule in rules}
    assert told == {f"{folder}/schema.json": [f"{folder}/*.toml"] for folder in FOLDERS.values()}


def test_the_schema_of_prices_knows_what_is_derived_and_what_is_wrong() -> None:
    book = {"name": "mine", "chips": {"l4": {"usd_per_instance_hour": 5, "instance_chips": 8, "source": "a contract"}}}
    jsonschema.validate(book, json_schema("prices"))
    for wrong in ({"usd_per_chip_hour": -1, "source": "x"}, {"usd_per_chip_hour": 1}, {"usd": 1, "source": "x"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"name": "mine", "chips": {"l4": wrong}}, json_schema("prices"))


def unsourced(entry: ModelSpec | Chip) -> set[str]:
    figures = {field for field in entry.model_fields_set if field not in NOT_FIGURES}
    return set() if "default" in entry.sources else figures - set(entry.sources)


@pytest.mark.parametrize("model_id", model_ids())
def test_a_model_is_sourced_dated_and_plausible(model_id: str) -> None:
    model = load_model(model_id)
    assert model.id == model_id
    assert not unsourced(model)
    assert model.checked is not None
    assert date(2025, 1, 1) <= model.checked <= date(2030, 1, 1)
    assert 16 <= model.layers <= 200
    assert 512 <= model.d_model <= 32768
    widths = [model.d_ff] if model.d_ff else []
    if model.moe is not None:
        visited = model.moe.experts_per_token * model.moe.d_ff * model.expert_width / model.d_model
        visited += model.moe.shared_d_ff
        beside = model.dense_layers + model.moe.layers > model.layers
        widths = [model.d_ff + visited] if beside else [*widths, visited]
        assert 2 <= model.moe.experts <= 1024
    assert all(1.4 <= width / model.d_model <= 10 for width in widths)
    assert model.head_dim in {64, 72, 80, 96, 128, 160, 192, 256, 512}
    assert 10_000 <= model.vocab_size <= 300_000


PUBLISHED = {
    row["model"]: row
    for row in csv.DictReader((ROOT / "tests" / "published" / "parameters.csv").read_text().splitlines())
}


@pytest.mark.parametrize("model_id", model_ids())
def test_a_model_has_the_parameters_that_its_publisher_says(model_id: str) -> None:
    """Within 0.5 %: a publisher may count an encoder or a prediction layer too, which the row then states."""
    row = PUBLISHED[model_id]
    counted = counted_parameters(load_model(model_id)) + float(row["beyond_the_shape"])
    assert counted == pytest.approx(float(row["published_parameters"]), rel=0.005)
    assert row["source"]


def test_the_catalogue_holds_what_a_user_expects() -> None:
    assert len(model_ids()) >= 70
    assert len(chip_ids()) >= 40
    assert set(PUBLISHED) == set(model_ids())


@pytest.mark.parametrize("chip_id", chip_ids())
def test_a_chip_is_sourced_dated_and_plausible(chip_id: str) -> None:
    chip = load_chip(chip_id)
    assert chip.id == chip_id
    assert not unsourced(chip)
    assert chip.checked is not None
    assert date(2025, 1, 1) <= chip.checked <= date(2030, 1, 1)
    assert 8e9 <= chip.hbm_bytes <= 5e11
    assert 1e11 <= chip.hbm_bytes_per_s <= 2e13
    assert all(5e13 <= peak <= 2e16 for peak in chip.flop_per_s.by_dtype().values())
    assert all(1e9 <= axis.bytes_per_s <= 2e12 for axis in chip.axes)
    assert max(map(chips_in, chip.topologies)) <= 10_000


@pytest.mark.parametrize(
    ("chip_id", "measured_gb"),
    [
        ("h100-sxm", 85.0296),  # init_total_memory in vLLM's logs: llm-d-planner
        ("mi300x", 206.137),  # vllm-project/vllm, issue 53961
        ("a100-80gb", 85.1477),  # ollama/ollama, issue 8930
        ("gaudi2", 101.597),  # HabanaAI/vllm-fork, issue 809
        ("tpu-v5e", 16.9114),  # vllm-project/tpu-inference, issue 3126
    ],
)
def test_a_chip_has_the_memory_that_engines_measured(chip_id: str, measured_gb: float) -> None:
    usable = load_chip(chip_id).usable_hbm_bytes
    assert usable == pytest.approx(measured_gb * 1e9, rel=0.02)


@pytest.mark.parametrize("chip_id", chip_ids())
def test_the_usable_memory_is_close_to_the_makers_figure(chip_id: str) -> None:
    """A GiB has 1.074 GB; ECC in GDDR memory takes a sixteenth."""
    chip = load_chip(chip_id)
    if chip.usable_hbm_bytes is not None:
        assert 0.9 <= chip.usable_hbm_bytes / chip.hbm_bytes <= 1.08


@pytest.mark.parametrize("book_id", price_book_ids())
def test_a_price_book_is_sourced_dated_and_of_known_chips(book_id: str) -> None:
    book = load_price_book(book_id)
    assert book.checked is not None
    assert set(book.chips) <= set(chip_ids())
    offers = [price for prices in book.chips.values() for price in prices]
    assert all(0.1 <= price.usd_per_chip_hour <= 50 for price in offers)
    places = [
        (chip, price.purchase, price.cloud, price.region, price.instance)
        for chip, prices in book.chips.items()
        for price in prices
    ]
    assert len(set(places)) == len(places)


def test_spot_costs_less_than_on_demand_where_both_are_sold() -> None:
    for book in map(load_price_book, price_book_ids()):
        for prices in book.chips.values():
            on_demand = {
                (one.region, one.instance): one.usd_per_chip_hour for one in prices if one.purchase == "on_demand"
            }
            for one in prices:
                if one.purchase == "spot":
                    assert one.usd_per_chip_hour < on_demand.get((one.region, one.instance), 1e9)


def test_an_unknown_id_names_the_nearest() -> None:
    with pytest.raises(CatalogueError, match=r"no chip 'tpu-v5ee' in the catalogue; did you mean 'tpu-v5e'"):
        load_chip("tpu-v5ee")


def test_a_path_is_read_relative_to_the_folder(tmp_path: Path) -> None:
    text = (ROOT / "models" / "llama-3-8b.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("layers = 32", "layers = 40"))
    model = load_model("mine.toml", tmp_path)
    assert (model.id, model.layers) == ("mine", 40)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("layers = 32", "layers = -1", "layers = -1: expected at least 1"),
        ("layers = 32", 'layers = "32"', "layers = '32': expected a whole number"),
        ("layers = 32", "layers = nan", "layers = nan: expected a whole number"),
        ("layers = 32", "layer = 32", "layer: unknown key; did you mean 'layers'"),
        ("kv_heads = 8", "kv_heads = 5", "query_heads = 32 is not a multiple of kv_heads = 5"),
        ("kv_heads = 8", "kv_heads = 8\nwindow_tokens = 5", "window_tokens and window_layers go together"),
        ("default =", "layerz =", "sources.layerz is not a field; did you mean 'layers'"),
        ("layers = 32", "layers = ", "malformed TOML"),
    ],
)
def test_a_malformed_model_file_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (ROOT / "models" / "llama-3-8b.toml").read_text()
    (tmp_path / "bad.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(CatalogueError, match=r"bad\.toml") as error:
        load_model("bad.toml", tmp_path)
    assert complaint in str(error.value)


def test_experts_that_alternate_need_room_to() -> None:
    """Three layers, each the second after the one before, take five."""
    experts = {"layers": 3, "every": 2, "experts": 8, "experts_per_token": 2, "d_ff": 64}
    assert moe_model(layers=5, moe=experts).moe is not None
    with pytest.raises(ValueError, match=r"moe\.every = 2: 3 layers need 5, more than layers = 4"):
        moe_model(layers=4, moe=experts)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"2x2"', '"2x2x2"', "'2x2x2' has 3 sizes, expected 2, one an axis"),
        ('"2x2"', '"2*2"', "'2*2': expected chips along each axis"),
        ('"2x2"', '"0x2"', "'0x2': expected chips along each axis"),
        ('"2x2"', '"02x2"', "'02x2': expected chips along each axis"),
        ('"2x2"', '"1x1"', "'1x1' is listed twice"),
        ('"2x2"', '"2000x2000"', "'2000x2000': expected at most 1,000,000 chips"),
        ("bf16 = 197_000_000_000_000\nint8 = 394_000_000_000_000", "", "expected the peak of at least one dtype"),
        ("hbm_bytes = 16_000_000_000", "hbm_bytes = inf", "hbm_bytes = inf: expected a finite number"),
    ],
)
def test_a_malformed_chip_file_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (ROOT / "hardware" / "chips" / "tpu-v5e.toml").read_text()
    assert old in text
    (tmp_path / "bad.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(CatalogueError) as error:
        load_chip("bad.toml", tmp_path)
    assert complaint in str(error.value)


def test_a_configuration_that_names_no_repository_is_named_after_its_file(tmp_path: Path) -> None:
    config = (Path(__file__).parent / "deepseek-v3.json").read_text()
    plain = {name: value for name, value in json.loads(config).items() if name != "_name_or_path"}
    for place, name in (("My-Chat.json", "My-Chat"), ("folder/config.json", "folder")):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(json.dumps(plain))
        model = load_model(place, tmp_path)
        assert (model.name, model.id) == (name, name)
    named = {**plain, "_name_or_path": "owner/name"}
    (tmp_path / "My-Chat.json").write_text(json.dumps(named))
    assert load_model("My-Chat.json", tmp_path).name == "owner/name"
