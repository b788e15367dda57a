import pytest

from servesat.catalogue.load import load_chip, load_model
from servesat.cost_model.memory import (
    activation_bytes,
    active_parameters,
    attention_scores_bytes,
    chips_to_hold,
    counted_parameters,
    expert_parameters,
    experts_touched,
    kv_cache_bytes,
    kv_read_bytes,
    parameters,
    sequences_that_fit,
    smallest_slice,
    weights_bytes,
)
from tests.helpers import moe_model


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
        ("llama-3.1-405b", 2, 516_096),
        ("deepseek-v3", 2, 70_272),
        ("kimi-k2", 2, 70_272),
    ],
)
def test_kv_cache_bytes_of_a_token(model: str, bytes_per_value: float, per_token: int) -> None:
    assert kv_cache_bytes(load_model(model), 1, bytes_per_value) == per_token
    assert kv_cache_bytes(load_model(model), 8192, bytes_per_value) == 8192 * per_token


def test_sliding_window_layers_hold_no_more_than_their_window() -> None:
    model = load_model("gemma-2-27b")  # 23 of 46 layers see 4,096 tokens; 2 · 16 · 128 values a token and layer
    assert kv_cache_bytes(model, 4096, 2) == 46 * 4096 * 8192
    assert kv_cache_bytes(model, 10_000, 2) == (23 * 10_000 + 23 * 4096) * 8192


@pytest.mark.parametrize(
    ("model", "tokens", "layer_tokens", "of_a_token"),
    [
        ("gemma-3-27b", 1, 62, 8192),
        ("gemma-3-27b", 10_000, 10 * 10_000 + 52 * 1024, 8192),  # five of six layers see 1,024 tokens
        ("gpt-oss-120b", 10_000, 18 * 10_000 + 18 * 128, 2048),
        ("llama-4-maverick", 100_000, 12 * 100_000 + 36 * 8192, 4096),
    ],
)
def test_windows_of_published_models(model: str, tokens: int, layer_tokens: int, of_a_token: int) -> None:
    assert kv_cache_bytes(load_model(model), tokens, 2) == layer_tokens * of_a_token


def test_sparse_attention_holds_every_token_and_reads_those_that_it_selects() -> None:
    model = load_model("deepseek-v3.2")  # 61 layers, 576 values and an index key of 128; 2,048 tokens selected
    assert kv_cache_bytes(model, 10_000, 1) == 61 * 10_000 * (576 + 128)
    assert kv_read_bytes(model, 10_000, 1) == 61 * (10_000 * 128 + 2048 * 576)
    assert kv_read_bytes(model, 1000, 1) == kv_cache_bytes(model, 1000, 1)


@pytest.mark.parametrize(
    ("model", "active", "tolerance"),
    [
        ("mixtral-8x7b", 12.9e9, 0.01),
        ("deepseek-v3", 37e9, 0.02),
        ("qwen3-235b-a22b", 22e9, 0.02),
        ("kimi-k2", 32e9, 0.03),
    ],
)
def test_active_parameters_are_the_published_ones(model: str, active: float, tolerance: float) -> None:
    """Publishers round, and count embeddings or not."""
    assert active_parameters(load_model(model)) == pytest.approx(active, rel=tolerance)


def test_the_experts_that_a_step_visits() -> None:
    model = moe_model(experts=8)  # 2 of 8
    assert experts_touched(model, 1) == 0.25
    assert experts_touched(model, 2) == 1 - 0.75**2
    assert experts_touched(model, 1e6) == 1


def test_groups_that_share_experts_each_hold_the_rest() -> None:
    model = moe_model()
    experts, rest = expert_parameters(model), parameters(model) - expert_parameters(model)
    assert experts == 3 * 8 * 3 * 256 * 512
    assert weights_bytes(model, 2.0) == 2 * (experts + rest)
    assert weights_bytes(model, 2.0, 0.5, 4) == 0.5 * experts + 4 * 2 * rest


def test_the_smallest_slice_holds_weights_that_fill_it_exactly() -> None:
    v5e = load_chip("tpu-v5e")  # 16 GB a chip; slices of 1, 4, 8, 16, 32 … chips
    assert smallest_slice(8 * 16e9, v5e) == "2x4"
    assert smallest_slice(8 * 16e9 + 1, v5e) == "4x4"
    assert smallest_slice(0.5 * 8 * 16e9, v5e, headroom=0.5) == "2x4"
    assert smallest_slice(257 * 16e9, v5e) is None


def test_chips_to_hold() -> None:
    assert chips_to_hold(36e9, load_chip("tpu-v5e"), headroom=0.1) == pytest.approx(36 / (0.9 * 16))


def test_sequences_that_fit() -> None:
    assert sequences_that_fit(100.0, 30.0, 20.0) == 3.5


def test_activations_are_bf16() -> None:
    assert activation_bytes(240, 4096) == 240 * 4096 * 2
    assert attention_scores_bytes(moe_model(), 3, 100) == 2 * 3 * 8 * 100 * 100
