"""Recorded traces of requests: Azure's, Mooncake's, BurstGPT's, those of `vllm bench serve`, and plain tables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from servesat.core.arrays import Floats, Ints
from servesat.core.errors import CatalogueError
from servesat.core.reading import opened_text, table_rows
from servesat.core.validation import shorten

MAX_TRACE_BYTES = 500_000_000
MAX_REQUESTS = 5_000_000
MAX_TOKENS = 10**8
"""The most tokens of a prompt or an answer that are believed."""

COLUMNS: dict[str, tuple[str, ...]] = {
    "time": ("time", "timestamp", "arrival_s", "arrived_at", "start_time"),
    "prompt_tokens": ("prompt_tokens", "contexttokens", "input_length", "request tokens", "num_prefill_tokens"),
    "output_tokens": ("output_tokens", "generatedtokens", "output_length", "response tokens", "num_decode_tokens"),
    "prefix_ids": ("prefix_ids", "prefix ids", "hash_ids"),
}
"""The columns that are read, by the names that the formats give them, in lower case."""

MOONCAKE = {"timestamp", "input_length", "output_length"}
"""The columns of Mooncake's traces, whose times are numbers of milliseconds."""

BENCHMARK = ("start_times", "input_lens", "output_lens")
"""The lists of `vllm bench serve --save-detailed`."""

LONGEST_S = 1e12
"""The most seconds that a time is believed to be: thirty thousand years."""

_FRACTION = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True)
class Trace:
    """Requests in the order of their arrival, from 0 on; arrays of shape [requests].

    `blocks` are the ids of the blocks of each prompt, where the trace has them: prompts that begin alike share them.
    """

    name: str
    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    blocks: tuple[tuple[int, ...], ...] | None = None

    @property
    def requests_per_s(self) -> float | None:
        """The mean rate; None of requests that all come at once."""
        span = float(self.arrival_s[-1] - self.arrival_s[0])
        return (len(self.arrival_s) - 1) / span if span > 0 else None

    @property
    def mean_lengths(self) -> dict[str, int]:
        """The mean `prompt_tokens` and `output_tokens`, to the nearest token, at least one each."""
        means = {"prompt_tokens": self.prompt_tokens.mean(), "output_tokens": self.output_tokens.mean()}
        return {name: max(1, round(float(tokens))) for name, tokens in means.items()}


class _RowError(Exception):
    """What is wrong with a row."""


def read_trace(path: Path) -> Trace:
    """Read a trace: CSV with a header, JSON lines, or the detailed JSON of `vllm bench serve`.

    Times are dates, or seconds; of Mooncake milliseconds. Raises CatalogueError, naming the line, for times that run
    back, missing columns, and lengths that are none. A file that has not changed is read once.
    """
    try:
        state = path.stat()
    except OSError:
        return _read(path, 0, 0)
    return _read(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _changed_ns: int, _bytes: int) -> Trace:
    with opened_text(path, CatalogueError, MAX_TRACE_BYTES) as file:
        start = file.read(1)
        file.seek(0)
        if start == "{":
            first = file.readline()
            rest = file.read() if not _is_json(first) else ""
            if rest or '"input_lens"' in first:
                return _trace(path, _of_benchmark(path, first + rest))
            file.seek(0)
            return _trace(path, _of_lines(path, file))
        header, rows = table_rows(file, path, CatalogueError)
        if not header:
            raise CatalogueError(f"{path}: is empty: expected a header and requests")
        return _trace(path, rows)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _of_lines(path: Path, file: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise CatalogueError(f"{path}: line {number}: {shorten(line.strip())}: expected a JSON object")
        yield number, row


def _of_benchmark(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The requests of `vllm bench serve --save-detailed`, by the times at which they started."""
    try:
        document = json.loads(text)
        lists = [document[key] for key in BENCHMARK]
    except (ValueError, KeyError, TypeError) as fault:
        expected = "JSON lines, or start_times, input_lens and output_lens as of --save-detailed"
        raise CatalogueError(f"{path}: expected {expected}: {fault}") from None
    for key, one in zip(BENCHMARK, lists, strict=True):
        if not isinstance(one, list):
            raise CatalogueError(f"{path}: {key} = {shorten(one)}: expected a list")
    counts = [len(one) for one in lists]
    if len(set(counts)) > 1:
        said = ", ".join(f"{count:,} {key}" for count, key in zip(counts, BENCHMARK, strict=True))
        raise CatalogueError(f"{path}: {said}: expected as many of each")
    starts = []
    for at, start in enumerate(lists[0]):
        if isinstance(start, bool) or not isinstance(start, int | float):
            raise CatalogueError(f"{path}: start_times.{at} = {shorten(start)}: expected seconds")
        starts.append(float(start))
    for at in sorted(range(counts[0]), key=starts.__getitem__):
        yield at + 1, {"time": lists[0][at], "prompt_tokens": lists[1][at], "output_tokens": lists[2][at]}


def _trace(path: Path, rows: Iterator[tuple[int, Mapping[str, Any]]]) -> Trace:
    times: list[float] = []
    prompts, outputs, blocks = [], [], []
    first_row: Mapping[str, Any] | None = None
    are_dates: bool | None = None
    for number, raw in rows:
        row = {str(key).strip().lower(): value for key, value in raw.items() if key is not None}
        if len(row) < len(raw):
            raise CatalogueError(f"{path}: columns whose names differ in their case alone: {', '.join(map(str, raw))}")
        if first_row is None:
            first_row = row
            _check_columns(path, row)
        try:
            time, is_date = _time(_first(row, "time"))
            if is_date != (are_dates := is_date if are_dates is None else are_dates):
                of_others = "a date among numbers" if is_date else "a number among dates"
                raise _RowError(f"time = {shorten(_first(row, 'time'))}: {of_others}")
            if times and time < times[-1]:
                raise _RowError(f"time = {_first(row, 'time')} is before that of the request above")
            prompts.append(_tokens(row, "prompt_tokens"))
            outputs.append(_tokens(row, "output_tokens"))
            if (found := _first(row, "prefix_ids")) is not None:
                blocks.append(_ids(found))
        except _RowError as fault:
            raise CatalogueError(f"{path}: line {number}: {fault}") from None
        times.append(time)
        if len(times) > MAX_REQUESTS:
            raise CatalogueError(f"{path}: more than {MAX_REQUESTS:,} requests: cut the trace")
    if not times or first_row is None:
        raise CatalogueError(f"{path}: has no requests")
    in_ms = not are_dates and set(first_row) >= MOONCAKE
    arrival_s = (np.array(times) - times[0]) / (1000.0 if in_ms else 1.0)
    every = tuple(blocks) if len(blocks) == len(times) else None
    return Trace(path.name, arrival_s, np.array(prompts), np.array(outputs), every)


def _check_columns(path: Path, row: Mapping[str, Any]) -> None:
    missing = [name for name in ("time", "prompt_tokens", "output_tokens") if not set(COLUMNS[name]) & set(row)]
    if missing:
        names = ", ".join(map(repr, list(row)[:8])) or "none"
        expected = "time, prompt_tokens, output_tokens, or those of Azure, Mooncake, BurstGPT or vllm bench"
        raise CatalogueError(f"{path}: no column for {' and '.join(missing)} among {names}: expected {expected}")


def _no_truth(value: Any) -> Any:
    """A value that is read as a number. Raises ValueError for a truth value, which Python takes for one."""
    if isinstance(value, bool):
        raise ValueError(value)
    return value


def _first(row: Mapping[str, Any], name: str) -> Any:
    return next((row[key] for key in COLUMNS[name] if row.get(key) is not None), None)


def _time(value: Any) -> tuple[float, bool]:
    """A number, or the seconds of a date since 1970, without a time zone in UTC; and whether it is a date."""
    is_date = False
    try:
        seconds = float(_no_truth(value))
    except (TypeError, ValueError):
        try:
            date = datetime.fromisoformat(_FRACTION.sub(r"\1", str(value).strip()))
        except ValueError:
            raise _RowError(f"time = {shorten(value)}: expected seconds, or a date and a time") from None
        is_date = True
        seconds = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
    if not abs(seconds) <= LONGEST_S:
        raise _RowError(f"time = {shorten(value)}: expected a finite number of at most {LONGEST_S:g}")
    return seconds, is_date


def _tokens(row: Mapping[str, Any], name: str) -> int:
    value = _first(row, name)
    column = next((key for key in COLUMNS[name] if row.get(key) is not None), name)
    try:
        tokens = float(_no_truth(value))
    except (TypeError, ValueError):
        raise _RowError(f"{column} = {shorten(value)}: expected a whole number of tokens") from None
    if not tokens.is_integer() or not 1 <= tokens <= MAX_TOKENS:
        failed = "; leave out the requests that failed" if tokens == 0 and name == "output_tokens" else ""
        raise _RowError(f"{column} = {shorten(value)}: expected a whole number from 1 to {MAX_TOKENS:,}{failed}")
    return int(tokens)


def _ids(value: Any) -> tuple[int, ...]:
    listed = value if isinstance(value, list) else re.split(r"[\s,;|]+", str(value).strip(" []"))
    try:
        return tuple(int(_no_truth(one)) for one in listed if one != "")
    except (TypeError, ValueError):
        raise _RowError(f"prefix_ids = {shorten(value)}: expected whole numbers") from None
