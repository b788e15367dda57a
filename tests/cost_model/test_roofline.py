import numpy as np
import pytest

from servesat.cost_model.roofline import flops_s, load_s


def test_loading_70_gb_over_eight_v5e_takes_10_7_ms() -> None:
    assert load_s(70e9, 8, 8.2e11) == pytest.approx(0.0106707, rel=1e-5)


def test_flops_of_32_tokens_of_70b_on_eight_v5e_take_2_8_ms() -> None:
    assert flops_s(70e9, 32, 8, 1.97e14) == pytest.approx(0.00284264, rel=1e-5)


def test_arrays_are_evaluated_elementwise() -> None:
    assert load_s(np.array([8e9, 16e9]), np.array([1.0, 4.0]), 1e12).tolist() == [8e-3, 4e-3]
