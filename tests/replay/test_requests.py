import numpy as np
import pytest

from servesat.replay.requests import Lengths, cached_tokens, drawn, gaps, steps_of


def test_steps_are_those_of_drawing_each() -> None:
    """3 tokens ahead, each accepted with chance 0.6 after the one before: 1 + 0.6 + 0.36 + 0.216 a step."""
    accepted, answers, seed = 2.176, np.full(4000, 301), 5
    steps = steps_of(answers, 3, accepted, seed)
    source = np.random.default_rng(seed)
    made = 1 + np.cumprod(source.random((4000, 300, 3)) < 0.6, axis=2).sum(axis=2)
    drawn = 1 + np.argmax(np.cumsum(made, axis=1) >= 300, axis=1) + 1
    assert steps.mean() == pytest.approx(drawn.mean(), rel=0.01)
    assert steps.std() == pytest.approx(drawn.std(), rel=0.05)


def test_steps_are_between_all_accepted_and_none() -> None:
    lengths = np.array([1, 2, 9, 400])
    for seed in range(20):
        steps = steps_of(lengths, 3, 1.5, seed)
        assert np.all(steps >= 1 + np.ceil((lengths - 1) / 4))
        assert np.all(steps <= lengths)
    assert steps_of(lengths, 3, 1.0, 0).tolist() == lengths.tolist()
    assert steps_of(lengths, 3, 4.0, 0).tolist() == [1, 2, 3, 101]


@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 3.0])
def test_the_requests_of_one_replica_are_those_that_a_router_sends_it_at_random(cv: float) -> None:
    """The gaps at one of five replicas, against those of a whole stream of which each goes to one of five."""
    source = np.random.default_rng(7)
    every = np.cumsum(gaps(2_000_000, cv, source))
    here = np.diff(every[source.integers(5, size=len(every)) == 0]) / 5
    found = gaps(400_000, cv, source, 5)
    assert found.mean() == pytest.approx(1, rel=0.02)
    assert found.std() == pytest.approx(here.std(), rel=0.02)
    for share in (0.2, 0.5, 0.9, 0.99):
        assert np.quantile(found, share) == pytest.approx(np.quantile(here, share), rel=0.03, abs=0.01)


def test_the_gaps_of_all_requests_are_of_a_gamma_distribution() -> None:
    assert gaps(100, 2.0, np.random.default_rng(1)).tolist() == np.random.default_rng(1).gamma(0.25, 4.0, 100).tolist()
    assert gaps(3, 1.0, np.random.default_rng(1), 9).tolist() == gaps(3, 1.0, np.random.default_rng(1)).tolist()


def test_the_last_token_of_a_prompt_is_never_cached() -> None:
    prompts = np.array([1, 1000, 10])
    assert cached_tokens(prompts, 0.9999999999).tolist() == [0, 999, 9]
    assert cached_tokens(prompts, 0.25).tolist() == [0, 250, 2]
    assert drawn(1.0, 3, Lengths(1000.0, 10.0, 0.9999999999)).cached_tokens.tolist() == [999, 999, 999]


def test_no_request_is_longer_than_servers_take() -> None:
    lengths = Lengths(1000.0, 100.0, prompt_cv=2.0, output_cv=1.0, longest_tokens=3000)
    requests = drawn(1.0, 10_000, lengths)
    total = requests.prompt_tokens + requests.output_tokens
    assert (total.max(), requests.output_tokens.min()) == (3000, 1)
    assert np.mean(total == 3000) > 0.01
