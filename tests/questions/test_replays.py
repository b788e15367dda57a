"""A plan's replay: what it tells, and where it breaks."""

from pathlib import Path

import pytest

from servesat import Spec
from servesat.core.errors import SpecError
from servesat.deployment.solve import solve
from servesat.questions.replays import replay, under, with_decode_slices
from tests.deployment.test_by_replay import CHAT


def test_limits_that_a_plan_keeps_break_above_its_load() -> None:
    spec = Spec.load(CHAT)
    plan = solve(spec).plan
    assert plan is not None
    found = replay(spec, plan, requests=8000, until_breaks=True)
    assert all(limit.holds for limit in found.replayed.limits)
    assert found.breaks is not None
    assert found.breaks.requirement in {"ttft", "tpot"}
    assert found.breaks.requests_per_s > 30
    twice = replay(under(spec, None, 2 * found.breaks.requests_per_s), plan, requests=8000)
    assert not all(limit.holds for limit in twice.replayed.limits)
    more = replay(under(spec, None, 2 * found.breaks.requests_per_s), with_decode_slices(plan, 4), requests=8000)
    assert all(limit.holds for limit in more.replayed.limits)


def test_the_course_counts_every_request() -> None:
    """Little: those that wait and decode are as many as arrive in the time of a request."""
    spec = Spec.load(CHAT)
    plan = solve(spec).plan
    assert plan is not None
    found = replay(spec, plan, requests=4000, seeds=2)
    assert found.moments[-1].time_s == pytest.approx(2000 / 30, rel=0.1)
    e2e_s = found.replayed.e2e_ms.p50 / 1e3
    under_way = [moment.waiting + moment.decoding for moment in found.moments]
    assert sum(under_way) / len(under_way) == pytest.approx(30 * e2e_s, rel=0.15)
    assert all(0 <= moment.kv_share <= 1 for moment in found.moments)


def test_a_trace_is_replayed_at_its_own_rate_or_another(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("time,prompt_tokens,output_tokens\n" + "".join(f"{at / 10},1000,100\n" for at in range(300)))
    spec = Spec.load(CHAT)
    plan = solve(spec).plan
    assert plan is not None
    own = replay(under(spec, path, None), plan)
    assert (own.replayed.arrivals, own.requests_per_s) == ("trace trace.csv", pytest.approx(10.0))
    assert (own.replayed.requests, own.warm_up_requests) == (8 * 300, 0)
    assert under(spec.changed({"workload.lengths": {"prompt_cv": 1.0}}), path, None).workload.lengths.prompt_cv == 0
    faster = replay(under(spec, path, 500.0), plan)
    assert faster.replayed.ttft_ms.p95 > 3 * own.replayed.ttft_ms.p95


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    spec = Spec.load(CHAT)
    plan = solve(spec).plan
    assert plan is not None
    with pytest.raises(SpecError, match="nothing arrives"):
        replay(Spec.load({**CHAT, "workload": {"prompt_tokens": 1000, "output_tokens": 100}}), plan)
    path = tmp_path / "long.csv"
    path.write_text("time,prompt_tokens,output_tokens\n0,90000000,100\n1,10,10\n")
    with pytest.raises(SpecError, match=r"request 1 of long.csv has 90,000,100 tokens: expected at most 131,072, the"):
        under(spec, path, None)
    stretched = spec.changed({"model.max_context_tokens": 10**8})
    with pytest.raises(SpecError, match=r"a request of 90,000,100 tokens never fits: weights leave room for"):
        replay(under(stretched, path, None), plan)
    path.write_text("time,prompt_tokens,output_tokens\n0,10,10\n0,10,10\n")
    with pytest.raises(
        SpecError, match=r"--trace .*long.csv: has no rate, as its requests all come at once; give --rate"
    ):
        under(spec, path, None)
    with pytest.raises(SpecError, match=r"--trace .*none.csv: no such file"):
        under(spec, tmp_path / "none.csv", None)


def test_a_limit_that_the_replays_leave_open_is_undecided_and_one_below_all_of_them_broken() -> None:
    spec = Spec.load(CHAT)
    plan = solve(spec).plan
    assert plan is not None
    (ttft, _) = replay(spec, plan, requests=8000, seeds=4).replayed.limits
    assert ttft.holds
    for factor, holds in ((1.2, True), (1.0, True), (0.98, None), (0.85, False)):
        changed = spec.changed({"slo.ttft_ms": factor * ttft.value})
        found = replay(changed, plan, requests=8000, seeds=4).replayed.limits[0]
        assert (found.value, found.holds) == (ttft.value, holds)
        assert {True: found.met >= 0.95, None: found.met < 0.95 <= found.met + found.confidence,
                False: found.met + found.confidence < 0.95}[holds]  # fmt: skip


@pytest.mark.soak
def test_more_load_than_is_served_breaks_a_plan_whatever_its_limits() -> None:
    """A step keeps its limit however many wait; what the means serve at most is told from the growing queue."""
    spec = Spec.load({**CHAT, "slo": {"tpot_ms": 1000}})
    plan = solve(spec).plan
    assert plan is not None
    breaks = replay(spec, plan, requests=20_000, seeds=2, until_breaks=True).breaks
    assert breaks is not None
    assert breaks.requirement == "load"
    assert breaks.requests_per_s == pytest.approx(plan.requests_per_s, rel=0.1)
