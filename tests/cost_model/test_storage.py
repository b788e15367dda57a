from typing import Any

import numpy as np
import pytest

from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.cost_model.storage import Storage, StoredWeights, value_bytes
from tests.helpers import moe_model

# The mixture: 8 experts of width 512 in three of four layers, shared ones of 256; D = 256, F = 1024.
TABLES = 2 * 256 * 1000 + 3 * 256 * 8  # embedding, head and routers
ATTENTION, MLP, SHARED = 4 * 2 * 256 * 32 * (8 + 4), 3 * 256 * 1024, 3 * 3 * 256 * 256
EXPERTS = 3 * 8 * 3 * 256 * 512
MET = EXPERTS / 4  # two of eight
ACTIVE = TABLES + ATTENTION + MLP + SHARED + MET


def published(**native: Any) -> ModelSpec:
    return moe_model(native=native)


@pytest.mark.parametrize(
    ("dtype", "group", "group_bits", "bits"),
    [
        ("int4", None, 32, 4),
        ("int4", 128, 32, 4.25),
        ("int4", 32, 16, 4.5),
        ("mxfp4", 128, 32, 4.25),
        ("nvfp4", None, 32, 4.5),
        ("int8", None, 16, 8),
        ("fp8", 128, 0.25, 8 + 1 / 512),
    ],
)
def test_scales_count(dtype: str, group: int | None, group_bits: float, bits: float) -> None:
    assert value_bytes(dtype, group, group_bits) * 8 == bits


def test_a_dtype_applies_to_the_linear_layers_within_the_blocks() -> None:
    stored = Storage(moe_model()).weights("int8")
    resident = ATTENTION + MLP + SHARED + 2 * TABLES
    tables = {"embedding": 2.0 * 256 * 1000, "head": 2.0 * 256 * 1000}
    assert stored == StoredWeights(resident, float(EXPERTS), float(MLP), float(SHARED), **tables)
    grouped = Storage(moe_model(), int4_group=64)
    assert grouped.weights("int4").experts == 4.5 / 8 * EXPERTS
    assert grouped.weights("int8") == stored


def test_int4_of_a_published_checkpoint_has_its_scales_but_binds_no_chips() -> None:
    blocks = 80 * (8192 * 128 * (64 + 8) * 2 + 3 * 8192 * 28672)  # of LLaMA 3.3 70B, in groups of 128 along a row
    model = load_model("llama-3.3-70b")
    assert Storage(model).weights_bytes("int4") == (4 + 20 / 128) / 8 * blocks + 2 * 2 * 128256 * 8192  # 39.77 GB
    assert Storage(model).scale_group(TensorGroup.MLP, "int4") == 1
    assert Storage(model, int4_group=128).weights_bytes("int4") == 4.25 / 8 * blocks + 2 * 2 * 128256 * 8192


def test_the_model_of_the_book_is_stored_alike_in_all_its_parts() -> None:
    storage = Storage(load_model("llama-3-70b"), int4_group=128)
    assert storage.weights_bytes("int8") == 70e9
    assert storage.weights_bytes("int4") == pytest.approx(4.25 / 8 * 70e9)


def test_a_checkpoint_says_what_it_leaves_wider() -> None:
    model = published(dtype="fp8", wider={"attention": {}, "mlp": {"share": 0.25}}, tables=["head"])
    stored = Storage(model).weights("fp8")
    head = 256 * 1000
    assert stored.mlp == 1.25 * MLP
    assert stored.resident == 2 * ATTENTION + 1.25 * MLP + SHARED + 2 * (TABLES - head) + head
    assert Storage(model).weights("int8") == Storage(moe_model()).weights("int8")


def test_matmuls_in_another_dtype_are_as_wide_as_what_is_left_by_half_or_more() -> None:
    assert Storage(moe_model()).fits_compute("nvfp4", "fp8")
    assert not Storage(moe_model()).fits_compute("bf16", "fp8")
    assert Storage(published(dtype="fp8", wider={"mlp": {"share": 0.49}})).fits_compute("fp8", "int8")
    assert not Storage(published(dtype="fp8", wider={"mlp": {"share": 0.5}})).fits_compute("fp8", "int8")
    assert Storage(published(dtype="mxfp4", wider={"mlp": {"dtype": "fp8"}})).fits_compute("mxfp4", "fp8")


def test_a_checkpoint_that_computes_in_its_own_dtype_computes_the_rest_in_its_own() -> None:
    """Of what a token meets, attention and a quarter of the MLP at the half peak of bf16: as many FLOPs again."""
    model = published(dtype="fp8", wider={"attention": {}, "mlp": {"share": 0.25}})
    storage, peaks = Storage(model), {"bf16": 1e15, "fp8": 2e15}
    assert storage.fits_compute("fp8", "fp8")
    assert storage.flop_per_s(peaks, "fp8", "fp8") == pytest.approx(2e15 * ACTIVE / (ACTIVE + ATTENTION + 0.25 * MLP))
    assert storage.flop_per_s(peaks, "fp8", "bf16") == 1e15
    assert storage.flop_per_s(peaks, "int8", "int8") == 0  # of a chip without int8


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_experts_left_wider_count_as_those_that_a_token_visits(share: float) -> None:
    model = published(dtype="fp8", wider={"experts": {"share": share}})
    peak = Storage(model).flop_per_s({"bf16": 1e15, "fp8": 2e15}, "fp8", "fp8")
    assert peak == pytest.approx(2e15 * ACTIVE / (ACTIVE + share * MET))


def test_an_engine_pads_the_experts_of_each_chip() -> None:
    padded = Storage(published(dtype="mxfp4", pad=384))  # 512 columns: 768 on one chip, 384 on each of two and of four
    np.testing.assert_allclose(padded.expert_padding("mxfp4", np.array([1.0, 2.0, 4.0])), [1.5, 1.5, 3.0])
    assert padded.expert_padding("int8", 4.0) == 1
    assert padded.weights("mxfp4").experts == 4.25 / 8 * EXPERTS


def test_a_vision_encoder_is_held_and_no_step_reads_it() -> None:
    seeing = Storage(moe_model(vision_parameters=1000))
    assert seeing.weights_bytes("int8") == Storage(moe_model()).weights_bytes("int8") + 2000
    assert seeing.weights("int8").resident == Storage(moe_model()).weights("int8").resident


def test_the_cache_of_a_token_is_what_kernels_read() -> None:
    assert Storage(moe_model()).kv_token_bytes("int8") == 2 * 4 * 32
    assert Storage(load_model("deepseek-v3")).kv_token_bytes("fp8") == 512 + 64
    sparse = Storage(load_model("deepseek-v3.2"))
    assert sparse.kv_token_bytes("fp8") == 656  # FlashMLA: 512 in fp8, four scales, 64 in bf16
    assert sparse.kv_token_bytes("bf16") == 2 * 576


def test_which_weights_share_a_scale() -> None:
    def of(storage: Storage, weights: str) -> list[int]:
        return [storage.scale_group(group, weights) for group in (TensorGroup.ATTENTION, TensorGroup.EXPERTS)]

    assert of(Storage(moe_model(), int4_group=64), "int4") == [64, 64]
    assert of(Storage(moe_model(), int4_group=64), "int8") == [1, 1]
    assert of(Storage(moe_model()), "nvfp4") == [16, 16]
    assert of(Storage(published(dtype="fp8", group=128, wider={"attention": {}})), "fp8") == [1, 128]


@pytest.mark.parametrize(
    ("model", "weights", "gib", "tolerance"),
    [
        ("gpt-oss-120b", "mxfp4", 64.38, 0.02),  # vllm#33155, padded on one H100
        ("llama-3.1-70b", "int8", 67.72, 0.02),  # vllm#12569
        ("llama-3.1-8b", "fp8", 8.49, 0.02),  # measured by llm-d-planner
        ("qwen3-30b-a3b", "bf16", 4 * 14.2474, 0.01),  # vllm#17327
    ],
)
def test_weights_as_engines_measured_them(model: str, weights: str, gib: float, tolerance: float) -> None:
    storage = Storage(load_model(model))
    stored = storage.weights(weights)
    held = stored.resident + stored.experts * storage.expert_padding(weights, 1.0)
    assert held / 2**30 == pytest.approx(gib, rel=tolerance)
