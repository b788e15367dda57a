import pytest

from servesat.catalogue.chip import Axis, closed_axes
from servesat.catalogue.load import load_chip


@pytest.mark.parametrize(
    ("chip", "topology", "closed"),
    [
        ("tpu-v5e", "8x16", (False, True)),
        ("tpu-v6e", "16x16", (True, True)),
        ("tpu-v5p", "2x4x4", (False, False, False)),  # optical switches close whole cubes alone
        ("tpu-v5p", "4x4x4", (True, True, True)),
        ("tpu-v4", "4x4x8", (True, True, True)),
        ("h100-sxm", "8x2", (False, False)),
    ],
)
def test_the_axes_that_close_to_a_ring(chip: str, topology: str, closed: tuple[bool, ...]) -> None:
    """GKE's device plugin asks the same of a slice: any side of 16 on v5e and v6e, else all of 4 and more."""
    assert closed_axes(load_chip(chip), topology) == closed


def test_a_switch_beside_a_cube_leaves_its_rings() -> None:
    v5p = load_chip("tpu-v5p")
    between = v5p.model_copy(update={"axes": (*v5p.axes, Axis(name="dcn", bytes_per_s=25e9))})
    assert closed_axes(between, "4x4x4x2") == (True, True, True, False)
    assert closed_axes(between, "2x4x4x2") == (False, False, False, False)
