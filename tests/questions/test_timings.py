"""Timings: the line through times with noise and interruptions, and the matmuls of a model's layers by hand."""

import numpy as np
import pytest

from servesat.catalogue.load import load_model
from servesat.questions.timings import layer_matmuls, line


def test_a_line_through_exact_times_is_found() -> None:
    work = np.array([1.0, 2.0, 4.0, 8.0])
    start, slope = line(work, 0.5 + 3 * work)
    assert (start, slope) == (pytest.approx(0.5), pytest.approx(3))


def test_interruptions_say_little() -> None:
    """A quarter of the times is three times too long: least squares would be half off."""
    work = np.array([1.0, 2.0, 4.0, 8.0] * 4)
    seconds = 0.5 + 3 * work
    seconds[[1, 6, 11, 12]] *= 3
    start, slope = line(work, seconds)
    assert (start, slope) == (pytest.approx(0.5, rel=1e-3), pytest.approx(3, rel=1e-3))


def test_a_start_is_not_below_0() -> None:
    start, slope = line(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.2, 4.8]))
    assert (start, slope) == (0, pytest.approx(1.1))


def test_layers_multiply_what_the_model_says() -> None:
    """Qwen3-32B: 64 query and 8 KV heads of 128; DeepSeek-V3: latents of 1,536, 512 and 64; Qwen3-30B: an expert."""
    assert layer_matmuls(load_model("qwen3-32b")) == {
        "qkv": (5120, 10240), "o": (8192, 5120), "gate_up": (5120, 51200), "down": (25600, 5120),
    }  # fmt: skip
    assert layer_matmuls(load_model("deepseek-v3"))["qkv"] == (7168, 1536 + 512 + 64)
    assert layer_matmuls(load_model("deepseek-v3"))["o"] == (128 * 128, 7168)
    assert layer_matmuls(load_model("qwen3-30b-a3b"))["gate_up"] == (2048, 2 * 768)
