"""Measured deployments: rows of a CSV file, with the model and the chip that each names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import expm1, log, sqrt
from pathlib import Path
from typing import get_args

from servesat.catalogue.chip import Chip
from servesat.catalogue.engine import Program
from servesat.catalogue.load import load_engine
from servesat.catalogue.measured_columns import COLUMNS, MAX_TABLE_BYTES, columns_of, number_in
from servesat.catalogue.measured_names import UNNAMED, RowError, chip_named, dtype_of, model_named, plain_name
from servesat.catalogue.model import ModelSpec
from servesat.core.errors import CatalogueError
from servesat.core.reading import opened_text, table_rows

FIGURES = (
    "ttft_ms", "tpot_ms", "ttft_p50_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_p50_ms", "tpot_p90_ms", "tpot_p99_ms",
    "e2e_ms", "e2e_p50_ms", "e2e_p90_ms", "e2e_p99_ms", "tokens_per_s", "speedup",
)  # fmt: skip
"""What a row may have measured, and predictions stand beside."""

REQUESTS = 500
"""Requests of a run that does not say how many it sent."""

MOST_REQUESTS = 100_000

DRAFTED_LENGTHS = (500.0, 1000.0)
"""Tokens of prompts and answers of a row on speculation that does not say; its speed-up hardly depends on them."""

_LENGTHS = re.compile(r"prompt p50 ([\d,]+) p99 ([\d,]+); answer p50 ([\d,]+), cap ([\d,]+)")
"""What `lengths` may say: medians, which stand for means where tokens have no columns, and how far lengths spread."""

AT_A_RATE, STATIC = "at a rate", "static batch"
"""The harness of rows with requests at a rate that name none, and of those of TensorRT-LLM's own tables."""

_NORMAL_P99 = 2.326

_DTYPES = {
    "bf16": "bf16", "bfloat16": "bf16", "fp16": "bf16", "float16": "bf16", "fp8": "fp8", "int8": "int8", "int4": "int4",
    "mxfp4": "mxfp4", "nvfp4": "nvfp4", "fp4": "nvfp4", "w8a8": "int8", "w8a16": "int8", "w4a16": "int4",
}  # fmt: skip
"""What weights are stored in, by the names that rows give."""

_ACTIVATIONS = {"w8a8": "int8", "w8a16": "bf16", "w4a16": "bf16"}
"""What matmuls compute in by the names that say so."""

_KV_CACHES = {
    "": "bf16",
    "auto": "bf16",
    "bf16": "bf16",
    "fp16": "bf16",
    "fp8": "fp8",
    "fp8_e4m3": "fp8",
    "int8": "int8",
}

_TP_OF_MODEL = re.compile(r"\(.*?\btp (\d+)")
"""A model with the chips that share it: `Qwen3-8B (bf16, tp 8 each side)`."""

_CHIP_AND_DTYPE = re.compile(r"^(?P<chip>.+?)(?: GPUs?)? \((?P<dtype>\w+)\)$")
"""A chip with the dtype of the weights: `L40S GPUs (FP8)`."""


@dataclass(frozen=True)
class PrefillPool:
    """Workers that do nothing but prompts, of tp · dp chips each."""

    workers: int
    tp: int
    dp: int


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A row: a model on chips under an engine, its load, and what was measured of it.

    A replica has `tp · dp` chips, of which tp share the attention of a sequence; experts are spread over them all where
    `spreads_experts`. The load is a number of requests under way, requests/s, or all `requests` `at_once`. Where tokens
    are `drafted` ahead, a step makes `accepted` of them, and `speedup` is measured against none; tp is then 0 where the
    row does not say.
    """

    number: int
    model: ModelSpec
    chip: Chip
    engine: str
    engine_version: str
    harness: str
    weights: str
    kv_cache: str
    compute: str
    tp: int
    dp: int
    spreads_experts: bool
    concurrency: float | None
    requests_per_s: float | None
    prompt_tokens: float
    output_tokens: float
    measured: dict[str, float] = field(hash=False)
    requests: int = REQUESTS
    draft: str = ""
    drafted: int = 0
    accepted: float = 1.0
    at_once: bool = False
    prompt_cv: float = 0.0  # spread of the prompts' lengths
    longest_output: float = 0.0  # the cap of answers, which spread evenly about their mean up to it; 0: all alike
    workers: int = 1
    prefill: PrefillPool | None = None  # beside the `workers` that decode; the load is then that of all
    board: str = ""  # the name of the chip, where it leaves open which of several boards is meant


MOST_DRAFTED = 64
"""Tokens drafted ahead of a step."""

SMALLEST_FIGURE, LARGEST_FIGURE = 1e-6, 1e12
"""What a measured time [ms] or throughput [tokens/s] is believed to be."""


@dataclass(frozen=True)
class Unread:
    """A row that cannot be predicted, and why."""

    number: int
    reason: str


def read_measurements(path: Path) -> tuple[list[Measurement], list[Unread]]:
    """The rows of a CSV file that say enough, and those that do not. Raises CatalogueError for no CSV file."""
    if path.suffix.lower() == ".json":
        raise CatalogueError(f"{path}: expected a table, as .csv; to fit a benchmark's result: `servesat calibrate`")
    with opened_text(path, CatalogueError, MAX_TABLE_BYTES) as file:
        header, lines = table_rows(file, path, CatalogueError)
        rows = [row for _, row in lines]
    if not set(COLUMNS["model"]) & set(header) and not set(COLUMNS["tpot_ms"]) & set(header):
        raise CatalogueError(f"{path}: expected the columns {', '.join(COLUMNS)}; those not measured may be absent")
    read: list[Measurement] = []
    unread: list[Unread] = []
    for number, row in enumerate(rows, start=1):
        try:
            read.append(_measurement(number, row, path.parent))
        except RowError as fault:
            unread.append(Unread(number, str(fault)))
    return read, unread


def _check_chips(text: Mapping[str, str], chips: int, chip: Chip) -> None:
    """Refuse other accelerators than those of one replica; a TPU may hold two devices of tp. Raises RowError."""
    gpus, stages = number_in(text, "gpus"), number_in(text, "pp") or 1
    if gpus is None or not text["tp"]:
        return
    if gpus > chips * stages:
        raise RowError(f"gpus = {gpus:g}: expected tp · dp = {chips}, or dp for the replicas beside it")
    if gpus < chips and chip.vendor != "Google":
        raise RowError(f"gpus = {gpus:g}: expected tp · dp = {chips}, all those of the replica")


def _measurement(number: int, row: Mapping[str, str | None], folder: Path) -> Measurement:
    text = columns_of(row)
    for name in ("model", "chip"):
        if not text[name]:
            raise RowError(f"{name} is missing")
    text = _as_named(text, row)
    tp, dp = _chips(text)
    measured, prefill = _figures(text, tp * dp), _prefill(text)
    chip = chip_named(text["chip"], folder)
    if prefill is None and not text["workers"]:
        _check_chips(text, tp * dp, chip)
    if max(number_in(text, name) or 1 for name in ("pp", "prefill_pp")) > 1:
        raise RowError("pp > 1: stages of a pipeline are not predicted")
    kv_cache = _kv_cache(text)
    concurrency, rate, requests = _load(text)
    prompt, output, prompt_cv, longest = _lengths(text)
    drafted, accepted = _drafted(text)
    if drafted:
        measured = _of_drafting(measured)
        prompt, output = prompt or DRAFTED_LENGTHS[0], output or DRAFTED_LENGTHS[1]
    if output is None and set(measured) <= {"ttft_ms", "ttft_p50_ms"}:
        output = 1.0
    if prompt is None or output is None:
        raise RowError("prompt_tokens or output_tokens is missing")
    model = model_named(text["model"], folder)
    for name, ways in (("tp", tp), ("prefill_tp", 1 if prefill is None else prefill.tp)):
        if ways and model.query_heads % ways:
            raise RowError(f"{name} = {ways}: expected a divisor of the {model.query_heads} heads of {model.id}")
    named, version_named = [*re.split(r" |==", text["engine"], maxsplit=1), ""][:2]
    program = _program(named.lower(), chip)
    weights, compute = _matmuls(text["weights"] or dtype_of(text["model"]) or "", model, chip, program)
    return Measurement(
        number=number,
        model=model,
        chip=chip,
        engine=program,
        engine_version=re.sub(r"^v(?=\d)", "", text["engine_version"] or _version(version_named)),
        harness=text["harness"] or (AT_A_RATE if rate is not None else ""),
        weights=weights,
        kv_cache=kv_cache,
        compute=compute,
        tp=tp,
        dp=dp,
        spreads_experts=(number_in(text, "ep") or 1) > 1,
        concurrency=concurrency,
        requests_per_s=rate,
        prompt_tokens=prompt,
        output_tokens=output,
        measured=measured,
        requests=requests,
        at_once=concurrency is None and rate is None,
        prompt_cv=prompt_cv,
        workers=int(number_in(text, "workers") or 1),
        prefill=prefill,
        longest_output=longest,
        draft=text["draft"],
        drafted=drafted,
        accepted=accepted,
        board=plain_name(text["chip"]) if plain_name(text["chip"]) in UNNAMED else "",
    )


def _version(named: str) -> str:
    """A version behind the name of an engine: `vllm 0.11.0`, `SGLang v0.5.5`; empty where it is none."""
    return named if re.match(r"v?\d+(\.\d+)+[\w.+-]*$", named) else ""


def _kv_cache(text: Mapping[str, str]) -> str:
    """The dtype of the KV cache. Raises RowError for an unknown one."""
    kv_cache = _KV_CACHES.get(text["kv_cache"].lower())
    if kv_cache is None:
        raise RowError(f"kv_cache = {text['kv_cache']}: expected one of {', '.join(filter(None, _KV_CACHES))}")
    return kv_cache


def _matmuls(given: str, model: ModelSpec, chip: Chip, program: str) -> tuple[str, str]:
    """What weights are stored in and compute in: as the program's newest version runs them on the chip.

    Weights of no name are those that the model is published in, which are what `fp4` means if they are mxfp4.
    Raises RowError for an unknown name.
    """
    own = "bf16" if model.native is None else str(model.native.dtype)
    name = given.lower().split(" ")[0] or own
    if name not in _DTYPES:
        raise RowError(f"weights = {given}: expected one of {', '.join(_DTYPES)}")
    stored = own if name == "fp4" and own == "mxfp4" else _DTYPES[name]
    support = load_engine(program).support_of(chip.id) if program in get_args(Program) else None
    if name in _ACTIVATIONS:
        wanted = [_ACTIVATIONS[name]]
    elif support is not None and stored in support.weights:
        wanted = [str(dtype) for dtype in support.weights[stored].compute]
    else:
        wanted = [stored] if stored in {"fp8", "int8", "nvfp4"} else []
    peaks = chip.flop_per_s.by_dtype()
    return stored, next((dtype for dtype in wanted if dtype in peaks), "bf16")


def _load(text: Mapping[str, str]) -> tuple[float | None, float | None, int]:
    """The requests under way and those that come in a second, neither where all come at once; and how many were sent.

    Raises RowError for a row that says nothing of them.
    """
    concurrency, requests = number_in(text, "concurrency"), number_in(text, "requests")
    if requests is not None and requests > MOST_REQUESTS:
        raise RowError(f"requests = {text['requests']}: expected at most {MOST_REQUESTS:,}, as all are replayed")
    unlimited = text["requests_per_s"].lower() == "inf"  # as many as the concurrency lets under way
    rate = None if unlimited else number_in(text, "requests_per_s")
    at_once = rate is None and requests is not None and (concurrency is None or concurrency >= requests)
    if concurrency is None and rate is None and not at_once:
        raise RowError("concurrency, requests_per_s and requests are missing")
    return None if at_once else concurrency, rate, int(requests or REQUESTS)


def _as_named(text: dict[str, str], row: Mapping[str, str | None]) -> dict[str, str]:
    """What columns say that hold two things, as weights and KV cache of a dtype, or `Qwen3-8B (bf16, tp 8)`.

    TensorRT-LLM's tables are of batches without a server, which say nothing of one, whatever the version.
    """
    both = _CHIP_AND_DTYPE.match(text["chip"])
    if both is not None and not text["weights"]:
        text = {**text, "chip": both["chip"], "weights": both["dtype"], "kv_cache": text["kv_cache"] or both["dtype"]}
    split = _TP_OF_MODEL.search(text["model"])
    if split is not None and not text["tp"] and not text["gpus"]:
        text = {**text, "tp": split[1]}
    if row.get("trtllm_version") and not text["engine"]:
        return {**text, "engine": "trtllm", "harness": text["harness"] or STATIC}
    return text


def _chips(text: Mapping[str, str]) -> tuple[int, int]:
    """The chips that share the attention of a sequence, 0 of a row on drafts that does not say, and their groups."""
    gpus, tp = number_in(text, "gpus"), number_in(text, "tp")
    unsaid = 0 if number_in(text, "drafted") else 1
    return int((gpus if tp is None and gpus is not None else tp) or unsaid), int(number_in(text, "dp") or 1)


def _figures(text: Mapping[str, str], chips: int) -> dict[str, float]:
    """What was measured. Raises RowError for nothing."""
    measured = {name: value for name in FIGURES if (value := number_in(text, name)) is not None and value > 0}
    for name, value in measured.items():
        if not SMALLEST_FIGURE <= value <= LARGEST_FIGURE:
            raise RowError(f"{name} = {text[name]}: expected a number from {SMALLEST_FIGURE:g} to {LARGEST_FIGURE:g}")
    each = number_in(text, "tokens_per_s_per_gpu")
    if each and "tokens_per_s" not in measured:
        measured["tokens_per_s"] = each * chips
    if not measured:
        raise RowError(f"nothing measured: expected {', '.join(FIGURES)}")
    return measured


def _lengths(text: Mapping[str, str]) -> tuple[float | None, float | None, float, float]:
    """Tokens of prompts and answers, by columns or by `lengths`; the spread of prompts, and the cap of answers."""
    prompt, output = number_in(text, "prompt_tokens"), number_in(text, "output_tokens")
    said = _LENGTHS.search(text["lengths"])
    if said is None:
        return prompt, output, 0.0, 0.0
    median, highest, answer, cap = (float(number.replace(",", "") or 0) for number in said.groups())
    if not 0 < median <= highest or not 0 < answer <= cap:
        raise RowError(f"lengths = {said[0]}: expected lengths above 0, a p99 and a cap of no less than the medians")
    variance = (log(highest / median) / _NORMAL_P99) ** 2
    output = output or answer
    return prompt or median, output, sqrt(expm1(variance)), max(cap, output)


def _prefill(text: Mapping[str, str]) -> PrefillPool | None:
    """The workers for prompts, if there are some. Raises RowError where the load is not a number of requests."""
    workers, tp, dp = (number_in(text, f"prefill_{name}") for name in ("workers", "tp", "dp"))
    if tp is None and workers is None:
        return None
    if not text["concurrency"]:
        raise RowError("concurrency is missing: prefill and decode workers are predicted for requests under way")
    return PrefillPool(int(workers or 1), int(tp or 1), int(dp or 1))


def _drafted(text: Mapping[str, str]) -> tuple[int, float]:
    """The tokens drafted ahead, and those that a step makes of them with its own. Raises RowError."""
    drafted, accepted = number_in(text, "drafted") or 0.0, number_in(text, "accepted")
    if drafted % 1 or drafted > MOST_DRAFTED:
        raise RowError(f"steps = {drafted:g}: expected a whole number, up to {MOST_DRAFTED}")
    if not drafted:
        return 0, 1.0
    if accepted is None:
        raise RowError("accept_length is missing: how many tokens a step makes is not predicted")
    if not 1 <= accepted <= drafted + 1:
        raise RowError(f"accept_length = {accepted:g}: expected 1 to {drafted + 1:g}, the tokens drafted and one more")
    return int(drafted), accepted


def _of_drafting(measured: Mapping[str, float]) -> dict[str, float]:
    """What is predicted of tokens drafted ahead: the speed-up against none. Raises RowError where it is not there."""
    if "speedup" not in measured:
        raise RowError("speedup is missing: tokens drafted ahead are predicted against none")
    return {"speedup": measured["speedup"]}


def _program(engine: str, chip: Chip) -> str:
    """The program that an engine is on a chip: vLLM on TPUs is one of its own, and others have the defaults.

    Raises RowError for a name that is nearly one that is known.
    """
    known = get_args(Program)
    if engine not in known and (near := get_close_matches(engine, known, n=1, cutoff=0.8)):
        raise RowError(f"engine = {engine}: did you mean {near[0]}?")
    if engine in {"tensorrt-llm", "tensorrtllm", "tensorrt_llm", "trt-llm"}:
        return "trtllm"
    return "vllm-tpu" if engine == "vllm" and chip.vendor == "Google" else engine
