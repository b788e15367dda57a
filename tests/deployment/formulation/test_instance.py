from itertools import pairwise

import numpy as np
import pytest

from servesat import Spec
from servesat.candidates.evaluation import evaluate
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.formulation.instance import LOG_RESOLUTION, round_columns
from servesat.deployment.solve import solve
from tests.helpers import searching, spec_of, toy_chip, toy_spec


def test_integer_costs_keep_a_millionth_of_the_tie_band() -> None:
    columns = evaluate(spec_of())
    instance = round_columns(columns)
    assert instance.tie == pytest.approx(COST_TIE_RTOL / LOG_RESOLUTION, rel=1e-5)
    np.testing.assert_allclose(np.exp(instance.cost * LOG_RESOLUTION), columns.usd_per_million, rtol=2e-12)


def test_rank_puts_the_fastest_first_then_fewest_chips_then_id() -> None:
    columns = evaluate(searching(topologies={"tpu-v5e": ["2x4", "4x4"]}))
    rank = round_columns(columns).tie_rank(np.arange(len(columns)))
    order = np.argsort(rank)
    steps = columns.tpot_s[order]
    assert np.all(steps[1:] >= steps[:-1] * (1 - 1e-8))
    same = [
        (columns.assignment(int(a)), columns.assignment(int(b)))
        for a, b in pairwise(order)
        if columns.tpot_s[a] == columns.tpot_s[b] and columns.layouts.chips[a] != columns.layouts.chips[b]
    ]
    assert same
    assert all((first.topology, second.topology) == ("2x4", "4x4") for first, second in same)


@pytest.mark.parametrize("shift", range(10))
def test_steps_within_a_billionth_are_as_fast_wherever_they_lie(shift: int) -> None:
    """Rounded to units of 10⁻⁹, two such steps may fall on two sides."""
    base = 1e12 * (1 + shift * 1e-10)
    chips = [toy_chip(name, hbm_bytes_per_s=base * faster) for name, faster in (("a", 1.0), ("b", 1 + 9.4e-10))]
    plan = solve(toy_spec(*chips, search={"modes": ["decode_only"], "max_batch": 100})).plan
    assert plan is not None
    assert plan.chip == "a"


def test_the_faster_of_two_plans_that_tie_wins() -> None:
    chips = [toy_chip(name, hbm_bytes_per_s=1e12 * faster) for name, faster in (("a", 1.0), ("b", 1 + 2e-8))]
    plan = solve(toy_spec(*chips, search={"modes": ["decode_only"], "max_batch": 100})).plan
    assert plan is not None
    assert plan.chip == "b"


def test_ties_are_broken_by_the_draft_whatever_the_order_of_rows() -> None:
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": "llama-3.1-8b",
            "workload": {"prompt_tokens": 200, "output_tokens": 100},
            "speculative": {"draft": "eagle3"},
            "search": {"chips": ["h200"], "modes": ["interleaved"], "topologies": {"h200": ["1x1"]}},
        }
    )
    columns = evaluate(spec, batches=np.array([1]))
    backwards = np.arange(len(columns))[::-1]
    assert round_columns(columns.take(backwards)).order.tolist() == round_columns(columns).order[backwards].tolist()
    tokens = [columns.assignment(int(row)).draft_tokens for row in np.argsort(round_columns(columns).order)]
    assert tokens[:4] == [0, 3, 5, 7]
