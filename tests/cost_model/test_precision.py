import pytest

from servesat.cost_model.memory import weights_bytes
from servesat.cost_model.precision import Precision, value_bytes
from tests.helpers import moe_model, spec_of


@pytest.mark.parametrize(
    ("dtype", "group", "bits"),
    [
        ("int4", None, 4),
        ("int4", 128, 4.25),
        ("int4", 32, 5),
        ("mxfp4", 128, 4.25),
        ("nvfp4", None, 4.5),
        ("int8", 128, 8),
    ],
)
def test_scales_count(dtype: str, group: int | None, bits: float) -> None:
    assert value_bytes(dtype, group) * 8 == bits


def test_native_experts_leave_the_rest_in_bf16() -> None:
    spec = spec_of(model="gpt-oss-120b", search={"chips": ["h100-sxm"]})
    precision = Precision(spec.model)
    assert (precision.expert_value_bytes("mxfp4"), precision.resident_value_bytes("mxfp4")) == (4.25 / 8, 2)
    assert (precision.expert_value_bytes("int8"), precision.resident_value_bytes("int8")) == (1, 1)
    held = weights_bytes(spec.model, precision.resident_value_bytes("mxfp4"), precision.expert_value_bytes("mxfp4"))
    assert held == pytest.approx(65.2e9, rel=0.01)  # the checkpoint: 65.2 GB
    assert not precision.fits_compute("mxfp4", "fp8")
    assert precision.fits_compute("mxfp4", "bf16")


def test_weights_may_be_as_wide_as_the_compute_dtype_and_no_wider() -> None:
    precision = Precision(moe_model(native={"dtype": "fp8"}))
    assert precision.resident_value_bytes("fp8") == 1
    assert precision.fits_compute("fp8", "int8")
    assert precision.fits_compute("nvfp4", "fp8")
    assert not precision.fits_compute("bf16", "fp8")


def test_groups_add_a_scale_and_a_zero_point_to_int4_alone() -> None:
    precision = Precision(moe_model(), int4_group=64)
    assert precision.expert_value_bytes("int4") * 8 == 4.5
    assert precision.resident_value_bytes("int8") == 1
