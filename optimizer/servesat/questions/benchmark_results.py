"""What benchmarks measured of a plan, by vllm bench serve, sglang.bench_serving, aiperf, GuideLLM or inference-perf."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from servesat.candidates.replicas import replica_of
from servesat.catalogue.load import model_ids
from servesat.catalogue.measured_names import RowError, dtype_of, model_named
from servesat.catalogue.measurements import LARGEST_FIGURE, Measurement
from servesat.catalogue.model import ModelSpec
from servesat.core.errors import ServesatError
from servesat.core.plan import Plan
from servesat.core.reading import read_json_lines
from servesat.core.tolerances import round_down
from servesat.core.validation import shorten
from servesat.cost_model.decode import replica_kv_bytes
from servesat.questions.measured_rows import PlannedMeasurement
from servesat.replay.replayed import room_of
from servesat.spec.spec import Spec

MAX_RESULT_BYTES = 200_000_000
"""A detailed result lists every token of every request."""

MOST_FAILED = 0.05
"""The share of requests that may have failed where the means of the others are fitted."""

_COUNTS = (
    ("failed", "completed"), ("error_request_count.avg", "request_count.avg"), ("failures.count", "successes.count"),
)  # fmt: skip
"""The requests that failed, and those that did not, as vLLM, aiperf and inference-perf count them."""

_SERVED = (
    "model_id",
    "server_info.model_path",
    "input_config.endpoint.model_names",
    "args.model",
    "config.backend.model",
)
"""Where vLLM, SGLang, aiperf and GuideLLM say what was served."""

TOOLS = "vllm bench serve, sglang.bench_serving, aiperf, genai-perf, GuideLLM or inference-perf"

_MS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3, "ns": 1e-6, "milliseconds": 1.0}
"""Milliseconds in the units of aiperf."""


@dataclass(frozen=True, kw_only=True)
class Means:
    """What one run measured: requests under way, tokens of a request, and mean times [ms]."""

    concurrency: float
    prompt_tokens: float
    output_tokens: float
    tpot_ms: float
    ttft_ms: float | None


@dataclass(frozen=True)
class _Document:
    """A JSON document, and the file that it is in."""

    path: Path
    data: Any

    def find(self, *keys: str) -> Any:
        """What stands at some keys; None also where one on the way holds no others."""
        found = self.data
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def at(self, *keys: str) -> Any:
        """What stands at some keys, or None. Raises ServesatError where one on the way holds no others."""
        for depth in range(1, len(keys)):
            if (outer := self.find(*keys[:depth])) is not None and not isinstance(outer, Mapping):
                raise ServesatError(f"{self.path}: {'.'.join(keys[:depth])} = {shorten(outer)}: expected an object")
        return self.find(*keys)

    def number(self, *keys: str) -> float:
        """The number at some keys. Raises ServesatError for none above 0."""
        value, name = self.at(*keys), ".".join(keys)
        if value is None:
            raise ServesatError(f"{self.path}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST_FIGURE:
            raise ServesatError(
                f"{self.path}: {name} = {shorten(value)}: expected a number greater than 0, up to {LARGEST_FIGURE:g}"
            )
        return float(value)


_NOT_CALIBRATED: tuple[tuple[Callable[[Plan], bool], str, str], ...] = (
    (lambda plan: plan.prefill is not None, "a prefill pool", "a plan of one pool"),
    (lambda plan: plan.pp > 1, "pipeline stages", "a plan without them (search.pp: [1])"),
    (lambda plan: plan.draft is not None, "a draft", "a plan without one (speculative: none)"),
)
"""What a plan may have that rows of measurements do not say, in words, and what to do without it."""


def read_results(path: Path, spec: Spec, plan: Plan) -> tuple[list[PlannedMeasurement], dict[int, str]]:
    """The runs of a result file, of all servers of a plan, and why some of them say nothing, by number.

    The model, chips, dtypes and engine are the plan's; lengths are means of the requests that were completed, and each
    replica has its part of those under way. Raises ServesatError for the file of no known tool, and where no run says
    anything.
    """
    for found, what, how in _NOT_CALIBRATED:
        if found(plan):
            raise ServesatError(f"{path}: the plan has {what}: calibrate with {how}")
    for name, given in (("prefixes that are cached", spec.workload.cached_share), ("adapters", spec.lora)):
        if given:
            raise ServesatError(f"{path}: the spec has {name}, of which a result says nothing: leave them out")
    documents = read_json_lines(path, ServesatError, max_bytes=MAX_RESULT_BYTES, infinite=True)
    results = [_runs(_Document(path, data), spec, plan) for data in documents]
    return _rows(path, results[0] if len(results) == 1 else _of_lines(results), spec, plan)


def _runs(result: _Document, spec: Spec, plan: Plan) -> Iterator[Means | ServesatError]:
    """The runs of one document. Raises ServesatError for that of no known tool, or of another deployment."""
    for of_tool, read in _READERS:
        if of_tool(result):
            _check_requests(result, spec, plan.weights)
            yield from read(result)
            return
    raise ServesatError(f"{result.path}: expected a result of {TOOLS}, with mean times per token")


def _of_lines(results: Iterable[Iterator[Means | ServesatError]]) -> Iterator[Means | ServesatError]:
    """The runs of results that were appended to one file, and what is wrong with those that say nothing."""
    for runs in results:
        try:
            yield from runs
        except ServesatError as fault:
            yield fault


def _rows(
    path: Path, runs: Iterator[Means | ServesatError], spec: Spec, plan: Plan
) -> tuple[list[PlannedMeasurement], dict[int, str]]:
    rows, left_out = [], {}
    for number, run in enumerate(runs, start=1):
        try:
            if isinstance(run, ServesatError):
                raise RowError(str(run).removeprefix(f"{path}: "))
            rows.append(_row(run, spec, plan, number))
        except RowError as fault:
            left_out[number] = str(fault)
    if not rows:
        number, reason = next(iter(left_out.items()), (0, "expected a run, with its mean times"))
        raise ServesatError(f"{path}: run {number}: {reason}" if number else f"{path}: {reason}")
    return rows, left_out


def _check_requests(result: _Document, spec: Spec, weights: str) -> None:
    """Raise ServesatError for a result of another model, or narrower weights, or of requests of which many failed.

    Weights of 16 bits may have been quantised as they were loaded.
    """
    for key in _SERVED:
        served = result.find(*key.split("."))
        for name in served if isinstance(served, list) else [] if served is None else [served]:
            if not isinstance(name, str):
                raise ServesatError(f"{result.path}: {key} = {shorten(served)}: expected the name of a model")
            if _is_another(name, spec.model):
                raise ServesatError(f"{result.path}: {key} = {name}: expected {spec.model.id}, the model of the spec")
            if dtype_of(name) not in {None, weights}:
                raise ServesatError(f"{result.path}: {key} = {name}: expected weights in {weights}, as the plan has")
    for bad, good in _COUNTS:
        _check_failures(result, bad, good)


def _is_another(served: str, model: ModelSpec) -> bool:
    """Whether a name is surely that of another model: one that the catalogue does not know may be of any."""
    if model.id not in model_ids() or served.lower() in {one.lower() for one in model.checkpoints.values()}:
        return False
    try:
        return model_named(served).id != model.id
    except RowError:
        return False


def _check_failures(result: _Document, bad: str, good: str) -> None:
    """Raise ServesatError where many of the requests failed, or a count of them is none."""
    failed, completed, sent = (result.at(*key.split(".")) for key in (bad, good, "num_prompts"))
    if not completed or (failed is None and sent is None):
        return
    for name, count in ((bad, failed), (good, completed), ("num_prompts", sent)):
        is_count = isinstance(count, int | float) and not isinstance(count, bool) and 0 <= count < inf
        if count is not None and not is_count:
            raise ServesatError(f"{result.path}: {name} = {shorten(count)}: expected a number of at least 0")
    bad, failed = ("num_prompts - completed", sent - completed) if failed is None else (bad, failed)
    if failed > MOST_FAILED * (failed + completed):
        raise ServesatError(
            f"{result.path}: {bad} = {failed:,g} of {failed + completed:,g} requests: expected at most "
            f"{MOST_FAILED:.0%}, as the means are of the others"
        )


def _row(one: Means, spec: Spec, plan: Plan, number: int) -> PlannedMeasurement:
    """A run as a measurement. Raises RowError for one that says nothing of the plan."""
    engine, replicas = spec.engine_of(plan.engine or ""), plan.slices * plan.replicas
    if one.concurrency < replicas:
        raise RowError(
            f"{one.concurrency:g} requests under way on the {replicas} replicas of the plan: "
            "expected at least one each; give a spec whose plan is as large as what was measured"
        )
    if one.concurrency > (admitted := plan.batch * replicas):
        raise RowError(
            f"{one.concurrency:g} requests under way: expected at most {admitted:,}, which the plan's flags admit, as "
            "others queue; give a spec whose plan admits as many as the server did"
        )
    if one.output_tokens <= 1:
        raise RowError(
            f"{one.output_tokens:g} output tokens a request: expected more than 1, as the first has no time per token"
        )
    chip = next(chip for chip in spec.chips if chip.id == plan.chip)
    row = Measurement(
        number=number,
        model=spec.model,
        chip=chip,
        engine=engine.program,
        engine_version=engine.version,
        harness="",
        weights=plan.weights,
        kv_cache=plan.kv_cache,
        compute=plan.compute,
        tp=plan.tp,
        dp=plan.ep,
        spreads_experts=plan.ep > 1,
        concurrency=one.concurrency / replicas,
        requests_per_s=None,
        prompt_tokens=one.prompt_tokens,
        output_tokens=one.output_tokens,
        measured={"tpot_ms": one.tpot_ms} | ({} if one.ttft_ms is None else {"ttft_ms": one.ttft_ms}),
    )
    replica, held = replica_of(spec, chip, plan), spec.workload.held_tokens
    planned, measured = (
        replica_kv_bytes(spec.model, tokens, replica) for tokens in (held, one.prompt_tokens + one.output_tokens)
    )
    room = float(round_down(room_of(spec, plan) / held * float(planned / measured)))
    return PlannedMeasurement(**vars(row), replica=replica, room=room)


def _of_vllm(result: _Document) -> Iterator[Means]:
    """`vllm bench serve --save-result`, plain or detailed, and `sglang.bench_serving`, which has its keys.

    At a rate the requests under way are those of Little's law.
    """
    completed, output_tokens = result.number("completed"), result.number("total_output_tokens")
    rate, cap = result.at("request_rate"), result.at("max_concurrency")
    concurrency = completed if cap is None else min(result.number("max_concurrency"), completed)
    if rate not in (None, "inf", inf):
        result.number("request_rate")
        decoding_ms = (output_tokens / completed - 1) * result.number("mean_tpot_ms")
        request_s = (result.number("mean_ttft_ms") + decoding_ms) / 1e3
        concurrency = min(concurrency, max(1.0, completed / result.number("duration") * request_s))
    elif cap is None:
        raise ServesatError(
            f"{result.path}: max_concurrency is missing: run the benchmark with --max-concurrency or --request-rate"
        )
    elif completed <= result.number("max_concurrency"):
        raise ServesatError(
            f"{result.path}: completed = {completed:g} with max_concurrency = {cap}: all requests came at once; run "
            "the benchmark with several times as many, --num-prompts"
        )
    yield Means(
        concurrency=concurrency,
        prompt_tokens=result.number("total_input_tokens") / completed,
        output_tokens=output_tokens / completed,
        tpot_ms=result.number("mean_tpot_ms"),
        ttft_ms=None if result.at("mean_ttft_ms") is None else result.number("mean_ttft_ms"),
    )


def _of_aiperf(result: _Document) -> Iterator[Means]:
    """`profile_export_aiperf.json`, and genai-perf's: metrics with a unit; what was asked for in `input_config`.

    At a rate the requests under way are those of Little's law, or the cap on them if that is less.
    """
    asked = result.at("input_config")
    cap, rate = _first_number(asked, "concurrency"), _first_number(asked, "request_rate")
    if cap is None and rate is None:
        raise ServesatError(
            f"{result.path}: input_config has no concurrency: run the benchmark with --concurrency or --request-rate"
        )

    def ms(metric: str) -> float:
        unit = result.at(metric, "unit")
        if not isinstance(unit, str) or unit not in _MS:
            raise ServesatError(f"{result.path}: {metric}.unit = {shorten(unit)}: expected one of {', '.join(_MS)}")
        return result.number(metric, "avg") * _MS[unit]

    ttft_ms = None if result.at("time_to_first_token") is None else ms("time_to_first_token")
    tpot_ms, output_tokens = ms("inter_token_latency"), result.number("output_sequence_length", "avg")
    request_s = ((ttft_ms or 0.0) + (output_tokens - 1) * tpot_ms) / 1e3
    served = rate if result.at("request_throughput", "avg") is None else result.number("request_throughput", "avg")
    sent = result.at("request_count", "avg")
    if rate is None and cap is not None and sent is not None and result.number("request_count", "avg") <= cap:
        raise ServesatError(
            f"{result.path}: request_count = {sent:g} with concurrency = {cap:g}: all requests came at once; run the "
            "benchmark with several times as many"
        )
    loads = ([] if cap is None else [cap]) + ([] if rate is None or served is None else [max(1.0, served * request_s)])
    yield Means(
        concurrency=min(loads),
        prompt_tokens=result.number("input_sequence_length", "avg"),
        output_tokens=output_tokens,
        tpot_ms=tpot_ms,
        ttft_ms=ttft_ms,
    )


def _first_number(found: Any, name: str) -> float | None:
    """The first number of a name, however deep it stands."""
    if not isinstance(found, Mapping):
        return None
    value = found.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    return next((deeper for one in found.values() if (deeper := _first_number(one, name)) is not None), None)


_GUIDELLM = (
    "request_concurrency",
    "prompt_token_count",
    "output_token_count",
    "inter_token_latency_ms",
    "time_to_first_token_ms",
)
"""What is read of a benchmark, in the order of `Means`."""


def _of_guidellm(result: _Document) -> Iterator[Means | ServesatError]:
    """A report of GuideLLM: one run for each of its benchmarks, by the requests that were successful."""
    for benchmark in result.data["benchmarks"]:
        one = _Document(result.path, benchmark)
        try:
            _check_failures(one, "metrics.request_totals.errored", "metrics.request_totals.successful")
            concurrency, prompt_tokens, output_tokens, tpot_ms, ttft_ms = (
                one.number("metrics", metric, "successful", "mean") for metric in _GUIDELLM
            )
            yield Means(
                concurrency=max(1.0, concurrency),
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
                tpot_ms=tpot_ms,
                ttft_ms=ttft_ms,
            )
        except ServesatError as fault:
            yield fault


def _of_inference_perf(result: _Document) -> Iterator[Means]:
    """A summary, or a stage, of inference-perf: seconds; the requests under way by Little's law."""
    latency = ("successes", "latency")
    times = "inter_token_latency" if result.at(*latency, "inter_token_latency") else "time_per_output_token"
    rate = result.number("successes", "throughput", "requests_per_sec")
    first = result.at(*latency, "time_to_first_token", "mean")
    yield Means(
        concurrency=max(1.0, rate * result.number(*latency, "request_latency", "mean")),
        prompt_tokens=result.number("successes", "prompt_len", "mean"),
        output_tokens=result.number("successes", "output_len", "mean"),
        tpot_ms=1e3 * result.number(*latency, times, "mean"),
        ttft_ms=None if first is None else 1e3 * result.number(*latency, "time_to_first_token", "mean"),
    )


def _has(*keys: str) -> Callable[[_Document], bool]:
    return lambda document: all(document.find(*key.split(".")) is not None for key in keys)


_READERS: tuple[tuple[Callable[[_Document], bool], Callable[[_Document], Iterator[Means | ServesatError]]], ...] = (
    (_has("mean_tpot_ms"), _of_vllm),
    (_has("inter_token_latency.avg", "input_sequence_length.avg"), _of_aiperf),
    (lambda document: isinstance(document.find("benchmarks"), list), _of_guidellm),
    (_has("successes.latency"), _of_inference_perf),
)
"""How the results of each tool are told, and read."""
