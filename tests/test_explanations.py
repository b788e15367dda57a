"""Explanations are as proved as the plan: conflicts, corrections, what limits cost, alternatives and why-not."""

from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from servesat import Requirement, Settings, Spec, SpecError, Status, answer, solve
from servesat.candidates.requirements import REQUIREMENT_BIT
from servesat.questions.corrections import corrections
from servesat.questions.k_best import Distinct, alternatives
from servesat.questions.why_not import Decisions, why_not
from tests import oracle, strategies
from tests.helpers import nearly_flat

MANY = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
SOME = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

ON_32_CHIPS: dict[str, Any] = {
    "model": "llama-3-405b",
    "workload": {"context_tokens": 8192},
    "slo": {"tpot_ms": 15},
    "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "max_chips": 32},
}
KEYS = {
    "tpot": ("slo", "tpot_ms"),
    "throughput": ("slo", "min_tokens_per_s"),
    "chips": ("search", "max_chips"),
    "budget": ("search", "max_usd_per_hour"),
}


def with_key(spec: dict[str, Any], requirement: str, value: Any) -> dict[str, Any]:
    """The spec with one limit at another value, or without it."""
    changed = deepcopy(spec)
    part, key = KEYS[requirement]
    if value is None:
        del changed[part][key]
    else:
        changed[part][key] = value
    return changed


def tight():
    """Specs with limits that are often too much to ask, and few priced chips to widen the search to."""
    limits = st.fixed_dictionaries(
        {}, optional={"tpot_ms": st.sampled_from([0.01, 0.5, 5.0]), "min_tokens_per_s": st.sampled_from([1e4, 1e6])}
    )
    few = {"price_book": "scaling-book-2025-02"}
    return st.builds(
        lambda spec, slo: {**spec, **few, "slo": {**spec.get("slo", {}), **slo}}, strategies.specs(), limits
    )


# conflicts


@MANY
@given(tight())
def test_conflicts_are_true_and_minimal(spec: dict[str, Any]) -> None:
    result = solve(spec)
    assume(result.status is Status.INFEASIBLE)
    violations = {violated for _, violated in oracle.enumerate_plans(spec)}
    assert result.conflict
    for members in result.conflict:
        assert all(violated & set(members) for violated in violations)
        for dropped in members:
            assert any(not violated & (set(members) - {dropped}) for violated in violations)
    assert {frozenset(map(str, members)) for members in result.conflict} == oracle.minimal_conflicts(violations)


# corrections


def test_405b_on_32_chips_is_corrected_by_15_76_ms_or_64_chips() -> None:
    found = {correction.changes[0].requirement: correction for correction in answer(ON_32_CHIPS).corrections}
    assert all(len(correction.changes) == 1 for correction in found.values())
    slower, wider = found["tpot"], found["chips"]
    # 405e9 / (32 · 8.2e11) + 4 · 8192 · 258,048 / (32 · 8.2e11)
    assert slower.changes[0].value == pytest.approx(15.434451 + 0.322245, abs=1e-6)
    assert (slower.plan.topology, slower.plan.batch) == ("4x8", 4)
    assert wider.changes[0].value == 64
    assert (wider.plan.topology, wider.plan.batch) == ("8x8", 88)
    assert found["weights"].changes[0].value == "int4"
    assert found["chip"].plan.chip != "tpu-v5e"
    assert set(found) == {"tpot", "chips", "chip", "weights"}


@pytest.mark.parametrize(
    ("spec", "requirement", "key", "value", "unit"),
    [
        ({"headroom": 0.6, "slo": {"tpot_ms": 30}}, "hbm", "headroom", 1 - 70e9 / 128e9 - 163_840 * 8192 / 128e9, ""),
        ({"search": {"topologies": {"tpu-v5e": ["2x2"]}}}, "topology", "search.topologies.tpu-v5e", "2x4", ""),
        ({"search": {"max_usd_per_hour": 4.8}}, "budget", "search.max_usd_per_hour", 9.6, "$/h"),
        (
            {"search": {"topologies": {"tpu-v5e": ["2x4"]}}, "slo": {"min_tokens_per_s": 9e9}},
            "throughput",
            "slo.min_tokens_per_s",
            43 / ((70e9 + 43 * 163_840 * 8192) / (8 * 8.2e11)),
            "tokens/s",
        ),
    ],
)
def test_a_correction_of_each_kind(
    spec: dict[str, Any], requirement: str, key: str, value: float | str, unit: str
) -> None:
    search = {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "topologies": {"tpu-v5e": ["2x4"]}}
    spec = {
        "model": "llama-3-70b", "workload": {"context_tokens": 8192}, **spec,
        "search": search | spec.get("search", {}),
    }  # fmt: skip
    found = {c.changes[0].requirement: c.changes[0] for c in answer(spec).corrections}
    assert found[requirement].key == key
    assert found[requirement].value == (value if isinstance(value, str) else pytest.approx(value, rel=1e-9))
    assert found[requirement].unit == unit


def test_the_interconnect_can_be_paid_for() -> None:
    # 64 ways over the network between nodes hide no more than 6.2 sequences, and need 8 to shard the KV cache
    spec = {
        "model": "llama-3-405b",
        "workload": {"context_tokens": 8192},
        "slo": {"tpot_ms": 5},
        "search": {
            "chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x8"]}, "weights": ["int8"], "kv_cache": ["int8"],
        },
    }  # fmt: skip
    result = answer(spec)
    assert result.conflict == (("tpot", "ici", "kv_heads"),)
    found = {c.changes[0].requirement: c for c in result.corrections}
    assert (found["ici"].changes[0].key, found["ici"].changes[0].value) == ("ici", "pay")
    plan = found["ici"].plan
    assert plan.tp == 64
    assert plan.step_ms.ici == pytest.approx(126 * 4 * 2 * plan.batch * 16_384 / 50e9 * 1e3)


def test_two_changes_where_no_single_one_suffices() -> None:
    spec = {**ON_32_CHIPS, "slo": {"tpot_ms": 1e-3}, "search": {**ON_32_CHIPS["search"], "max_chips": 1}}
    (correction,) = answer(spec).corrections
    assert [change.requirement for change in correction.changes] == ["tpot", "chips"]
    keys = {change.key: change.value for change in correction.changes}
    assert solve(Spec.load(spec).changed(keys)).plan == correction.plan


@pytest.mark.parametrize(
    ("spec", "search", "requirements", "usd"),
    [
        # headroom 0 and a 4x4 at $19.2: the KV cache fills the memory, 70B costs what it does on v5e at batch 138
        (
            {"model": "llama-3-70b", "headroom": 0.9, "price_book": "scaling-book-2025-02"},
            {"topologies": {"tpu-v5e": ["4x4"]}, "max_usd_per_hour": 5, "max_batch": 400},
            {"budget", "hbm"},
            0.7825,
        ),
    ],
)
def test_the_cheapest_pair(spec: dict[str, Any], search: dict[str, Any], requirements: set[str], usd: float) -> None:
    base = {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"]}
    result = answer({"workload": {"context_tokens": 8192}, **spec, "search": base | search})
    (correction,) = result.corrections
    assert {change.requirement for change in correction.changes} == requirements
    assert correction.plan.usd_per_million_output_tokens == pytest.approx(usd, abs=5e-5)


def test_the_limits_of_a_pair_go_no_further_than_its_plan() -> None:
    """Cost is flat beyond the critical batch: the pair asks for the latency of the fastest plan there."""
    spec = {
        "model": "llama-3-8b", "workload": {"context_tokens": 128}, "slo": {"tpot_ms": 0.001},
        "search": {"chips": ["tpu-v5e"], "weights": ["bf16"], "kv_cache": ["bf16"], "max_usd_per_hour": 0.5},
    }  # fmt: skip
    (correction,) = answer(spec).corrections
    values = {change.requirement: change.value for change in correction.changes}
    assert values["tpot"] == correction.plan.tpot_ms
    assert solve(Spec.load(spec).changed({change.key: change.value for change in correction.changes})).plan == (
        correction.plan
    )


def test_a_larger_batch_can_be_what_is_missing() -> None:
    search = {**ON_32_CHIPS["search"], "max_chips": 64, "topologies": {"tpu-v5e": ["8x8"]}, "max_batch": 4}
    result = answer({**ON_32_CHIPS, "search": search})
    assert ("kv_heads",) in {conflict[-1:] for conflict in result.conflict or ()}
    found = {c.changes[0].requirement: c for c in result.corrections}
    assert (found["max_batch"].changes[0].key, found["max_batch"].changes[0].value) == ("search.max_batch", 8)
    assert found["max_batch"].plan.batch == 8


def test_chips_and_prices_of_ones_own_can_be_corrected_and_compared() -> None:
    chip = {
        "name": "my-chip", "vendor": "test", "hbm_bytes": 16e9, "hbm_bytes_per_s": 8e11, "flop_per_s": {"bf16": 2e14},
        "axes": [{"name": "x", "bytes_per_s": 9e10}], "topologies": ["1", "8"],
    }  # fmt: skip
    spec = {**ON_32_CHIPS, "search": {"chips": [chip]}, "price": {"my-chip": 1.0}}
    assert {c.changes[0].requirement for c in answer(spec).corrections} >= {"chip"}
    small = Spec.load({**spec, "model": "llama-3-8b"})
    assert why_not(small, Decisions(chip="tpu-v6e")).alternative.plan is not None


def test_explanations_do_not_share_the_time_limit_of_the_answer() -> None:
    result = answer(ON_32_CHIPS, Settings(time_limit_s=1e-6))
    assert result.status is Status.INFEASIBLE
    assert {c.changes[0].requirement for c in result.corrections} == {"tpot", "chips", "chip", "weights"}


@SOME
@given(tight())
def test_corrections_are_complete_and_tight_on_both_sides(spec: dict[str, Any]) -> None:
    loaded = Spec.load(spec)
    assume(solve(loaded).status is Status.INFEASIBLE)
    found = corrections(loaded, Settings())
    single = {c.changes[0].requirement: c for c in found if len(c.changes) == 1}
    plans = list(oracle.enumerate_plans(spec))
    measures = {
        "tpot": lambda plan: plan["step_s"] * 1e3,
        "chips": lambda plan: plan["chips"],
        "budget": lambda plan: plan["usd_per_hour"],
        "throughput": lambda plan: -plan["tokens_per_s"],
    }
    for requirement, measure in measures.items():
        allowed = [measure(plan) for plan, violated in plans if violated == {requirement}]
        assert (requirement in single) == bool(allowed)
        if allowed:
            value = single[requirement].changes[0].value
            assert isinstance(value, int | float)
            assert value == pytest.approx(abs(min(allowed)), rel=1e-9)
            assert solve(with_key(spec, requirement, value)).plan == single[requirement].plan
            short = (
                value - 1 if requirement == "chips" else value * (1 + (1e-6 if requirement == "throughput" else -1e-6))
            )
            if short > 0:
                assert solve(with_key(spec, requirement, short)).status is Status.INFEASIBLE


def test_a_price_book_of_chips_of_ones_own_is_explained_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[chips.my-chip]\nusd_per_chip_hour = 1.0\nsource = "an offer"\n'
    )
    chip = {
        "name": "my-chip", "vendor": "test", "hbm_bytes": 16e9, "hbm_bytes_per_s": 8e11, "flop_per_s": {"bf16": 2e14},
        "axes": [{"name": "x", "bytes_per_s": 9e10}], "topologies": ["1", "2"],
    }  # fmt: skip
    spec = {"model": "llama-3-70b", "workload": {"context_tokens": 8192}, "search": {"chips": [chip]}}
    result = answer({**spec, "price_book": str(tmp_path / "mine.toml")})
    assert result.conflict == (("hbm",),)
    assert result.corrections == ()  # 35 GB of int4 weights are more than 32 GB, and no other chip has a price


# what limits cost


@SOME
@given(strategies.specs())
def test_a_limit_costs_what_solving_without_it_saves(spec: dict[str, Any]) -> None:
    result = answer(spec)
    assume(result.plan is not None)
    assert result.plan is not None
    values = {str(value.requirement): value for value in result.limit_values}
    for requirement, (part, key) in KEYS.items():
        if spec.get(part, {}).get(key) is None:
            assert requirement not in values
            continue
        free, _ = oracle.solve(with_key(spec, requirement, None))
        assert free is not None
        cost = result.plan.usd_per_million_output_tokens
        saved = cost - free["usd"]
        tie = 2e-6 * cost
        assert values[requirement].saves_usd_per_million_output_tokens == pytest.approx(saved, abs=tie)
        if values[requirement].saves_fraction:
            used = {
                "tpot": free["step_s"] * 1e3, "chips": free["chips"],
                "budget": free["usd_per_hour"], "throughput": free["tokens_per_s"],
            }[requirement]  # fmt: skip
            assert values[requirement].relaxed_to == pytest.approx(used, rel=1e-9)


def test_without_a_throughput_the_fastest_plan_that_ties_counts() -> None:
    """Where cost falls by less than a tie over many batches, the plan without the limit is the smallest of them."""
    free = solve(nearly_flat()).plan
    full = solve(nearly_flat(), batch=4096).plan
    assert free is not None
    assert full is not None
    assert free.batch < 4000
    wanted = nearly_flat(slo={"min_tokens_per_s": full.tokens_per_s})
    assert solve(wanted).plan == full
    assert solve(wanted, relaxed=int(REQUIREMENT_BIT[Requirement.THROUGHPUT])).plan == free


def test_what_headroom_costs() -> None:
    spec = {**ON_32_CHIPS, "search": {**ON_32_CHIPS["search"], "max_chips": 64}, "headroom": 0.5}
    result = answer(spec)
    value = next(one for one in result.limit_values if one.requirement == "hbm")
    free = solve({**spec, "headroom": 0.0}).plan
    assert free is not None
    assert result.plan is not None
    assert value.relaxed_to == pytest.approx(1 - free.hbm_used_fraction)
    assert value.saves_fraction == pytest.approx(
        1 - free.usd_per_million_output_tokens / result.plan.usd_per_million_output_tokens
    )
    assert value.then_binding == ("ici",)


# alternatives


GROUPS = {
    Distinct.CHIP: lambda plan: plan["chip"],
    Distinct.TOPOLOGY: lambda plan: (plan["chip"], plan["topology"]),
    Distinct.LAYOUT: lambda plan: tuple(
        plan[name]
        for name in ("chip", "topology", "tp_axes", "ep_axes", "kv_replicated", "weights", "kv_cache", "compute")
    ),
}


@SOME
@given(strategies.specs(), st.sampled_from(list(Distinct)))
def test_top_k_is_the_k_best_of_enumeration(spec: dict[str, Any], distinct: Distinct) -> None:
    # Axes that are each other's mirror image are one layout here, and several in the enumeration.
    mirrored = distinct is Distinct.LAYOUT and any(len(chip["axes"]) > 1 for chip in spec["search"]["chips"])
    assume(not mirrored)
    expected = oracle.k_best(spec, 4, GROUPS[distinct])
    found = [asdict(plan) for plan in alternatives(Spec.load(spec), 4, distinct)]
    names = ("chip", "topology", "tp_axes", "ep_axes", "kv_replicated", "weights", "kv_cache", "compute", "batch")
    assert [{name: plan[name] for name in names} for plan in found] == [
        {name: plan[name] for name in names} for plan in expected
    ]


def test_fewer_alternatives_than_asked_for_are_all_there_are() -> None:
    plans = answer({**ON_32_CHIPS, "search": {"chips": ["tpu-v5e", "tpu-v5p"]}}, top=9, distinct="chip").alternatives
    assert len({plan.chip for plan in plans}) == len(plans) == 2


# why not


@SOME
@given(strategies.specs(), st.sampled_from(["chip0", "chip1"]))
def test_a_break_even_price_is_tight(spec: dict[str, Any], chip: str) -> None:
    assume(len(spec["search"]["chips"]) == 2)
    comparison = why_not(Spec.load(spec), Decisions(chip=chip))
    price = comparison.break_even_usd_per_chip_hour
    assume(price is not None)
    assert price is not None

    def winner(usd: float) -> str:
        plan = solve({**spec, "price": {chip: usd}}).plan
        assert plan is not None
        return plan.chip

    assert winner(price * 0.999) == chip
    assert winner(price * 1.001) != chip


def test_why_not_an_h100() -> None:
    spec = Spec.load({**ON_32_CHIPS, "search": {"weights": ["int8"]}})
    comparison = why_not(spec, Decisions(chip="h100-sxm"))
    assert comparison.best.plan is not None
    assert comparison.alternative.plan is not None
    assert comparison.alternative.plan.chip == "h100-sxm"
    assert comparison.best.plan.chip != "h100-sxm"
    assert comparison.break_even_usd_per_chip_hour == pytest.approx(
        6.88
        * comparison.best.plan.usd_per_million_output_tokens
        / comparison.alternative.plan.usd_per_million_output_tokens
    )


def test_why_not_is_answered_by_a_conflict() -> None:
    spec = Spec.load({**ON_32_CHIPS, "search": {"chips": ["tpu-v5e"], "weights": ["int8"]}})
    comparison = why_not(spec, Decisions(topology="4x8"))
    assert comparison.alternative.status is Status.INFEASIBLE
    assert comparison.alternative.conflict == (("tpot",),)
    assert comparison.break_even_usd_per_chip_hour is None


def test_why_not_a_batch_or_a_dtype_outside_the_search() -> None:
    spec = Spec.load({**ON_32_CHIPS, "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"]}})
    smaller = why_not(spec, Decisions(batch=40)).alternative.plan
    assert smaller is not None
    assert (smaller.topology, smaller.batch) == ("8x8", 40)
    narrower = why_not(spec, Decisions(weights="int4")).alternative.plan
    assert narrower is not None
    assert narrower.weights == "int4"
    assert narrower.usd_per_million_output_tokens < 2.730163  # it was not searched, and would win


def test_no_price_helps_a_plan_that_another_on_its_chip_beats() -> None:
    spec = Spec.load({**ON_32_CHIPS, "slo": {}, "search": {"weights": ["int8"]}})
    worse = why_not(spec, Decisions(chip="h100-sxm", batch=1))
    assert worse.alternative.plan is not None
    assert worse.break_even_usd_per_chip_hour is None


def test_decisions_not_on_offer_are_refused() -> None:
    spec = Spec.load(ON_32_CHIPS)
    with pytest.raises(SpecError, match=r"--topology 5x5: not offered by tpu-v5e"):
        why_not(spec, Decisions(topology="5x5"))
    with pytest.raises(SpecError, match="no chip 'tpu-v9'"):
        why_not(spec, Decisions(chip="tpu-v9"))
    with pytest.raises(SpecError, match="'int3': expected one of"):
        why_not(spec, Decisions(weights="int3"))


def test_an_infeasible_spec_on_chips_without_a_network_is_still_explained() -> None:
    spec = {
        "model": "llama-3-8b",
        "workload": {"prompt_tokens": 1000, "output_tokens": 100},
        "slo": {"tpot_ms": 0.001},
        "search": {"chips": ["tpu-v5e"]},
        "chip": {"tpu-v5e": {"network_bytes_per_s": None}},
    }
    result = answer(spec)
    assert result.status is Status.INFEASIBLE
    assert result.conflict
    assert result.corrections[0].changes[0].requirement == "tpot"


def test_native_weights_are_a_correction() -> None:
    spec = {
        "model": "gpt-oss-120b",
        "workload": {"context_tokens": 4096},
        "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}, "weights": ["bf16"]},
    }
    changes = {c.changes[0].key: c.changes[0].value for c in answer(spec).corrections}
    assert changes["search.weights"] == "mxfp4"


def test_a_quota_of_a_chip_that_is_no_longer_searched_goes_with_it() -> None:
    own = {**Spec.load(ON_32_CHIPS).offers[0].chip.model_dump(mode="json"), "id": "mine", "name": "mine"}
    spec = Spec.load(
        {
            "model": "llama-3-8b",
            "workload": {"context_tokens": 4096},
            "search": {"chips": ["h100-sxm", {**own, "usd_per_chip_hour": 1.0}], "quota": {"mine": 8}},
        }
    )
    assert spec.changed({"search.chips": ["h100-sxm"]}).search.quota == {}
