import csv

import numpy as np
import pytest

from servesat.catalogue.load import load_chip, load_model, model_ids
from servesat.cost_model.memory import (
    ActivationFactors,
    activation_bytes,
    active_parameters,
    attention_scores_bytes,
    chips_to_hold,
    counted_parameters,
    experts_touched,
    kv_cache_bytes,
    kv_read_bytes,
    parameters,
    parameters_by_group,
    peak_activations_bytes,
    sequences_that_fit,
    smallest_slice,
)
from tests.helpers import OTHER_LAYERS, ROOT, moe_model


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


@pytest.mark.parametrize(
    ("model", "token_bytes", "per_token"),
    [
        ("llama-3-70b", 2 * 8 * 128, 163_840),
        ("llama-3-8b", 2 * 8 * 128 * 2, 131_072),
        ("deepseek-v3", 576 * 2, 70_272),
        ("deepseek-v3.2", 576 * 2, 61 * (1152 + 132)),  # sglang#11309: the index is fp8, whatever the cache is
    ],
)
def test_kv_cache_bytes_of_a_token(model: str, token_bytes: float, per_token: int) -> None:
    assert kv_cache_bytes(load_model(model), 1, token_bytes) == per_token
    assert kv_cache_bytes(load_model(model), 8192, token_bytes) == 8192 * per_token


def test_sliding_window_layers_hold_no_more_than_their_window() -> None:
    model = load_model("gemma-2-27b")  # 23 of 46 layers see 4,096 tokens; 2 · 16 · 128 values a token and layer
    assert kv_cache_bytes(model, 4096, 8192) == 46 * 4096 * 8192
    assert kv_cache_bytes(model, 10_000, 8192) == (23 * 10_000 + 23 * 4096) * 8192


@pytest.mark.parametrize(
    ("model", "tokens", "layer_tokens"),
    [
        ("gemma-3-27b", 1, 62),
        ("gemma-3-27b", 10_000, 10 * 10_000 + 52 * 1024),  # five of six layers see 1,024 tokens
        ("gpt-oss-120b", 10_000, 18 * 10_000 + 18 * 128),
        ("llama-4-maverick", 100_000, 12 * 100_000 + 36 * 8192),
    ],
)
def test_windows_of_published_models(model: str, tokens: int, layer_tokens: int) -> None:
    assert kv_cache_bytes(load_model(model), tokens, 3.0) == layer_tokens * 3.0


def test_layers_of_other_kinds_hold_their_own_cache_and_their_state_once() -> None:
    model = moe_model(other_layers=OTHER_LAYERS)
    base = 2 * 100 * 256  # two layers, 2 · 4 · 32 values of a byte
    held = base + 2 * (16 + 8) * 10 + 700
    assert kv_cache_bytes(model, 100, 256, 1) == held
    assert kv_read_bytes(model, 100, 256, 1) == held + 700  # the state is written, too
    assert kv_cache_bytes(model, 100, 256, 1, copied_over=12) == 3 * base + 6 * 2 * (16 + 8) * 10 + 700  # K: 4 and 2
    attention = parameters_by_group(model)["attention"]
    assert attention == 2 * 2 * 256 * 32 * (8 + 4) + 5000 + 3000
    beside = moe_model(other_layers=[{**OTHER_LAYERS[0], "beside": True}])
    assert kv_cache_bytes(beside, 100, 256, 1) == 2 * base + 700


def test_sparse_attention_holds_every_token_and_reads_those_that_it_selects() -> None:
    model = load_model("deepseek-v3.2")  # 61 layers, an index key of 132 bytes; 2,048 tokens selected
    assert kv_cache_bytes(model, 10_000, 656) == 61 * 10_000 * (656 + 132)
    assert kv_read_bytes(model, 10_000, 656) == 61 * (10_000 * 132 + 2048 * 656)
    assert kv_read_bytes(model, 1000, 656) == kv_cache_bytes(model, 1000, 656)


def test_layers_without_an_indexer_share_the_selection_and_store_no_key() -> None:
    every = load_model("deepseek-v3.2")
    some = (
        every.model_copy(update={"sparse": every.sparse.model_copy(update={"layers": 11})}) if every.sparse else every
    )
    assert kv_cache_bytes(some, 10_000, 656) == 10_000 * (61 * 656 + 11 * 132)
    assert kv_read_bytes(some, 10_000, 656) == 61 * 2048 * 656 + 11 * 10_000 * 132
    indexer = 1536 * 64 * 128 + 7168 * (128 + 64)
    assert counted_parameters(every) - counted_parameters(some) == 50 * indexer


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


def test_the_groups_of_tensors() -> None:
    assert parameters_by_group(moe_model()) == {
        "embedding": 256 * 1000,
        "head": 256 * 1000,
        "attention": 4 * 2 * 256 * 32 * (8 + 4),
        "mlp": 3 * 256 * 1024,
        "experts": 3 * 8 * 3 * 256 * 512,
        "shared_experts": 3 * 3 * 256 * 256,
        "router": 3 * 256 * 8,
    }
    assert "head" not in parameters_by_group(moe_model(tied_embeddings=True))


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


LOGS = [
    row
    for row in csv.DictReader((ROOT / "tests" / "published" / "engine_memory.csv").read_text().splitlines())
    if row["version"] == "0.19.0" and row["activation_gib"]
]


def test_activations_are_those_that_vllm_logged() -> None:
    """Steps of 8,192 tokens and 1,024 sequences, its defaults on an H100; 27 of the logs are of models we know."""
    known = {name.lower(): load_model(one) for one in model_ids() for name in load_model(one).checkpoints.values()}
    errors = []
    for row in LOGS:
        model = known.get(row["model"].lower())
        if model is not None:
            factors = ActivationFactors(4.25, 3.0, 3.74)
            counted = max(peak_activations_bytes(model, float(row["tp"]), 8192.0, 1024.0, factors))
            errors.append(float(counted) / 2**30 - float(row["activation_gib"]))
    assert len(errors) >= 25
    assert max(map(abs, errors)) < 0.4  # GiB: gpt-oss pads its experts
    assert sum(error**2 for error in errors) / len(errors) < 0.1**2


def test_peak_activations_by_hand() -> None:
    model = moe_model(moe=None)  # 256 wide, MLPs of 1,024, 1,000 words
    factors = ActivationFactors(2.0, 3.0, 5.0)
    layer, sampling = peak_activations_bytes(model, 4.0, 100.0, 10.0, factors)
    assert layer == 2 * 100 * (2 * 256 + 3 * 1024 / 4)
    assert sampling == 4 * 5 * 10 * 1000 + 2 * 100 * 256
    busy, same = peak_activations_bytes(moe_model(), 4.0, 100.0, 10.0, factors)
    assert busy == same == sampling + 2 * 100 * 2 * (max(512 / 4, 256) + max(2 * 512 / 4, 256))


def test_windows_hold_the_whole_context_where_an_engine_keeps_it() -> None:
    """Gemma 3 27B at 6,500 tokens: 10 layers hold them all and 52 hold 1,024, or twice that and 256; or 62 hold all."""
    model = load_model("gemma-3-27b")
    assert kv_cache_bytes(model, 6500, 1.0) == 10 * 6500 + 52 * 1024
    assert kv_cache_bytes(model, 6500, 1.0, window_times=2.0, window_slack=256.0) == 10 * 6500 + 52 * 2304
    assert kv_cache_bytes(model, 6500, 1.0, window_times=np.inf) == 62 * 6500
    assert kv_cache_bytes(model, 1000, 1.0, window_times=2.0) == 62 * 1000
    apart = load_model("mimo-v2-flash")  # whose windows of 128 are of layers that are stated apart
    assert kv_cache_bytes(apart, 128, 1.0, 1.0) < kv_cache_bytes(apart, 300, 1.0, 1.0)
    whole = kv_cache_bytes(apart, 300, 1.0, 1.0, window_times=np.inf)
    assert whole == pytest.approx(300 / 128 * kv_cache_bytes(apart, 128, 1.0, 1.0))
