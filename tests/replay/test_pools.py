"""Pools that are looked at while they work, against themselves run through."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.replay.pools import Pool, Serving
from servesat.replay.requests import Lengths, Requests, drawn
from servesat.replay.scheduler import Scheduling
from servesat.replay.step_times import StepTimes
from tests.strategies import examples

TIMES = {**dict.fromkeys(StepTimes.__dataclass_fields__, 0.0), "verified": 1, "host_links": 1}
STEPS_OF_A_SECOND = StepTimes(**{**TIMES, "fixed_s": 1.0})


def test_what_is_not_done_is_at_least_as_late_as_the_look_by_hand() -> None:
    """Steps of 1 s: the first has its token after one, and its third after three; the second has begun its prompt."""
    zeros = np.zeros(3, dtype=np.int64)
    requests = Requests(np.array([0.0, 1.5, 9.0]), zeros + 1, zeros + 3, zeros)
    serving = Serving(Pool(STEPS_OF_A_SECOND, Scheduling(4, 2, 100), 1), requests)
    looked = serving.until(2.5)
    assert looked.first_s.tolist() == [1.0, 2.5, 2.5]
    assert looked.last_s.tolist() == [2.5, 2.5, 2.5]
    done = serving.until()
    assert done.first_s.tolist() == [1.0, 3.0, 10.0]
    assert done.last_s.tolist() == [3.0, 5.0, 12.0]


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10**6),
        "replicas": st.integers(1, 3),
        "router": st.sampled_from(["random", "round_robin", "least_load"]),
        "limits": st.builds(
            Scheduling,
            step_tokens=st.just(5),
            sequences=st.just(3),
            kv_tokens=st.just(400),
            lag=st.booleans(),
            prompts_alone=st.booleans(),
        ),
        "looks": st.lists(st.integers(1, 39), min_size=1, max_size=5),
    }
)


@examples(100)
@given(cases)
def test_looks_change_nothing_and_never_see_what_is_later_than_the_end(case: dict[str, Any]) -> None:
    seed, router = case["seed"], case["router"]
    requests = drawn(0.2 * case["replicas"], 40, Lengths(6, 5, 0.0, 1.0, 1.0), seed=seed)
    pool = Pool(STEPS_OF_A_SECOND, case["limits"], case["replicas"])
    whole, serving = pool.serve(requests, router, seed), Serving(pool, requests, router, seed)
    for count in sorted(case["looks"]):
        until_s = float(requests.arrival_s[count])
        looked = serving.until(until_s)
        assert np.all(looked.first_s[:count] <= whole.first_s[:count] + 1e-9)
        assert np.all(looked.last_s[:count] <= whole.last_s[:count] + 1e-9)
        done = whole.last_s < until_s - 1e-9
        assert looked.last_s[done] == pytest.approx(whole.last_s[done])
    done = serving.until()
    assert done.first_s == pytest.approx(whole.first_s)
    assert done.last_s == pytest.approx(whole.last_s)
    assert (done.preempted, done.most_sequences) == (whole.preempted, whole.most_sequences)
