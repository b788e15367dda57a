import pytest

from servesat.cost_model.prefill import (
    chunked_prefill_s,
    kv_transfer_s,
    prefill_replicas_per_decode,
    prefill_s,
    sequences_finished,
    tokens_evicted,
)


def test_prefill_of_8192_tokens_on_16_v5e_at_40_percent() -> None:
    assert prefill_s(70e9, 8192, 16, 1.97e14, 0.4) == pytest.approx(0.9096, abs=1e-4)


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
