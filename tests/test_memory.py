import pytest

from servesat.catalogue import load_model
from servesat.memory import counted_parameters, kv_cache_bytes, parameters, weights_bytes


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("llama-3-8b", 8.03e9),
        ("llama-3-70b", 70.55e9),
        ("llama-3-405b", 405.85e9),
        ("llama-2-13b", 13.02e9),
        ("llama-2-70b", 68.98e9),
        ("gemma-7b", 8.54e9),
        ("gemma-2-27b", 27.23e9),
        ("opt-175b", 174.56e9),
        ("qwen3-32b", 32.76e9),
    ],
)
def test_counted_parameters_are_the_published_ones(model: str, published: float) -> None:
    assert counted_parameters(load_model(model)) == pytest.approx(published, rel=5e-4)


def test_nominal_parameters_go_before_counted_ones() -> None:
    assert parameters(load_model("llama-3-70b")) == 70e9
    assert parameters(load_model("llama-2-70b")) == counted_parameters(load_model("llama-2-70b"))


def test_weights_take_their_dtype() -> None:
    assert weights_bytes(load_model("llama-3-70b"), 0.5) == 35e9


@pytest.mark.parametrize(
    ("model", "bytes_per_value", "per_token"),
    [
        ("llama-3-70b", 1, 163_840),
        ("llama-3-405b", 2, 516_096),
        ("llama-3-8b", 2, 131_072),
        ("llama-2-13b", 2, 819_200),
    ],
)
def test_kv_cache_bytes_of_a_token(model: str, bytes_per_value: float, per_token: int) -> None:
    assert kv_cache_bytes(load_model(model), 1, bytes_per_value) == per_token
    assert kv_cache_bytes(load_model(model), 8192, bytes_per_value) == 8192 * per_token


def test_sliding_window_layers_hold_no_more_than_their_window() -> None:
    model = load_model("gemma-2-27b")  # 23 of 46 layers see 4,096 tokens; 2 · 16 · 128 values a token and layer
    assert kv_cache_bytes(model, 4096, 2) == 46 * 4096 * 8192
    assert kv_cache_bytes(model, 10_000, 2) == (23 * 10_000 + 23 * 4096) * 8192
