"""What each limit allows of the batch and of the slices, by hand on a toy chip."""

import numpy as np
import pytest

from servesat import Spec
from servesat.candidates import requirement_formulas as formulas
from servesat.candidates.layouts import Layouts
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.candidates.step_times import replica_times
from tests.helpers import toy_chip, toy_spec

PROMPT_MS = 2 + 4 * 10 * 40 * 10 * 1000**2 / 2 / 1e12  # matmuls and attention of 1,000 tokens at 1 PFLOP/s
SEQUENCE_MS = 8000 * 1050 / 1e9  # 8,000 bytes for each of 1,050 tokens on average, at 1 TB/s


def of_mode(mode: str, **keys: object) -> tuple[Spec, Layouts]:
    spec = toy_spec(search={"modes": [mode], "chunk_tokens": [100]}).changed(keys)
    return spec, enumerate_layouts(spec)


def batch(formula: str, spec: Spec, layouts: Layouts) -> float:
    (largest,) = getattr(formulas, formula)(spec, layouts, replica_times(spec, layouts))
    return float(largest)


def test_hbm_holds_the_cache_beside_the_weights() -> None:
    spec, layouts = of_mode("decode_only", headroom=0.5)
    assert batch("batch_within_hbm", spec, layouts) == pytest.approx((500e9 - 2e9) / (1100 * 8000))


def test_tpot_bounds_the_batch() -> None:
    spec, layouts = of_mode("decode_only", **{"slo.tpot_ms": 3.0})
    assert batch("batch_within_tpot", spec, layouts) == pytest.approx(1 / SEQUENCE_MS)
    spec, layouts = of_mode("interleaved", **{"slo.tpot_ms": 3.0})  # each sequence adds a hundredth of a prompt
    assert batch("batch_within_tpot", spec, layouts) == pytest.approx(1 / (SEQUENCE_MS + PROMPT_MS / 100))


def test_the_first_token_of_a_chunked_prompt_takes_ten_steps() -> None:
    spec, layouts = of_mode("chunked", **{"slo.ttft_ms": 30.0})
    assert batch("batch_within_ttft", spec, layouts) == pytest.approx(1 / SEQUENCE_MS)
    spec, layouts = of_mode("interleaved", **{"slo.ttft_ms": 30.0})
    assert batch("batch_within_ttft", spec, layouts) == np.inf


def test_the_last_token_takes_all_steps_but_one_after_the_first() -> None:
    spec, layouts = of_mode("chunked", **{"slo.e2e_ms": 3.0 * (10 + 99)})
    assert batch("batch_within_e2e", spec, layouts) == pytest.approx(1 / SEQUENCE_MS)
    spec, layouts = of_mode("interleaved", **{"slo.e2e_ms": PROMPT_MS + 3.0 * 99})
    assert batch("batch_within_e2e", spec, layouts) == pytest.approx(1 / (SEQUENCE_MS + PROMPT_MS / 100))


def test_with_one_output_token_no_batch_delays_the_end() -> None:
    spec, layouts = of_mode("interleaved", **{"slo.e2e_ms": 5.0, "workload.output_tokens": 1})
    assert batch("batch_within_e2e", spec, layouts) == np.inf
    spec, layouts = of_mode("interleaved", **{"slo.e2e_ms": 1.0, "workload.output_tokens": 1})
    assert batch("batch_within_e2e", spec, layouts) == 0


def test_a_stall_is_a_step_without_its_prefill() -> None:
    spec, layouts = of_mode("interleaved", **{"slo.stall_ms": 3.0})
    assert batch("batch_within_stall", spec, layouts) == pytest.approx(1 / SEQUENCE_MS)


def test_chunks_keep_up_with_ten_sequences() -> None:
    spec, layouts = of_mode("chunked")  # 100 of 1,000 prompt tokens a step, for answers of 100
    assert batch("batch_fed_by_chunks", spec, layouts) == pytest.approx(100 * 100 / 1000)
    spec, layouts = of_mode("interleaved")
    assert batch("batch_fed_by_chunks", spec, layouts) == np.inf


def test_a_throughput_needs_a_batch() -> None:
    spec, layouts = of_mode("decode_only", **{"slo.min_tokens_per_s": 25_000.0})
    # 25 tokens a ms leave 0.04 ms for each sequence
    assert batch("batch_for_throughput", spec, layouts) == pytest.approx(2 / (0.04 - SEQUENCE_MS))


def test_the_interconnect_is_hidden_by_loading_the_weights() -> None:
    chip = toy_chip(topologies=["2"])
    spec = toy_spec(chip, search={"modes": ["decode_only"]})
    layouts = enumerate_layouts(spec)
    split = layouts.take(np.flatnonzero(layouts.tp == 2))
    # t_ici = 2 · B · 1,000 / 1e11 against t_hbm = 2 · 1,000 · 4,000 / (2 · 1e12) of one matmul
    assert batch("batch_hiding_ici", spec, split) == pytest.approx(4e-6 / 2e-8)


def test_a_demand_is_met_by_fewer_slices_that_each_serve_more() -> None:
    spec = toy_spec(workload={"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 60}, utilisation=0.5)
    needed = formulas.tokens_per_s_to_meet_demand(spec, np.array([0.0, 1.0, 4.0]))
    assert needed.tolist() == pytest.approx([np.inf, 12_000, 3_000])


@pytest.mark.parametrize(("loss", "rounded"), [(0.0123451, 0.012346), (0.012, 0.012), (float("inf"), float("inf"))])
def test_a_loss_is_rounded_so_that_it_is_large_enough(loss: float, rounded: float) -> None:
    assert formulas.rounded_up_loss(loss) == rounded
