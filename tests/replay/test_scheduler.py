"""The replay of a replica against closed forms of queues, and against an oracle that takes every token in turn."""

from math import exp, factorial, inf, isinf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.replay.requests import Requests
from servesat.replay.scheduler import Ledger, Replica, Scheduling
from servesat.replay.step_times import StepTimes
from tests.oracles import scheduler as oracle
from tests.strategies import examples

NOTHING = dict.fromkeys(StepTimes.__dataclass_fields__, 0.0) | {"verified": 1, "host_links": 1}


def requests_at(arrival_s: np.ndarray, prompts: object = 1, outputs: object = 1) -> Requests:
    ones = np.ones(len(arrival_s), dtype=np.int64)
    return Requests(arrival_s, ones * prompts, ones * outputs, 0 * ones)


def poisson(rate: float, count: int, seed: int = 1) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def run(times: StepTimes, scheduling: Scheduling, requests: Requests) -> Replica:
    replica = Replica(times, scheduling, Ledger(requests, with_cache=scheduling.with_cache))
    for request in range(len(requests)):
        replica.give(request)
    replica.advance()
    return replica


def test_one_prompt_a_step_is_an_m_d_1_queue() -> None:
    """The mean wait of Pollaczek and Khinchine: ρ · d / (2 · (1 - ρ))."""
    requests = requests_at(poisson(0.7, 200_000))
    replica = run(StepTimes(**{**NOTHING, "fixed_s": 1.0}), Scheduling(1, 10**6, 1e12), requests)
    wait = np.mean(np.array(replica.first) - requests.arrival_s) - 1.0
    assert wait == pytest.approx(0.7 / (2 * 0.3), rel=0.02)


def test_loads_from_the_host_are_an_m_d_1_queue_before_the_steps() -> None:
    """Steps that take nothing: a request waits for the loads of those before it, and its own of 4 tokens."""
    arrival_s = poisson(0.7, 200_000)
    ones = np.ones(len(arrival_s), dtype=np.int64)
    requests = Requests(arrival_s, 5 * ones, ones, 4 * ones)
    replica = run(StepTimes(**{**NOTHING, "host_token_s": 0.25}), Scheduling(10**6, 10**6, 1e12), requests)
    assert np.mean(np.array(replica.first) - arrival_s) == pytest.approx(1 + 0.7 / (2 * 0.3), rel=0.02)


def test_loads_over_several_links_are_that_much_closer() -> None:
    """Of three that come at once over two links each takes 6 s, and half of that later than the one before."""
    times = StepTimes(**{**NOTHING, "host_token_s": 2.0, "host_links": 2})
    ones = np.ones(3, dtype=np.int64)
    replica = run(times, Scheduling(100, 10, 1e12), Requests(np.zeros(3), 4 * ones, ones, 3 * ones))
    assert replica.first == [6, 9, 12]


def test_loads_do_not_hold_up_the_steps_of_others() -> None:
    """Two come at once: the first decodes while the second loads, and is done as soon as alone."""
    times = StepTimes(**{**NOTHING, "fixed_s": 1.0, "host_token_s": 2.0})
    ones = np.ones(2, dtype=np.int64)
    requests = Requests(np.zeros(2), 4 * ones, 5 * ones, 3 * ones)
    replica = run(times, Scheduling(100, 10, 1e12), requests)
    assert replica.last[0] == 6 + 5
    assert replica.first[1] == 12 + 1


@pytest.mark.soak
def test_sequences_of_random_length_are_an_m_m_c_queue() -> None:
    """The mean wait of Erlang's C, with c sequences of geometric lengths and steps that do not depend on the batch."""
    c, load, mean, count = 4, 0.7, 500, 400_000
    lengths = np.random.default_rng(3).geometric(1 / mean, count) + 1
    requests = requests_at(poisson(c * load, count, seed=13), 1, lengths)
    scheduling = Scheduling(c, c, 1e12, with_cache=True)
    replica = run(StepTimes(**{**NOTHING, "fixed_s": 1.0 / mean}), scheduling, requests)
    served_s = (lengths - 1) / mean
    wait = np.mean(np.array(replica.last) - requests.arrival_s - served_s)
    a = c * load
    top = a**c / factorial(c) / (1 - load)
    waits = top / (sum(a**k / factorial(k) for k in range(c)) + top)
    assert wait == pytest.approx(waits / (c - a), rel=0.02)


def test_prompts_that_share_a_step_are_a_queue_with_batch_service() -> None:
    """All that wait are served together: the mean wait is a · d / 2 / (a + e^-a) with a = λ · d."""
    requests = requests_at(poisson(2.0, 200_000))
    replica = run(StepTimes(**{**NOTHING, "fixed_s": 1.0}), Scheduling(10**6, 10**6, 1e12), requests)
    wait = np.mean(np.array(replica.first) - requests.arrival_s) - 1.0
    assert wait == pytest.approx(2 / 2 / (2 + exp(-2)), rel=0.01)


def test_the_requests_under_way_are_their_rate_times_their_time() -> None:
    """Little's law, on every run: the integral of those in the system is the sum of their times."""
    requests = requests_at(poisson(3.0, 2000), 50, 20)
    times = StepTimes(**{**NOTHING, "fixed_s": 0.005, "kv_token_s": 1e-6, "prompt_token_s": 1e-4})
    last = np.array(run(times, Scheduling(64, 8, 1e6), requests).last)
    moments = np.sort(np.concatenate([requests.arrival_s, last]))
    here = [np.sum(requests.arrival_s <= at) - np.sum(last <= at) for at in moments[:-1]]
    assert np.sum(np.array(here) * np.diff(moments)) == pytest.approx(np.sum(last - requests.arrival_s), rel=1e-9)


def test_steps_by_hand() -> None:
    """Two prompts of 3 tokens in chunks of 2 beside decoding: steps of 1 s, and 0.1 s for each token of KV cache read.

    The first prompt takes two steps, the second of which begins the second prompt; then both decode.
    """
    times = StepTimes(**{**NOTHING, "fixed_s": 1.0, "kv_token_s": 0.1})
    requests = Requests(*(np.array(row) for row in ([0.0, 0.5], [3, 3], [2, 2], [0, 0])))
    replica = run(times, Scheduling(2, 2, 100), requests)
    # 0-1: two tokens of the first; 1-2: one of each; 2-3.3: one of the second beside the first, which reads 3 and ends
    # 3.3-4.3: the last of the second; 4.3-5.6: it reads 3
    assert replica.first == pytest.approx([2.0, 4.3])
    assert replica.last == pytest.approx([3.3, 5.6])
    assert replica.busy_s == pytest.approx(5.6)


def test_steps_as_long_as_their_host_takes_by_hand() -> None:
    """Steps of 1 s, and 0.1 s for each token read, but no less than 1.45 s: of 3, 4, 5 and 6 tokens the last two."""
    times = StepTimes(**{**NOTHING, "fixed_s": 1.0, "kv_token_s": 0.1, "least_s": 1.45, "prompt_end_s": 0.25})
    assert times.decode_run(1, 3, 1) == (1.45, 0.0, 2)
    assert times.decode_run(1, 5, 1) == (pytest.approx(1.5), 0.1, inf)
    assert times.decode_run(1, 3, 0) == (1.45, 0.0, inf)
    replica = run(times, Scheduling(8, 2, 100), Requests(*(np.array(row) for row in ([0.0], [3], [5], [0]))))
    assert replica.first == pytest.approx([1.7])  # 1.45 for the step, and what the engine takes for a prompt
    assert replica.last == pytest.approx([1.7 + 1.45 + 1.45 + 1.5 + 1.6])


def test_a_long_prompt_by_hand() -> None:
    """10 tokens in chunks of 3 beside a sequence: 0.2 s a pair, 0.1 s a token of KV cache read, or 1 s to load.

    The first prompt, of a token, is done at 1 s, and is read at 1, 2 and 3 tokens, in chunks of 2 (pairs 2, 6, 10). Its
    answer is then complete, and chunks of 3 and 1 remain (pairs 22.5 and 9.5). Advanced in parts it takes as long.
    """
    times = StepTimes(**{**NOTHING, "resident_s": 1.0, "attention_s": 0.2, "kv_token_s": 0.1})
    requests = Requests(*(np.array(row) for row in ([0.0, 0.5], [1, 10], [4, 1], [0, 0])))
    assert times.mixed_run(1, 1, 2, 2.0, 0, 1.0, 3) == pytest.approx([1.1, 1.4, 2.3])
    parts = Replica(times, Scheduling(3, 2, 100), Ledger(requests))
    for request in range(2):
        parts.give(request)
    for until_s in (0.1, 1.05, 2.2, 3.0, 100.0):
        parts.advance(until_s)
    for replica in (run(times, Scheduling(3, 2, 100), requests), parts):
        assert replica.first == pytest.approx([1.0, 1 + 1.1 + 1.4 + 2.3 + 4.5 + 1.9])
        assert replica.last == pytest.approx([1 + 1.1 + 1.4 + 2.3, 12.2])


def test_a_prompt_is_admitted_where_all_of_it_finds_room() -> None:
    """Two prompts of 10 tokens fit into 21 beside the token that each makes next; a third waits for one to be done."""
    times = StepTimes(**{**NOTHING, "fixed_s": 1.0})
    requests = Requests(*(np.array(row) for row in ([0.0, 0.0, 0.0], [10, 10, 10], [1, 1, 1], [0, 0, 0])))
    replica = run(times, Scheduling(4, 8, 21), requests)
    assert replica.first == [3.0, 5.0, 8.0]
    assert (replica.most_sequences, replica.preempted) == (2, 0)


GAPS = st.sampled_from([0.0, 0.31357, 2.51413, 40.00729])
"""Seconds that no sum of steps is likely to meet to the last digit."""

cases = st.fixed_dictionaries(
    {
        "requests": st.lists(
            st.tuples(GAPS, st.integers(1, 12), st.integers(1, 9), st.integers(0, 3)),
            min_size=1, max_size=9,
        ),
        "step_tokens": st.integers(2, 14), "sequences": st.integers(1, 5),
        "kv_tokens": st.sampled_from([24, 31, 60, 999]),
        "prompts_alone": st.booleans(), "lag": st.booleans(), "with_cache": st.booleans(),
        "kv_token_s": st.sampled_from([0.0, 0.01]), "attention_s": st.sampled_from([0.0, 0.02]),
        "not_visited": st.sampled_from([0.0, 0.7]), "token_s": st.sampled_from([0.0, 0.3]),
        "least_s": st.sampled_from([0.0, 1.3, 1.45]), "prompt_end_s": st.sampled_from([0.0, 0.5]),
    }
)  # fmt: skip


def _scheduled(case: dict) -> dict:
    """The rows of requests, the times of steps and the limits of a drawn case, in plain numbers."""
    arrivals = np.cumsum([gap for gap, *_ in case["requests"]])
    rows = [(float(at), p, g, min(c, p - 1)) for at, (_, p, g, c) in zip(arrivals, case["requests"], strict=True)]
    names = ("kv_token_s", "attention_s", "not_visited", "token_s", "least_s", "prompt_end_s")
    times = {**NOTHING, "fixed_s": 0.4, "resident_s": 0.6, "prompt_token_s": 0.05, "sent_s": 0.01, "head_s": 0.1}
    times |= {"experts_s": 0.5 if case["not_visited"] else 0.0, "head_token_s": 0.04, "sequence_s": 0.02}
    times |= {name: case[name] for name in names}
    limits = {
        name: case[name] for name in ("step_tokens", "sequences", "kv_tokens", "prompts_alone", "lag", "with_cache")
    }
    limits["step_tokens"] = max(limits["step_tokens"], limits["sequences"] + 1)
    return {"rows": rows, "times": times, "limits": limits}


scheduler_cases = cases.map(_scheduled)


@pytest.mark.slow
@examples(300)
@given(scheduler_cases)
def test_agrees_with_the_oracle_to_the_step(case: dict) -> None:
    rows, times, limits = case["rows"], case["times"], case["limits"]
    columns = (np.array(column) for column in zip(*rows, strict=True))
    replica = run(StepTimes(**times), Scheduling(**limits), Requests(*columns))
    first, last, preempted = oracle.replay(rows, times, limits)
    assert [at for at in replica.first if not isinf(at)] == pytest.approx([at for at in first if at is not None])
    assert replica.last == pytest.approx(last, rel=1e-9)
    assert replica.preempted == preempted
    assert (replica.kv, replica.read) == (0, 0)


def test_an_engine_that_admits_whole_prompts_keeps_room_for_tokens_and_not_for_steps() -> None:
    """Beside 0.4 of the second answer and half of the first, of 10 steps each with two tokens: 10 + 0.4 · 2 · 15 = 22.

    33 tokens less the first prompt and its next step leave 21; 16, for steps, would have been enough.
    """
    rows = np.array([[0.0, 0.5], [10, 10], [10, 10], [0, 0]])
    requests = Requests(rows[0], *rows[1:].astype(np.int64))
    limits = Scheduling(100, 10, 33.0, prompts_alone=True, verified=3, accepted=2.0)
    first = run(StepTimes(**{**NOTHING, "fixed_s": 1.0}), limits, requests).first
    assert first[0] == 1.0
    assert first[1] > 10
