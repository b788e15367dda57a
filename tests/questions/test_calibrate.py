"""Calibration: constants that made measurements are found again, and those that say nothing stay as known."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from servesat import ServesatError, Spec
from servesat.catalogue.calibration import Calibration
from servesat.catalogue.load import load_calibration, load_chip, load_model
from servesat.catalogue.measurements import Measurement, PrefillPool
from servesat.cost_model.calibrated import Constants, closed_loop_s
from servesat.deployment.solve import solve
from servesat.questions.benchmark_results import read_results
from servesat.questions.calibrate import calibration_text, fit, left_out_errors
from servesat.questions.measured_rows import PlannedMeasurement, replica_of_row, sequences_in_memory, work_of_row
from servesat.questions.observations import Arriving, observed, unusable
from servesat.questions.open_loop import open_loop_figures

KNOWN = load_calibration().model_copy(update={"chips": {}, "stacks": (), "dtypes": {}})
"""The defaults alone, which no fit moves."""
TRUE = Constants(0.6, 0.5, 0.4, 0.3, 8e-6, 20e-6, 1.0, 4e-3, 6e-5, 0.05, 0.5, 2e-3, 2e-6)


def row(concurrency: float, tp: int = 2, prompt: int = 2000, **keys: Any) -> Measurement:
    return Measurement(
        **{
            "number": 1, "model": load_model("qwen3-32b"), "chip": load_chip("h100-sxm"), "engine": "vllm",
            "engine_version": "0.32", "harness": "", "weights": "fp8", "kv_cache": "fp8", "compute": "fp8", "tp": tp,
            "dp": 1, "spreads_experts": False, "concurrency": concurrency, "requests_per_s": None,
            "prompt_tokens": prompt, "output_tokens": 500, "measured": {"tpot_ms": 10.0, "ttft_ms": 100.0},
        } | keys
    )  # fmt: skip


def measured() -> list[Measurement]:
    """What a machine with the true constants would measure."""
    rows = [row(c, tp, p) for c in (1, 4, 16, 64, 128) for tp in (1, 2, 4) for p in (200, 2000, 8000)]
    seen = observed(rows)
    ttft, tpot = closed_loop_s(seen.work, TRUE, seen.batch, seen.output_tokens)
    return [
        replace(one, measured={"ttft_ms": first * 1e3, "tpot_ms": each * 1e3})
        for one, first, each in zip(rows, ttft, tpot, strict=True)
    ]


def test_constants_are_found_under_which_the_measurements_were_made() -> None:
    seen = observed(measured())
    found = fit(seen, KNOWN)
    ttft, tpot = found.errors(seen)
    assert tpot.mean() < 0.02  # the priors pull a little: measurements are not taken to be better than 8 %
    assert ttft.mean() < 0.05
    chips, _, dtypes, _ = found.parameters.split(found.vector)  # others trade off: a slow launch against slow memory
    assert chips["h100-sxm"]["flops"] * dtypes["fp8"] == pytest.approx(TRUE.flops, rel=0.1)
    before, _ = fit(observed(measured()[:1]), KNOWN).errors(seen)
    assert ttft.mean() < before.mean() / 4


def test_what_is_not_identified_stays_as_known_and_is_said() -> None:
    one = observed([row(1.0, tp=1)])
    found = fit(one, KNOWN)
    assert {"h100-sxm.link", "h100-sxm.collective_s"} <= set(found.unidentified)  # a chip alone sends nothing
    chips, _, _, _ = found.parameters.split(found.vector)
    assert chips["h100-sxm"]["link"] == pytest.approx(KNOWN.default_chip.link, rel=1e-3)
    assert "near what was known: " in calibration_text(one, found, name="mine", files=["a.json"])


def test_chips_that_differ_in_memory_alone_are_alike_where_rows_leave_it_open() -> None:
    """A lone H200 says nothing of NVLink, which is that of the H100 beside it; an L40S stays as known."""
    lone = [replace(row(1.0, tp=1), chip=load_chip(chip)) for chip in ("h200", "l40s")]
    chips, _, _, _ = (found := fit(observed([*measured(), *lone]), KNOWN)).parameters.split(found.vector)
    assert chips["h100-sxm"]["link"] < 0.8 * KNOWN.default_chip.link
    assert chips["h200"]["link"] == pytest.approx(chips["h100-sxm"]["link"], rel=0.05)
    assert chips["l40s"]["link"] == pytest.approx(KNOWN.default_chip.link, rel=1e-3)
    assert "h200.link" in found.unidentified  # no row of it sends anything
    apart = KNOWN.model_copy(update={"chips": {
        chip: KNOWN.default_chip.model_copy(update={"link": link}) for chip, link in (("h100-sxm", 0.3), ("h200", 0.8))
    }})  # fmt: skip
    of_known = fit(observed([lone[0], row(1.0, tp=1)]), apart)
    stayed, _, _, _ = of_known.parameters.split(of_known.vector)
    assert (stayed["h100-sxm"]["link"], stayed["h200"]["link"]) == pytest.approx((0.3, 0.8), rel=1e-3)


def test_a_file_left_out_is_predicted_by_the_others() -> None:
    rows = measured()
    ttft, tpot = left_out_errors([rows[:15], rows[15:30], rows[30:]], KNOWN)
    assert (len(ttft), len(tpot)) == (45, 45)
    assert tpot.mean() < 0.05


def arriving(host_launch_s: float) -> Arriving:
    """What a machine as known, but with a host so slow, would measure of a few requests at two rates."""
    known = Constants(*KNOWN.reach_of("h100-sxm", "fp8"), *KNOWN.default_stack.constants)
    constants = replace(known, host_launch_s=host_launch_s)
    at_rates = [
        {"concurrency": None, "requests_per_s": rate, "requests": 60, "output_tokens": 40} for rate in (1.0, 4.0)
    ]
    rows = [replace(row(1.0, tp=1), **keys) for keys in at_rates]
    return Arriving([
        replace(one, measured=open_loop_figures(
            one, replica_of_row(one), work_of_row(one), constants, sequences_in_memory(one), seeds=[0]
        ))
        for one in rows
    ])  # fmt: skip


def test_a_slow_host_is_found_in_what_arrives_at_a_rate() -> None:
    """64 layers launch 512 kernels a step: at 60 us each it waits 31 ms for its host, at 2 us for its memory."""
    slow = arriving(6e-5)
    found = fit(observed([]), KNOWN, slow)
    _, stacks, _, _ = found.parameters.split(found.vector)
    assert stacks["vllm", "0.32", ""]["host_launch_s"] == pytest.approx(6e-5, rel=0.1)
    assert KNOWN.default_stack.host_launch_s == 2e-6  # where the fit began


def test_throughput_alone_says_as_much_as_times() -> None:
    rows = [replace(one, measured={"tokens_per_s": pace(one)}) for one in measured()]
    seen = observed(measured())
    _, tpot = fit(observed(rows), KNOWN).errors(seen)
    assert tpot.mean() < 0.06
    assert fit(observed(rows), KNOWN).errors(observed(rows))[1].size == 0  # no times were measured
    assert unusable(rows[0]) is None


def pace(one: Measurement) -> float:
    whole_ms = one.measured["ttft_ms"] + (one.output_tokens - 1) * one.measured["tpot_ms"]
    return (one.concurrency or 0) * one.output_tokens / whole_ms * 1e3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"concurrency": 5000.0}, "5000 sequences, of which "),
        ({"measured": {"ttft_ms": 10.0}}, "expected a concurrency, and tpot_ms or tokens_per_s"),
        ({"measured": {"tpot_ms": 0.0142}}, "tpot_ms = 0.0142: to load the weights alone takes "),
        ({"measured": {"tpot_ms": 14.2, "ttft_ms": 0.42}}, "ttft_ms = 0.42: to load the weights alone takes "),
        ({"prompt_tokens": 1e6}, "1,000,"),
        ({"engine": "mlc"}, "engine = mlc: expected one of vllm, "),
        ({"prefill": PrefillPool(1, 1, 1)}, "prefill and decode workers: expected one pool"),
        (
            {"requests_per_s": 4.0},
            "requests_per_s = 4 beside a concurrency: at a rate that is a cap, expected one alone",
        ),
    ],
)
def test_rows_that_would_mislead_are_refused(changes: dict[str, Any], reason: str) -> None:
    reasons = unusable(row(**{"concurrency": 8.0, **changes}))
    assert reasons is not None
    assert reasons.startswith(reason)
    assert unusable(row(8.0)) is None


RESULT = {
    "model_id": "Qwen/Qwen3-32B-FP8", "max_concurrency": 32, "request_rate": "inf", "num_prompts": 100,
    "completed": 100, "total_input_tokens": 200_000, "total_output_tokens": 50_000, "mean_ttft_ms": 420.0,
    "mean_tpot_ms": 14.2,
}  # fmt: skip
SPEC: dict[str, Any] = {"cost_model": "ideal",
    "model": "qwen3-32b", "workload": {"prompt_tokens": 2000, "output_tokens": 500}, "engine": "vllm",
    "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["2x1"]}},
}  # fmt: skip


def result(tmp_path: Path, **changes: object) -> Measurement:
    spec = Spec.load(SPEC)
    plan = solve(spec).plan
    assert plan is not None
    path = tmp_path / "result.json"
    path.write_text(json.dumps({key: value for key, value in (RESULT | changes).items() if value is not None}))
    (read,), _ = read_results(path, spec, plan)
    return read


def test_a_result_of_vllm_is_a_row_of_the_plan(tmp_path: Path) -> None:
    read = result(tmp_path)
    assert (read.number, read.model.id, read.chip.id, read.tp) == (1, "qwen3-32b", "h100-sxm", 2)
    assert (read.engine, read.engine_version, read.weights) == ("vllm", "0.32", "fp8")
    assert (read.concurrency, read.prompt_tokens, read.output_tokens) == (32, 2000, 500)
    assert read.measured == {"tpot_ms": 14.2, "ttft_ms": 420.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"completed": None}, "completed is missing"),
        ({"mean_tpot_ms": None}, "expected a result of vllm bench serve, sglang.bench_serving, aiperf, "),
        ({"completed": 0}, "completed = 0: expected a number greater than 0"),
        ({"mean_tpot_ms": "fast"}, "mean_tpot_ms = 'fast': expected a number greater than 0"),
        ({"max_concurrency": None}, "max_concurrency is missing: run the benchmark with --max-concurrency or --req"),
        ({"max_concurrency": None, "request_rate": 2.0}, "duration is missing"),
        ({"max_concurrency": 100}, "completed = 100 with max_concurrency = 100: all requests came at once; run "),
        (
            {"model_id": "meta-llama/Llama-3.1-8B"},
            "model_id = meta-llama/Llama-3.1-8B: expected qwen3-32b, the model of",
        ),
        ({"model_id": "Qwen/Qwen3-32B-AWQ"}, "model_id = Qwen/Qwen3-32B-AWQ: expected weights in fp8, as the plan has"),
        ({"completed": 1, "failed": None}, "num_prompts - completed = 99 of 100 requests: expected at most 5%"),
        ({"failed": -5}, "failed = -5: expected a number of at least 0"),
        ({"mean_tpot_ms": 1e300}, "mean_tpot_ms = .* expected a number greater than 0, up to 1e"),
        ({"total_output_tokens": 100}, "run 1: 1 output tokens a request: expected more than 1"),
        ({"completed": 1, "failed": 99}, "failed = 99 of 100 requests: expected at most 5%"),
        ({"completed": 1, "failed": 99, "model_id": "acme/ours"}, "failed = 99 of 100 requests: expected at most 5%"),
    ],
)
def test_a_bad_result_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ServesatError, match=message):
        result(tmp_path, **changes)


def test_a_run_at_a_rate_has_the_requests_under_way_of_littles_law(tmp_path: Path) -> None:
    """Two requests a second that take 420 ms and 499 tokens of 14.2 ms: 15.0 are under way."""
    read = result(tmp_path, max_concurrency=None, request_rate=2.0, duration=50.0)
    assert read.concurrency == pytest.approx(2 * (0.42 + 499 * 0.0142))


def test_a_cap_above_the_load_is_not_the_load(tmp_path: Path) -> None:
    read = result(tmp_path, max_concurrency=64, request_rate=2.0, duration=50.0)
    assert read.concurrency == pytest.approx(2 * (0.42 + 499 * 0.0142))
    assert result(tmp_path, max_concurrency=4, request_rate=2.0, duration=50.0).concurrency == 4


def test_each_replica_has_its_part_of_what_is_under_way(tmp_path: Path) -> None:
    spec = Spec.load(SPEC)
    plan = solve(spec).plan
    assert plan is not None
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT))
    (read,), _ = read_results(path, spec, replace(plan, slices=4))
    assert read.concurrency == 32 / 4


@pytest.mark.parametrize(
    ("of_plan", "message"),
    [
        ({"pp_axes": (0,), "pp": 2}, "the plan has pipeline stages: calibrate with a plan without"),
        ({"draft": "eagle3", "draft_tokens": 3}, "the plan has a draft: calibrate with a plan without"),
        ({"slices": 40}, "run 1: 32 requests under way on the 40 replicas of the plan: expected at least one each"),
        ({"batch": 31}, "run 1: 32 requests under way: expected at most 31, which the plan's flags admit"),
    ],
)
def test_what_a_row_cannot_say_of_a_plan_is_refused(tmp_path: Path, of_plan: dict[str, Any], message: str) -> None:
    spec = Spec.load(SPEC)
    plan = solve(spec).plan
    assert plan is not None
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT))
    with pytest.raises(ServesatError, match=message):
        read_results(path, spec, replace(plan, **of_plan))


def test_a_run_is_of_the_plans_own_replica(tmp_path: Path) -> None:
    """Eight chips share the sequence of four KV heads, so that each reads half of a head and none is copied."""
    spec = Spec.load({"cost_model": "ideal", "model": "qwen3-30b-a3b", "engine": "vllm", "speculative": "none",
        "workload": {"prompt_tokens": 2000, "output_tokens": 500}, "constraints": ["kv_layout == sequence"],
        "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x1"]}, "pp": [1]}})  # fmt: skip
    plan = solve(spec).plan
    assert plan is not None
    path = tmp_path / "result.json"
    lengths = {"completed": 2000, "total_input_tokens": 4_000_000, "total_output_tokens": 1_000_000}
    of_model = {"model_id": "Qwen/Qwen3-30B-A3B", "max_concurrency": plan.batch}
    path.write_text(json.dumps(RESULT | lengths | of_model))
    (read,), _ = read_results(path, spec, plan)
    replica = replica_of_row(read)
    assert (replica.kv_copied_over, replica.kv_split_over) == (1, 8)
    assert unusable(read) is None
    assert sequences_in_memory(read) >= plan.batch
    adapted = spec.changed({"lora": {"adapters": 2, "rank": 16}})
    with pytest.raises(ServesatError, match="the spec has adapters, of which a result says nothing"):
        read_results(path, adapted, plan)


def test_constants_that_miss_by_far_are_not_written() -> None:
    rows = [replace(one, measured={"tpot_ms": 1e9, "ttft_ms": 500.0}) for one in measured()]
    seen = observed(rows)
    fast = observed([replace(one, measured={"tokens_per_s": 1e9}) for one in measured()])
    with pytest.raises(ServesatError, match=r"a.csv: throughput stays 100 % off"):
        calibration_text(fast, fit(fast, KNOWN), name="mine", files=["a.csv"])
    with pytest.raises(ServesatError, match=r"a.csv: TPOT stays 100 % off in half of the rows, expected at most 50 %"):
        calibration_text(seen, fit(seen, KNOWN), name="mine", files=["a.csv"])


def test_a_calibration_carries_no_less_error_than_its_rows(tmp_path: Path) -> None:
    """Rows that contradict each other, half of them off by a third; and of one row what a guess has."""
    rows = [replace(one, measured={**one.measured, "tpot_ms": one.measured["tpot_ms"] * k})
            for one in measured() for k in (1.0, 2.0)]  # fmt: skip
    seen = observed(rows)
    text = tomllib.loads(calibration_text(seen, fit(seen, KNOWN), name="mine", files=["a"]))
    assert text["errors"]["calibrated"]["tpot"] > 0.2
    one = observed(measured()[:1])
    few = tomllib.loads(calibration_text(one, fit(one, KNOWN), name="mine", files=["a"]))["errors"]["calibrated"]
    assert few["tpot"] >= KNOWN.errors.other_version.tpot > KNOWN.errors.calibrated.tpot


def test_what_was_not_measured_stays_as_known() -> None:
    """Rows of vLLM on one chip leave the constants of others, and of other engines, in place."""
    known = load_calibration()
    seen = observed(measured())
    text = tomllib.loads(calibration_text(seen, fit(seen, known), name="mine", files=["a"]))
    found = Calibration.model_validate(text | {"name": "mine"})
    assert found.chips["mi300x"] == known.chips["mi300x"]
    assert found.chips["h100-sxm"] != known.chips["h100-sxm"]
    assert found.stack("sglang", "0.5.23") == known.stack("sglang", "0.5.23")
    assert {stack.version for stack in found.stacks if stack.program == "vllm"} == {"0.32"}


AIPERF = {
    "schema_version": "1.0",
    "time_to_first_token": {"unit": "ms", "avg": 420.0, "p99": 900.0},
    "inter_token_latency": {"unit": "us", "avg": 14200.0},
    "input_sequence_length": {"unit": "tokens", "avg": 2000.0},
    "output_sequence_length": {"unit": "tokens", "avg": 500.0},
    "input_config": {"endpoint": {"model_names": ["x"]}, "loadgen": {"concurrency": 32, "request_rate": None}},
}
GUIDELLM = {
    "metadata": {"version": 2},
    "benchmarks": [
        {
            "metrics": {
                name: {"successful": {"mean": value, "percentiles": {}}, "errored": {"mean": 0.0}}
                for name, value in {
                    "time_to_first_token_ms": 420.0 * times, "inter_token_latency_ms": 14.2 * times,
                    "request_concurrency": 16.0 * times, "prompt_token_count": 2000.0, "output_token_count": 500.0,
                }.items()
            }
        }
        for times in (1, 2)
    ],
}  # fmt: skip
LATENCY = {
    "request_latency": {"mean": 8.0, "p90": 9.0}, "time_to_first_token": {"mean": 0.42},
    "inter_token_latency": {"mean": 0.0142}, "time_per_output_token": {"mean": 0.016},
}  # fmt: skip
INFERENCE_PERF = {
    "load_summary": {"count": 100},
    "successes": {
        "count": 100,
        "latency": LATENCY,
        "throughput": {"requests_per_sec": 4.0},
        "prompt_len": {"mean": 2000.0},
        "output_len": {"mean": 500.0},
    },
}  # fmt: skip


@pytest.mark.parametrize("document", [AIPERF, INFERENCE_PERF], ids=["aiperf", "inference-perf"])
def test_results_of_other_tools_are_read(document: dict[str, Any], tmp_path: Path) -> None:
    """14.2 ms a token and 420 ms to the first, in whatever unit; 4 requests/s of 8 s each are 32 under way."""
    (read,) = runs_of(document, tmp_path)
    assert (read.concurrency, read.prompt_tokens, read.output_tokens) == (pytest.approx(32), 2000, 500)
    assert read.measured == pytest.approx({"tpot_ms": 14.2, "ttft_ms": 420.0})


def test_a_run_of_aiperf_at_a_rate_has_no_more_under_way_than_it_asks_for(tmp_path: Path) -> None:
    """2 requests/s of 0.42 s and 499 tokens of 14.2 ms: 15.0, far from the 256 that may be."""
    at_rate = {**AIPERF, "input_config": {"loadgen": {"concurrency": 256, "request_rate": 2.0}}}
    (read,) = runs_of(at_rate, tmp_path)
    assert read.concurrency == pytest.approx(2 * (0.42 + 499 * 0.0142))
    behind = {**at_rate, "request_throughput": {"unit": "requests/sec", "avg": 0.5}}
    assert runs_of(behind, tmp_path)[0].concurrency == pytest.approx(0.5 * (0.42 + 499 * 0.0142))
    (capped,) = runs_of({**at_rate, "input_config": {"concurrency": 4, "request_rate": 2.0}}, tmp_path)
    assert capped.concurrency == 4


def test_a_run_of_aiperf_that_sends_all_at_once_is_no_steady_load(tmp_path: Path) -> None:
    sent = {**AIPERF, "request_count": {"unit": "requests", "avg": 32.0}}
    with pytest.raises(ServesatError, match="request_count = 32 with concurrency = 32: all requests came at once"):
        runs_of(sent, tmp_path)


def test_a_benchmark_that_failed_leaves_the_others(tmp_path: Path) -> None:
    failed = {"metrics": {"request_totals": {"errored": 90, "successful": 10}}}
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({"benchmarks": [failed, *GUIDELLM["benchmarks"]]}))
    spec = Spec.load(SPEC)
    plan = solve(spec).plan
    assert plan is not None
    rows, left_out = read_results(path, spec, replace(plan, slices=20))
    assert [row.number for row in rows] == [3]
    assert list(left_out) == [1, 2]
    assert left_out[2].startswith("16 requests under way on the 20 replicas of the plan")


SGLANG: dict[str, Any] = {
    "tag": None, "backend": "sglang", "request_rate": float("inf"), "server_info": {"model_path": "Qwen/Qwen3-32B"},
    "duration": 60.0, "completed": 100, "total_input_tokens": 200_000, "total_output_tokens": 50_000,
    "mean_ttft_ms": 410.0, "mean_tpot_ms": 14.0, "concurrency": 15.9,
}  # fmt: skip
"""Some keys of a line of sglang.bench_serving, as its calculate_metrics and benchmark write them."""


def appended(tmp_path: Path, *lines: object) -> tuple[list[PlannedMeasurement], dict[int, str]]:
    """What is read of runs that a benchmark appended to one file."""
    path = tmp_path / "results.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    spec = Spec.load(SPEC)
    plan = solve(spec).plan
    assert plan is not None
    return read_results(path, spec, plan)


def test_each_line_that_a_benchmark_appends_is_a_run(tmp_path: Path) -> None:
    """SGLang's benchmark writes lines always, vLLM's with --append-result."""
    rows, left_out = appended(tmp_path, SGLANG | {"max_concurrency": 4}, SGLANG | {"max_concurrency": 16}, RESULT)
    assert [(row.number, row.concurrency) for row in rows] == [(1, 4), (2, 16), (3, 32)]
    assert rows[0].measured == {"tpot_ms": 14.0, "ttft_ms": 410.0}
    assert (rows[0].prompt_tokens, rows[0].output_tokens, left_out) == (2000, 500, {})


def test_a_line_that_says_nothing_is_left_out_with_its_reason(tmp_path: Path) -> None:
    of_another = RESULT | {"model_id": "meta-llama/Llama-3.1-8B"}
    rows, left_out = appended(tmp_path, RESULT, SGLANG | {"max_concurrency": None}, of_another, {"x": 1})
    assert [row.number for row in rows] == [1]
    assert left_out[2].startswith("max_concurrency is missing: run the benchmark with --max-concurrency")
    assert left_out[3].startswith("model_id = meta-llama/Llama-3.1-8B: expected qwen3-32b")
    assert left_out[4].startswith("expected a result of vllm bench serve, sglang.bench_serving, ")


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServesatError, match=r"results\.jsonl: malformed JSON: Expecting value: line 2 column 15"):
        appended(tmp_path, RESULT, '{"completed": ')


def test_a_report_of_guidellm_has_a_run_for_each_benchmark(tmp_path: Path) -> None:
    first, second = runs_of(GUIDELLM, tmp_path)
    assert (first.concurrency, second.concurrency) == (16, 32)
    assert second.measured == pytest.approx({"tpot_ms": 28.4, "ttft_ms": 840.0})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({**AIPERF, "input_config": {}}, "input_config has no concurrency"),
        (
            {**AIPERF, "inter_token_latency": {"unit": "years", "avg": 1}},
            "inter_token_latency.unit = 'years': expected",
        ),
        (
            {**AIPERF, "error_request_count": {"avg": 30.0}, "request_count": {"avg": 70.0}},
            "error_request_count.avg = 30 of 100 requests: expected at most 5%",
        ),
        (
            {**INFERENCE_PERF, "failures": {"count": 1}, "successes": {**INFERENCE_PERF["successes"], "count": 3}},
            "failures.count = 1 of 4 requests: expected at most 5%",
        ),
        (
            {**AIPERF, "inter_token_latency": {"unit": ["ms"], "avg": 1}},
            "inter_token_latency.unit = .* expected one of",
        ),
        (
            {**AIPERF, "error_request_count": {"avg": "3"}, "request_count": {"avg": 97.0}},
            "error_request_count.avg = '3': expected a number",
        ),
        (
            {"benchmarks": [{"metrics": {"request_totals": {"errored": 90, "successful": 10}}}]},
            "metrics.request_totals.errored = 90 of 100 requests: expected at most 5%",
        ),
        ({"benchmarks": []}, "expected a run, with its mean times"),
        (
            {**AIPERF, "input_config": {"endpoint": {"model_names": ["meta-llama/Llama-3.1-8B"]}}},
            "input_config.endpoint.model_names = meta-llama/Llama-3.1-8B: expected qwen3-32b",
        ),
        (
            {"successes": {**INFERENCE_PERF["successes"], "latency": {**LATENCY, "time_to_first_token": "x"}}},
            "successes.latency.time_to_first_token = 'x': expected an object",
        ),
        ({**INFERENCE_PERF, "failures": 5}, "failures = 5: expected an object"),
        ({**AIPERF, "error_request_count": "x"}, "error_request_count = 'x': expected an object"),
        ({**GUIDELLM, "args": {"model": 5}}, "args.model = 5: expected the name of a model"),
        ({"benchmarks": [{"metrics": {}}]}, "run 1: metrics.request_concurrency.successful.mean is missing"),
        ({"successes": {"latency": {}}}, "successes.throughput.requests_per_sec is missing"),
        ([], "expected a result of vllm bench serve"),
    ],
)
def test_a_bad_result_of_another_tool_is_refused(document: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ServesatError, match=message):
        runs_of(document, tmp_path)


def runs_of(document: Any, tmp_path: Path) -> list[Measurement]:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(document))
    spec = Spec.load(SPEC)
    plan = solve(spec).plan
    assert plan is not None
    return read_results(path, spec, plan)[0]
