"""The names that benchmarks give chips and models."""

import pytest

from servesat.catalogue.measured_names import chip_named, model_named, shape_of


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Qwen/Qwen3-32B-FP8", "qwen3-32b"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a16", "llama-3.1-8b"),
        ("Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-3.1-405B-Instruct (fp8, Meta checkpoint)", "llama-3.1-405b"),
        ("llama-3-70b", "llama-3-70b"),
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b"),
        ("moonshotai/Kimi-K2.5", "kimi-k2.5"),
        ("deepseek-ai/DeepSeek-V3.1", "deepseek-v3.1"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen2.5-0.5b"),
    ],
)
def test_models_are_known_by_their_repositories_in_any_dtype(name: str, model: str) -> None:
    assert model_named(name).id == model


def test_a_shape_is_a_name_without_dtype_release_and_owner() -> None:
    assert shape_of("nvidia/Llama-3.3-70B-Instruct-FP8") == "llama-3.3-70b"
    assert shape_of("Qwen/Qwen3-30B-A3B-Instruct-2507") == "qwen3-30b-a3b"


@pytest.mark.parametrize(
    ("name", "chip"),
    [("A100_80GB_PCIe", "a100-80gb-pcie"), ("tpu7x", "tpu-7x"), ("H200", "h200"), ("h800", "h800")],
)
def test_chips_are_known_however_they_are_spelled(name: str, chip: str) -> None:
    assert chip_named(name).id == chip
