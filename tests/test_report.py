import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from servesat import Requirement, Status, solve
from servesat.report.documents import dumps, result_document
from servesat.report.terminal import print_result
from servesat.report.words import conflict, dollars, gigabytes, ways
from tests.helpers import searching, spec_of


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
    plan = solve(searching(topologies={"tpu-v5e": ["4x4"]})).plan
    assert plan is not None
    assert ways(plan) == "16-way tensor parallelism over axes 0 and 1"
    assert ways(replace(plan, tp=4, tp_axes=(1,))) == "4-way tensor parallelism over axis 1"
    assert ways(replace(plan, tp=1, tp_axes=())) == "no tensor parallelism"


def test_a_plan_shows_where_its_time_goes_what_binds_and_what_is_rejected() -> None:
    spec = spec_of(model="llama-3-405b", slo={"tpot_ms": 15})
    text = printed(spec, solve(spec))
    assert "tpu-v5e 8x8 (64 chips), 64-way tensor parallelism over axes 0 and 1, 1 replica" in text
    assert "88 sequences a replica, KV cache sharded 8 ways over the batch" in text
    assert "$2.730 per million output tokens" in text
    assert "5.65 ms  hidden behind weights" in text
    assert "ici binds: 16.02 of 16.62 us a matmul" in text
    assert (
        "4x8 (32 chips) is rejected: tpot: loading 405 GB of weights over 32 chips takes 15.4 ms, the limit is 15 ms"
        in " ".join(text.split())
    )
    assert "optimal: proved that no plan costs less than $2.730" in text


def test_explain_shows_every_requirement_and_slice() -> None:
    spec = spec_of(slo={"tpot_ms": 20})
    text = printed(spec, solve(spec), explain=True)
    for name in ("hbm", "tpot", "ici", "heads", "kv_heads", "dtypes", "2x2", "16x16"):
        assert name in text


def test_max_batch_is_named_when_it_is_what_holds_the_batch() -> None:
    spec = searching(max_batch=6)
    assert "search.max_batch = 6 binds" in printed(spec, solve(spec))


def test_no_limit_binds_beyond_the_critical_batch() -> None:
    spec = searching(weights=["int4"])
    assert "no limit binds" in printed(spec, solve(spec))


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
        == "tpot ≤ 15 ms, budget ≤ $9/h and throughput ≥ 1e+06 tokens/s cannot hold together on tpu-v5e"
    )
    assert (
        conflict([Requirement.HBM], spec_of(headroom=0.2))
        == "no plan satisfies hbm (at most 80% of memory used) on tpu-v5e"
    )


def test_an_infeasible_result_shows_its_conflict_and_no_plan() -> None:
    spec = spec_of(
        model="llama-3-405b", slo={"tpot_ms": 15}, search={"chips": ["tpu-v5e"], "max_chips": 32, "weights": ["int8"]}
    )
    text = printed(spec, solve(spec))
    assert "tpot ≤ 15 ms and chips ≤ 32 cannot hold together" in text
    assert "$" not in text


def test_a_plan_without_its_proof_says_the_gap() -> None:
    spec = spec_of()
    result = solve(spec)
    assert result.plan is not None
    cost = result.plan.usd_per_million_output_tokens
    late = replace(result, status=Status.FEASIBLE, bound_usd_per_million_output_tokens=cost * 0.9)
    assert "a gap of 10.00%" in printed(spec, late)
    assert "unknown: the time limit struck" in printed(spec, replace(late, plan=None, status=Status.UNKNOWN))


def test_the_document_is_plain_json_with_the_keys_of_a_plan() -> None:
    document = json.loads(dumps(result_document(solve(spec_of(model="llama-3-405b", slo={"tpot_ms": 15})))))
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
