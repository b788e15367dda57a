"""The names that benchmarks give chips and models."""

import json
from pathlib import Path

import pytest

from servesat.catalogue.measured_names import RowError, chip_named, dtype_of, model_named, shape_of
from tests.helpers import ROOT


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


def test_models_and_chips_may_be_files_beside_the_table(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text((ROOT / "models" / "qwen3-8b.toml").read_text())
    (tmp_path / "card.toml").write_text((ROOT / "hardware" / "chips" / "l4.toml").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such"}))
    assert model_named("mine.toml", tmp_path).layers == 36
    assert chip_named("card.toml", tmp_path).vendor == "NVIDIA"
    with pytest.raises(RowError, match="model_type = 'no such' is not understood"):
        model_named("config.json", tmp_path)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("Qwen/Qwen3-8B-FP8", "fp8"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8"),
        ("Qwen/Qwen3-8B-AWQ", "int4"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "int8"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a16", "int8"),
        ("RedHatAI/Qwen3-8B-quantized.w4a16", "int4"),
        ("nvidia/DeepSeek-R1-NVFP4", "nvfp4"),
        ("amd/Llama-3.3-70B-Instruct-MXFP4-Preview", "mxfp4"),
        ("Qwen/Qwen3-8B", None),
        ("openai/gpt-oss-120b", None),
    ],
)
def test_a_repository_says_what_its_weights_are_stored_in(name: str, dtype: str | None) -> None:
    assert dtype_of(name) == dtype
