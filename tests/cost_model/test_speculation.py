import numpy as np
import pytest

from servesat.catalogue.load import load_model
from servesat.cost_model.decode import Replica, decode_step, draft_s, replica_kv_bytes, replica_weights_bytes
from servesat.cost_model.speculation import eagle_drafting, eagle_parameters, model_drafting, mtp_drafting
from servesat.cost_model.storage import Storage, StoredWeights
from tests.helpers import moe_model


def replica(**keys: object) -> Replica:
    """Two chips of 1e12 bytes/s and 1e15 FLOP/s each."""
    parts = {
        "tp": 2.0, "hbm_bytes_per_s": 1e12, "flop_per_s": 1e15, "tp_bytes_per_s": 1e11, "head_flop_per_s": 1e15,
        "weights": StoredWeights(resident=16e9), "kv_token_bytes": 4096.0,
    }  # fmt: skip
    return Replica(**parts | keys)  # type: ignore[arg-type]


def test_an_eagle_layer_by_hand() -> None:
    """LLaMA 3.1 8B: 4,096 wide, 32 heads and 8 of keys, of 128; an MLP of 14,336; a head of 32,000 words."""
    layer = 2 * 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14_336
    assert eagle_parameters(load_model("llama-3.1-8b")) == layer + 3 * 4096**2 + 32_000 * 4096
    draft = eagle_drafting(load_model("llama-3.1-8b"), 4e8, 3, 2.5)
    assert (draft.held_bytes, draft.flop, draft.verified, draft.kv_share) == (8e8, 8e8, 4, 1 / 32)


def test_the_layer_of_a_model_that_predicts_further_tokens() -> None:
    """Of 4 layers 3 have 8 experts of 512 · 3 · 256; the last has those, a quarter of attention and dense MLP, and
    2 · 256² that join; it reads the head of 1,000 words."""
    model = moe_model()
    draft = mtp_drafting(model, Storage(model), "bf16", 1, 1.8)
    others = 4 * 2 * 256 * 32 * (8 + 4) + 3 * 256 * 1024 + 3 * (3 * 256 * 256 + 256 * 8)
    assert draft.held_bytes == 2 * (others / 4 + 2 * 256**2)
    assert draft.read_bytes == draft.held_bytes + 2 * 256 * 1000
    assert draft.expert_bytes == 2 * 8 * 3 * 256 * 512
    assert draft.flop == 2 * (others / 4 + 2 * 3 * 256 * 512 + 2 * 256**2 + 256 * 1000)


def test_another_model_that_drafts_has_its_own_cache() -> None:
    small, large = load_model("llama-3.1-8b"), load_model("llama-3.1-70b")
    draft = model_drafting(large, small, 4, 3.0)
    assert draft.held_bytes == Storage(small).weights_bytes("bf16")
    assert draft.kv_share == pytest.approx(32 / 80)  # layers, of 8 heads of 128 each


def test_a_step_verifies_all_and_drafts_one_after_another() -> None:
    """3 tokens ahead of 10 sequences: 40 computed, weights and KV cache read once, 0.8 GB of draft read 3 times."""
    model = load_model("llama-3.1-8b")
    bare, drafted = replica(), replica(drafting=eagle_drafting(model, 4e8, 3, 2.5))
    one = decode_step(model, 1000, bare, np.float64(10), pay_ici=False)
    step = decode_step(model, 1000, drafted, np.float64(10), pay_ici=False)
    assert step.weights_s == one.weights_s == pytest.approx(8e-3)
    assert step.kv_cache_s == one.kv_cache_s
    assert step.flops_s == pytest.approx(4 * one.flops_s)
    cache = 10 * 32 * 4096 * 1000 / 2e12
    assert step.draft_s == pytest.approx(3 * (8e8 / 2e12 + cache / 32))
    busy = 10_000 * 8e8 / 2e15  # so many sequences compute for longer than they load
    assert draft_s(model, drafted, np.float64(10_000), 0) == pytest.approx(3 * busy)


def test_what_a_draft_holds() -> None:
    """0.8 GB of weights; for each sequence a layer of 32 more, and three tokens ahead of 1,000."""
    model = load_model("llama-3.1-8b")
    bare, drafted = replica(), replica(drafting=eagle_drafting(model, 4e8, 3, 2.5))
    assert replica_weights_bytes(drafted) - replica_weights_bytes(bare) == 8e8
    assert replica_kv_bytes(model, 1000, drafted) == pytest.approx(32 * 4096 * 1003 * 33 / 32)
