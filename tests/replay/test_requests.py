import numpy as np
import pytest

from servesat.replay.requests import steps_of


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
