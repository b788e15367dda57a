import io
from dataclasses import replace

from rich.console import Console

from servesat import Spec, Status
from servesat.questions.explain import answer
from servesat.report.result import print_result
from tests.helpers import CHAT_AT_RANDOM, nearly_flat, searching, spec_of


def printed(spec, result, *, explain: bool = False) -> str:
    out = io.StringIO()
    print_result(Console(file=out, width=110, highlight=False), spec, result, explain=explain)
    return out.getvalue()


def test_a_plan_shows_where_its_time_goes_what_binds_and_what_is_rejected() -> None:
    spec = spec_of(model="llama-3-405b", slo={"tpot_ms": 15})
    text = printed(spec, answer(spec))
    assert "tpu-v5e 8x8 (64 chips), 64-way tensor parallelism over axes 0 and 1, 1 replica" in text
    assert "88 sequences a replica, KV cache sharded 8 ways over the batch" in text
    assert "$2.730 per million output tokens" in text
    assert "5.65 ms  hidden behind weights" in text
    assert "ici binds: 16.02 of 16.62 us a matmul" in text
    assert "a faster interconnect would save" in text
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
    text = printed(spec, result)
    assert "budget binds: 1.2 of 2 $/h\n" in text
    saves = 1 - free.usd_per_million_output_tokens / result.plan.usd_per_million_output_tokens
    assert f"up to $2.7 an hour would save {saves:.1%}\n" in text


def test_an_infeasible_result_shows_its_conflict_and_no_plan() -> None:
    spec = spec_of(
        model="llama-3-405b", slo={"tpot_ms": 15}, search={"chips": ["tpu-v5e"], "max_chips": 32, "weights": ["int8"]}
    )
    text = printed(spec, answer(spec))
    assert "tpot ≤ 15 ms and chips ≤ 32 cannot hold together" in text
    assert "One step" not in text


def test_a_model_that_no_engine_loads_may_be_planned_without_one() -> None:
    spec = spec_of(model="minimax-m1", engine="any", search={"chips": ["h200"]}, price={"h200": 3.0})
    text = printed(spec, answer(spec))
    assert "does not serve minimax-m1" in text
    assert "set `engine: none` to plan" in text


def test_a_plan_without_its_proof_says_the_gap() -> None:
    spec = spec_of()
    result = answer(spec)
    assert result.plan is not None
    cost = result.plan.usd_per_million_output_tokens
    late = replace(result, status=Status.FEASIBLE, bound_usd_per_million_output_tokens=cost * 0.9)
    assert "a gap of 10.00%" in printed(spec, late)
    assert "unknown: the time limit was reached" in printed(spec, replace(late, plan=None, status=Status.UNKNOWN))


def test_what_cheaper_plans_broke_in_replays_is_not_said_to_bind() -> None:
    """An L40S costs a third, and takes too long for the first token; an H100 is far from that limit."""
    spec = Spec.load(CHAT_AT_RANDOM)
    text = printed(spec, answer(spec))
    assert " rules out cheaper plans: " in text
    assert " ms here\n" in text
    assert "binds" not in text
