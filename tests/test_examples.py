"""Every example is solved, and gives the answer that it states."""

import re
from pathlib import Path

import pytest

from servesat import Status
from servesat.deployment.solve import solve
from servesat.fleet.plan import plan_fleet
from servesat.questions.portfolio import solve_portfolio
from tests.helpers import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
FLEETS = [path for path in EXAMPLES if path.stem.startswith("fleet-")]
LONG_FLEETS = {"fleet-day", "fleet-in-machines"}
PORTFOLIOS = [path for path in EXAMPLES if path.stem.startswith("portfolio-")]
EXAMPLES = [path for path in EXAMPLES if path not in FLEETS + PORTFOLIOS]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_gives_the_answer_that_it_states(path: Path) -> None:
    result = solve(path)
    conflict = re.search(r"^# Answer: infeasible: (?P<members>[\w ]+)\.", path.read_text(), re.MULTILINE)
    if conflict is not None:
        assert result.status is Status.INFEASIBLE
        assert result.conflict == (tuple(conflict["members"].split(" and ")),)
        return
    stated = re.search(
        r"^# Answer: (?P<chip>\S+) (?P<topology>[\dx]+), batch (?P<batch>\d+), "
        r"(?P<tpot>[\d.]+) ms, \$(?P<usd>[\d.]+) per",
        path.read_text(),
        re.MULTILINE,
    )
    assert stated is not None
    plan = result.plan
    assert plan is not None
    assert (plan.chip, plan.topology, plan.batch) == (stated["chip"], stated["topology"], int(stated["batch"]))
    assert f"{plan.tpot_ms:.2f}" == stated["tpot"]
    assert plan.usd_per_million_output_tokens == pytest.approx(float(stated["usd"]), rel=5e-4)


@pytest.mark.parametrize("path", PORTFOLIOS, ids=lambda path: path.stem)
def test_a_portfolio_costs_what_its_example_states(path: Path) -> None:
    result = solve_portfolio(path)
    stated = re.search(r"^# Answer: \$(?P<usd>[\d.,]+) for", path.read_text(), re.MULTILINE)
    assert stated is not None
    assert f"{result.usd_per_hour:,.2f}" == stated["usd"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=pytest.mark.soak if path.stem in LONG_FLEETS else ()) for path in FLEETS],
)
def test_a_fleet_costs_what_its_example_states(path: Path) -> None:
    result = plan_fleet(path)
    stated = re.search(r"^# Answer: (?P<what>infeasible|\$(?P<usd>[\d.,]+) for)", path.read_text(), re.MULTILINE)
    assert stated is not None
    if stated["what"] == "infeasible":
        assert result.status is Status.INFEASIBLE
        return
    assert result.status is Status.OPTIMAL
    assert f"{result.total_usd:,.2f}" == stated["usd"]
