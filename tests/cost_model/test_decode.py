import pytest

from servesat.catalogue.load import load_model
from servesat.cost_model.decode import Replica, decode_step, mlp_matmuls, usd_per_million_tokens


def v5e(tp: int, axes: int, weights: float = 1.0, kv_cache: float = 1.0) -> Replica:
    return Replica(
        tp=tp,
        hbm_bytes_per_s=8.2e11,
        flop_per_s=1.97e14,
        tp_bytes_per_s=9e10 * axes,
        weights_value_bytes=weights,
        kv_cache_value_bytes=kv_cache,
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
    (matmul,) = mlp_matmuls(load_model("llama-3-70b"), v5e(32, 1, weights=2.0), 64)
    assert matmul.ici_s == pytest.approx(1.165e-5, rel=1e-3)
    assert matmul.hbm_s == pytest.approx(2 * 8192 * 28672 / (32 * 8.2e11))
    assert matmul.math_s == pytest.approx(4.769e-6, rel=1e-3)
    assert matmul.hidden_s == matmul.hbm_s


def test_cost_of_a_million_tokens() -> None:
    assert usd_per_million_tokens(36.0, 1000.0) == pytest.approx(10.0)
