from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat.deployment.solve import solve
from servesat.questions.break_even import LOWEST_SHARE, PRICE_STEP, _Line, _overtaking_price
from servesat.questions.why_not import Decisions, why_not
from servesat.spec.spec import Spec
from tests import strategies
from tests.strategies import SOME

POOLS = {
    "model": "llama-3.3-70b",
    "workload": {"prompt_tokens": 8000, "output_tokens": 500, "requests_per_s": 5},
    "slo": {"ttft_ms": 4000, "tpot_ms": 40, "percentile": "mean"},
    "search": {"chips": ["h100-sxm", "mi300x"], "modes": ["interleaved", "disaggregated"]},
}


@pytest.mark.slow
@SOME
@given(strategies.specs(), st.sampled_from(["chip0", "chip1"]))
def test_a_break_even_price_is_tight(spec: dict[str, Any], chip: str) -> None:
    assume(len(spec["search"]["chips"]) == 2)
    comparison = why_not(Spec.load(spec), Decisions(chip=chip))
    price = comparison.break_even_usd_per_chip_hour
    assume(price is not None)
    assert price is not None

    def winner(usd: float) -> str:
        plan = solve({**spec, "price": {chip: usd}}).plan
        assert plan is not None
        return plan.chip

    assert winner(price * 0.999) == chip
    assert winner(price * 1.001) != chip


def test_a_break_even_price_of_two_pools_is_tight() -> None:
    spec = Spec.load(POOLS)
    found = why_not(spec, Decisions(chip="h100-sxm"))
    price, taken = found.break_even_usd_per_chip_hour, found.alternative.plan
    assert price is not None
    assert taken is not None
    price *= spec.offers_of("h100-sxm")[0].usd_per_chip_hour / taken.usd_per_chip_hour  # of the cheapest offer
    alone = spec.changed({"search.chips": ["mi300x"]})
    rival = solve(alone).plan
    assert rival is not None
    for factor, wins in ((0.999, True), (1.001, False)):
        plan = solve(spec.changed({"search.chips": ["h100-sxm"], "price.h100-sxm": price * factor})).plan
        assert plan is not None
        assert (plan.usd_per_million_output_tokens < rival.usd_per_million_output_tokens) is wins


class Plans:
    """Plans that cost `fixed + slope * price` each."""

    def __init__(self, *plans: tuple[float, float]) -> None:
        self.plans = plans

    def least(self, price: float) -> _Line:
        usd, slope = min((fixed + slope * price, slope) for fixed, slope in self.plans)
        return _Line(price, usd, slope)


def overtaking(ours: list[tuple[float, float]], others: list[tuple[float, float]], price: float) -> float | None:
    return _overtaking_price(Plans(*ours), Plans(*ours, *others), price)  # type: ignore[arg-type]


def test_a_plan_overtakes_others_on_its_chip_where_their_costs_meet() -> None:
    assert overtaking([(4, 3)], [(10, 1)], 5) == 3  # 4 + 3 · 3 = 10 + 1 · 3
    assert overtaking([(4, 3)], [(3, 3)], 5) is None
    assert overtaking([(4, 3), (6.5, 2)], [(10, 1)], 5) == 3.5  # 6.5 + 2 · 3.5 = 10 + 3.5


COSTS = st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 10)), min_size=1, max_size=4)


@SOME
@given(COSTS, COSTS)
def test_an_overtaking_price_is_one_above_which_others_win(
    ours: list[tuple[float, float]], others: list[tuple[float, float]]
) -> None:
    """None only where the narrowed search wins over no range of prices as wide as a step."""
    whole, narrowed = Plans(*ours, *others), Plans(*ours)
    assume(narrowed.least(5).usd > whole.least(5).usd * 1.001)
    price = overtaking(ours, others, 5)
    if price is None:
        prices = 5 * LOWEST_SHARE ** np.linspace(0, 1, 400)
        wins = [narrowed.least(one).usd <= whole.least(one).usd for one in prices.tolist()]
        longest = max(len(list(run)) if won else 0 for won, run in groupby(wins))
        assert LOWEST_SHARE ** (longest / 399) > PRICE_STEP**1.1
        return
    assert narrowed.least(price).usd == pytest.approx(whole.least(price).usd, rel=1e-5)
    above = price + (5 - price) * 1e-3
    assert narrowed.least(above).usd > whole.least(above).usd


def test_a_range_of_prices_at_which_a_plan_wins_is_not_skipped() -> None:
    """The tangents from 5 meet below 0; 3.847 + 1.618 p is least from 3.86 to 4.48, where it is 7.76 + 0.745 p."""
    price = overtaking([(3.847, 1.618), (7.163, 0.911)], [(7.76, 0.745), (0.21, 2.561)], 5)
    assert price == pytest.approx((7.76 - 3.847) / (1.618 - 0.745), rel=1e-5)
