"""Rows of measured deployments: the names that benchmarks give columns, chips, models and dtypes."""

from pathlib import Path

import pytest

from servesat import CatalogueError
from servesat.catalogue.measurements import chip_named, model_named, read_measurements, shape_of


def rows(tmp_path: Path, text: str):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    return read_measurements(path)


def test_columns_have_the_names_of_several_tools(tmp_path: Path) -> None:
    (read,), unread = rows(
        tmp_path,
        "model,hardware,precision,engine,tp,isl,osl,max_concurrency,itl_ms,ttft_mean_ms,kv,extra\n"
        "Qwen/Qwen3-8B,TPU v6e-4,float16,vLLM main,4,1024,512,8,6.5,120,fp8,whatever\n",
    )
    assert unread == []
    assert (read.model.id, read.chip.id, read.engine, read.tp, read.dp) == ("qwen3-8b", "tpu-v6e", "vllm", 4, 1)
    assert (read.weights, read.kv_cache, read.compute) == ("bf16", "fp8", "bf16")
    assert (read.prompt_tokens, read.output_tokens, read.concurrency, read.requests_per_s) == (1024, 512, 8, None)
    assert read.measured == {"tpot_ms": 6.5, "ttft_ms": 120}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Qwen/Qwen3-32B-FP8", "qwen3-32b"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a16", "llama-3.1-8b"),
        ("Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama/Llama-3.1-405B-Instruct (fp8, Meta checkpoint)", "llama-3.1-405b"),
        ("llama-3-70b", "llama-3-70b"),
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


GOOD = {
    "model": "qwen3-8b", "chip": "h200", "weights": "bf16", "concurrency": "8", "prompt_tokens": "100",
    "output_tokens": "10", "tpot_ms": "5",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "gpt-9"}, "model = gpt-9: no model of the catalogue"),
        ({"chip": "h10"}, "chip = h10: no chip of the catalogue; did you mean"),
        ({"chip": ""}, "chip is missing"),
        ({"weights": "fp6"}, "weights = fp6: expected one of bf16, "),
        ({"concurrency": ""}, "concurrency and requests_per_s are missing"),
        ({"prompt_tokens": ""}, "prompt_tokens or output_tokens is missing"),
        ({"tpot_ms": ""}, "nothing measured: expected ttft_ms, tpot_ms, "),
        ({"tpot_ms": "fast"}, "tpot_ms = fast: expected a number"),
        ({"concurrency": "-1"}, "concurrency = -1: expected a number of at least 0"),
        ({"concurrency": "inf"}, "concurrency = inf: all requests at once, of which most queue"),
        ({"pp": "2"}, "pp > 1: stages of a pipeline are not predicted"),
        ({"prefill_tp": "4"}, "prefill and decode pools of their own are not predicted"),
        ({"kv": "turbo"}, "kv_cache = turbo: expected one of auto, bf16, "),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    row = GOOD | changes
    read, (unread,) = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert read == []
    assert unread.number == 1
    assert unread.reason.startswith(reason)


def test_a_benchmark_without_a_rate_has_its_concurrency(tmp_path: Path) -> None:
    """`bench serve --request-rate inf --max-concurrency 16`: 16 requests are under way all the time."""
    row = GOOD | {"concurrency": "16", "request_rate": "inf"}
    (read,), unread = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert unread == []
    assert (read.concurrency, read.requests_per_s) == (16, None)
    row["concurrency"] = ""
    _, (left,) = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert left.reason == "requests_per_s = inf: all requests at once, of which most queue"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="expected the columns model, chip, engine"):
        rows(tmp_path, "a,b\n1,2\n")
    with pytest.raises(CatalogueError, match="cannot be read"):
        read_measurements(tmp_path / "nowhere.csv")
