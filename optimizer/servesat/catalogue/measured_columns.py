"""The columns of measured deployments: the names that benchmarks give them, and the numbers in them."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path

from servesat.catalogue.measured_names import RowError
from servesat.core.errors import CatalogueError
from servesat.core.reading import opened_text, table_rows

COLUMNS: dict[str, tuple[str, ...]] = {
    "model": ("model",),
    "chip": ("chip", "hardware", "gpu_and_dtype"),
    "engine": ("engine",),
    "engine_version": ("engine_version",),
    "harness": ("harness",),
    "weights": ("weights", "precision", "dtype"),
    "kv_cache": ("kv_cache", "kv"),
    "tp": ("tp", "decode_tp"),
    "pp": ("pp", "decode_pp"),
    "ep": ("ep", "decode_ep"),
    "dp": ("dp", "decode_dp"),
    "workers": ("decode_workers",),
    "prefill_workers": ("prefill_workers",),
    "prefill_tp": ("prefill_tp",),
    "prefill_dp": ("prefill_dp",),
    "prefill_pp": ("prefill_pp",),
    "gpus": ("gpus",),
    "concurrency": ("concurrency", "max_concurrency", "batch"),
    "requests_per_s": ("requests_per_s", "request_rate", "rps"),
    "prompt_tokens": ("prompt_tokens", "isl"),
    "output_tokens": ("output_tokens", "osl"),
    "ttft_ms": ("ttft_ms", "ttft_mean_ms", "first_token_latency_ms"),
    "tpot_ms": ("tpot_ms", "tpot_mean_ms", "itl_ms"),
    "requests": ("requests", "num_prompts"),
    "lengths": ("lengths",),
    "ttft_p50_ms": ("ttft_p50_ms",),
    "ttft_p90_ms": ("ttft_p90_ms",),
    "ttft_p99_ms": ("ttft_p99_ms",),
    "tpot_p50_ms": ("tpot_p50_ms",),
    "tpot_p90_ms": ("tpot_p90_ms",),
    "tpot_p99_ms": ("tpot_p99_ms",),
    "e2e_ms": ("e2e_ms", "e2e_mean_ms", "e2el_ms", "e2el_mean_ms", "mean_e2el_ms"),
    "e2e_p50_ms": ("e2e_p50_ms", "e2el_p50_ms"),
    "e2e_p90_ms": ("e2e_p90_ms", "e2el_p90_ms"),
    "e2e_p99_ms": ("e2e_p99_ms", "e2el_p99_ms"),
    "speedup": ("speedup",),
    "draft": ("draft",),
    "drafted": ("steps", "draft_steps"),
    "accepted": ("accept_length", "accepted"),
    "tokens_per_s": ("tokens_per_s", "out_tok_s", "out_tok_s_total", "output_tok_s", "tps_output"),
    "tokens_per_s_per_gpu": ("out_tok_s_per_gpu", "out_tok_s_gpu"),
}
"""The columns that are read, by the names that benchmarks give them; all others are left alone."""

MAX_TABLE_BYTES = 100_000_000
"""Bytes of a table of measurements."""

MOST_CHIPS = 4096

NEARLY = 0.85
"""How alike a name has to be to be taken for a misspelt one."""

_DIGITS = re.compile(r"\d")

_COUNTS = {"tp", "pp", "ep", "dp", "workers", "prefill_workers", "prefill_tp", "prefill_dp", "prefill_pp"}
_POSITIVE = {"concurrency", "requests_per_s", "prompt_tokens", "output_tokens", "requests"}

_THOUSANDS = re.compile(r"^\d{1,3}(,\d{3})+(\.\d+)?$")


def misnamed_columns(path: Path) -> tuple[str, ...]:
    """The columns of a CSV file that are not read, and whose names are nearly those of others that it lacks."""
    with opened_text(path, CatalogueError, MAX_TABLE_BYTES) as file:
        header, _ = table_rows(file, path, CatalogueError)
    known = {name for names in COLUMNS.values() for name in names}
    near = {column: get_close_matches(column, known, 1, NEARLY) for column in header if column not in known}
    return tuple(
        f"{column} is not read; did you mean {match}?"
        for column, found in near.items()
        for match in found
        if match not in header and _DIGITS.sub("", match) != _DIGITS.sub("", column)  # as of p95 beside p90
    )


def columns_of(row: Mapping[str, str | None]) -> dict[str, str]:
    """The cells of a row by our names of the columns; empty where it has none."""
    return {name: _first(row, columns) for name, columns in COLUMNS.items()}


def _first(row: Mapping[str, str | None], columns: tuple[str, ...]) -> str:
    return next((value.strip() for column in columns if (value := row.get(column))), "")


def number_in(text: Mapping[str, str], name: str) -> float | None:
    """The number of a column; None for an empty cell. Raises RowError."""
    if not text[name]:
        return None
    plain = text[name].replace(",", "") if _THOUSANDS.match(text[name]) else text[name]
    try:
        value = float(plain)
    except ValueError:
        raise RowError(f"{name} = {text[name]}: expected a number") from None
    if not isfinite(value) or value < 0:
        raise RowError(f"{name} = {text[name]}: expected a number of at least 0")
    if name in _COUNTS and (value < 1 or value > MOST_CHIPS or value % 1):
        raise RowError(f"{name} = {text[name]}: expected a whole number from 1 to {MOST_CHIPS:,}")
    if name in _POSITIVE and not value:
        raise RowError(f"{name} = {text[name]}: expected a number greater than 0")
    return value
