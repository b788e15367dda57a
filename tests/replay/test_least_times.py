"""Lower bounds on the times of requests, by hand and below every replay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Spec
from servesat.deployment.first_looks import servers_slower
from servesat.deployment.solve import solve
from servesat.replay.least_times import least_times, prompt_work_s
from servesat.replay.percentiles import times_of
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import limits_of
from servesat.replay.requests import Requests
from servesat.replay.scheduler import Scheduling
from servesat.replay.step_times import StepTimes
from servesat.replay.verdict import surely_late, verdict
from tests.replay.test_scheduler import NOTHING, scheduler_cases
from tests.strategies import examples


def requests_of(rows: list[tuple[float, int, int, int]]) -> Requests:
    """Requests of (arrival, prompt, answer, cached)."""
    return Requests(*(np.array(column) for column in zip(*rows, strict=True)))


def test_prompts_wait_for_each_other_by_hand() -> None:
    """Prompts of 10 and 20 tokens at 0.1 s, 0.3 s for each and 0.05 s a token of steps of 20: 1.8 and 3.3 s of work.

    The second comes at 1 s and waits for 0.8; the third, at 10 s, for none. Of an answer's three tokens two follow, at
    1 + 0.5 s a step. A pair of tokens would take 0.01 s: 10 · 5 of the first prompt, 10 · (10 + 5) of the last.
    """
    times = {**NOTHING, "prompt_token_s": 0.1, "prompt_end_s": 0.3, "fixed_s": 1.0, "head_s": 0.5}
    requests = requests_of([(0.0, 10, 3, 0), (1.0, 20, 1, 0), (10.0, 20, 1, 10)])
    pool = Pool(StepTimes(**times), Scheduling(20, 4, 1e9), 1)
    least = least_times(Servers(pool, request_s=0.25), requests)
    assert least.ttft_s.tolist() == pytest.approx([0.25 + 1.8, 0.25 + 0.8 + 3.3, 0.25 + 1.8])
    assert least.tpot_s.tolist() == pytest.approx([1.5, np.nan, np.nan], nan_ok=True)
    assert least.e2e_s.tolist() == pytest.approx([2.05 + 3.0, 4.35, 2.05])
    attending = Pool(StepTimes(**times | {"attention_s": 0.01}), Scheduling(20, 4, 1e9), 1)
    assert prompt_work_s(attending, requests).tolist() == pytest.approx([1.8 + 0.5, 3.3 + 2.0, 1.8 + 1.5])


@examples(300)
@given(scheduler_cases, st.booleans(), st.sampled_from([0.0, 0.7]))
def test_no_replay_is_faster(case: dict, pools: bool, waits_s: float) -> None:
    rows, times, limits = case["rows"], StepTimes(**case["times"]), Scheduling(**case["limits"] | {"with_cache": pools})
    prefill = Pool(times, Scheduling(**case["limits"] | {"with_cache": False, "prompts_alone": False}), 1)
    servers = Servers(Pool(times, limits, 1), prefill if pools else None, waits_s / 2 * pools, waits_s)
    requests = requests_of(rows)
    least, taken = least_times(servers, requests), times_of(requests, servers.serve(requests))
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        lowest, found = getattr(least, name), getattr(taken, name)
        assert np.array_equal(np.isnan(lowest), np.isnan(found))  # a time per token, of an answer of one
        assert not np.any(lowest > found * (1 + 1e-9) + 1e-9), name


def test_what_is_surely_late_is_found_so_by_replays() -> None:
    """The plan of a service that keeps 500 ms, at 1 to 2.2 times its load: late beyond some load, and replays agree."""
    spec = Spec.load(
        {
            "model": "llama-3.1-8b",
            "workload": {"prompt_tokens": 4000, "output_tokens": 100, "requests_per_s": 10},
            "slo": {"ttft_ms": 500, "tpot_ms": 40},
            "search": {"chips": ["h100-sxm"]},
        }
    )
    plan = solve(spec).plan
    assert plan is not None
    limits, found = limits_of(spec), []
    for factor in (1.0, 1.4, 1.8, 2.2):
        loaded = spec.changed({"workload.requests_per_s": 10 * factor})
        servers = servers_slower(loaded, plan)
        found.append(surely_late(loaded.workload, servers, limits))
        if found[-1]:
            assert verdict(loaded.workload, servers, limits, None).holds is False
    assert found[0] == ()
    assert found[-1] == ("ttft",)
