"""What benchmarks measured of a plan: the result files of `vllm bench serve`, as measurements."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from servesat.catalogue.measurements import Measurement
from servesat.core.errors import ServesatError
from servesat.core.plan import Plan
from servesat.core.reading import read_json
from servesat.core.validation import shorten
from servesat.spec.spec import Spec

NEEDED = ("completed", "total_input_tokens", "total_output_tokens", "mean_tpot_ms")
"""What a result must have."""

MAX_RESULT_BYTES = 200_000_000
"""A detailed result lists every token of every request."""


def read_result(path: Path, spec: Spec, plan: Plan, number: int) -> Measurement:
    """A file of `vllm bench serve --save-result`, of a server of a plan. Raises ServesatError for any other file.

    The model, chips, dtypes and engine are the plan's; lengths are means of the requests that were completed.
    """
    result = read_json(path, ServesatError, max_bytes=MAX_RESULT_BYTES, infinite=True)
    if not isinstance(result, Mapping) or not set(NEEDED) <= set(result):
        raise ServesatError(f"{path}: expected a result of vllm bench serve, with {', '.join(NEEDED)}")
    completed = _number(path, result, "completed")
    if completed < 1:
        raise ServesatError(f"{path}: completed = {shorten(result['completed'])}: no request was answered")
    concurrency = result.get("max_concurrency")
    if concurrency is None:
        raise ServesatError(f"{path}: max_concurrency is missing: run the benchmark with --max-concurrency")
    engine = spec.engine_of(plan.engine or "")
    measured = {"tpot_ms": _number(path, result, "mean_tpot_ms")}
    if "mean_ttft_ms" in result:
        measured["ttft_ms"] = _number(path, result, "mean_ttft_ms")
    return Measurement(
        number=number,
        model=spec.model,
        chip=next(chip for chip in spec.chips if chip.id == plan.chip),
        engine=engine.program,
        engine_version=engine.version,
        harness="",
        weights=plan.weights,
        kv_cache=plan.kv_cache,
        compute=plan.compute,
        tp=plan.tp,
        dp=plan.ep,
        spreads_experts=plan.ep > 1,
        concurrency=min(_number(path, result, "max_concurrency"), completed),
        requests_per_s=None,
        prompt_tokens=_number(path, result, "total_input_tokens") / completed,
        output_tokens=_number(path, result, "total_output_tokens") / completed,
        measured=measured,
    )


def _number(path: Path, result: Mapping[str, Any], key: str) -> float:
    value = result[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise ServesatError(f"{path}: {key} = {shorten(value)}: expected a number greater than 0")
    return float(value)
