import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from servesat import Requirement, Status, answer
from servesat.core.quantities import dollars, gigabytes
from servesat.report.documents import dumps, result_document
from servesat.report.terminal import print_result
from servesat.report.words import conflict, ways
from tests.helpers import nearly_flat, searching, spec_of


def printed(spec, result, *, explain: bool = False) -> str:
    out = io.StringIO()
    print_result(Console(file=out, width=110, highlight=False), spec, result, explain=explain)
    return out.getvalue()


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (2.730163, "$2.730"),
        (0.782487, "$0.7825"),
        (28.988, "$28.99"),
        (76.8, "$76.80"),
        (1234.5, "$1,234.50"),
        (2.954e-5, "$2.954e-05"),
    ],
)
def test_dollars(amount: float, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(("amount", "text"), [(405e9, "405 GB"), (1.024e12, "1,024 GB"), (5.37e8, "0.537 GB")])
def test_gigabytes(amount: float, text: str) -> None:
    assert gigabytes(amount) == text


def test_ways() -> None:
    plan = answer(searching(topologies={"tpu-v5e": ["4x4"]})).plan
    assert plan is not None
    assert ways(plan) == "16-way tensor parallelism over axes 0 and 1"
    assert ways(replace(plan, tp=4, tp_axes=(1,))) == "4-way tensor parallelism over axis 1"
    assert ways(replace(plan, tp=1, tp_axes=())) == "no tensor parallelism"


def test_a_plan_shows_where_its_time_goes_what_binds_and_what_is_rejected() -> None:
    spec = spec_of(model="llama-3-405b", slo={"tpot_ms": 15})
    text = printed(spec, answer(spec))
    assert "tpu-v5e 8x8 (64 chips), 64-way tensor parallelism over axes 0 and 1, 1 replica" in text
    assert "88 sequences a replica, KV cache sharded 8 ways over the batch" in text
    assert "$2.730 per million output tokens" in text
    assert "5.65 ms  hidden behind weights" in text
    assert "ici binds: 16.02 of 16.62 us a matmul; without it a plan would cost less" in text
    assert (
        "4x8 (32 chips) is rejected: tpot: loading 405 GB of weights over 32 chips takes 15.4 ms, the limit is 15 ms"
        in " ".join(text.split())
    )
    assert "optimal: proved that no plan costs less than $2.730" in text


def test_explain_shows_every_requirement_and_slice() -> None:
    spec = spec_of(slo={"tpot_ms": 20})
    text = printed(spec, answer(spec), explain=True)
    for name in ("hbm", "tpot", "ici", "heads", "kv_heads", "dtypes", "2x2", "16x16"):
        assert name in text


def test_max_batch_is_named_when_it_is_what_holds_the_batch() -> None:
    spec = searching(max_batch=6)
    assert "search.max_batch = 6 binds" in printed(spec, answer(spec))


def test_no_limit_binds_beyond_the_critical_batch() -> None:
    spec = searching(weights=["int4"])
    assert "no limit binds" in printed(spec, answer(spec))


def test_max_batch_is_not_blamed_for_what_a_requirement_forbids() -> None:
    # 70B on 2x4: 43 sequences fill HBM, and the search happens to stop there too
    spec = searching(topologies={"tpu-v5e": ["2x4"]}, max_batch=43)
    text = printed(spec, answer(spec))
    assert "hbm binds" not in text  # no column beyond 43 exists to show it, and 44 would not fit
    assert "max_batch" not in text


def test_what_takes_the_time_is_named_where_nothing_binds() -> None:
    on_8x8 = {"chips": ["tpu-v5e"], "topologies": {"tpu-v5e": ["8x8"]}, "weights": ["int8"]}
    paid = spec_of(model="llama-3-405b", ici="pay", workload={"context_tokens": 128}, search=on_8x8)
    assert "a larger batch would not cost less: the interconnect takes the time" in printed(paid, answer(paid))
    cached = nearly_flat(slo={"tpot_ms": 1e9})
    assert "a larger batch would not cost less: the KV cache takes the time" in printed(cached, answer(cached))


def test_a_budget_that_excludes_cheaper_slices_binds() -> None:
    spec = spec_of(
        model="llama-3-8b",
        workload={"context_tokens": 128},
        search={"chips": ["tpu-v5e", "tpu-v6e"], "max_usd_per_hour": 2},
    )
    result = answer(spec)
    free = answer(spec.changed({"search.max_usd_per_hour": None})).plan
    assert free is not None
    assert result.plan is not None
    assert free.usd_per_million_output_tokens < result.plan.usd_per_million_output_tokens
    assert result.binding == ("budget",)
    assert "budget binds: 1.2 of 2 $/h; without it a plan would cost less" in printed(spec, result)


def test_a_slice_short_of_throughput_is_shown_at_its_most() -> None:
    spec = spec_of(
        model="llama-3-8b",
        workload={"context_tokens": 32768},
        slo={"min_tokens_per_s": 1500, "tpot_ms": 60},
        search={"chips": ["tpu-v5e"]},
    )
    rejected = next(summary for summary in answer(spec).slices if summary.plan.topology == "2x2")
    assert rejected.violated == ("throughput",)
    assert rejected.plan.batch > 20
    assert rejected.plan.tokens_per_s == pytest.approx(1336, abs=1)


def test_the_slices_keep_the_order_of_ties() -> None:
    spec = spec_of(model="llama-3-8b", workload={"context_tokens": 1024}, search={"chips": ["tpu-v5e"]})
    for summary in answer(spec).slices:
        topology = summary.plan.topology
        alone = answer(spec.changed({"search.topologies": {"tpu-v5e": [topology]}}))
        assert (alone.plan == summary.plan) if not summary.violated else alone.plan is None


def test_a_conflict_is_a_sentence() -> None:
    spec = spec_of(
        slo={"tpot_ms": 15, "min_tokens_per_s": 1e6},
        search={"chips": ["tpu-v5e"], "max_chips": 32, "max_usd_per_hour": 9},
    )
    assert (
        conflict([Requirement.TPOT, Requirement.CHIPS], spec)
        == "tpot ≤ 15 ms and chips ≤ 32 cannot hold together on tpu-v5e"
    )
    assert (
        conflict([Requirement.TPOT, Requirement.BUDGET, Requirement.THROUGHPUT], spec)
        == "tpot ≤ 15 ms, budget ≤ $9/h and throughput ≥ 1,000,000 tokens/s cannot hold together on tpu-v5e"
    )
    assert (
        conflict([Requirement.HBM], spec_of(headroom=0.2))
        == "no plan satisfies hbm (at most 80% of memory used) on tpu-v5e"
    )


def test_an_infeasible_result_shows_its_conflict_and_no_plan() -> None:
    spec = spec_of(
        model="llama-3-405b", slo={"tpot_ms": 15}, search={"chips": ["tpu-v5e"], "max_chips": 32, "weights": ["int8"]}
    )
    text = printed(spec, answer(spec))
    assert "tpot ≤ 15 ms and chips ≤ 32 cannot hold together" in text
    assert "One step" not in text


def test_a_plan_without_its_proof_says_the_gap() -> None:
    spec = spec_of()
    result = answer(spec)
    assert result.plan is not None
    cost = result.plan.usd_per_million_output_tokens
    late = replace(result, status=Status.FEASIBLE, bound_usd_per_million_output_tokens=cost * 0.9)
    assert "a gap of 10.00%" in printed(spec, late)
    assert "unknown: the time limit struck" in printed(spec, replace(late, plan=None, status=Status.UNKNOWN))


def test_the_document_is_plain_json_with_the_keys_of_a_plan() -> None:
    document = json.loads(dumps(result_document(answer(spec_of(model="llama-3-405b", slo={"tpot_ms": 15})))))
    assert document["status"] == "optimal"
    assert document["binding"] == ["ici"]
    assert document["conflict"] is None
    plan = document["plan"]
    expected = {
        "chip": "tpu-v5e", "topology": "8x8", "tp_axes": [0, 1], "tp": 64, "replicas": 1, "weights": "int8",
        "kv_cache": "int8", "compute": "bf16", "batch": 88, "chips": 64,
    }  # fmt: skip
    assert {key: plan[key] for key in expected} == expected
    assert plan["tokens_per_s"] == pytest.approx(7814.0, abs=0.1)
    assert plan["tokens_per_s_per_chip"] == pytest.approx(122.1, abs=0.05)
    assert plan["step_ms"]["weights"] == pytest.approx(7.717, abs=1e-3)
    assert document["requirements"]["tpot"]["slack"] == pytest.approx(15 - plan["tpot_ms"])
    rejected = next(entry for entry in document["slices"] if entry["topology"] == "4x8")
    assert rejected["violated"] == ["tpot"]
    assert rejected["usd_per_million_output_tokens"] is None


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        dumps({"value": float("nan")})
