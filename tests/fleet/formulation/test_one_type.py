"""Fleets of one type of chip for each workload: CP-SAT over columns against HiGHS over whole replicas."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat import Status
from servesat.fleet.check import bill_of
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.one_type import choose_columns, is_choice_of_columns
from servesat.fleet.instance import FleetInstance
from tests.fleet.fleets import instance_of
from tests.strategies import examples

OPTION = {"region": "r", "purchase": "on_demand"}


@st.composite
def fleets(draw: Any) -> dict[str, Any]:
    names = [f"w{number}" for number in range(draw(st.integers(1, 4)))]
    usd = {"x": 1.0, "y": draw(st.sampled_from([0.4, 1.0, 2.5])), "z": 3.0}
    options = []
    for name in names:
        for number in range(draw(st.integers(1, 4))):
            chip, chips = draw(st.sampled_from(["x", "y", "z"])), draw(st.sampled_from([1, 2, 4]))
            rate = draw(st.sampled_from([0.5, 1.0, 1.7, 3.0]))
            of_option = {"workload": name, "name": f"{name}{number}", "chip": chip, "rate": rate, "chips": chips}
            options.append({**OPTION, **of_option, "usd": usd[chip]})
    quotas = {("r", chip): draw(st.sampled_from([0, 2, 5, 9])) for chip in usd if draw(st.booleans())}
    limits = {"n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0, "one_chip": True}
    needs = [{"name": name, "demand": [draw(st.sampled_from([0.0, 1.0, 2.3, 6.0]))], **limits} for name in names]
    return {"hours": [2.0], "needs": needs, "options": options, "quotas": quotas, "budget": None}


@examples(80)
@given(fleets())
def test_the_cheapest_choice_is_that_of_whole_replicas(raw: dict[str, Any]) -> None:
    instance = instance_of(raw)
    assert is_choice_of_columns(instance)
    chosen = choose_columns(instance, None)
    model = FleetModel(instance)
    whole = model.solve(model.usd(), None)
    assert chosen is not None
    assert chosen.status is whole.status
    if chosen.status is Status.OPTIMAL:
        assert chosen.objective == pytest.approx(bill_of(instance, whole), abs=1e-6)
        assert bill_of(instance, chosen) == pytest.approx(chosen.objective)


def test_what_joins_workloads_otherwise_is_no_choice_of_columns() -> None:
    need = {"name": "a", "demand": [1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
    option = {**OPTION, "workload": "a", "name": "o", "chip": "x", "rate": 1.0, "chips": 1, "usd": 1.0}
    raw = {"hours": [1.0], "needs": [{**need, "one_chip": True}], "options": [option], "quotas": {}, "budget": None}

    def of(**changes: Any) -> FleetInstance:
        return instance_of({**raw, **changes})

    assert is_choice_of_columns(of())
    others: list[dict[str, Any]] = [
        {"needs": [need]},
        {"needs": [{**raw["needs"][0], "n_plus": 1}]},
        {"budget": 10.0},
        {"usd_per_change": 1.0},
        {"hours": [1.0, 1.0], "needs": [{**raw["needs"][0], "demand": [1.0, 1.0]}]},
        {"options": [{**option, "purchase": "spot"}]},
        {"options": [option, {**option, "usd": 2.0}]},
    ]
    assert not any(is_choice_of_columns(of(**changes)) for changes in others)
