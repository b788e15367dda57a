from itertools import pairwise

import pytest

from servesat import Spec
from servesat.questions.mode_comparison import crossover
from servesat.questions.pareto import trace_frontier
from servesat.questions.scenarios import Factor, make_scenarios
from servesat.questions.whatif import Question
from servesat.report.colours import chip_colour
from servesat.report.frontier import frontier_chart
from servesat.report.modes import crossover_chart
from servesat.report.whatif_figures import tornado_of
from tests.cli.commands import CHAT, EXAMPLE


def test_a_frontier_is_a_staircase_with_its_cheapest_plan_marked() -> None:
    spec = Spec.load(CHAT)
    frontier = trace_frontier(spec)
    (frame,) = frontier_chart(spec, frontier).frames
    line, *chips, star = frame.series
    assert (line.name, line.steps) == ("frontier", "hv")
    assert all(left < right for left, right in pairwise(line.x))
    assert all(above > below for above, below in pairwise(line.y))
    assert {series.name: series.colour for series in chips} == {
        plan.chip: chip_colour(plan.chip) for plan in frontier.points
    }
    assert (star.star, list(star.y)) == (True, [min(line.y)])
    assert star.name == "cheapest: gh200 1, $0.4837"
    labels = [label for series in chips for label in series.labels if label]
    assert "gb200 8x1" in labels
    assert len(labels) == len({(plan.chip, plan.topology) for plan in frontier.points})  # one for each slice


def test_a_batch_that_is_asked_for_costs_what_the_next_point_does() -> None:
    """Between points the line runs up first: no plan of the lower batch serves a larger one."""
    spec = Spec.load(EXAMPLE)
    (frame,) = frontier_chart(spec, trace_frontier(spec, ("batch", "tpot_ms"))).frames
    assert frame.series[0].steps == "vh"


@pytest.mark.soak
def test_whole_slices_are_drawn_as_steps_and_no_mode_hides_another() -> None:
    spec = Spec.load(CHAT)
    for demand in (None, 20):
        asked = spec.changed({"workload.requests_per_s": demand})
        (frame,) = crossover_chart(asked, crossover(asked)[:3]).frames
        assert [series.steps for series in frame.series] == ["hv" if demand else ""] * 3
        assert all(below.width > above.width for below, above in pairwise(frame.series))


def test_a_tornado_shows_the_base_and_what_changes_nothing() -> None:
    spec = Spec.load(EXAMPLE)
    factors = [Factor("price.tpu-v5e", (0.6, 1.2)), Factor("slo.tpot_ms", (15, 16))]
    question = Question(spec, make_scenarios(spec, factors, one_at_a_time=True))
    tornado = tornado_of(question, [row for rows in question.rows(range(4)) for row in rows])
    assert tornado.base_label == "as it stands: $2.730"
    assert {bar.name: (bar.low_label, bar.high_label) for bar in tornado.bars} == {
        "price.tpu-v5e": ("0.6: -50.0%", ""),
        "slo.tpot_ms": ("", "no change"),
    }
