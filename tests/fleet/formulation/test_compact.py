from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from servesat import Status
from servesat.fleet.configurations import Configuration
from servesat.fleet.conflict import minimal_conflict
from servesat.fleet.decomposition.covers import Covers
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.instance import RESOLUTION, FleetInstance, ReplicaOption, WorkloadDemand
from servesat.fleet.instance_from_spec import fleet_instance
from servesat.fleet.plan import plan_fleet, plan_instance
from servesat.fleet.spec import FleetSpec
from tests.fleet.fleets import fleet, instance_of, is_that_of_enumeration, small_fleets
from tests.helpers import ROOT
from tests.strategies import examples


@pytest.mark.slow
@examples(150)
@given(small_fleets())
def test_a_fleet_is_that_of_enumeration(raw: dict[str, Any]) -> None:
    is_that_of_enumeration(raw)


def test_spare_replicas_for_a_large_one_may_be_many_small_ones() -> None:
    """Two of the large one may fail, whatever serves: 14 small ones beside one large one make up for it."""
    raw = {
        "hours": [1.0],
        "needs": [{"name": "a", "demand": [2.0], "n_plus": 2, "max_share_per_region": 0.0, "max_spot_share": 1.0}],
        "options": [
            {"workload": "a", "name": "small", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
             "chips": 1, "usd": 1.0},
            {"workload": "a", "name": "large", "chip": "y", "region": "q", "purchase": "on_demand", "rate": 6.0,
             "chips": 1, "usd": 20.0},
        ],
        "quotas": {("q", "y"): 1},
        "budget": None,
    }  # fmt: skip
    result = plan_instance(instance_of(raw), inf)
    assert result.total_usd == pytest.approx(20 + 8)  # 8 + 6 - 2 * 6 is the demand


def test_a_quota_leaves_what_other_workloads_have_not_taken() -> None:
    """Four replicas on six chips of which others hold five: one at 1 USD, and the other three elsewhere at 5 USD."""
    raw = {
        "hours": [1.0],
        "needs": [{"name": "a", "demand": [4.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}],
        "options": [
            {"workload": "a", "name": "c", "chip": "x", "region": region, "purchase": "on_demand", "rate": 1.0,
             "chips": 1, "usd": usd}
            for region, usd in (("r", 1.0), ("q", 5.0))
        ],
        "quotas": {("r", "x"): 6},
        "budget": None,
    }  # fmt: skip
    alone = instance_of(raw)
    assert plan_instance(alone, inf).total_usd == pytest.approx(4 * 1)
    beside = replace(alone, occupied_chips={("r", "x"): [5]})
    assert plan_instance(beside, inf).total_usd == pytest.approx(1 + 3 * 5)


def test_a_fleet_on_which_presolve_fails_is_explained() -> None:
    """The example with too little, with its demand cut to what it has room for, but for a rounding."""
    raw = yaml.safe_load((ROOT / "examples" / "fleet-too-little.yaml").read_text())
    share = 0.5680722568072256
    for workload in raw["workloads"].values():
        workload["demand"] *= share * 1.0000001
    assert plan_fleet(raw).status is Status.INFEASIBLE


@pytest.mark.slow
@examples(60)
@given(
    st.lists(st.tuples(st.floats(0.05, 8), st.floats(0.7, 1.6)), min_size=3, max_size=24),
    st.sampled_from([0.3, 1.0, 5.0, 30.0, 1000.0]),
    st.sampled_from([0, 1, 2]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_replicas_of_any_size_are_the_cheapest_cover(
    sizes: list[tuple[float, float]], replicas: float, spare: int, kept: float
) -> None:
    """One workload alone, against the dynamic program: large numbers must not blur what is optimal."""
    unit = max(RESOLUTION / max(replicas, 1), 1e5)  # of a replica of size 1
    demand = round(unit * replicas)
    need = WorkloadDemand("w", (demand,), (1.0,), 1.0, spare, None, 1 - kept, False, 1)
    options = tuple(
        ReplicaOption(
            workload="w",
            configuration=Configuration(f"c{number}", f"x{number}", 1, 1.0),
            region="r",
            purchase="spot" if number % 2 else "on_demand",
            usd_per_chip_hour=size * usd,
            requests_per_s=1.0,
            capacity=int(size * unit),
        )
        for number, (size, usd) in enumerate(sizes)
    )
    model = FleetModel(FleetInstance((need,), options, (1.0,), {}, None))
    capacity = np.array([[option.capacity / demand for option in options]])
    spot = np.array([option.purchase == "spot" for option in options])
    covers = Covers(capacity, spot, np.array([kept]), np.array([spare]))
    price = np.array([[option.usd_per_chip_hour for option in options]])
    (least,), (usd,), _ = covers.cheapest(price, (4000, 32_000))
    found = model.solve(model.usd(), None)
    assert found.status is Status.OPTIMAL
    assert least * (1 - 1e-9) <= found.objective <= usd * (1 + 1e-9)


def test_a_model_that_is_not_built_in_time_is_unknown() -> None:
    raw = fleet()
    instance = fleet_instance(FleetSpec.load(raw))
    late = FleetModel(instance, deadline=0.0)
    assert late.solve(late.usd(), None).status is Status.UNKNOWN
    assert minimal_conflict(replace(instance, quotas=dict.fromkeys(instance.quotas, 0)), 0.0) is None
    assert plan_fleet(raw, time_limit_s=1e-9).status is Status.UNKNOWN


def test_many_slices_that_do_not_nest_fill_instances() -> None:
    """40 slices of 4 and 80 of 3 stand in 40 instances of 10: as 4 + 3 + 3, where first-fit takes 47."""
    options = [
        {"workload": name, "name": name, "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
         "chips": chips, "usd": 1.0, "machine": (10, 10.0), "slice": (1, chips)}
        for name, chips in (("a", 4), ("b", 3))
    ]  # fmt: skip
    needs = [
        {"name": name, "demand": [demand], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
        for name, demand in (("a", 40.0), ("b", 80.0))
    ]
    raw = {"hours": [1.0], "needs": needs, "options": options, "quotas": {("r", "x"): 400}, "budget": None}
    result = plan_instance(instance_of(raw), inf)
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(400.0)
    assert [rental.instances for rental in result.rentals] == [40]
