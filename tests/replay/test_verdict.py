"""How many replays tell whether a limit is kept, and what a first look rejects."""

import numpy as np
import pytest

from servesat.replay.percentiles import RequestTimes
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import Limit, run
from servesat.replay.scheduler import Scheduling
from servesat.replay.verdict import REQUESTS, broken_for_certain, first_look, verdict
from servesat.spec.workload import Workload
from tests.replay.test_pools import STEPS_OF_A_SECOND

ONE_AT_A_TIME = Servers(Pool(STEPS_OF_A_SECOND, Scheduling(1, 10**6, 1e12), 1))
WORKLOAD = Workload(prompt_tokens=1, output_tokens=1, requests_per_s=0.7)


def ttft_within(limit_s: float) -> tuple[Limit, ...]:
    return (Limit("ttft", 0.95, limit_s),)


def means(seeds: int) -> float:
    """The mean of the p95 of replays."""
    runs = [run(WORKLOAD, ONE_AT_A_TIME, REQUESTS, seed) for seed in range(seeds)]
    return float(np.mean([np.quantile(one.times.ttft_s, 0.95, method="inverted_cdf") for one in runs]))


def test_replays_end_when_a_limit_is_certain() -> None:
    found = verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(2 * means(8)), None)
    assert (found.holds, found.seeds) == (True, 8)
    assert found.kept[0].value.value == pytest.approx(means(8))
    assert verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(0.5 * means(8)), None).seeds == 3


def test_half_of_the_most_replays_end_it_where_their_mean_is_beyond_the_limit() -> None:
    beyond = verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(0.999 * means(32)), None)
    assert (beyond.holds, beyond.seeds) == (None, 32)
    within = verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(1.001 * means(32)), None)
    assert (within.holds, within.seeds) == (None, 64)


def test_a_first_look_rejects_what_is_far_too_late_and_nothing_that_is_kept() -> None:
    """A queue at 70 % and at 110 % of what it serves: its wait is bounded, and then is not."""
    kept = 1.1 * means(8)
    assert first_look(WORKLOAD, ONE_AT_A_TIME, ttft_within(kept)) == ()
    overloaded = WORKLOAD.model_copy(update={"requests_per_s": 1.1})
    assert first_look(overloaded, ONE_AT_A_TIME, ttft_within(kept)) == ("ttft",)


def test_as_many_late_requests_of_a_trace_as_may_be_are_no_reason_to_reject() -> None:
    """Of 1,000 requests 100 may be late under p90, though 1 - 0.9 is less than 0.1 to a computer."""
    trace = RequestTimes(np.where(np.arange(1000) < 100, 2.0, 0.5), np.zeros(1000), np.zeros(1000))
    later = RequestTimes(np.where(np.arange(1000) < 101, 2.0, 0.5), np.zeros(1000), np.zeros(1000))
    limits = (Limit("ttft", 0.9, 1.0),)
    assert broken_for_certain(limits, trace, 1000) == ()
    assert broken_for_certain(limits, later, 1000) == ("ttft",)


def test_a_percentile_that_few_requests_are_beyond_takes_longer_replays() -> None:
    """Of 2,250 requests two are beyond p99.9: such estimates are too low, by 13 % here."""
    limit = (Limit("ttft", 0.999, 1e3),)
    found = verdict(WORKLOAD, ONE_AT_A_TIME, limit, None)
    assert (found.asked, found.seeds, found.holds) == (25_000, 8, True)
    long_run = run(WORKLOAD, ONE_AT_A_TIME, 500_000, 99).times.ttft_s
    assert found.kept[0].value.value == pytest.approx(float(np.quantile(long_run, 0.999)), rel=0.1)
