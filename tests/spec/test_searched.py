from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError
from servesat.catalogue.load import load_calibration
from tests.spec.texts import BASE, read


def test_defaults(tmp_path: Path) -> None:
    spec = read(tmp_path, BASE)
    assert spec.weights == ("bf16", "int8")
    assert read(tmp_path, BASE.replace("llama-3-70b", "gpt-oss-20b")).weights == ("mxfp4", "bf16", "int8")
    assert spec.kv_cache == ("bf16", "int8")
    assert spec.compute == ("bf16",)
    assert (spec.search.max_batch, spec.search.max_chips, spec.slo.tpot_ms) == (4096, None, None)
    assert (spec.cost_model, spec.ici, spec.headroom) == ("ideal", None, None)
    assert [offer.chip.id for offer in spec.offers] == sorted(spec.price_book.chips)
    v5p = next(offer.chip for offer in spec.offers if offer.chip.id == "tpu-v5p")
    assert (spec.topologies_of(v5p)[0], spec.topologies_of(v5p)[-1]) == ("2x2x1", "16x16x24")


def test_defaults_of_production() -> None:
    asked = {"model": "llama-3-8b", "workload": {"prompt_tokens": 100, "output_tokens": 10}}
    spec = Spec.load(asked)
    assert spec.calibration == load_calibration()
    assert spec.engine_ids == ("vllm-0.32", "sglang-0.5.23", "trtllm-1.3", "vllm-tpu-0.32")
    assert (spec.price_book.id, spec.buy) == ("all", "instances")
    assert Spec.load({**asked, "buy": "share", "engine": "none"}).engine_ids == ("",)
    assert Spec.load({**asked, "cost_model": "ideal"}).buy == "share"


def test_a_price_in_the_spec_goes_before_the_chips_own_and_that_before_the_book(tmp_path: Path) -> None:
    chip = Spec.load({"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 1}}).offers[0].chip
    own = chip.model_copy(update={"usd_per_chip_hour": 2.5})

    def price(chip: object, **keys: Any) -> float:
        spec = {
            "cost_model": "ideal",
            "model": "llama-3-8b",
            "workload": {"context_tokens": 1},
            "search": {"chips": [chip]},
            **keys,
        }
        return Spec.load(spec).offers[0].usd_per_chip_hour

    assert price("a100-80gb", price_book="list-2026-11") == 3.43088125
    assert price(own) == 2.5
    assert price(own, price={chip.id: 9}) == 9


def test_a_price_brings_an_unpriced_chip_into_the_default_search(tmp_path: Path) -> None:
    assert "l4" not in [offer.chip.id for offer in read(tmp_path, BASE).offers]
    assert "l4" in [offer.chip.id for offer in read(tmp_path, BASE + "price: {l4: 0.8}\n").offers]


def test_one_axis_topologies_may_be_written_as_numbers(tmp_path: Path) -> None:
    chip = (
        "{name: c, vendor: v, hbm_bytes: 8e10, hbm_bytes_per_s: 1e12, flop_per_s: {bf16: 1e14}, usd_per_chip_hour: 1,"
        " axes: [{name: x, bytes_per_s: 1e11}], topologies: [1, 2, 4]}"
    )
    spec = read(tmp_path, BASE + f"search: {{chips: [{chip}], topologies: {{c: [4]}}}}\n")
    assert spec.offers[0].chip.topologies == ("1", "2", "4")
    assert spec.topologies_of(spec.offers[0].chip) == ("4",)


def test_a_chip_without_a_price_is_left_out_with_a_note() -> None:
    raw = {
        "cost_model": "ideal",
        "model": "llama-3-8b",
        "workload": {"context_tokens": 4096},
        "search": {"chips": ["h100-sxm", "l4"], "topologies": {"l4": ["1"]}},
    }
    spec = Spec.load(raw)
    assert [offer.chip.id for offer in spec.offers] == ["h100-sxm"]
    assert "search.chips: l4 has no price in list-2026-11, and is left out" in spec.notes
    assert [offer.chip.id for offer in Spec.load({**raw, "price": {"l4": 0.8}}).offers] == ["h100-sxm", "l4"]
    with pytest.raises(SpecError, match=r"l4 has no price in list-2026-11; add `price"):
        Spec.load({**raw, "search": {"chips": ["l4"]}})
    with pytest.raises(SpecError, match=r"search.topologies.l4: '3' is not offered"):
        Spec.load({**raw, "search": {**raw["search"], "topologies": {"l4": ["3"]}}})
