"""The weights of a replica by hand."""

from tests.deployment.check.replicas import OF_EXPERTS, OTHERS, TABLES, replica
from tests.helpers import moe_model


def test_weights_are_held_once_and_the_rest_in_each_group() -> None:
    assert replica().weights_bytes == 2 * (4 * OTHERS + OF_EXPERTS)
    grouped = replica(weights="int4", int4_group=64)
    in_blocks = 4 * (OTHERS - TABLES) + OF_EXPERTS
    assert grouped.weights_bytes == (4 + 0.5) / 8 * in_blocks + 2 * 4 * TABLES


def test_experts_alone_may_be_narrow() -> None:
    mixed = replica(
        moe_model(native={"dtype": "mxfp4", "wider": {"attention": {}, "mlp": {}, "shared_experts": {}}}),
        weights="mxfp4",
    )
    assert mixed.weights_bytes == 2 * 4 * OTHERS + 4.25 / 8 * OF_EXPERTS
    assert not replica(mixed.model, weights="mxfp4", compute="fp8").computes


def test_weights_that_share_a_scale_stay_on_one_chip() -> None:
    grouped = {
        "dtype": "int4",
        "group": 128,
    }  # tp 2: 128 of a chip's 8 · 32 outputs, 512 of d_ff, 256 and 128 of experts
    assert not replica(moe_model(native=grouped), weights="int4").cuts_scales
    assert replica(moe_model(native=grouped | {"group": 256}), weights="int4").cuts_scales
    left = {"wider": {"attention": {}, "shared_experts": {}}}
    assert not replica(moe_model(native=grouped | {"group": 256} | left), weights="int4").cuts_scales
    assert not replica(moe_model(native=grouped | {"group": 256}), weights="int8").cuts_scales
    assert replica(weights="int4", int4_group=96).cuts_scales
