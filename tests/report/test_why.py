import io

import pytest
from rich.console import Console

from servesat import Spec
from servesat.deployment.solve import solve
from servesat.questions.why_not import Decisions, why_not
from servesat.report.why import print_comparison
from tests.helpers import ROOT


def verdict(example: str, decisions: Decisions, **changes: object) -> str:
    spec = Spec.load(ROOT / "examples" / example, changes)
    console = Console(file=io.StringIO(), width=200)
    print_comparison(console, why_not(spec, decisions))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "the alternative costs 300.0% more a token, at any price of h100-sxm, which both take"),
        # in fp8 one machine of Civo suffices: 2 · 6.88 / 2.99 is 4.602
        (
            {"search.topologies": {"h100-sxm": ["8x1", "8x2"]}, "search.weights": ["fp8"]},
            "the alternative costs 360.2% more a token; both take h100-sxm, "
            "the best plan at $2.990 a chip-hour and the alternative at $6.880",
        ),
    ],
)
def test_another_plan_on_the_chip_of_the_best_costs_more_at_any_price_or_at_its_own(
    changes: dict[str, object], told: str
) -> None:
    pp = 2 if changes else 1
    means = {"slo.percentile": "mean", **changes}
    assert verdict("llama-3.1-405b-two-nodes.yaml", Decisions(pp=pp), **means) == told


@pytest.mark.soak
def test_plans_under_percentiles_are_those_that_solve_finds() -> None:
    """One B200 at $4.89 serves what takes three H100 at $2.29: as much at 4.89 / 3."""
    spec = Spec.load(ROOT / "examples" / "qwen3-32b-chat.yaml", {"search.chips": ["b200", "h100-sxm"],
        "workload.requests_per_s": 8, "search.modes": ["interleaved", "chunked"]})  # fmt: skip
    found = why_not(spec, Decisions(chip="h100-sxm"))
    alone = solve(spec.changed({"search.chips": ["h100-sxm"]})).plan
    assert (found.best.plan, found.alternative.plan) == (solve(spec).plan, alone)
    assert found.best.plan is not None
    assert alone is not None
    assert (found.best.plan.chips, alone.chips) == (1, 3)
    assert found.break_even_usd_per_chip_hour == pytest.approx(4.89 / 3)
    told = verdict("qwen3-32b-chat.yaml", Decisions(chip="h100-sxm"), **{"search.chips": ["b200", "h100-sxm"],
        "workload.requests_per_s": 8, "search.modes": ["interleaved", "chunked"]})  # fmt: skip
    assert told == (
        "the alternative costs 40.5% more a token, and as much with h100-sxm at $1.630 a chip-hour (now $2.290); both "
        "are verified by replay"
    )
