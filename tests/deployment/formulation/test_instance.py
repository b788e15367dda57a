from itertools import pairwise

import numpy as np
import pytest

from servesat.candidates.evaluation import evaluate
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.formulation.instance import COST_RESOLUTION, round_columns
from tests.helpers import searching, spec_of


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
