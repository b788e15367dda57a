import re
from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError
from servesat.questions.scenarios import takes_list, takes_whole_number, type_at
from servesat.spec.overrides import parse_override

BASE = "model: llama-3-70b\nworkload: {context_tokens: 8192}\n"
V5E = BASE + "search: {chips: [tpu-v5e]}\n"


def read(tmp_path: Path, text: str | bytes) -> Spec:
    path = tmp_path / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Spec.load(path)


def test_defaults(tmp_path: Path) -> None:
    spec = read(tmp_path, BASE)
    assert spec.weights == ("bf16", "int8")
    assert read(tmp_path, BASE.replace("llama-3-70b", "gpt-oss-20b")).weights == ("mxfp4", "bf16", "int8")
    assert spec.search.kv_cache == ("bf16", "int8")
    assert spec.search.compute == ("bf16",)
    assert (spec.search.max_batch, spec.search.max_chips, spec.slo.tpot_ms) == (4096, None, None)
    assert (spec.cost_model, spec.ici, spec.headroom) == ("ideal", "forbid", 0.0)
    assert [offer.chip.id for offer in spec.offers] == sorted(spec.price_book.chips)
    v5p = next(offer.chip for offer in spec.offers if offer.chip.id == "tpu-v5p")
    assert (spec.topologies_of(v5p)[0], spec.topologies_of(v5p)[-1]) == ("2x2x1", "16x16x24")


def test_a_price_in_the_spec_goes_before_the_chips_own_and_that_before_the_book(tmp_path: Path) -> None:
    chip = Spec.load({"model": "llama-3-8b", "workload": {"context_tokens": 1}}).offers[0].chip
    own = chip.model_copy(update={"usd_per_chip_hour": 2.5})

    def price(chip: object, **keys: Any) -> float:
        spec = {"model": "llama-3-8b", "workload": {"context_tokens": 1}, "search": {"chips": [chip]}, **keys}
        return Spec.load(spec).offers[0].usd_per_chip_hour

    assert price("a100-80gb", price_book="list-2026-11") == 3.43088125
    assert price(own) == 2.5
    assert price(own, price={chip.id: 9}) == 9


def test_a_price_brings_an_unpriced_chip_into_the_default_search(tmp_path: Path) -> None:
    assert "l4" not in [offer.chip.id for offer in read(tmp_path, BASE).offers]
    assert "l4" in [offer.chip.id for offer in read(tmp_path, BASE + "price: {l4: 0.8}\n").offers]


def test_numbers_are_read_as_yaml_1_2_writes_them(tmp_path: Path) -> None:
    model = "{name: m, layers: 2, d_model: 512, d_ff: 1024, query_heads: 8, kv_heads: 8, head_dim: 64, vocab_size: 10"
    spec = read(tmp_path, f"model: {model}, nominal_parameters: 7e9}}\nworkload: {{context_tokens: 10}}\n")
    assert spec.model.nominal_parameters == 7e9
    for text, value in (("010", 10), ("1_000", 1000), ("+12", 12)):
        assert read(tmp_path, BASE.replace("8192", text)).workload.context_tokens == value
    for text, number in ((".5", 0.5), ("1.", 1.0), ("2E3", 2000.0), ("15", 15.0)):
        assert read(tmp_path, BASE + f"slo: {{tpot_ms: {text}}}\n").slo.tpot_ms == number


def test_one_axis_topologies_may_be_written_as_numbers(tmp_path: Path) -> None:
    chip = (
        "{name: c, vendor: v, hbm_bytes: 8e10, hbm_bytes_per_s: 1e12, flop_per_s: {bf16: 1e14}, usd_per_chip_hour: 1,"
        " axes: [{name: x, bytes_per_s: 1e11}], topologies: [1, 2, 4]}"
    )
    spec = read(tmp_path, BASE + f"search: {{chips: [{chip}], topologies: {{c: [4]}}}}\n")
    assert spec.offers[0].chip.topologies == ("1", "2", "4")
    assert spec.topologies_of(spec.offers[0].chip) == ("4",)


def test_notes_name_what_has_no_effect(tmp_path: Path) -> None:
    book = 'name = "mine"\n' + "".join(
        f'[chips.{chip}]\nusd_per_chip_hour = 1.0\nsource = "an offer"\n' for chip in ("tpu-v5", "tpu-v5e", "h200")
    )
    (tmp_path / "mine.toml").write_text(book)
    spec = read(tmp_path, BASE + "price_book: mine.toml\nsearch: {compute: [fp8]}\n")
    assert spec.notes == (
        "tpu-v5e has no peak in fp8, so no plan on it was searched",
        "mine prices tpu-v5, no known chip; did you mean 'tpu-v5p' or 'tpu-v5e' or 'tpu-v4'?",
    )


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "models" / "llama-3-8b.toml"
    (tmp_path / "mine.toml").write_text(source.read_text())
    assert read(tmp_path, "model: mine.toml\nworkload: {context_tokens: 10}\n").model.id == "mine"


def test_overrides_make_the_mappings_on_their_way(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(BASE)
    spec = Spec.load(path, dict([parse_override("slo.tpot_ms=20"), parse_override("search.chips=[tpu-v5e]")]))
    assert spec.slo.tpot_ms == 20
    assert [offer.chip.id for offer in spec.offers] == ["tpu-v5e"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            BASE.replace("llama-3-70b", "llama-3-07b"),
            "model = 'llama-3-07b': no model 'llama-3-07b' in the catalogue; did",
        ),
        (BASE + "search: {chips: [tpu-v5]}\n", "search.chips.0 = 'tpu-v5': no chip 'tpu-v5' in the catalogue; did you"),
        (BASE + "serch: {}\n", "serch: unknown key; did you mean 'search'"),
        (BASE + "slo: {tpot: 3}\n", "slo.tpot: unknown key; did you mean 'tpot_ms'"),
        (BASE + "slo: {tpot_ms: -5}\n", "slo.tpot_ms = -5: expected a number greater than 0"),
        (BASE + "slo: {tpot_ms: 0}\n", "slo.tpot_ms = 0: expected a number greater than 0"),
        (BASE + "slo: {tpot_ms: .nan}\n", "slo.tpot_ms = nan: expected a finite number"),
        (BASE + "slo: {tpot_ms: .inf}\n", "slo.tpot_ms = inf: expected a finite number"),
        (BASE + "slo: {tpot_ms: '15'}\n", "slo.tpot_ms = '15': expected a number"),
        (BASE + "slo: {tpot_ms: " + "9" * 400 + "}\n", "expected a number"),
        (BASE + "slo: {tpot_ms: " + "9" * 5000 + "}\n", "malformed YAML"),
        (BASE + "slo: {min_tokens_per_s: 0}\n", "slo.min_tokens_per_s = 0: expected a number greater than 0"),
        (BASE + "slo:\n", "slo = None: expected a mapping"),
        (BASE.replace("8192", "0"), "workload.context_tokens = 0: expected at least 1"),
        (BASE.replace("8192", "8192.5"), "workload.context_tokens = 8192.5: expected a whole number"),
        (BASE.replace("8192", "true"), "workload.context_tokens = True: expected a whole number"),
        (BASE.replace("8192", "9999999999999"), "workload.context_tokens = 9999999999999: expected at most"),
        (
            BASE.replace("context_tokens", "prompt_tokens"),
            "expected context_tokens, or prompt_tokens and output",
        ),
        (BASE.replace("8192", "8192, prompt_tokens: 1"), "expected context_tokens, or prompt_tokens and output"),
        (BASE.replace("8192", "8192, requests_per_s: 1"), "requests_per_s needs prompt_tokens and output_tokens"),
        (BASE.replace("8192", "8192, prefix_cache_hit: 0.5"), "prefix_cache_hit needs prompt_tokens and output_tokens"),
        (BASE + "slo: {ttft_ms: 3}\n", "slo.ttft_ms: decode_only has no first token"),
        (BASE + "search: {modes: [chunked]}\n", "chunked needs workload.prompt_tokens and workload.output_tokens"),
        (BASE + "search: {modes: [fast]}\n", "search.modes.0 = 'fast'"),
        (BASE + "search: {min_batch: 9, max_batch: 8}\n", "search.min_batch = 9 is more than search.max_batch = 8"),
        (BASE + "search: {quota: {tpu-v9: 8}}\n", "search.quota.tpu-v9: no such chip"),
        (BASE + "utilisation: 0\n", "utilisation = 0: expected a number greater than 0"),
        (BASE + "prefill_mfu: 1.5\n", "prefill_mfu = 1.5: expected at most 1"),
        (BASE + "search: {chips: []}\n", "search.chips = []: expected a list"),
        (BASE + "search: {chips: tpu-v5e}\n", "search.chips = 'tpu-v5e': expected a list"),
        (
            BASE + "search: {chips: [tpu-v5e, tpu-v5e]}\n",
            "search.chips.1: a chip with the id 'tpu-v5e' is already listed",
        ),
        (BASE + "search: {chips: [l4]}\n", "search.chips: l4 has no price in list-2026-11; add"),
        (BASE + "search: {chips: [{name: x}]}\n", "search.chips.0.hbm_bytes is missing"),
        (BASE + "search: {weights: []}\n", "search.weights = []: expected at least 1 entry"),
        (BASE + "search: {weights: [int8, int8]}\n", "search.weights: 'int8' is listed twice"),
        (
            BASE + "search: {weights: [int3]}\n",
            "search.weights.0 = 'int3': expected one of 'bf16', 'fp8', 'int8', 'int4', 'mxfp4' or 'nvfp4'",
        ),
        (V5E.replace("]}", "], compute: [fp8]}"), "no chip searched has a peak for these dtypes (tpu-v5e: bf16, int8)"),
        (
            V5E.replace("]}", "], topologies: {tpu-v5e: [4x2]}}"),
            "'4x2' is not offered; did you mean '2x4'? offered: 1x1",
        ),
        (V5E.replace("]}", "], topologies: {tpu-v5p: [4x4x4]}}"), "tpu-v5p: is not among the chips searched: tpu-v5e"),
        (
            V5E.replace("]}", "], topologies: {tpu-v5e: []}}"),
            "search.topologies.tpu-v5e = []: expected at least 1 entry",
        ),
        (V5E.replace("]}", "], max_batch: 0}"), "search.max_batch = 0: expected at least 1"),
        (V5E.replace("]}", "], max_chips: 0}"), "search.max_chips = 0: expected at least 1"),
        (
            V5E.replace("]}", "], max_usd_per_hour: -1}"),
            "search.max_usd_per_hour = -1: expected a number greater than 0",
        ),
        (BASE + "headroom: 1\n", "headroom = 1: expected a number less than 1"),
        (BASE + "ici: maybe\n", "ici = 'maybe': expected one of 'forbid' or 'pay'"),
        (BASE + "cost_model: real\n", "cost_model = 'real': expected one of 'ideal'"),
        (
            BASE + "price_book: nope\n",
            "price_book = 'nope': no price book 'nope' in the catalogue; known: aws-2026-11",
        ),
        (BASE + "price: {tpu-v5x: 2}\n", "price.tpu-v5x: no such chip; did you mean"),
        (BASE + "price: {tpu-v5e: 1e-300}\n", "price.tpu-v5e = 1e-300: expected at least 1e-09"),
        (BASE + "price: {tpu-v5e: 0}\n", "price.tpu-v5e = 0: expected at least 1e-09"),
        ("model: 5\nworkload: {context_tokens: 1}\n", "model = 5: expected an id, the path of a file, or a mapping"),
        ("model: {name: x}\nworkload: {context_tokens: 1}\n", "model.layers is missing"),
        ("model: none.json\nworkload: {context_tokens: 1}\n", "none.json: no such file"),
        ("model: [a\nfoo: }\n", "malformed YAML: line 2, column 4"),
        ("model: &a x\nworkload: *a\n", "malformed YAML: line 2, column 11: aliases are not supported"),
        (BASE + "model: x\n", "malformed YAML: line 3, column 1: 'model' is written twice"),
        ("a: " + "[" * 5000, "malformed YAML: nested too deeply"),
        (BASE.replace("8192", '!!int ""'), "malformed YAML"),
        (BASE + 'headroom: !!float ""\n', "malformed YAML"),
        (BASE + "headroom: !!bool maybe\n", "malformed YAML"),
        (BASE + "headroom: !!timestamp x\n", "malformed YAML"),
        (BASE + "slo: {tpot_ms: 1:30}\n", "slo.tpot_ms = '1:30': expected a number"),
        (BASE + "slo: {tpot_ms: 1e-320}\n", "slo.tpot_ms: 1e-320: expected at least 1e-09"),
        (BASE + "slo: {min_tokens_per_s: 1e-320}\n", "slo.min_tokens_per_s: 1e-320: expected at least 1e-09"),
        ("hello\n", "expected a mapping with the keys model, workload"),
        ("", "expected a mapping with the keys model, workload"),
        (BASE + "5: 3\n", "5 = 5: Keys should be strings"),
        (bytes(range(256)), "cannot be read: is not UTF-8 text"),
        ("#" * 1_000_001, "1,000,001 bytes, expected at most 1,000,000"),
    ],
)
def test_a_malformed_spec_is_named_with_file_key_value_and_what_was_expected(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, text)
    assert complaint in str(error.value)
    assert all(line.startswith(str(tmp_path / "spec.yaml")) for line in str(error.value).splitlines())


def test_every_fault_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, BASE + "slo: {tpot_ms: -1, ttft: 3}\nheadroom: 2\n")
    assert len(str(error.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["foo", "=3", "a..b=3", "slo.tpot_ms=["])
def test_a_malformed_override_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--set"):
        parse_override(text)


def test_an_override_below_a_plain_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"headroom = 0.1, expected a mapping to set x in"):
        Spec.load({"model": "llama-3-70b", "workload": {"context_tokens": 1}, "headroom": 0.1}, {"headroom.x": 3})


NAMED = {"model": "llama-3-70b", "workload": {"context_tokens": 8192}, "search": {"chips": ["tpu-v5e", "h100-sxm"]}}


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
        ({"chip.a100.hbm_bytes": 1e9}, "chip.a100: no such chip; did you mean 'a10'"),
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


@pytest.mark.parametrize(
    ("key", "is_list", "is_whole"),
    [
        ("search.weights", True, False),
        ("search.chips", True, False),
        ("search.topologies.tpu-v5e", True, False),
        ("search.max_batch", False, True),
        ("workload.context_tokens", False, True),
        ("model.kv_heads", False, True),
        ("chip.tpu-v5e.axes.0.bytes_per_s", False, False),
        ("price.tpu-v5e", False, False),
        ("slo.tpot_ms", False, False),
    ],
)
def test_the_type_of_a_key(key: str, is_list: bool, is_whole: bool) -> None:
    assert (takes_list(key), takes_whole_number(key)) == (is_list, is_whole)


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("slo.tpott", "slo.tpott: unknown key; did you mean 'tpot_ms'?"),
        ("sla", "sla: unknown key; did you mean 'slo'?"),
        ("chip.tpu-v5e.hbm", "chip.tpu-v5e.hbm: unknown key; did you mean 'hbm_bytes'?"),
        ("slo.tpot_ms.x", "slo.tpot_ms.x: no keys below, so no x"),
        ("chip.tpu-v5e", "expected a field of the chip"),
        ("price_book.chips.tpu-v5e.usd_per_chip_hour", "give one of yours, as in price.tpu-v5e"),
        ("search.chips.0.hbm_bytes", "expected a whole list"),
        ("chip.tpu-v5e.axes.².bytes_per_s", "no keys below, so no ²"),
    ],
)
def test_a_key_that_does_not_exist_has_no_type(key: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=re.escape(complaint)):
        type_at(key)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        Spec.load(tmp_path / "none.yaml")
    with pytest.raises(SpecError, match="is a folder"):
        Spec.load(tmp_path)


def test_what_a_spec_says_of_a_chip_outlives_another_search(tmp_path: Path) -> None:
    chip = (Path(__file__).parents[1] / "hardware" / "chips" / "tpu-v5e.toml").read_text()
    (tmp_path / "mine.toml").write_text("usd_per_chip_hour = 5.0\n" + chip)
    spec = read(tmp_path, BASE + "search: {chips: [./mine.toml]}\nprice: {mine: 0.5}\n")
    for again in ("./mine.toml", "mine"):  # by its path, and by the id that it has in the spec
        changed = spec.changed({"search.chips": [again, "tpu-v6e"]})
        assert [offer.usd_per_chip_hour for offer in changed.offers] == [0.5, 2.7]
    assert spec.changed({"search.chips": ["tpu-v6e"]}).price == {}


def test_a_changed_chip_leaves_the_search_as_it_is() -> None:
    spec = Spec.load({"model": "llama-3-8b", "workload": {"context_tokens": 1}}, {"chip.tpu-v5e.hbm_bytes": 17e9})
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


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (
            {"workload": {"prompt_tokens": 4096, "output_tokens": 512, "requests_per_s": 1e18}},
            "requests_per_s = 1e+18 of 512 tokens: expected at most 1e+13 tokens/s",
        ),
        ({"model": "mixtral-8x7b", "nominal": 1e9}, "nominal_parameters = 1e+09: expected more than the experts' 4.5"),
        ({"region": "mars"}, "region = 'mars': no price in list-2026-11 names it"),
    ],
)
def test_what_cannot_be_counted_is_refused(keys: dict[str, Any], complaint: str) -> None:
    nominal = keys.pop("nominal", None)
    overrides = {} if nominal is None else {"model.nominal_parameters": nominal}
    with pytest.raises(SpecError, match=re.escape(complaint)):
        Spec.load({"model": "llama-3-8b", "workload": {"context_tokens": 4096}, **keys}, overrides)
