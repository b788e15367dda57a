"""Rows of measured deployments: the names that benchmarks give columns, chips, models and dtypes."""

from pathlib import Path

import pytest

from servesat import CatalogueError
from servesat.catalogue.measured_columns import misnamed_columns
from servesat.catalogue.measurements import PrefillPool, read_measurements


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
    assert (read.model.id, read.chip.id, read.engine, read.tp, read.dp) == ("qwen3-8b", "tpu-v6e", "vllm-tpu", 4, 1)
    assert (read.weights, read.kv_cache, read.compute) == ("bf16", "fp8", "bf16")
    assert (read.prompt_tokens, read.output_tokens, read.concurrency, read.requests_per_s) == (1024, 512, 8, None)
    assert read.measured == {"tpot_ms": 6.5, "ttft_ms": 120}


GOOD = {
    "model": "qwen3-8b", "chip": "h200", "weights": "bf16", "concurrency": "8", "prompt_tokens": "100",
    "output_tokens": "10", "tpot_ms": "5",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"engine": "vllm 0.11.0"}, ("vllm", "0.11.0", 1)),
        ({"engine": "SGLang v0.5.5"}, ("sglang", "0.5.5", 1)),
        ({"engine": "vllm", "engine_version": "v0.19.0"}, ("vllm", "0.19.0", 1)),
        ({"engine": "vllm (nightly)"}, ("vllm", "", 1)),
        ({"engine": "vllm 8xH100"}, ("vllm", "", 1)),
        ({"engine": "vllm", "engine_version": "vllm 0.11.0"}, ("vllm", "vllm 0.11.0", 1)),
        ({"engine": "vllm==0.11.0"}, ("vllm", "0.11.0", 1)),
        ({"engine": "vllm-ascend"}, ("vllm-ascend", "", 1)),
        ({"model": "Qwen/Qwen3-8B (bf16, tp 8 each side)"}, ("", "", 8)),
        ({"model": "Qwen/Qwen3-8B (bf16, tp 8)", "tp": "2"}, ("", "", 2)),
    ],
)
def test_a_cell_may_name_a_version_or_the_chips_that_share_a_model(
    tmp_path: Path, changes: dict[str, str], expected: tuple[str, str, int]
) -> None:
    row = GOOD | changes
    (tmp_path / "a.csv").write_text(",".join(row) + "\n" + ",".join(f'"{cell}"' for cell in row.values()) + "\n")
    (read,), _ = read_measurements(tmp_path / "a.csv")
    assert (read.engine, read.engine_version, read.tp) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "gpt-9"}, "model = gpt-9: no model of the catalogue"),
        ({"chip": "h10"}, "chip = h10: no chip of the catalogue; did you mean"),
        ({"chip": ""}, "chip is missing"),
        ({"weights": "fp6"}, "weights = fp6: expected one of bf16, "),
        ({"concurrency": ""}, "concurrency, requests_per_s and requests are missing"),
        ({"prompt_tokens": ""}, "prompt_tokens or output_tokens is missing"),
        ({"tpot_ms": ""}, "nothing measured: expected ttft_ms, tpot_ms, "),
        ({"tpot_ms": "fast"}, "tpot_ms = fast: expected a number"),
        ({"concurrency": "-1"}, "concurrency = -1: expected a number of at least 0"),
        ({"concurrency": "inf"}, "concurrency = inf: expected a number of at least 0"),
        ({"pp": "2"}, "pp > 1: stages of a pipeline are not predicted"),
        ({"prefill_tp": "4", "prefill_pp": "2"}, "pp > 1: stages of a pipeline are not predicted"),
        ({"prefill_tp": "4", "concurrency": "", "requests": "9"}, "concurrency is missing: prefill and decode workers"),
        ({"kv": "turbo"}, "kv_cache = turbo: expected one of auto, bf16, "),
        ({"output_tokens": "0"}, "output_tokens = 0: expected a number greater than 0"),
        ({"requests": "0"}, "requests = 0: expected a number greater than 0"),
        ({"requests": "100001"}, "requests = 100001: expected at most 100,000, as all are replayed"),
        ({"tp": "0"}, "tp = 0: expected a whole number from 1 to 4,096"),
        ({"gpus": "4", "tp": "1"}, "gpus = 4: expected tp · dp = 1, or dp for the replicas beside it"),
        ({"gpus": "4", "tp": "8"}, "gpus = 4: expected tp · dp = 8, all those of the replica"),
        ({"tp": "3"}, "tp = 3: expected a divisor of the "),
        ({"engine": "vlm"}, "engine = vlm: did you mean vllm?"),
        ({"tp": "1.5"}, "tp = 1.5: expected a whole number from 1 to 4,096"),
        ({"prefill_tp": "3"}, "prefill_tp = 3: expected a divisor of the "),
        ({"steps": "2.5"}, "steps = 2.5: expected a whole number, up to 64"),
        ({"steps": "3", "accept_length": "5"}, "accept_length = 5: expected 1 to 4, the tokens drafted and one more"),
        ({"steps": "3", "accept_length": "0.5"}, "accept_length = 0.5: expected 1 to 4"),
        ({"tpot_ms": "10,5", "lengths": "x"}, "tpot_ms = "),
        (
            {"lengths": "prompt p50 0 p99 50; answer p50 5, cap 9"},
            "lengths = prompt p50 0 p99 50; answer p50 5, cap 9: ",
        ),
        ({"lengths": "prompt p50 , p99 ,; answer p50 5, cap 9"}, "lengths = "),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    row = GOOD | changes
    cells = ",".join(f'"{cell}"' for cell in row.values())
    read, (unread,) = rows(tmp_path, f"{','.join(row)}\n{cells}\n")
    assert read == []
    assert unread.number == 1
    assert unread.reason.startswith(reason)


def test_a_benchmark_without_a_rate_has_its_concurrency(tmp_path: Path) -> None:
    """`bench serve --request-rate inf --max-concurrency 16`: 16 requests are under way all the time."""
    row = GOOD | {"concurrency": "16", "request_rate": "inf"}
    (read,), unread = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert unread == []
    assert (read.concurrency, read.requests_per_s) == (16, None)
    row |= {"concurrency": "", "requests": "300"}
    (read,), _ = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert (read.concurrency, read.requests_per_s, read.requests, read.at_once) == (None, None, 300, True)
    row |= {"concurrency": "300", "request_rate": ""}  # no client holds one back
    (read,), _ = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert (read.concurrency, read.at_once) == (None, True)


def test_lengths_in_words_stand_in_for_columns(tmp_path: Path) -> None:
    """Of a log-normal distribution with ln(2100 / 280) = 2.326 · σ the deviation is √(e^σ² - 1) of the mean."""
    row = GOOD | {
        "prompt_tokens": "",
        "output_tokens": "",
        "lengths": "x: prompt p50 280 p99 2,100; answer p50 310, cap 512",
    }
    cells = ",".join(f'"{cell}"' for cell in row.values())
    (read,), _ = rows(tmp_path, f"{','.join(row)}\n{cells}\n")
    assert (read.prompt_tokens, read.output_tokens, read.longest_output) == (280, 310, 512)
    assert read.prompt_cv == pytest.approx(1.06, abs=0.005)


def test_prefill_and_decode_workers_have_columns_of_their_own(tmp_path: Path) -> None:
    pools = {"prefill_workers": "3", "prefill_tp": "4", "prefill_dp": "2", "decode_workers": "2", "decode_tp": "8"}
    row = GOOD | pools
    (read,), _ = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert (read.workers, read.tp, read.dp, read.prefill) == (2, 8, 1, PrefillPool(workers=3, tp=4, dp=2))


def test_the_tables_of_tensorrt_llm_are_read_as_they_stand(tmp_path: Path) -> None:
    """The dtype behind a chip is that of weights and KV cache; tokens are those of a GPU; latencies of one token."""
    columns = "trtllm_version,gpu_and_dtype,model,batch,tp,isl,osl,out_tok_s_per_gpu,first_token_latency_ms"
    (peak, first), unread = rows(
        tmp_path, f"{columns}\n0.9.0,L40S GPUs (FP8),LLaMA 70B,64,4,128,128.0,500.0,\n"
        "0.9.0,A100 GPUs (FP16),GPT-J 6B,1,1,2048,,,33.1\n",
    )  # fmt: skip
    assert unread == []
    assert (peak.chip.id, peak.model.id, peak.weights, peak.kv_cache) == ("l40s", "llama-2-70b", "fp8", "fp8")
    assert (peak.engine, peak.engine_version, peak.harness, peak.tp) == ("trtllm", "", "static batch", 4)
    assert peak.measured == {"tokens_per_s": 2000.0}
    assert (first.chip.id, first.model.id, first.weights, first.board) == ("a100-80gb", "gpt-j-6b", "bf16", "a100")
    assert (first.output_tokens, first.measured) == (1, {"ttft_ms": 33.1})


def test_a_harness_stands_for_requests_at_a_rate(tmp_path: Path) -> None:
    row = GOOD | {"concurrency": "", "rps": "5"}
    (read,), _ = rows(tmp_path, f"{','.join(row)}\n{','.join(row.values())}\n")
    assert (read.requests_per_s, read.harness) == (5, "at a rate")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="expected the columns model, chip, engine"):
        rows(tmp_path, "a,b\n1,2\n")
    with pytest.raises(CatalogueError, match="no such file"):
        read_measurements(tmp_path / "nowhere.csv")


def test_what_spreadsheets_write_is_read(tmp_path: Path) -> None:
    """A byte-order mark, thousands with commas, and infinity in capitals."""
    row = GOOD | {"prompt_tokens": '"1,234.5"', "request_rate": "INF"}
    (read,), unread = rows(tmp_path, f"\ufeff{','.join(row)}\n{','.join(row.values())}\n")
    assert (read.prompt_tokens, read.concurrency, unread) == (1234.5, 8, [])


def test_a_column_with_nearly_the_name_of_another_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("model,chip,weigths,tpot_ms,input_tok_s,tpot_p95_ms,tpot_p90_ms\n")
    assert misnamed_columns(path) == ("weigths is not read; did you mean weights?",)


@pytest.mark.parametrize(
    ("changes", "stored", "compute"),
    [
        ({"chip": "h100-sxm", "engine": "vllm", "weights": "nvfp4"}, "nvfp4", "bf16"),
        ({"chip": "b200", "engine": "vllm", "weights": "fp4"}, "nvfp4", "nvfp4"),
        ({"chip": "b200", "engine": "vllm", "weights": "mxfp4", "model": "gpt-oss-120b"}, "mxfp4", "fp8"),
        ({"chip": "h200", "engine": "vllm", "weights": "fp4", "model": "gpt-oss-120b"}, "mxfp4", "bf16"),
        ({"chip": "h200", "engine": "vllm", "weights": "", "model": "gpt-oss-120b"}, "mxfp4", "bf16"),
        ({"chip": "h200", "engine": "vllm", "weights": "", "model": "Qwen/Qwen3-8B-FP8"}, "fp8", "fp8"),
        ({"chip": "h200", "engine": "vllm", "weights": "", "model": "Qwen/Qwen3-8B-AWQ"}, "int4", "bf16"),
        ({"chip": "a100-80gb", "engine": "vllm", "weights": "fp8"}, "fp8", "bf16"),
        ({"chip": "h100-sxm", "engine": "vllm", "weights": "w8a16"}, "int8", "bf16"),
        ({"chip": "h100-sxm", "weights": "fp4"}, "nvfp4", "bf16"),
        ({"chip": "b300", "engine": "vllm", "weights": "w8a8"}, "int8", "bf16"),
        ({"chip": "a10g", "engine": "vllm", "weights": "int8"}, "int8", "bf16"),
        ({"chip": "h100-sxm", "weights": "fp8"}, "fp8", "fp8"),
        ({"chip": "h100-sxm", "engine": "TensorRT-LLM", "weights": "fp8"}, "fp8", "fp8"),
    ],
)
def test_matmuls_are_those_that_the_engine_runs_on_the_chip(
    tmp_path: Path, changes: dict[str, str], stored: str, compute: str
) -> None:
    row = GOOD | {"engine": ""} | changes
    (read,), unread = rows(tmp_path, ",".join(row) + "\n" + ",".join(row.values()) + "\n")
    assert (unread, read.weights, read.compute) == ([], stored, compute)
    assert read.engine in {"", "vllm", "trtllm"}


def test_a_table_of_another_form_is_told(tmp_path: Path) -> None:
    for name, text, message in (
        ("rows.csv", "model;chip;tpot_ms\n", "expected cells separated by commas, not by ';'"),
        ("rows.json", "{}", "to fit a benchmark's result: `servesat calibrate`"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(CatalogueError, match=message):
            read_measurements(tmp_path / name)
    with pytest.raises(CatalogueError, match="/dev/zero: is a pipe or a device, expected a file"):
        read_measurements(Path("/dev/zero"))
