"""A closed network of prefill and decode workers, against its own balance and by hand."""

from dataclasses import replace

import pytest

from servesat.catalogue.load import load_chip, load_model
from servesat.catalogue.measurements import Measurement, PrefillPool
from servesat.cost_model.calibrated import Constants, prompt_s, prompt_work_s, step_curve
from servesat.questions.measured_rows import work_of_row
from servesat.questions.two_pools import two_pools_figures

IDEAL = Constants(1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
ROW = Measurement(
    number=1, model=load_model("llama-3.1-70b"), chip=load_chip("h200"), engine="vllm", engine_version="",
    harness="", weights="fp8", kv_cache="fp8", compute="fp8", tp=4, dp=1, spreads_experts=False, concurrency=1.0,
    requests_per_s=None, prompt_tokens=2000, output_tokens=201, measured={"tpot_ms": 10.0}, workers=2,
    prefill=PrefillPool(workers=1, tp=2, dp=1),
)  # fmt: skip


def test_a_request_alone_waits_for_nothing() -> None:
    """Its prompt, 80 layers of 2 · 8 · 128 values in one byte over two links of 50 GB/s, and a step."""
    found = two_pools_figures(ROW, IDEAL)
    alone = float(prompt_s(work_of_row(replace(ROW, tp=2)), IDEAL)) + 2000 * 80 * 2048 / (2 * 50e9)
    step = float(step_curve(work_of_row(ROW), IDEAL).at(0.5))
    assert found["tpot_ms"] == pytest.approx(step * 1e3, rel=1e-3)
    assert found["ttft_ms"] == pytest.approx((alone + step) * 1e3, rel=0.02)


def test_a_full_prefill_pool_sets_the_pace() -> None:
    """With 500 under way the prompts go one after the other: N is what leaves in a second times what each takes."""
    work_s = float(prompt_work_s(work_of_row(replace(ROW, tp=2)), IDEAL))
    found = two_pools_figures(replace(ROW, concurrency=500.0), IDEAL)
    assert found["tokens_per_s"] == pytest.approx(201 / work_s, rel=0.01)
    whole_s = (found["ttft_ms"] + 200 * found["tpot_ms"]) / 1e3
    assert found["tokens_per_s"] / 201 * whole_s == pytest.approx(500)
    twice = two_pools_figures(replace(ROW, concurrency=500.0, prefill=PrefillPool(2, 2, 1)), IDEAL)
    assert twice["tokens_per_s"] > 1.8 * found["tokens_per_s"]


def test_what_waits_for_memory_has_no_predicted_first_token() -> None:
    found = two_pools_figures(replace(ROW, concurrency=100_000.0, prefill=PrefillPool(900, 2, 1)), IDEAL)
    assert set(found) == {"tpot_ms", "e2e_ms", "tokens_per_s"}
