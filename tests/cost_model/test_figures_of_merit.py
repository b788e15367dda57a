import pytest

from servesat.catalogue.load import load_chip, load_model
from servesat.cost_model.figures_of_merit import (
    alpha,
    bandwidth_bound_ways,
    beta,
    compute_bound_ways,
    critical_batch,
    flop_per_usd,
    hbm_bytes_per_usd,
)


def test_what_a_dollar_buys() -> None:
    assert flop_per_usd(1.97e14, 1.2) == pytest.approx(5.91e17)
    assert hbm_bytes_per_usd(load_chip("tpu-v5e"), 1.2) == pytest.approx(8.2e11 * 3000)


@pytest.mark.parametrize(("compute", "width", "batch"), [("bf16", 2, 240.2), ("bf16", 1, 120.1), ("int8", 1, 240.2)])
def test_critical_batch_of_v5e(compute: str, width: float, batch: float) -> None:
    assert critical_batch(load_chip("tpu-v5e"), compute, width) == pytest.approx(batch, abs=0.05)


def test_alpha_and_beta() -> None:
    assert alpha(load_chip("tpu-v5e"), "bf16") == pytest.approx(2188.9, abs=0.1)
    assert alpha(load_chip("tpu-v5p"), "bf16") == 2550
    assert beta(load_chip("tpu-v5e")) == pytest.approx(9.111, abs=1e-3)


def test_tensor_parallel_limits_of_70b() -> None:
    model = load_model("llama-3-70b")
    assert compute_bound_ways(model, 2, 2200) == pytest.approx(26.07, abs=0.01)
    assert bandwidth_bound_ways(model, 1, 8, 64, 2) == 56
    assert bandwidth_bound_ways(model, 1, 8, 64, 1) == 28
