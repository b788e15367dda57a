"""The KV cache of a replica by hand."""

from math import inf

import pytest

from servesat.core.plan import KvLayout
from tests.deployment.check.replicas import replica
from tests.helpers import moe_model


def test_a_sequence_holds_its_windows_and_groups_add_nothing_to_a_cache() -> None:
    assert replica(int4_group=64, kv_cache="int4").sequence_bytes(100) == 0.5 * 2 * 4 * 32 * 4 * 100
    windowed = moe_model(window_tokens=10, window_layers=3)
    assert replica(windowed).sequence_bytes(100) == 2 * 4 * 32 * (100 + 3 * 10)


def test_an_engine_may_keep_what_lies_beyond_windows_and_reads_none_of_it() -> None:
    windowed = moe_model(window_tokens=10, window_layers=3)
    whole, pooled = replica(windowed, windows_kept=inf), replica(windowed, windows_kept=2.0, kept_beyond_windows=25)
    forgets = replica(windowed)
    held = [one.held_kv_bytes(100) / (2 * 4 * 32) for one in (forgets, pooled, whole)]
    assert held == [100 + 3 * 10, 100 + 3 * 45, 100 + 3 * 100]
    assert pooled.held_kv_bytes(30) == whole.held_kv_bytes(30)
    assert whole.step(1, 100).kv_cache_s == pooled.step(1, 100).kv_cache_s == forgets.step(1, 100).kv_cache_s


def test_copies_of_a_latent_are_held_and_read_by_every_chip() -> None:
    latent = moe_model(mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 24})
    copied = replica(latent, kv_layout=KvLayout.COPIES)
    assert copied.held_kv_bytes(100) == 2 * copied.sequence_bytes(100) == 2 * (64 + 16) * 4 * 100
    assert (copied.batch_multiple, replica(latent).batch_multiple) == (4, 4 * 2)


def test_copies_of_heads_lie_on_the_chips_that_share_them() -> None:
    assert replica(tp_axes=(0, 1), ep_axes=(), kv_layout=KvLayout.COPIES).held_kv_bytes(10) == 2 * 2 * 4 * 32 * 4 * 10
    assert replica(kv_layout=KvLayout.COPIES).held_kv_bytes(10) == 2 * 4 * 32 * 4 * 10  # each chip has two of its own


def test_an_indexer_reads_every_key_and_the_tokens_that_it_selects() -> None:
    sparse = moe_model(
        mla={"kv_lora_rank": 64, "nope_head_dim": 32, "rope_head_dim": 16, "v_head_dim": 24},
        sparse={"tokens": 50, "index_heads": 3, "index_head_dim": 7},
    )
    assert replica(sparse).sequence_bytes(100) == 4 * (80 + 7 * 33 / 32) * 100
    assert replica(sparse).step(1, 100).kv_cache_s == pytest.approx(4 * (80 * 50 + 7 * 33 / 32 * 100) / 8e12)
