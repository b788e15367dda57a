"""The table of requirements: complete, and read the same way by masks, margins and words."""

from dataclasses import replace

import numpy as np
import pytest

from servesat import Requirement
from servesat.candidates.columns import columns_at
from servesat.candidates.enumeration import decode_layouts
from servesat.candidates.requirements import RULES, structural_violations, violations
from servesat.candidates.rule import REQUIREMENT_BIT, Kind, is_relaxed, mask_of
from servesat.core.errors import SpecError
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from tests.helpers import searching, spec_of, toy_chip, toy_spec


def test_every_name_has_one_entry_and_one_bit() -> None:
    assert list(RULES) == list(Requirement)
    assert sorted(REQUIREMENT_BIT.values()) == [1 << position for position in range(len(Requirement))]


@pytest.mark.parametrize("name", RULES)
def test_an_entry_limits_a_figure_or_is_a_rule(name: str) -> None:
    rule = RULES[name]
    assert (rule.figure is None) != (rule.violated is None)
    assert (rule.figure is None) == (rule.key == "")
    assert bool(rule.correction) <= bool(rule.key)


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.key])
def test_a_key_is_one_of_a_spec(name: str) -> None:
    with pytest.raises(SpecError, match=r"expected"):
        spec_of().changed({RULES[name].key: "text"})


@pytest.mark.parametrize(
    ("requirement", "keys", "text"),
    [
        ("tpot", {"slo.tpot_ms": 15}, "tpot ≤ 15 ms"),
        ("hbm", {"headroom": 0.2}, "hbm (at most 80% of memory used)"),
        ("chips", {"search.max_chips": 8}, "chips ≤ 8"),
        ("budget", {"search.max_usd_per_hour": 12.5}, "budget ≤ $12.5/h"),
        ("throughput", {"slo.min_tokens_per_s": 12_345.0}, "throughput ≥ 12,345 tokens/s"),
        ("quota", {"search.quota": {"tpu-v5e": 8}}, "quota (tpu-v5e ≤ 8)"),
        ("quality", {"search.max_quality_loss": 0.01}, "quality (loses at most 1.00% of its score)"),
        ("context", {"model": "qwen3-32b"}, "context ≤ 40,960 tokens"),
        (
            "blocks",
            {"model": "deepseek-v3", "search.weights": ["fp8"]},
            "blocks (tensor parallelism must not cut weights that share a scale)",
        ),
    ],
)
def test_a_requirement_is_said_with_its_limit(requirement: str, keys: dict[str, object], text: str) -> None:
    spec = spec_of().changed(keys)
    assert RULES[requirement].is_stated(spec)
    assert RULES[requirement].say(spec) == text


def test_what_a_spec_does_not_limit_is_not_stated() -> None:
    stated = {name for name, rule in RULES.items() if rule.is_stated(spec_of(ici="pay"))}
    assert stated == {"hbm", "heads", "kv_heads", "dtypes"}
    assert RULES["ici"].is_stated(spec_of())
    assert RULES["chunk"].is_stated(toy_spec())


@pytest.mark.soak
def test_a_context_beyond_the_models_positions_is_refused_and_could_be_stretched() -> None:
    """2,000,000-token prompts on qwen3-32b, which has 40,960 positions, got a plan."""
    given = {"cost_model": "ideal", "model": "qwen3-32b", "workload": {"prompt_tokens": 40_000, "output_tokens": 960}}
    assert solve(given).plan is not None
    longer = answer({**given, "workload": {"prompt_tokens": 40_000, "output_tokens": 961}})
    assert longer.conflict == ((Requirement.CONTEXT,),)
    (change,) = {change for correction in longer.corrections for change in correction.changes}
    assert (change.key, change.value) == ("model.max_context_tokens", 40_961)
    assert solve({**given, "workload": {"context_tokens": 40_961}}).conflict == ((Requirement.CONTEXT,),)


def test_masks() -> None:
    assert is_relaxed(mask_of("tpot", "hbm"), "tpot")
    assert not is_relaxed(mask_of("tpot", "hbm"), "ici")
    assert mask_of() == 0


# A step of B sequences on a toy chip takes 2 + 0.0084 · B ms while B ≤ 1,000, and a prompt 2.016 ms.
AT_100 = 2 + 0.0084 * 100


@pytest.mark.parametrize(
    ("name", "key", "met", "missed"),
    [
        ("tpot", "slo.tpot_ms", AT_100, AT_100 * 0.9999),
        ("stall", "slo.stall_ms", AT_100, AT_100 * 0.9999),
        ("throughput", "slo.min_tokens_per_s", 100 / AT_100 * 1e3, 100 / AT_100 * 1.0001e3),
        ("min_batch", "search.min_batch", 100, 101),
        ("budget", "search.max_usd_per_hour", 1.0, 0.9999),
        # 2e9 bytes of weights, and 100 sequences of 1,100 tokens of 8,000 bytes: 2.88 of 1,000 GB
        ("hbm", "headroom", 1 - 2.88e-3, 1 - 2.8799e-3),
        ("quota", "search.quota", {"toy": 1}, {"toy": 0}),
    ],
)
def test_both_sides_of_each_edge(name: str, key: str, met: object, missed: object) -> None:
    for limit, violated in ((met, False), (missed, True)):
        if limit is not None:
            spec = toy_spec(search={"modes": ["decode_only"]}).changed({key: limit})
            columns = columns_at(spec, decode_layouts(spec), np.array([100]))
            assert bool(violations(spec, columns)[0] & REQUIREMENT_BIT[name]) == violated


def test_the_accuracy_of_both_pools_counts() -> None:
    spec = searching(weights=["bf16", "int4"], kv_cache=["bf16"], max_quality_loss=0.0)
    layouts = decode_layouts(spec)
    bf16, int4 = (next(row for row, d in enumerate(layouts.dtypes) if d.weights == name) for name in ("bf16", "int4"))
    row = layouts.take(np.flatnonzero(layouts.dtype == bf16)[:1])
    with_pool = replace(row, serving=replace(row.serving, pool_dtype=np.array([int4])))
    assert not RULES["quality"].is_violated(spec, columns_at(spec, row, np.array([1])))[0]
    assert RULES["quality"].is_violated(spec, columns_at(spec, with_pool, np.array([1])))[0]  # int4 loses something


def test_structural_violations_are_those_of_any_batch() -> None:
    spec = searching(weights=["bf16"], compute=["bf16", "int8"])
    layouts = decode_layouts(spec)
    mask = structural_violations(spec, layouts)
    structure = mask_of(*(name for name, rule in RULES.items() if rule.kind is Kind.STRUCTURE))
    assert np.all(mask & ~structure == 0)
    computes = np.array([layouts.dtypes[dtype].compute for dtype in layouts.dtype])
    assert np.array_equal(mask & REQUIREMENT_BIT["dtypes"] != 0, computes == "int8")
    assert np.array_equal(mask & REQUIREMENT_BIT["heads"] != 0, layouts.tp > 64)  # of 64 query heads


def test_a_toy_chip_without_the_dtype_has_no_layout() -> None:
    spec = toy_spec(toy_chip(), toy_chip("other", flop_per_s={"fp8": 1e15}))
    assert {place.offer.chip.id for place in (decode_layouts(spec).places[i] for i in decode_layouts(spec).place)} == {
        "toy"
    }
