import re
from pathlib import Path

import pytest

from servesat import Spec, SpecError
from servesat.deployment.solve import solve
from servesat.questions.scenarios import takes_list
from servesat.replay.replayed import limits_of
from servesat.spec.overrides import parse_override
from tests.helpers import ON_32_CHIPS, ROOT
from tests.spec.texts import BASE, read

NAMED = {
    "cost_model": "ideal",
    "model": "llama-3-70b",
    "workload": {"context_tokens": 8192},
    "search": {"chips": ["tpu-v5e", "h100-sxm"]},
}


def test_a_quota_of_a_chip_that_is_no_longer_searched_goes_with_it() -> None:
    own = {**Spec.load(ON_32_CHIPS).offers[0].chip.model_dump(mode="json"), "id": "mine", "name": "mine"}
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": "llama-3-8b",
            "workload": {"context_tokens": 4096},
            "search": {"chips": ["h100-sxm", {**own, "usd_per_chip_hour": 1.0}], "quota": {"mine": 8}},
        }
    )
    assert spec.changed({"search.chips": ["h100-sxm"]}).search.quota == {}


def test_overrides_make_the_mappings_on_their_way(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(BASE)
    spec = Spec.load(path, dict([parse_override("slo.tpot_ms=20"), parse_override("search.chips=[tpu-v5e]")]))
    assert spec.slo.tpot_ms == 20
    assert [offer.chip.id for offer in spec.offers] == ["tpu-v5e"]


@pytest.mark.parametrize("text", ["foo", "=3", "a..b=3", "slo.tpot_ms=["])
def test_a_malformed_override_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        parse_override(text)


def test_an_override_below_a_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"headroom = 0.1, expected a mapping to set x in"):
        Spec.load(
            {"cost_model": "ideal", "model": "llama-3-70b", "workload": {"context_tokens": 1}, "headroom": 0.1},
            {"headroom.x": 3},
        )


def test_fields_of_a_named_model_and_chip_can_be_changed() -> None:
    overrides = {
        "model.kv_heads": 64, "chip.tpu-v5e.hbm_bytes": 32e9, "chip.tpu-v5e.axes.1.bytes_per_s": 1e11,
        "chip.tpu-v5e.flop_per_s.fp8": 4e14, "slo.tpot_ms": 20,
    }  # fmt: skip
    for spec in (Spec.load(NAMED, overrides), Spec.load(NAMED).changed(overrides)):
        chip, other = (offer.chip for offer in spec.offers)
        assert (spec.model.kv_heads, spec.model.layers, spec.slo.tpot_ms) == (64, 80, 20)
        assert (chip.hbm_bytes, chip.axes[0].bytes_per_s, chip.axes[1].bytes_per_s) == (32e9, 9e10, 1e11)
        assert chip.flop_per_s.by_dtype()["fp8"] == 4e14
        assert other == Spec.load(NAMED).offers[1].chip


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model.kv_heads": 3}, "model: query_heads = 64 is not a multiple of kv_heads = 3"),
        ({"model.layerz": 3}, "model.layerz: unknown key; did you mean 'layers'"),
        ({"chip.tpu-v5e.hbm_bytes": -1}, "chip.tpu-v5e.hbm_bytes = -1: expected at least 1"),
        ({"chip.a100.hbm_bytes": 1e9}, "chip.a100: no such chip; did you mean 'a100-40gb'"),
        ({"chip.tpu-v5e.axes.7.bytes_per_s": 1e9}, "7: expected a position from 0 to 1"),
    ],
)
def test_a_change_of_a_field_is_checked_by_its_schema(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(SpecError, match=re.escape(complaint)):
        Spec.load(NAMED).changed(changes)


def test_a_changed_spec_still_finds_files_beside_it_and_names_its_own(tmp_path: Path) -> None:
    shape = "layers = 2\nd_model = 8\nd_ff = 8\nquery_heads = 2\nkv_heads = 1\nhead_dim = 4\nvocab_size = 8\n"
    (tmp_path / "mine.toml").write_text("name = 'mine'\n" + shape)
    spec = read(tmp_path, BASE)
    assert spec.changed({"model": "./mine.toml"}).model.layers == 2
    with pytest.raises(SpecError, match=r"spec\.yaml: slo.tpot_ms = -1"):
        spec.changed({"slo.tpot_ms": -1})


def test_a_shape_changed_below_a_nominal_size_is_noted() -> None:
    spec = Spec.load(NAMED)
    assert "nominal_parameters stays 7e+10" in spec.notes_on({"model.kv_heads": 64})[0]
    assert spec.notes_on({"model.kv_heads": 64, "model.nominal_parameters": None}) == ()
    assert spec.notes_on({"slo.tpot_ms": 1}) == ()


def test_what_a_spec_says_of_a_chip_outlives_another_search(tmp_path: Path) -> None:
    chip = (ROOT / "hardware" / "chips" / "tpu-v5e.toml").read_text()
    (tmp_path / "mine.toml").write_text("usd_per_chip_hour = 5.0\n" + chip)
    spec = read(tmp_path, BASE + "search: {chips: [./mine.toml]}\nprice: {mine: 0.5}\n")
    for again in ("./mine.toml", "mine"):  # by its path, and by the id that it has in the spec
        changed = spec.changed({"search.chips": [again, "tpu-v6e"]})
        assert [offer.usd_per_chip_hour for offer in changed.offers] == [0.5, 2.7]
    assert spec.changed({"search.chips": ["tpu-v6e"]}).price == {}


def test_a_changed_chip_leaves_the_search_as_it_is() -> None:
    spec = Spec.load(
        {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 1}},
        {"chip.tpu-v5e.hbm_bytes": 17e9},
    )
    assert spec.search.chips is None
    assert {offer.chip.id: offer.chip.hbm_bytes for offer in spec.offers}["tpu-v5e"] == 17e9
    assert "l4" in {offer.chip.id for offer in spec.changed({"price.l4": 0.5}).offers}
    book = spec.changed({"price_book": "scaling-book-2025-02"})
    assert {offer.chip.id: offer.chip.hbm_bytes for offer in book.offers}["tpu-v5e"] == 17e9


def test_ids_of_chips_may_have_dots() -> None:
    chip = Spec.load(NAMED).offers[0].chip.model_copy(update={"id": "My Chip 1.5"})
    keys = {"price.My Chip 1.5": 2.0, "chip.My Chip 1.5.hbm_bytes": 1e10, "search.topologies.My Chip 1.5": ["2x2"]}
    spec = Spec.load({**NAMED, "search": {"chips": [chip]}}, keys)
    (offer,) = spec.offers
    assert (offer.usd_per_chip_hour, offer.chip.hbm_bytes, spec.topologies_of(offer.chip)) == (2.0, 1e10, ("2x2",))
    assert takes_list("search.topologies.My Chip 1.5")


def test_memory_that_a_driver_reports_changes_with_the_round_figure_unless_it_is_given() -> None:
    """An H100 reports 85.52 of 80 GB; with twice the memory twice as much, and a chip holds 70B."""
    base = Spec.load(
        {
            "model": "llama-3.1-70b", "engine": "vllm", "workload": {"prompt_tokens": 20_000, "output_tokens": 200},
            "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["4x1"]}}, "price": {"h100-sxm": 3},
            "speculative": "none",
        }
    )  # fmt: skip
    (own,), (twice,) = base.chips, base.changed({"chip.h100-sxm.hbm_bytes": 160e9}).chips
    assert twice.usable_hbm_bytes == pytest.approx(2 * own.usable_hbm_bytes)
    (both,) = base.changed({"chip.h100-sxm.hbm_bytes": 160e9, "chip.h100-sxm.usable_hbm_bytes": 150e9}).chips
    assert both.usable_hbm_bytes == 150e9
    plans = [solve(base.changed({"chip.h100-sxm.hbm_bytes": size})).plan for size in (80e9, 160e9)]
    assert [plan is not None and plan.replicas for plan in plans] == [1, 4]  # 70 GB of fp8 then fit on one chip


def test_a_changed_limit_takes_the_place_of_its_percentiles() -> None:
    base = Spec.load(
        {
            "model": "llama-3-8b", "workload": {"prompt_tokens": 10, "output_tokens": 5, "requests_per_s": 1},
            "slo": {"ttft_ms": {"p99": 800, "p50": 200}, "tpot_ms": {"p99": 50}},
        }
    )  # fmt: skip

    def limits(**changes: object) -> list[tuple[str, float, float]]:
        spec = base.changed({f"slo.{key.replace('__', '.')}": value for key, value in changes.items()})
        return [(one.requirement, one.share, round(one.limit_s * 1e3)) for one in limits_of(spec)]

    tpot = ("tpot", 0.99, 50)
    assert limits() == [("ttft", 0.99, 800), ("ttft", 0.5, 200), tpot]
    assert limits(ttft_ms=None) == [tpot]
    assert limits(ttft_ms=300) == [("ttft", 0.95, 300), tpot]
    assert limits(ttft_ms={"p90": 300}) == [("ttft", 0.9, 300), tpot]
    assert limits(percentiles__ttft_ms__p99=100) == [("ttft", 0.99, 100), ("ttft", 0.5, 200), tpot]
    assert base.changed({"slo.percentiles.ttft_ms.p99": 100}).slo.ttft_ms == 100


def test_a_change_without_a_dotted_key_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"changes: 3: expected dotted keys, such as slo\.tpot_ms"):
        Spec.load({"model": "llama-3-8b", "workload": {"context_tokens": 1}}).changed({3: 4})  # type: ignore[dict-item]
