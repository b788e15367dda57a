from typing import Any

import pytest

from servesat.questions.explain import answer
from tests.helpers import spec_of

SHORT_OF_THROUGHPUT: dict[str, Any] = {
    "model": "llama-3-8b",
    "workload": {"context_tokens": 32768},
    "slo": {"min_tokens_per_s": 1500, "tpot_ms": 60},
    "search": {"chips": ["tpu-v5e"]},
}


def test_a_slice_short_of_throughput_is_shown_at_its_most() -> None:
    spec = spec_of(**SHORT_OF_THROUGHPUT)
    rejected = next(summary for summary in answer(spec).slices if summary.plan.topology == "2x2")
    assert rejected.violated == ("throughput",)
    assert rejected.plan.batch > 20
    assert rejected.plan.tokens_per_s == pytest.approx(1336, abs=1)


def test_the_slices_keep_the_order_of_ties() -> None:
    spec = spec_of(model="llama-3-8b", workload={"context_tokens": 1024}, search={"chips": ["tpu-v5e"]})
    slices = answer(spec).slices
    assert len(slices) == 8
    for summary in slices:
        topology = summary.plan.topology
        alone = answer(spec.changed({"search.topologies": {"tpu-v5e": [topology]}}))
        assert (alone.plan == summary.plan) if not summary.violated else alone.plan is None


def test_a_slice_without_a_plan_is_shown_where_limits_bind() -> None:
    """A constraint that only every batch can answer is not asked of every batch of slices that have no plan."""
    spec = spec_of(**SHORT_OF_THROUGHPUT, constraints=["batch % 16 == 0"])
    found = {summary.plan.topology: summary for summary in answer(spec).slices}
    assert set(found["2x2"].violated) == {"throughput", "batch % 16 == 0"}
    assert found["2x2"].plan.batch > 20
    assert not found["4x4"].violated
    assert found["4x4"].plan.batch % 16 == 0


def test_constraints_may_name_other_chips_than_the_plans() -> None:
    constraints = ["chip != 'tpu-v5p'"]
    spec = spec_of(**SHORT_OF_THROUGHPUT | {"search": {"chips": ["tpu-v5e", "tpu-v5p"]}}, constraints=constraints)
    alone = spec_of(**SHORT_OF_THROUGHPUT)
    assert [one.plan for one in answer(spec).slices] == [one.plan for one in answer(alone).slices]
