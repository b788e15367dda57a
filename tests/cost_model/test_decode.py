import numpy as np
import pytest

from servesat.catalogue.load import load_model
from servesat.cost_model.decode import (
    Replica,
    decode_step,
    expert_matrix_s,
    experts_ici_s,
    kv_exchange_s,
    layers_ici_s,
    mlp_matmuls,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
    waits_for_ici,
    weights_load_s,
)
from servesat.cost_model.memory import parameters_by_group
from servesat.cost_model.storage import Storage, StoredWeights
from tests.helpers import moe_model


def v5e(tp: int, axes: int, weights: str = "int8") -> Replica:
    """LLaMA 3-70B on v5e, its KV cache in int8."""
    storage = Storage(load_model("llama-3-70b"))
    return Replica(
        tp=tp,
        hbm_bytes_per_s=8.2e11,
        flop_per_s=1.97e14,
        tp_bytes_per_s=9e10 * axes,
        weights=storage.weights(weights),
        kv_token_bytes=storage.kv_token_bytes("int8"),
    )


def test_step_of_70b_on_16_v5e_at_batch_120_is_memory_bound() -> None:
    step = decode_step(load_model("llama-3-70b"), 8192, v5e(16, 2), 120, pay_ici=False)
    assert step.weights_s == pytest.approx(70e9 / (16 * 8.2e11))
    assert step.flops_s == pytest.approx(2 * 70e9 * 120 / (16 * 1.97e14))
    assert step.kv_cache_s == pytest.approx(120 * 163_840 * 8192 / (16 * 8.2e11))
    assert step.ici_s == 0
    assert step.total_s == pytest.approx(step.weights_s + step.kv_cache_s)


def test_step_beyond_the_critical_batch_is_compute_bound() -> None:
    step = decode_step(load_model("llama-3-70b"), 8192, v5e(16, 2), 121, pay_ici=False)
    assert step.flops_s > step.weights_s
    assert step.total_s == step.flops_s + step.kv_cache_s


def test_paid_ici_is_four_collectives_a_layer_and_overlaps() -> None:
    step = decode_step(load_model("llama-3-70b"), 1, v5e(64, 2), 2000, pay_ici=True)
    assert step.ici_s == pytest.approx(80 * 4 * 2 * 2000 * 8192 / 1.8e11)
    assert step.total_s == max(step.flops_s, step.ici_s) + step.kv_cache_s


def test_matmul_of_the_book_on_4x8() -> None:
    """Scaling book, part 8: 11 us, 18 us and 4.8 us at B = 64 in bf16, one axis."""
    (matmul,) = mlp_matmuls(load_model("llama-3-70b"), v5e(32, 1, weights="bf16"), 64)
    assert matmul.ici_s == pytest.approx(1.165e-5, rel=1e-3)
    assert matmul.hbm_s == pytest.approx(2 * 8192 * 28672 / (32 * 8.2e11))
    assert matmul.math_s == pytest.approx(4.769e-6, rel=1e-3)
    assert matmul.hidden_s == matmul.hbm_s


def test_cost_of_a_million_tokens() -> None:
    assert usd_per_million_tokens(36.0, 1000.0) == pytest.approx(10.0)


# Four layers, three of them with 8 experts of width 512 (2 a token) and shared ones of width 256; D = 256, F = 1024.
MIXTURE = moe_model()
OF_EXPERTS = 3 * 8 * 3 * 256 * 512  # parameters
OTHERS = 4 * 2 * 256 * 32 * (8 + 4) + 3 * 256 * 1024 + 3 * (3 * 256 * 256 + 256 * 8) + 2 * 256 * 1000


def groups(tp: int = 2, ep: int = 4, **keys: float) -> Replica:
    """Groups of tp chips at 1 TB/s and 1 TFLOP/s; 1 GB/s within a group, 4 GB/s between all; experts of one byte."""
    stored = StoredWeights(2.0 * OTHERS, 1.0 * OF_EXPERTS, mlp=2.0 * 3 * 256 * 1024, shared_experts=2.0 * 9 * 256 * 256)
    return Replica(
        **{
            "tp": tp, "ep": ep, "hbm_bytes_per_s": 1e12, "flop_per_s": 1e12, "tp_bytes_per_s": 1e9,
            "ep_bytes_per_s": 4e9, "weights": stored, "kv_token_bytes": 2 * 4 * 32.0,
        } | keys
    )  # fmt: skip


def test_one_way_to_the_experts_is_an_exchange_and_a_gather_of_what_arrives_and_the_shared_token() -> None:
    # 64 tokens to 2 groups each: 2 · 64 · 2 · 256 bytes over 4 GB/s; within a group 64 · (2 + 1) / 4 rows over 1 GB/s
    exchange, gather = 2 * 64 * 2 * 256 / 4e9, 2 * 64 * 3 / 4 * 256 / 1e9
    assert experts_ici_s(MIXTURE, groups(), 64.0) == pytest.approx(exchange + gather)


def test_without_shared_experts_only_what_arrives_is_gathered() -> None:
    alone = MIXTURE.model_copy(update={"moe": MIXTURE.moe.model_copy(update={"shared_d_ff": 0})})
    exchange, gather = 2 * 64 * 2 * 256 / 4e9, 2 * 64 * 2 / 4 * 256 / 1e9
    assert experts_ici_s(alone, groups(), 64.0) == pytest.approx(exchange + gather)


def test_experts_in_one_group_take_the_gather_of_every_token_alone() -> None:
    replica = groups(tp=8, ep=1, ep_bytes_per_s=float("inf"))
    assert experts_ici_s(MIXTURE, replica, 64.0) == pytest.approx(2 * 64 * 256 / 1e9)


def test_experts_at_a_width_of_their_own_are_sent_and_multiplied_at_it() -> None:
    narrow = moe_model(
        moe={"layers": 3, "experts": 8, "experts_per_token": 2, "d_ff": 512, "shared_d_ff": 256, "d_model": 64}
    )
    assert parameters_by_group(narrow)["experts"] == 3 * 8 * 3 * 64 * 512
    assert parameters_by_group(narrow)["shared_experts"] == 3 * (3 * 256 * 256 + 2 * 256 * 64)
    exchange, gather = 2 * 64 * 2 * 64 / 4e9, 2 * 64 / 4 * (2 * 64 + 256) / 1e9
    assert experts_ici_s(narrow, groups(), 64.0) == pytest.approx(exchange + gather)
    _, of_experts = mlp_matmuls(narrow, groups(), 64.0)
    visited = 2 * 64 * 512 + 256 * 256 + 2 * 256 * 64 / 3
    assert of_experts.math_s == pytest.approx(2 * 16 * visited / (2 * 1e12))


def test_layers_with_experts_go_to_them_and_back_and_gather_twice_around_their_attention() -> None:
    # 4 · 4 - 2 · 3 = 10 gathers of a group's 16 tokens, and 2 · 3 ways to or from experts
    gather = 2 * 16 * 256 / 1e9
    way = 2 * 64 * 2 * 256 / 4e9 + 2 * 48 * 256 / 1e9
    assert layers_ici_s(MIXTURE, groups(), 64.0) == pytest.approx(10 * gather + 6 * way)


def test_each_group_holds_all_but_the_experts() -> None:
    assert replica_weights_bytes(groups()) == 4 * 2 * OTHERS + OF_EXPERTS


def test_a_step_loads_the_experts_that_its_tokens_visit() -> None:
    # one token visits 2 of 8; two tokens visit 1 - (3/4)² = 7/16 of them
    all_groups = 8 * 1e12
    resident = replica_weights_bytes(groups()) - OF_EXPERTS
    assert weights_load_s(MIXTURE, groups(), 1.0) == pytest.approx((resident + OF_EXPERTS / 4) / all_groups)
    assert weights_load_s(MIXTURE, groups(), 2.0) == pytest.approx((resident + OF_EXPERTS * 7 / 16) / all_groups)


def test_copies_of_a_cache_are_held_and_read() -> None:
    replica = groups(kv_copied_over=8.0)
    a_token = 2 * 4 * 32 * 4  # K, H and layers
    assert replica_kv_bytes(MIXTURE, 100.0, replica) == 2 * a_token * 100
    assert decode_step(MIXTURE, 100.0, replica, 3.0, pay_ici=False).kv_cache_s == pytest.approx(
        3 * 2 * a_token * 100 / 8e12
    )


def test_split_sequences_exchange_queries_and_results() -> None:
    # 4 layers, 2 heads a KV head of 32 for queries and as much for results, and 4 bytes: over 8 ways of 1e9 bytes/s
    replica = groups(kv_split_over=8.0)
    each = 4 * 2 * (2 * 32 * 2 + 4)
    of_group = 3 / np.asarray(replica.ep)
    assert kv_exchange_s(MIXTURE, replica, 3.0) == pytest.approx(of_group * each / np.asarray(replica.tp_bytes_per_s))
    assert kv_exchange_s(MIXTURE, groups(kv_split_over=4.0), 3.0) == 0


def test_a_chunk_adds_its_flops_and_joins_the_collectives() -> None:
    plain = decode_step(MIXTURE, 100.0, groups(), 4.0, pay_ici=True)
    with_chunk = decode_step(MIXTURE, 100.0, groups(), 4.0, pay_ici=True, chunk_tokens=60.0, chunk_s=0.5)
    assert with_chunk.flops_s == plain.flops_s + 0.5
    assert with_chunk.ici_s == layers_ici_s(MIXTURE, groups(), 64.0)
    assert with_chunk.weights_s == weights_load_s(MIXTURE, groups(), 64.0)
    assert with_chunk.kv_cache_s == plain.kv_cache_s


def test_the_matmuls_of_dense_layers_and_of_experts() -> None:
    dense, experts = mlp_matmuls(MIXTURE, groups(), 8.0)  # two tokens a group, of tp = 2 chips
    assert dense.ici_s == pytest.approx(2 * 2 * 256 / 1e9)
    assert dense.hbm_s == pytest.approx(2 * 256 * 1024 / 2e12)
    assert dense.math_s == pytest.approx(2 * 2 * 256 * 1024 / 2e12)
    visited = 1 - 0.75**8
    assert experts.ici_s == experts_ici_s(MIXTURE, groups(), 8.0)
    assert experts.hbm_s == pytest.approx(2 * 256 * 256 / 2e12 + 256 * 512 * 8 * visited / 8e12)
    assert experts.math_s == pytest.approx(2 * 2 * 256 * (2 * 512 + 256) / 2e12)
    assert expert_matrix_s(MIXTURE, groups()) == (2 * 256 * 256 / 2e12, 256 * 512 * 8 / 8e12)


def test_a_step_waits_where_the_matmul_of_any_kind_of_layer_does() -> None:
    experts = mlp_matmuls(MIXTURE, groups(), 8.0)[1]
    assert experts.ici_s > experts.hidden_s
    assert waits_for_ici(MIXTURE, groups(), 8.0, 0.0)
    assert not waits_for_ici(MIXTURE, groups(), 8.0, float(experts.ici_s / experts.hidden_s))
    assert not waits_for_ici(MIXTURE, groups(tp_bytes_per_s=1e15, ep_bytes_per_s=1e15), 8.0, 0.0)
