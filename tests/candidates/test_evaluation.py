import tracemalloc
from typing import Any

import numpy as np
import pytest

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import cheapest, evaluate, evaluate_search
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.deployment.binding import relaxations
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.formulation.instance import round_columns
from servesat.deployment.formulation.solver import solve
from servesat.deployment.settings import Settings
from servesat.spec.spec import Spec
from tests.helpers import spec_of

WHOLE = {"prompt_tokens": 2048, "output_tokens": 256}


def answer(spec: Spec, columns: Columns) -> tuple[Any, ...]:
    """What is made of the columns: the plan and what looser limits save, or the conflicts."""
    solution = solve(round_columns(columns), Settings())
    if solution.column is None:
        return minimal_conflicts(columns.violated.tolist())
    cost = float(columns.usd_per_million[solution.column])
    return columns.assignment(solution.column), relaxations(spec, columns, cost), cheapest(columns)


@pytest.mark.parametrize(
    "keys",
    [
        {"workload": WHOLE, "slo": {"tpot_ms": 20}},
        {"workload": {**WHOLE, "requests_per_s": 30}, "slo": {"ttft_ms": 300, "tpot_ms": 30}},
        {"workload": WHOLE, "slo": {"tpot_ms": 0.01}},
        {"workload": WHOLE, "slo": {"ttft_ms": 1}, "search": {"max_chips": 8}},
        {"workload": WHOLE, "slo": {"tpot_ms": 12}, "headroom": 0.3},
    ],
)
def test_a_search_in_blocks_has_the_answer_of_the_whole(keys: dict[str, Any]) -> None:
    spec = spec_of(**keys)
    whole, blocks = evaluate(spec), evaluate_search(spec, block_rows=100)
    assert len(whole.layouts) > 3 * 100
    assert len(blocks) < len(whole)
    assert answer(spec, blocks) == answer(spec, whole)
    assert np.array_equal(np.unique(blocks.violated), np.unique(whole.violated))


CATALOGUE = {"model": "llama-3.3-70b", "search": {"chips": ["h100-sxm", "tpu-v6e", "l40s"]}, "workload": WHOLE}


@pytest.mark.parametrize(
    "keys",
    [
        {"slo": {"tpot_ms": 20}},
        {"slo": {"ttft_ms": 300, "tpot_ms": 30, "e2e_ms": 3000}},
        {"slo": {"stall_ms": 100}, "workload": {**WHOLE, "requests_per_s": 30}, "cost_model": "ideal"},
        {"slo": {"min_tokens_per_s": 50_000}},
        {"speculative": {"draft": "eagle3"}, "model": "llama-3.1-8b", "headroom": 0.3},
        {"model": "qwen3-30b-a3b", "slo": {"tpot_ms": 12}},
    ],
)
def test_the_bounds_of_costs_leave_every_plan_that_may_answer(
    keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servesat.candidates.evaluation.FIRST_CONTENDERS", 20)
    spec = Spec.load(CATALOGUE | keys).in_means()
    whole = evaluate(spec, enumerate_layouts(spec, undominated=True))
    contenders = evaluate_search(spec, undominated=True)
    assert answer(spec, contenders) == answer(spec, whole)
    assert relaxations(spec, whole, cheapest(whole)), "each case has a limit that a cheaper plan breaks"


@pytest.mark.soak
def test_a_search_with_many_chunks_stays_small() -> None:
    """8.75 GB of columns, were they held together: 250 chunks of 35 MB."""
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": "llama-3-70b",
            "workload": WHOLE,
            "slo": {"tpot_ms": 0.01},
            "search": {"chunk_tokens": list(range(8, 2008, 8)), "weights": ["bf16", "fp8", "int8", "int4"]},
        }
    )
    tracemalloc.start()
    try:
        assert all("tpot" in conflict for conflict in minimal_conflicts(evaluate_search(spec).violated.tolist()))
        assert tracemalloc.get_traced_memory()[1] < 1e9
    finally:
        tracemalloc.stop()
