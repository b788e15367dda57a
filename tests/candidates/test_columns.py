import pytest

from servesat.candidates.evaluation import evaluate
from servesat.candidates.rule import mask_of
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.solve import solve
from tests.helpers import nearly_flat, searching, spec_of, toy_spec


def test_breakpoints_of_every_requirement_are_kept_whatever_the_others_forbid() -> None:
    columns = evaluate(spec_of(model="llama-3-405b", slo={"tpot_ms": 15}))
    here = [i for i in range(len(columns)) if columns.assignment(i).topology == "8x8" and columns.layouts.tp[i] == 64]
    batches = {int(columns.batch[i]) for i in here}
    # ICI allows 91.3, TPOT 136 (143 in steps of 8), HBM 292.8, the search 4096; 1 and 8 are the smallest
    assert batches == {1, 8, 88, 136, 288, 4096}
    worst = next(i for i in here if columns.batch[i] == 4096)
    assert columns.violated[worst] == mask_of("hbm", "tpot", "ici")


def test_a_column_reads_as_a_person_would_say_it() -> None:
    columns = evaluate(searching(topologies={"tpu-v5e": ["2x4"]}, max_batch=7))
    assignments = [columns.assignment(i) for i in range(len(columns))]
    full = [a for a in assignments if a.tp_axes == (0, 1) and a.batch == 7]
    assert len(full) >= 1
    assert (full[0].chip, full[0].topology, full[0].weights, full[0].compute) == ("tpu-v5e", "2x4", "int8", "bf16")


def test_the_smallest_batch_within_the_tie_band_is_a_column() -> None:
    """Where the KV cache dominates, cost falls by less than a tie over many batches, and the fastest of them wins."""
    spec = nearly_flat()
    # cost a token ~ weights / B + kv, with weights 2e9 and kv 2.048e10 bytes: at 4096 it is 4.768e5 + kv.
    kv, weights = 2 * 8 * 64 * 10 * 1e6 * 2, 2e9
    band = (weights / 4096 + kv) * (1 + COST_TIE_RTOL)
    smallest = next(b for b in range(1, 4097) if weights / b + kv <= band)
    assert smallest < 4000
    columns = evaluate(spec)
    assert smallest in columns.batch.tolist()


@pytest.mark.parametrize("utilisation", [1.0, 0.7, 0.9])
@pytest.mark.parametrize("slices", [1, 3, 7, 49])
def test_a_demand_that_some_slices_meet_exactly_takes_no_more_of_them(slices: int, utilisation: float) -> None:
    spec = toy_spec(search={"modes": ["interleaved"], "min_batch": 8, "max_batch": 8}, utilisation=utilisation)
    alone = solve(spec).plan
    assert alone is not None
    assert alone.requests_per_s is not None
    demand = slices * utilisation * alone.requests_per_s
    plan = solve(spec.changed({"workload.requests_per_s": demand})).plan
    assert plan is not None
    assert plan.slices == slices
    more = solve(spec.changed({"workload.requests_per_s": demand * (1 + 1e-6)})).plan
    assert more is not None
    assert more.slices == slices + 1
