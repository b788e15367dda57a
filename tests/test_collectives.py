import math

import pytest

from servesat.collectives import activations_s, tensor_parallel_bytes_per_s


@pytest.mark.parametrize(
    ("axes", "together"),
    [
        ([], math.inf),
        ([9e10], 9e10),
        ([9e10, 9e10], 1.8e11),
        ([4.5e11, 5e10], 5e10),
        ([9e10, 9e10, 1e10], 1e10),
    ],
)
def test_equal_axes_add_up_and_unequal_ones_take_the_slowest(axes: list[float], together: float) -> None:
    assert tensor_parallel_bytes_per_s(axes) == together


def test_gathering_64_rows_of_8192_over_one_v5e_axis_takes_11_7_us() -> None:
    assert activations_s(64, 8192, 9e10) == pytest.approx(1.16508e-5, rel=1e-5)


def test_one_chip_sends_nothing() -> None:
    assert activations_s(64, 8192, math.inf) == 0
