import math

import pytest

from servesat.catalogue.chip import Axis
from servesat.cost_model.collectives import (
    activations_s,
    all_to_all_bytes_per_s,
    axis_bytes_per_s,
    tensor_parallel_bytes_per_s,
)

SWITCH = Axis(name="nvlink", bytes_per_s=4.5e11)
TORUS = Axis(name="x", bytes_per_s=9e10, wraps_every=16)


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
    assert tensor_parallel_bytes_per_s([SWITCH] * len(axes), axes) == together


def test_the_axes_of_a_torus_go_at_the_pace_of_the_slowest() -> None:
    assert tensor_parallel_bytes_per_s([TORUS, TORUS], [9e10, 4.5e10]) == 9e10


def test_an_axis_that_does_not_close_to_a_ring_has_half_the_bandwidth() -> None:
    assert axis_bytes_per_s(TORUS, is_ring=True) == 9e10
    assert axis_bytes_per_s(TORUS, is_ring=False) == 4.5e10
    assert axis_bytes_per_s(SWITCH, is_ring=False) == 4.5e11


def test_an_exchange_goes_over_each_axis_in_turn() -> None:
    """Scaling book, part 3: an AllToAll on a ring takes a quarter of the AllGather of the same array."""
    assert all_to_all_bytes_per_s([TORUS], [16], [9e10]) == 4 * tensor_parallel_bytes_per_s([TORUS], [9e10])
    assert all_to_all_bytes_per_s([TORUS, TORUS], [16, 16], [9e10, 9e10]) == 16 * 4 * 9e10
    assert all_to_all_bytes_per_s([SWITCH], [8], [4.5e11]) == 8 * 4.5e11
    slow = Axis(name="network", bytes_per_s=5e10)
    assert all_to_all_bytes_per_s([SWITCH, slow], [8, 4], [4.5e11, 5e10]) == 32 * 5e10
    assert all_to_all_bytes_per_s([], [], []) == math.inf


def test_gathering_64_rows_of_8192_over_one_v5e_axis_takes_11_7_us() -> None:
    assert activations_s(64, 8192, 9e10) == pytest.approx(1.16508e-5, rel=1e-5)


def test_one_chip_sends_nothing() -> None:
    assert activations_s(64, 8192, math.inf) == 0
