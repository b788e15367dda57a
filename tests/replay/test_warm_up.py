"""How many requests arrive until replicas are full, by hand, and that a short replay says what a long one does."""

import numpy as np
import pytest

from servesat.core.errors import SpecError
from servesat.replay.percentiles import percentile
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import Replay, Run, sample_of
from servesat.replay.requests import Lengths, drawn
from servesat.replay.scheduler import Scheduling
from servesat.replay.step_times import StepTimes
from servesat.replay.warm_up import done_per_s, settling_requests, warm_up_requests
from servesat.spec.workload import Workload
from tests.replay.test_pools import STEPS_OF_A_SECOND, TIMES

ANSWERS_OF_TEN = Workload(prompt_tokens=1, output_tokens=10, requests_per_s=15)
LIMITS = Scheduling(10**6, 10**6, 1e12)


def test_steps_that_take_as_long_for_any_batch_by_hand() -> None:
    """10 steps of 1 s hold the 5 requests/s of each replica for 10 s: 50 under way, the arrivals of one constant."""
    three = Servers(Pool(STEPS_OF_A_SECOND, LIMITS, 3))
    assert warm_up_requests(three, ANSWERS_OF_TEN, 15) == pytest.approx(3 * 2 * 50, abs=1)


def test_steps_that_take_longer_for_larger_batches_by_hand() -> None:
    """Steps of 1 + n / 10 s do n / (10 + n) requests/s: for 0.3 some 5 are under way, and 6 do 6 / 16 - 5 / 15 more.

    For 0.9 some 90 are, and two constants of 0.9 / (91 / 101 - 90 / 100) = 909 are more than ten times as many.
    """
    times = StepTimes(**{**TIMES, "fixed_s": 1.0, "sequence_s": 0.1})
    one = Servers(Pool(times, LIMITS, 1))
    assert warm_up_requests(one, ANSWERS_OF_TEN, 0.3) == pytest.approx(2 * 0.3 / (6 / 16 - 5 / 15), abs=1)
    assert warm_up_requests(one, ANSWERS_OF_TEN, 0.9) == pytest.approx(10 * 90, abs=10)
    assert warm_up_requests(one, ANSWERS_OF_TEN, 10) == 0  # more than are ever done: there is no steady state


def test_prompts_that_hide_behind_the_loading_of_weights_take_no_time() -> None:
    """Steps load weights for 1 s, while they compute 10 tokens of 0.1 s: as many are done as without prompts."""
    times = StepTimes(**{**TIMES, "resident_s": 1.0, "token_s": 0.01, "prompt_token_s": 0.1})
    request = drawn(1.0, 1, Lengths(5.0, 10.0))
    in_one_step, alone = Scheduling(100, 50, 1e9), Scheduling(100, 50, 1e9, prompts_alone=True)
    assert done_per_s(Pool(times, in_one_step, 1), request, 10) == pytest.approx(1 / max(1.0, 10 * 0.01 + 5 * 0.1))
    assert done_per_s(Pool(times, alone, 1), request, 10) == pytest.approx(1 / (1.0 + 5 * 0.1))
    assert done_per_s(Pool(times, Scheduling(11, 50, 1e9), 1), request, 10) == pytest.approx(1 / 5)  # of one token left


def test_queues_of_prompts_by_hand() -> None:
    """Replicas that are busy for 81 % of the time: 0.81 / (1 - 0.9)² / 2 = 40.5 arrivals of each of two a constant."""
    prompts = Pool(StepTimes(**{**TIMES, "prompt_token_s": 0.081}), LIMITS, 2)
    servers = Servers(Pool(STEPS_OF_A_SECOND, LIMITS, 20), prompts)
    workload = Workload(prompt_tokens=10, output_tokens=2, requests_per_s=2)
    assert warm_up_requests(servers, workload, 2) == pytest.approx(2 * 2 * 40.5, abs=1)


def p95_s(one: Run) -> tuple[float, float]:
    return percentile(one.times.ttft_s, 0.95), percentile(one.times.tpot_s, 0.95)


def test_a_replica_with_many_requests_under_way_is_full_before_they_count() -> None:
    """Some 2,000 are under way: of 2,500 requests from the first on, p95 is 35 ms in place of 41."""
    times = StepTimes(**{**TIMES, "fixed_s": 0.02, "sequence_s": 1e-5})
    servers = Servers(Pool(times, Scheduling(10**6, 10**4, 1e12), 1))
    workload = Workload(prompt_tokens=100, output_tokens=1000, requests_per_s=50)
    found = np.mean([p95_s(Replay(workload, servers, 2500, seed).run)[1] for seed in range(4)])
    long = Replay(workload, servers, 30_000, 9)
    assert len(Replay(workload, servers, 2500, 0).run.times.ttft_s) == 2250
    assert found == pytest.approx(percentile(long.run.every.tpot_s[15_000:], 0.95), rel=0.01)


@pytest.mark.soak
def test_two_large_pools_are_as_a_sample_of_both() -> None:
    decoding = StepTimes(**{**TIMES, "fixed_s": 0.01, "sequence_s": 1e-4})
    prompts = StepTimes(**{**TIMES, "prompt_token_s": 1e-3})
    first = Pool(prompts, Scheduling(108, 8, 800), 24)
    servers = Servers(Pool(decoding, Scheduling(64, 64, 1e9, with_cache=True), 36), first, transfer_s=0.01)
    workload = Workload(prompt_tokens=100, output_tokens=100, requests_per_s=200)
    sample = sample_of(servers)
    assert sample.prefill is not None
    assert (sample.pool.replicas, sample.prefill.replicas) == (12, 8)
    found = np.mean([p95_s(Replay(workload, servers, 2500, seed).run) for seed in range(16)], axis=0)
    whole = p95_s(Replay(workload, servers, 60_000, 9, whole=True).run)
    assert found == pytest.approx(whole, rel=0.05)


def test_so_many_replicas_that_a_replay_of_all_never_fills_them_are_refused() -> None:
    servers = Servers(Pool(STEPS_OF_A_SECOND, LIMITS, 10**5))
    with pytest.raises(SpecError, match=r"10,000,\d\d\d requests arrive until 100,000 replicas are full, more than"):
        Replay(ANSWERS_OF_TEN.model_copy(update={"requests_per_s": 5e5}), servers, 2500, 0, whole=True)


def test_bursts_and_lengths_that_differ_take_longer_to_settle() -> None:
    """At 81 % busy 40.5 arrivals a constant, twice; 16 + 1 times that for gaps of cv 4 and answers of cv 1.

    At one of 15 replicas the squared variation of gaps is 1 + 15 / 15 = 2.
    """
    one = Servers(Pool(STEPS_OF_A_SECOND, Scheduling(10**6, 81, 1e12), 1))  # of which each is busy for ten steps
    alike = ANSWERS_OF_TEN.model_copy(update={"requests_per_s": 0.81 * 8.1})
    rate = 0.81 * 8.1
    assert settling_requests(one, alike, rate) == pytest.approx(2 * 40.5, abs=1)
    varied = Workload.model_validate(
        {**alike.model_dump(), "arrivals": {"gamma_cv": 4.0}, "lengths": {"output_cv": 1.0}}
    )
    assert settling_requests(one, varied, rate) == pytest.approx(17 * 2 * 40.5, abs=1)
    assert settling_requests(one, varied, rate, one_of=15) == pytest.approx(3 * 2 * 40.5, abs=1)
