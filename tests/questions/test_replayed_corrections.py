from typing import Any

import pytest
import yaml

from servesat.candidates.requirements import RULES
from servesat.core.result import Change, Correction, Result, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions import replayed_corrections
from servesat.questions.explain import answer
from servesat.questions.replayed_corrections import LOOSENED, _loosened
from servesat.replay.replayed import limits_of, servers_of
from servesat.replay.verdict import verdict
from servesat.spec.spec import Spec
from tests.helpers import CHAT_AT_RANDOM as CHAT


def on_one_l40s(requests_per_s: float, **slo: Any) -> Spec:
    search = {**CHAT["search"], "max_slices": 1, "chips": ["l40s"], "topologies": {"l40s": ["1x1"]}}
    workload = {**CHAT["workload"], "requests_per_s": requests_per_s}
    return Spec.load({**CHAT, "workload": workload, "search": search, "slo": {**CHAT["slo"], **slo}})


def values(corrections: tuple[Correction, ...]) -> dict[str, Any]:
    return {one.changes[0].key: one.changes[0].value for one in corrections}


def test_a_limit_that_suffices_on_average_moves_until_a_plan_passes_its_replays() -> None:
    spec = on_one_l40s(8, ttft_ms=50)
    result = answer(spec)
    (of_ttft,) = result.corrections
    by_means = solve(spec.in_means().changed({"slo.ttft_ms": 1000})).margins
    on_average = next(margin.value for margin in by_means if margin.requirement == "ttft")
    assert (result.status, result.means_hold, of_ttft.replayed) == (Status.INFEASIBLE, False, True)
    moved = float(of_ttft.changes[0].value)
    assert on_average is not None
    assert moved > on_average
    loosened = spec.changed({"slo.ttft_ms": moved})
    tested = verdict(spec.workload, servers_of(loosened, of_ttft.plan), limits_of(loosened), spec.slo.goodput)
    assert tested.holds


@pytest.mark.soak
def test_what_breaks_at_random_alone_is_mended_by_a_limit_of_every_conflict() -> None:
    """A slice of an L40S serves 10 requests/s within the means, and 8 for 95 % of the requests."""
    assert solve(on_one_l40s(8)).plan is not None
    result = answer(on_one_l40s(10))
    assert (result.status, result.means_hold) == (Status.INFEASIBLE, True)
    assert all(one.replayed for one in result.corrections)
    assert values(result.corrections) == {"search.max_slices": 2, "slo.ttft_ms": 1.25 * 250}


def test_each_percentile_of_a_limit_moves_alike() -> None:
    spec = on_one_l40s(8, ttft_ms={"p50": 30, "p99": 400})
    (of_ttft,) = answer(spec).corrections
    change = of_ttft.changes[0]
    limits = yaml.safe_load(str(change.value))
    assert (change.key, of_ttft.replayed) == ("slo.ttft_ms", True)
    assert limits["p99"] / limits["p50"] == pytest.approx(400 / 30, rel=1e-5)
    assert limits["p50"] > 30
    assert solve(spec.changed({change.key: limits})).plan is not None


@pytest.mark.parametrize("factor", LOOSENED)
def test_a_loosened_limit_is_one_that_a_spec_may_state(factor: float) -> None:
    """From three sequences at least a third of that is one; chips and dollars are more, an added chip stays."""
    search = {"min_batch": 3, "max_chips": 3, "max_slices": 1, "max_usd_per_hour": 0.5, "max_quality_loss": 1e-4}
    spec = on_one_l40s(8).changed({f"search.{name}": value for name, value in search.items()})
    names = {"min_batch", "chips", "slices", "budget", "quality", "ttft", "tpot"}
    for name in sorted(names & set(RULES)):
        rule = RULES[name]
        value = rule.limit(spec)
        assert value is not None
        moved = _loosened(spec, Change(requirement=name, key=rule.key, value=rule.adjusted(value)), factor)
        assert spec.changed({moved.key: moved.value}) is not None
        assert (float(moved.value) <= value) if rule.at_least else (float(moved.value) >= value)
    added = Change(requirement="chip", key="search.chips", value="gh200")
    assert _loosened(spec, added, factor) == added


def test_no_change_is_tried_twice_or_beyond_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def none(spec: Spec, settings: Settings) -> Result:
        assert settings.time_limit_s is not None
        assert settings.time_limit_s <= 5
        return Result(status=Status.INFEASIBLE, plan=None, solve_s=0.0)

    monkeypatch.setattr(replayed_corrections, "solve", none)
    spec = on_one_l40s(10)
    result = Result(status=Status.INFEASIBLE, plan=None, conflict=(("slices", "ttft"),), solve_s=0.0)
    found = replayed_corrections.replayed_corrections(spec, result, Settings(time_limit_s=5.0), asked.append)
    assert (found.means_hold, found.corrections) == (True, ())
    assert len(asked) == len(set(asked)) == 5 + 3  # times to the first token; 2, 2, 2, 3 and 5 slices
