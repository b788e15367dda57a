"""Why not another plan: its break-even price, or the conflict that excludes it."""

from typing import Any

import pytest

from servesat import Spec, SpecError, Status
from servesat.questions.why_not import Decisions, why_not
from tests.helpers import ON_32_CHIPS


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


DRAFTED: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "workload": {"prompt_tokens": 200, "output_tokens": 100},
    "engine": "trtllm",
    "search": {"chips": ["l40s"]},
}
"""A load at which the best plan drafts none."""


def test_a_draft_that_is_asked_for_is_taken() -> None:
    asked = why_not(Spec.load(DRAFTED), Decisions(draft="eagle3"))
    assert asked.best.plan is not None
    assert asked.best.plan.draft is None
    assert asked.alternative.plan is not None
    assert asked.alternative.plan.draft == "eagle3"
    assert asked.alternative.plan.usd_per_million_output_tokens > asked.best.plan.usd_per_million_output_tokens
    without = why_not(Spec.load(DRAFTED | {"slo": {"tpot_ms": 5}}), Decisions(draft="none"))
    assert without.best.plan is not None
    assert without.best.plan.draft == "eagle3"
    assert without.alternative.plan is not None
    assert without.alternative.plan.draft is None


def test_a_draft_that_is_asked_for_keeps_what_the_spec_says_of_drafts() -> None:
    speculative = {"tokens": [3], "accepted": 3.5}
    plan = why_not(Spec.load(DRAFTED | {"speculative": speculative}), Decisions(draft="eagle3")).alternative.plan
    assert plan is not None
    assert (plan.draft_tokens, plan.accepted_tokens) == (3, 3.5)
    none = why_not(Spec.load(DRAFTED | {"speculative": speculative}), Decisions(draft="none")).alternative.plan
    assert none is not None
    assert none.draft is None


def test_a_draft_that_no_plan_has_is_named_in_the_conflict() -> None:
    found = why_not(Spec.load(DRAFTED | {"search": {"chips": ["h200"], "pp": [2]}}), Decisions(draft="eagle3"))
    assert found.alternative.plan is None
    assert found.alternative.conflict == (("draft == eagle3",),)


def test_a_break_even_price_is_of_the_offer_that_the_alternative_takes() -> None:
    """H100 stand alone at $2.29, and eight together at $2.99: four of these win at 2.99 / 1.05 of their price."""
    book = {
        "name": "test",
        "instances": {
            "one": {"chip": "h100-sxm", "chips": 1, "source": "test"},
            "eight": {"chip": "h100-sxm", "chips": 8, "source": "test"},
            "other": {"chip": "mi300x", "chips": 1, "source": "test"},
        },
        "offers": [
            {"instance": "one", "usd_per_instance_hour": 2.29, "source": "test"},
            {"instance": "eight", "usd_per_instance_hour": 23.92, "source": "test"},
            {"instance": "other", "usd_per_instance_hour": 1.9, "source": "test"},
        ],
    }
    spec = Spec.load(
        {
            "model": "qwen3-32b", "workload": {"prompt_tokens": 3000, "output_tokens": 400}, "slo": {"tpot_ms": 20.5},
            "search": {"chips": ["h100-sxm", "mi300x"], "topologies": {"h100-sxm": ["4x1"]}}, "price_book": book,
        }
    )  # fmt: skip
    found = why_not(spec, Decisions(chip="h100-sxm"))
    assert found.best.plan is not None
    assert found.alternative.plan is not None
    assert found.alternative.plan.usd_per_chip_hour == pytest.approx(2.99)
    costs = [one.usd_per_million_output_tokens for one in (found.best.plan, found.alternative.plan)]
    assert found.break_even_usd_per_chip_hour == pytest.approx(2.99 * costs[0] / costs[1], rel=1e-3)
