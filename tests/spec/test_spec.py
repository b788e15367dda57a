import re
from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError
from servesat.fleet.spec import FleetSpec
from tests.helpers import ROOT
from tests.spec.texts import BASE, V5E, read


def test_notes_name_what_has_no_effect(tmp_path: Path) -> None:
    book = 'name = "mine"\n' + "".join(
        f'[chips.{chip}]\nusd_per_chip_hour = 1.0\nsource = "an offer"\n' for chip in ("tpu-v5", "tpu-v5e", "h200")
    )
    (tmp_path / "mine.toml").write_text(book)
    spec = read(tmp_path, BASE + "price_book: mine.toml\nsearch: {compute: [fp8]}\n")
    assert spec.notes == (
        "tpu-v5e has no peak in fp8, so no plan on it was searched",
        "mine prices tpu-v5, no known chip; did you mean 'tpu-v5e' or 'tpu-v5p' or 'tpu-v4'?",
    )


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    source = ROOT / "models" / "llama-3-8b.toml"
    (tmp_path / "mine.toml").write_text(source.read_text())
    assert read(tmp_path, "model: mine.toml\nworkload: {context_tokens: 10}\n").model.id == "mine"


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
            "expected prompt_tokens and output_tokens, or for decoding alone context_tokens",
        ),
        (BASE.replace("8192", "8192, prompt_tokens: 1"), "expected prompt_tokens and output_tokens, or for decoding"),
        (BASE.replace("context_tokens", "output_tokens"), "expected prompt_tokens and output_tokens, or for decoding"),
        (
            BASE.replace("8192", "8192, output_tokens: 8193"),
            "output_tokens = 8193: expected at most context_tokens = 8192",
        ),
        (BASE.replace("8192", "8192, requests_per_s: 1"), "requests_per_s needs output_tokens"),
        (BASE.replace("8192", "8192, prefix_cache_hit: 0.5"), "prefix_cache_hit needs prompt_tokens"),
        (
            BASE.replace("8192", "8192, output_tokens: 9, requests_per_s: 1, arrivals: {gamma_cv: 2}"),
            "arrivals needs prompt_tokens",
        ),
        (BASE + "slo: {ttft_ms: 3}\n", "slo.ttft_ms: decode_only has no first token"),
        (BASE + "search: {modes: [chunked]}\n", "chunked needs workload.prompt_tokens and workload.output_tokens"),
        (BASE + "search: {modes: [fast]}\n", "search.modes.0 = 'fast'"),
        (BASE + "search: {min_batch: 9, max_batch: 8}\n", "search.min_batch = 9 is more than search.max_batch = 8"),
        (BASE + "search: {quota: {tpu-v9: 8}}\n", "search.quota.tpu-v9: no such chip"),
        (BASE + "utilisation: 0\n", "utilisation = 0: expected a number greater than 0"),
        (BASE + "prefill_mfu: 1.5\n", "prefill_mfu = 1.5: expected at most 1"),
        (BASE + "search: {chips: []}\n", "search.chips = []: expected 1 to 200 ids, paths or mappings"),
        (BASE + "search: {chips: true}\n", "search.chips = True: expected 1 to 200 ids, paths or mappings"),
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
            V5E.replace("]}", "], topologies: {tpu-v5e: [3x2]}}"),
            "search.topologies.tpu-v5e: '3x2' is not offered; offered: 1x1",
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
        (BASE.replace("ideal", "real"), "cost_model = 'real': expected `ideal`, `calibrated`, or the path"),
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
        ("slo: {<<: {ttft_ms: 500}, tpot_ms: 40}\n", "malformed YAML: line 1, column 7: merge keys (<<) are not"),
        (BASE + "model: x\n", "malformed YAML: line 4, column 1: 'model' is written twice"),
        ("a: " + "[" * 5000, "malformed YAML: nested too deeply"),
        (BASE.replace("8192", '!!int ""'), "malformed YAML"),
        (BASE + 'headroom: !!float ""\n', "malformed YAML"),
        (BASE + "headroom: !!bool maybe\n", "malformed YAML"),
        (BASE + "headroom: !!timestamp x\n", "malformed YAML"),
        (BASE + "slo: {tpot_ms: 1:30}\n", "slo.tpot_ms = '1:30': expected a number"),
        (BASE + "slo: {tpot_ms: 1e-320}\n", "slo.tpot_ms = 1e-320: expected at least 1e-09"),
        (BASE + "slo: {min_tokens_per_s: 1e-320}\n", "slo.min_tokens_per_s = 1e-320: expected at least 1e-09"),
        ("hello\n", "expected a mapping with the keys model, workload"),
        ("", "is empty; expected a mapping with the keys model, workload"),
        (BASE + "5: 3\n", "5 = 5: Keys should be strings"),
        (bytes(range(256)), "cannot be read: is not UTF-8 text"),
        ("#" * 1_000_001, "expected at most 1,000,000 bytes"),
    ],
)
def test_a_malformed_spec_is_named_with_file_key_value_and_what_was_expected(
    tmp_path: Path, text: str | bytes, complaint: str
) -> None:
    with pytest.raises(SpecError) as error:
        read(tmp_path, text)
    assert complaint in str(error.value)
    assert all(line.startswith(str(tmp_path / "spec.yaml")) for line in str(error.value).splitlines())


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        (
            {"workload": {"prompt_tokens": 4096, "output_tokens": 512, "requests_per_s": 1e18}},
            "requests_per_s = 1e+18 of 512 tokens: expected at most 1e+13 tokens/s",
        ),
        ({"model": "mixtral-8x7b", "nominal": 1e9}, "nominal_parameters = 1e+09: expected more than the experts' 4.5"),
        (
            {"model": "deepseek-v3", "nominal": 6.55e11, "speculative": {"draft": "mtp"}},
            "nominal_parameters = 6.55e+11: fewer than the 655,762,128,896 of embedding, head and experts, which a "
            "draft by mtp counts apart",  # 58 layers of 256 experts, 3 matrices of 7168 x 2048 each, and 2 tables
        ),
        (
            {"cost_model": "calibrated", "nominal": 1e9},
            "nominal_parameters = 1e+09: fewer than the 1,050,673,152 of embedding, head and experts, which the "
            "calibrated cost model counts apart",
        ),
        ({"region": "mars"}, "region = 'mars': no price in list-2026-11 names it"),
    ],
)
def test_what_cannot_be_counted_is_refused(keys: dict[str, Any], complaint: str) -> None:
    nominal = keys.pop("nominal", None)
    overrides = {} if nominal is None else {"model.nominal_parameters": nominal}
    with pytest.raises(SpecError, match=re.escape(complaint)):
        Spec.load(
            {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 4096}, **keys}, overrides
        )


def test_a_single_value_stands_for_a_list_of_it(tmp_path: Path) -> None:
    single = "chips: tpu-v5e, weights: int8, kv_cache: int8, compute: bf16, modes: decode_only, chunk_tokens: 512"
    search = read(tmp_path, BASE + f"search: {{{single}}}\n").search
    assert (search.weights, search.kv_cache, search.compute) == (("int8",), ("int8",), ("bf16",))
    assert (search.modes, search.chunk_tokens) == (("decode_only",), (512,))
    assert [chip.id for chip in search.chips or ()] == ["tpu-v5e"]


def test_a_fleet_is_no_deployment_nor_the_other_way_round() -> None:
    with pytest.raises(SpecError, match=r"fleet-day.yaml: is a fleet, .*try `servesat fleet`"):
        Spec.load(ROOT / "examples" / "fleet-day.yaml")
    for load in (Spec.load, FleetSpec.load):
        with pytest.raises(SpecError, match=r"chip.yaml: is a portfolio, .*try `servesat portfolio`"):
            load(ROOT / "examples" / "portfolio-on-one-chip.yaml")
    with pytest.raises(SpecError, match=r"chat.yaml: is a deployment, .*try `servesat solve`"):
        FleetSpec.load(ROOT / "examples" / "llama-3-70b-chat.yaml")


@pytest.mark.parametrize(("key", "most"), [("chips", 200), ("chunk_tokens", 256), ("weights", 6), ("modes", 4)])
def test_every_list_of_a_search_has_a_limit(tmp_path: Path, key: str, most: int) -> None:
    with pytest.raises(SpecError, match=rf"search.{key}.*{most}"):
        read(tmp_path, BASE + f"search: {{{key}: {list(range(1, 302))}}}\n")


KEYS: dict[str, Any] = {"model": "llama-3-8b", "workload": {"context_tokens": 100}, "cost_model": "ideal"}


def test_a_spec_is_built_from_keywords_as_from_a_mapping() -> None:
    keys = {**KEYS, "search": {"chips": ["h200"]}}
    assert Spec(**keys) == Spec.load(keys)


def test_a_repr_has_what_is_not_by_default_and_the_ids_of_the_catalogue() -> None:
    spec = Spec(**{**KEYS, "search": {"chips": ["h200"]}})
    keys = "model='llama-3-8b', workload={'context_tokens': 100}, "
    of_market = "engine=[], price_book='list-2026-11', buy='share'"
    assert repr(spec) == f"Spec({keys}search={{'chips': ['h200']}}, cost_model='ideal', {of_market})"
    changed = spec.changed({"search.chips": None, "slo.tpot_ms": 5})
    assert str(changed) == f"Spec({keys}slo={{'tpot_ms': 5.0}}, cost_model='ideal', {of_market})"
    calibrated = Spec(model="llama-3-8b", workload={"context_tokens": 100}, engine="vllm")
    assert repr(calibrated) == f"Spec({keys}engine=['vllm-0.32'], price_book='all', buy='instances')"


@pytest.mark.parametrize(
    "keys",
    [
        {}, {"slos": {}}, {"slo": {"tpot_ms": -1, "ttft": 3}, "headroom": 2}, {"model": "llama-3-9b"}, {"workload": 5},
        {"search": {"chips": ["h100"]}}, {"constraints": "batch % 8 =="}, {"price": {"h100": 1}}, {"engine": "vlm"},
    ],
)  # fmt: skip
def test_keywords_have_the_errors_of_a_mapping(keys: dict[str, Any]) -> None:
    keys = {**KEYS, **keys} if keys else {}
    with pytest.raises(SpecError) as of_keywords:
        Spec(**keys)
    with pytest.raises(SpecError) as of_mapping:
        Spec.load(keys)
    assert str(of_keywords.value) == str(of_mapping.value)
    assert str(of_keywords.value).startswith("spec: ")
