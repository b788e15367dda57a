"""Plans improved a few workloads at a time, against those of enumeration and by hand."""

from dataclasses import replace
from math import inf
from time import perf_counter
from typing import Any

import pytest
from hypothesis import assume, given

from servesat import Status
from servesat.fleet.check import check
from servesat.fleet.decomposition.improvement import improved
from servesat.fleet.decomposition.options import ImprovementOptions
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import ReservedChips
from tests.fleet.fleets import instance_of, small_fleets
from tests.oracles import fleet as fleet_oracle
from tests.strategies import examples

ONE_AT_A_TIME = ImprovementOptions(variables=1, failures=8, target_gap=0.0)
NEED: dict[str, Any] = {"n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
RENTED: dict[str, Any] = {
    "name": "c", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0, "chips": 1, "usd": 1.0,
}  # fmt: skip
RESERVED = {**RENTED, "purchase": "reserved", "usd": 0.6}


def two_workloads(quota: int = 10) -> dict[str, Any]:
    """Two workloads in two periods of an hour, on chips for $1 an hour or reserved for $0.60 in both."""
    needs = [{**NEED, "name": "a", "demand": [2.0, 2.0]}, {**NEED, "name": "b", "demand": [0.0, 3.0]}]
    options = [{**option, "workload": name} for name in "ab" for option in (RENTED, RESERVED)]
    quotas = {("r", "x"): quota}
    return {"hours": [1.0, 1.0], "needs": needs, "options": options, "quotas": quotas, "budget": None}


def test_what_is_needed_all_day_moves_to_a_reservation_and_a_peak_stays_rented() -> None:
    """All rented: $2 + $5. With 2 chips reserved for $2.40 only the peak of b is: $3 more."""
    instance = instance_of(two_workloads())
    rented = FleetSolution(Status.FEASIBLE, ((2, 2), (0, 0), (0, 3), (0, 0)))
    found = improved(instance, rented, perf_counter() + 20, ONE_AT_A_TIME)
    assert check(instance, found) == pytest.approx(5.4)
    assert found.objective == pytest.approx(5.4)
    assert found.reserved == {ReservedChips("r", "x", 0.6): 2}


def test_a_reservation_serves_others_where_its_owner_needs_it_least() -> None:
    """A quota of 5 chips holds both workloads at the peak, whoever has the chips that are reserved."""
    instance = instance_of(two_workloads(quota=5))
    for_the_peak = FleetSolution(Status.FEASIBLE, ((2, 2), (0, 0), (0, 0), (0, 3)), {ReservedChips("r", "x", 0.6): 3})
    found = improved(instance, for_the_peak, perf_counter() + 20, ONE_AT_A_TIME)
    assert check(instance, found) == pytest.approx(5.4)


def test_nothing_is_planned_anew_at_its_bound_or_out_of_time() -> None:
    instance = instance_of(two_workloads())
    rented = FleetSolution(Status.FEASIBLE, ((2, 2), (0, 0), (0, 3), (0, 0)))
    for solution, deadline in ((replace(rented, bound=7.0), inf), (rented, perf_counter())):
        assert improved(instance, solution, deadline, ONE_AT_A_TIME).replicas == rented.replicas


@pytest.mark.slow
@examples(60)
@given(small_fleets())
def test_an_improved_plan_keeps_every_limit_and_costs_no_more(raw: dict[str, Any]) -> None:
    """From a plan of twice the demand; and all workloads together reach the best."""
    raw |= {"budget": None, "earlier": None, "pods": {}, "usd_per_change": 0.0}
    for need in raw["needs"]:
        need |= {"max_configurations": None}
    for option in raw["options"]:
        option |= {"machine": None}
    best = fleet_oracle.goals(raw)
    assume(best is not None)
    assert best is not None
    instance = instance_of(raw)
    ample = replace(
        instance,
        workloads=tuple(replace(each, demand=tuple(2 * units for units in each.demand)) for each in instance.workloads),
    )
    model = FleetModel(ample)
    start = model.solve(model.usd(), 20.0)
    assume(start.status is Status.OPTIMAL)
    before = check(instance, replace(start, bound=0.0))
    found = improved(instance, replace(start, bound=0.0), perf_counter() + 20, ONE_AT_A_TIME)
    assert best[0] - 2e-6 <= check(instance, found) <= before + 1e-9
    together = replace(ONE_AT_A_TIME, variables=10_000, failures=1)
    assert check(instance, improved(instance, found, perf_counter() + 20, together)) == pytest.approx(best[0], rel=1e-4)
