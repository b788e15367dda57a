"""How many replays tell whether a limit is kept, and what a first look rejects."""

import numpy as np
import pytest

from servesat import Spec
from servesat.replay.percentiles import Estimate, RequestTimes, percentile
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import Limit, Replay, limits_of, within
from servesat.replay.requests import Requests
from servesat.replay.scheduler import Scheduling
from servesat.replay.verdict import (
    REQUESTS,
    Kept,
    _is_hopeless,
    broken_for_certain,
    first_look,
    kept_in,
    verdict,
)
from servesat.spec.workload import Workload
from tests.helpers import CHAT_AT_RANDOM
from tests.replay.test_pools import STEPS_OF_A_SECOND

ONE_AT_A_TIME = Servers(Pool(STEPS_OF_A_SECOND, Scheduling(1, 10**6, 1e12), 1))
WORKLOAD = Workload(prompt_tokens=1, output_tokens=1, requests_per_s=0.7)


def requests(count: int, longer: int = 0) -> Requests:
    """Requests at once, the first `longer` of two tokens of answer and the others of one."""
    one = np.ones(count, dtype=np.int64)
    return Requests(np.zeros(count), one, np.where(np.arange(count) < longer, 2, 1), 0 * one)


def ttft_within(limit_s: float) -> tuple[Limit, ...]:
    return (Limit("ttft", 0.95, limit_s),)


def p95_s(seeds: int) -> float:
    """The p95 of the requests of all replays."""
    runs = [Replay(WORKLOAD, ONE_AT_A_TIME, REQUESTS, seed).run.times.ttft_s for seed in range(seeds)]
    return float(np.quantile(np.concatenate(runs), 0.95, method="inverted_cdf"))


def test_replays_end_when_a_limit_is_certain() -> None:
    found = verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(2 * p95_s(8)), None)
    assert (found.holds, found.seeds) == (True, 8)
    assert found.kept[0].value == p95_s(8)
    assert found.kept[0].share.value > 0.99
    assert verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(0.5 * p95_s(8)), None).seeds == 3


def test_what_more_replays_would_hardly_keep_is_given_up() -> None:
    """After 8 of 64: 1.96 · (56/64 · √(1/8 + 1/56) - 1/8) = 0.403 deviations of a run too few; after 32 any."""
    limit = Limit("ttft", 0.95, 1.0)
    for seeds, t, off in ((8, 2.365, 0.403), (32, 2.0395, 0.0)):
        for more, hopeless in ((0.01, True), (-0.01, False)):
            share = Estimate(0.95 - 0.02 * (off + more), t * 0.02 / seeds**0.5)
            assert _is_hopeless(Kept(limit, share, share, None), seeds, 64) is hopeless
    beyond = verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(0.999 * p95_s(32)), None)
    assert (beyond.holds, beyond.seeds) in {(None, 8), (None, 16), (None, 32)}
    assert verdict(WORKLOAD, ONE_AT_A_TIME, ttft_within(1.2 * p95_s(32)), None).holds is True


@pytest.mark.soak
def test_queues_near_saturation_settle_before_a_limit_counts_as_kept() -> None:
    """At 98 % of what it serves: 2,500 requests that begin with an empty queue have a p95 of 42 s, and all 72 s."""
    busy = WORKLOAD.model_copy(update={"requests_per_s": 0.98})
    short = np.concatenate([Replay(busy, ONE_AT_A_TIME, REQUESTS, seed).run.times.ttft_s for seed in range(32)])
    assert np.quantile(short, 0.95) < 45
    assert np.quantile(Replay(busy, ONE_AT_A_TIME, 1_000_000, 5).run.times.ttft_s, 0.95) > 65
    assert verdict(busy, ONE_AT_A_TIME, ttft_within(55), None).holds is not True
    assert verdict(busy, ONE_AT_A_TIME, ttft_within(120), None).holds is True


def test_a_first_look_rejects_what_is_far_too_late_and_nothing_that_is_kept() -> None:
    """A queue at 70 % and at 110 % of what it serves: its wait is bounded, and then is not."""
    kept = 1.1 * p95_s(8)
    assert first_look(WORKLOAD, ONE_AT_A_TIME, ttft_within(kept)) == ()
    overloaded = WORKLOAD.model_copy(update={"requests_per_s": 1.1})
    assert first_look(overloaded, ONE_AT_A_TIME, ttft_within(kept)) == ("ttft",)


def test_as_many_late_requests_of_a_trace_as_may_be_are_no_reason_to_reject() -> None:
    """Of 1,000 requests 100 may be late under p90, though 1 - 0.9 is less than 0.1 to a computer."""
    trace = RequestTimes(np.where(np.arange(1000) < 100, 2.0, 0.5), np.zeros(1000), np.zeros(1000))
    later = RequestTimes(np.where(np.arange(1000) < 101, 2.0, 0.5), np.zeros(1000), np.zeros(1000))
    limits = (Limit("ttft", 0.9, 1.0),)
    assert broken_for_certain(limits, trace, requests(1000)) == ()
    assert broken_for_certain(limits, later, requests(1000)) == ("ttft",)


def test_answers_of_one_token_have_no_time_per_token() -> None:
    """Of 1,000 answers 100 have more than one token, of which 10 may be late under p90, and of the first 30 no more."""
    tpot_s = np.where(np.arange(1000) % 10 == 0, np.where(np.arange(1000) < 100, 2.0, 0.5), np.nan)
    times, limit = RequestTimes(np.zeros(1000), tpot_s, np.zeros(1000)), Limit("tpot", 0.9, 1.0)
    whole = requests(1000, longer=100)
    assert broken_for_certain([limit], times, whole) == ()
    assert broken_for_certain([limit], times, requests(1000, longer=99)) == ("tpot",)  # of which 9 may be
    kept = kept_in(limit, [times, times])
    assert (kept.share.value, kept.value, kept.holds) == (0.9, 0.5, True)
    assert float(np.mean(within([limit], times))) == 0.99
    nothing = kept_in(limit, [RequestTimes(np.zeros(2), np.full(2, np.nan), np.zeros(2))] * 2)
    assert (nothing.share.value, nothing.value, nothing.holds) == (1.0, 0.0, True)


@pytest.mark.soak
def test_a_percentile_that_few_requests_are_beyond_takes_longer_replays() -> None:
    """100 of the requests of eight replays are beyond p99.9, and the percentile is that of all of them together."""
    limit = (Limit("ttft", 0.999, 1e3),)
    found = verdict(WORKLOAD, ONE_AT_A_TIME, limit, None)
    assert (found.asked, found.seeds, found.holds) == (12_500, 8, True)
    long_run = Replay(WORKLOAD, ONE_AT_A_TIME, 500_000, 99).run.times.ttft_s
    assert found.kept[0].value == pytest.approx(float(np.quantile(long_run, 0.999)), rel=0.1)


def test_the_last_of_a_thousand_may_be_late_at_p99_9() -> None:
    """0.999 of 1,000 requests are 999, though 99.9 / 100 is a little more than 0.999."""
    times = np.r_[np.ones(999), 5.0]
    (limit,) = limits_of(Spec.load({**CHAT_AT_RANDOM, "slo": {"ttft_ms": {"p99.9": 1000}}}))
    assert limit.share > 0.999
    assert (percentile(times, limit.share), percentile(times, 1.0)) == (1.0, 5.0)
    assert broken_for_certain((limit,), RequestTimes(times, times, times), requests(1000)) == ()


def test_a_limit_is_met_within_the_tolerance_of_all_limits() -> None:
    late = np.array([1.0 + 1e-10, 1.0 + 1e-8])
    assert Limit("ttft", 0.95, 1.0).met_by(RequestTimes(late, late, late)).tolist() == [True, False]
