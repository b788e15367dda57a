from itertools import pairwise

import numpy as np
import pytest

from servesat.candidates.evaluation import evaluate
from servesat.candidates.requirements import REQUIREMENT_BIT, Requirement
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.formulation.instance import COST_RESOLUTION, round_columns
from tests.helpers import nearly_flat, searching, spec_of


def test_breakpoints_of_every_requirement_are_kept_whatever_the_others_forbid() -> None:
    columns = evaluate(spec_of(model="llama-3-405b", slo={"tpot_ms": 15}))
    here = [i for i in range(len(columns)) if columns.assignment(i).topology == "8x8" and columns.layouts.tp[i] == 64]
    batches = {int(columns.batch[i]) for i in here}
    # ICI allows 91.3, TPOT 136 (143 in steps of 8), HBM 292.8, the search 4096; 1 and 8 are the smallest
    assert batches == {1, 8, 88, 136, 288, 4096}
    worst = next(i for i in here if columns.batch[i] == 4096)
    assert (
        columns.violated[worst]
        == REQUIREMENT_BIT[Requirement.HBM] | REQUIREMENT_BIT[Requirement.TPOT] | REQUIREMENT_BIT[Requirement.ICI]
    )


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


def test_integer_costs_keep_a_millionth_of_the_tie_band() -> None:
    columns = evaluate(spec_of())
    instance = round_columns(columns)
    assert instance.tie == pytest.approx(COST_TIE_RTOL / COST_RESOLUTION, rel=1e-5)
    np.testing.assert_allclose(np.exp(instance.cost * COST_RESOLUTION), columns.usd_per_million, rtol=2e-12)


def test_rank_puts_the_fastest_first_then_fewest_chips_then_id() -> None:
    columns = evaluate(searching(topologies={"tpu-v5e": ["2x4", "4x4"]}))
    rank = round_columns(columns).rank
    order = np.argsort(rank)
    steps = columns.step_s[order]
    assert np.all(steps[1:] >= steps[:-1] * (1 - 1e-8))
    same = [
        (columns.assignment(int(a)), columns.assignment(int(b)))
        for a, b in pairwise(order)
        if columns.step_s[a] == columns.step_s[b] and columns.layouts.chips[a] != columns.layouts.chips[b]
    ]
    assert same
    assert all((first.topology, second.topology) == ("2x4", "4x4") for first, second in same)
