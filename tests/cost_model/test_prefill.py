from typing import Any

import pytest

from servesat.cost_model.decode import Replica, layers_ici_s, weights_load_s
from servesat.cost_model.prefill import (
    attention_flop,
    chunked_prefill_s,
    host_load_s,
    kv_transfer_s,
    prefill_replicas_per_decode,
    prefill_s,
    prompt_flops_s,
    prompt_s,
    sequences_finished,
    tokens_evicted,
)
from servesat.cost_model.storage import StoredWeights
from tests.helpers import OTHER_LAYERS, moe_model, toy_spec

TOY = toy_spec().model  # 10 layers, 10 query heads of 40, 10⁹ parameters


def toy_replica(**keys: Any) -> Replica:
    return Replica(
        **{
            "tp": 1.0, "hbm_bytes_per_s": 1e12, "flop_per_s": 1e15, "tp_bytes_per_s": 1e9,
            "weights": StoredWeights(2e9), "kv_token_bytes": 1600.0,
        } | keys
    )  # fmt: skip


def test_prefill_of_8192_tokens_on_16_v5e_at_40_percent() -> None:
    assert prefill_s(70e9, 8192, 16, 1.97e14, 0.4) == pytest.approx(0.9096, abs=1e-4)


def test_what_a_host_holds_comes_over_the_links_of_all_chips_of_a_sequence() -> None:
    """4,000 tokens of 10 layers at 1,600 bytes over 64 GB/s: 1 ms; a half of it over two chips; groups load apart."""
    host = toy_replica(host_bytes_per_s=64e9)
    assert host_load_s(TOY, host, 4000) == pytest.approx(1e-3)
    assert host_load_s(TOY, toy_replica(host_bytes_per_s=64e9, tp=2.0, ep=4.0), 4000) == pytest.approx(5e-4)
    assert host_load_s(TOY, host, 4000, reach=0.8) == pytest.approx(1.25e-3)
    assert host_load_s(TOY, toy_replica(), 0) == 0


def test_the_pace_of_finishing_and_evicting() -> None:
    assert sequences_finished(32, 4096) == 32 / 4096
    assert tokens_evicted(32, 8192, 4096) == 96


def test_prefill_servers_per_decode_server() -> None:
    assert prefill_replicas_per_decode(0.91, 32, 0.019, 512) == pytest.approx(2.993, abs=1e-3)


def test_a_last_partial_chunk_takes_a_step_too() -> None:
    assert chunked_prefill_s(1024, 512, 0.02) == pytest.approx(0.04)
    assert chunked_prefill_s(1025, 512, 0.02) == pytest.approx(0.06)


def test_shipping_a_cache() -> None:
    assert kv_transfer_s(1.3e9, 50e9) == pytest.approx(0.026)


def test_a_last_chunk_that_is_full_but_for_rounding_takes_no_further_step() -> None:
    assert chunked_prefill_s(5376.000000000001, 256, 1.0) == 21


@pytest.mark.parametrize(
    ("cached", "new", "pairs"),
    [
        (0, 1000, 1000**2 / 2),
        (400, 600, (1000**2 - 400**2) / 2),  # tokens in the cache are met, but meet none themselves
    ],
)
def test_a_token_meets_all_tokens_before_it(cached: float, new: float, pairs: float) -> None:
    # two matmuls of 2 · 10 heads · 40 FLOPs a pair and layer
    assert attention_flop(TOY, cached, new) == pytest.approx(4 * 10 * 40 * 10 * pairs)


@pytest.mark.parametrize(
    ("cached", "new", "pairs"),
    [
        (0, 100, 100**2 / 2),
        (0, 1000, 256**2 / 2 + 744 * 256),
        (400, 600, 600 * 256),
        (100, 900, (256**2 - 100**2) / 2 + 744 * 256),
    ],
)
def test_layers_with_a_window_meet_no_more_than_it_holds(cached: float, new: float, pairs: float) -> None:
    windowed = TOY.model_copy(update={"window_tokens": 256, "window_layers": 4})
    everything = (cached + new) ** 2 / 2 - cached**2 / 2
    assert attention_flop(windowed, cached, new) == pytest.approx(4 * 10 * 40 * (6 * everything + 4 * pairs))


def test_latent_attention_compares_wider_keys_than_it_adds_values() -> None:
    latent = moe_model(mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 24})
    # 8 heads, 4 layers: keys of 32 + 16, values of 24
    assert attention_flop(latent, 0, 100) == pytest.approx(2 * 8 * (48 + 24) * 4 * 100**2 / 2)


def test_an_indexer_meets_all_tokens_and_attention_those_that_it_selects() -> None:
    sparse = moe_model(
        mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 24},
        sparse={"tokens": 50, "index_heads": 3, "index_head_dim": 7},
    )
    selected, everything = 50**2 / 2 + 50 * 50, 100**2 / 2
    expected = 4 * (2 * 8 * (48 + 24) * selected + 2 * 3 * 7 * everything)
    assert attention_flop(sparse, 0, 100) == pytest.approx(expected)


def test_a_prompt_takes_its_matmuls_and_its_attention_at_the_mfu() -> None:
    flop = 2 * 1e9 * 600 + 4 * 10 * 40 * 10 * (1000**2 - 400**2) / 2
    assert prompt_flops_s(TOY, 400, 600, toy_replica(), 0.4) == pytest.approx(flop / (1e15 * 0.4))
    assert prompt_s(TOY, 400, 600, toy_replica(), mfu=0.4, pay_ici=False) == pytest.approx(flop / (1e15 * 0.4))


def test_layers_of_other_kinds_attend_with_their_own_heads_or_keep_a_state() -> None:
    own = 2 * 4 * 8 * 32 * 100**2 / 2  # two layers of 8 heads of 32, over all pairs of 100 tokens
    windowed = 2 * 8 * (16 + 8) * (10**2 / 2 + 90 * 10)
    assert attention_flop(moe_model(other_layers=OTHER_LAYERS), 0, 100) == own + windowed + 90 * 100


def test_loading_the_weights_is_the_floor_of_a_short_prompt() -> None:
    assert prompt_s(TOY, 0, 10, toy_replica(), mfu=1.0, pay_ici=False) == pytest.approx(2e9 / 1e12)
    mixture = moe_model()
    replica = toy_replica(flop_per_s=1e30, weights=StoredWeights(1e6, 4e6))
    assert prompt_s(mixture, 0, 3, replica, mfu=1.0, pay_ici=False) == weights_load_s(mixture, replica, 3.0)


def test_a_paid_interconnect_can_be_what_a_prompt_waits_for() -> None:
    paid = prompt_s(TOY, 0, 1000, toy_replica(), mfu=1.0, pay_ici=True)
    assert paid == layers_ici_s(TOY, toy_replica(), 1000.0) == pytest.approx(10 * 4 * 2 * 1000 * 1000 / 1e9)
