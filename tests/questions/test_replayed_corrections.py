from typing import Any

import pytest

from servesat.core.result import Correction, Status
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
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
