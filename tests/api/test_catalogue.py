from pathlib import Path

import pytest

import servesat
from servesat import CatalogueError
from servesat.catalogue.load import chip_ids
from servesat.fleet.spec import FleetSpec
from tests.helpers import ROOT


def test_a_listing_is_a_sequence_of_rows_and_an_entry_a_mapping() -> None:
    chips = servesat.chips()
    assert len(chips) == len(chip_ids())
    assert [row["id"] for row in chips] == chip_ids()
    assert servesat.chips("h200")["vendor"] == "NVIDIA"
    assert servesat.models("gpt-oss-120b")["native"]["dtype"] == "mxfp4"


def test_prices_narrow_down_and_are_sorted_for_a_chip() -> None:
    table = servesat.prices(chip="h100-sxm", purchase="spot").to_pandas()
    assert table["usd_per_chip_hour"].is_monotonic_increasing
    assert set(table["purchase"]) == {"spot"}


def test_a_file_may_be_named_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((ROOT / "models" / "llama-3-8b.toml").read_text())
    assert servesat.models(path)["layers"] == 32
    spec = servesat.Spec(model=path, workload={"context_tokens": 8192}, search={"chips": ["tpu-v5e"]})
    assert spec.model.layers == 32
    engine = tmp_path / "engine.toml"
    engine.write_text((ROOT / "engines" / "vllm-0.32.toml").read_text())
    assert [one.id for one in spec.changed({"engine": engine}).engine] == ["engine"]
    book = tmp_path / "book.toml"
    book.write_text((ROOT / "hardware" / "prices" / "list-2026-11.toml").read_text())
    chat = {"deployment": {"model": "llama-3-8b", "workload": {"prompt_tokens": 9, "output_tokens": 9}}, "demand": 1}
    fleet = FleetSpec.load({"regions": {"east": {"price_book": book}}, "workloads": {"chat": chat}})
    assert fleet.regions["east"].price_book.id == "book"
    with pytest.raises(CatalogueError, match="3: expected an id of the catalogue, or the path of a file"):
        servesat.chips(3)  # type: ignore[call-overload]


def test_an_unknown_name_has_the_nearest() -> None:
    for look_up, name, known in (
        (servesat.models, "qwen3-33b", "qwen3-32b"),
        (servesat.chips, "h201", "h200"),
        (servesat.engines, "vlm", "vllm-0.32"),
        (servesat.prices, "aws-2026-10", "aws-2026-11"),
    ):
        with pytest.raises(CatalogueError, match=f"did you mean .*'{known}'"):
            look_up(name)
