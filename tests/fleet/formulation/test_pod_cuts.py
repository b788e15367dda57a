from math import inf
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from servesat import Status
from servesat.cli import app
from servesat.fleet.formulation import pod_cuts
from servesat.fleet.formulation.pod_cuts import PodConstraints
from servesat.fleet.plan import plan_fleet, plan_instance
from tests.fleet.fleets import in_small_pods, instance_of
from tests.oracles import fleet as fleet_oracle
from tests.strategies import examples


@st.composite
def fleets_in_pods(draw: Any) -> dict[str, Any]:
    """Two workloads, each with its slices, in pods that they about fill by count."""
    shape, sizes = draw(
        st.sampled_from(
            [
                ((3, 3), [(2, 2), (1, 3), (1, 1), (2, 3), (1, 2)]),
                ((4, 4), [(1, 4), (2, 2), (3, 3), (2, 3), (1, 3)]),
                ((3, 5), [(2, 2), (1, 5), (2, 3), (1, 4)]),
            ]
        )
    )
    rates = st.sampled_from([1.0, 1.5, 0.5, 0.75])
    options = [
        {
            "workload": name, "name": f"config{number}", "chip": "x", "region": "east", "purchase": "on_demand",
            "slice": one, "chips": one[0] * one[1], "rate": one[0] * one[1] * draw(rates),
            "usd": 1.0,
        }
        for name in ("a", "b")
        for number, one in enumerate(draw(st.lists(st.sampled_from(sizes), min_size=1, max_size=2, unique=True)))
    ]  # fmt: skip
    hours = [1.0] * (2 if len(options) == 2 else 1)
    rate = {name: [option["rate"] for option in options if option["workload"] == name] for name in ("a", "b")}
    needs = [
        {
            "name": name,
            "demand": [
                min(draw(st.sampled_from([1.0, 2.0, 0.5, 1.5])) * max(rate[name]), fleet_oracle.MOST * min(rate[name]))
                for _ in hours
            ],
            "n_plus": 0,
            "max_share_per_region": None,
            "max_spot_share": 1.0,
        }
        for name in ("a", "b")
    ]
    pods = {("east", "x"): (shape, draw(st.integers(1, 2)))}
    return {"hours": hours, "needs": needs, "options": options, "quotas": {}, "budget": None, "pods": pods}


@pytest.mark.slow
@pytest.mark.parametrize("measured", [True, False])
def test_a_fleet_in_pods_is_that_of_joint_enumeration(measured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every measure of what packs as a row, and with the number of chips alone, so that collisions decide."""
    rounds = []
    forbid = PodConstraints.forbid_collisions
    monkeypatch.setattr(PodConstraints, "forbid_collisions", lambda *given: rounds.append(forbid(*given)) or rounds[-1])
    if not measured:
        monkeypatch.setattr(
            pod_cuts,
            "packing_inequalities",
            lambda shape, slices: ((tuple(one.chips for one in slices), shape[0] * shape[1]),),
        )

    @examples(150)
    @given(fleets_in_pods())
    def agrees(raw: dict[str, Any]) -> None:
        result, best = plan_instance(instance_of(raw), inf), fleet_oracle.goals(raw)
        if best is None:
            conflict = {(limit.kind, *limit.of) for limit in result.conflict or ()}
            assert not fleet_oracle.has_fleet(raw, conflict)
            assert all(fleet_oracle.has_fleet(raw, conflict - {limit}) for limit in conflict)
        else:
            assert result.status is Status.OPTIMAL
            assert result.total_usd == pytest.approx(best[0], abs=2e-6)

    agrees()
    assert any(rounds) or measured


def test_a_packing_that_is_not_decided_is_told_apart_from_a_time_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pod_cuts, "collision", lambda pods, slices, until: (slices, False) if slices else None)
    raw = in_small_pods(8, {"modes": ["chunked"]})
    result = plan_fleet(raw)
    assert (result.status, result.undecided) == (Status.UNKNOWN, True)
    (tmp_path / "fleet.yaml").write_text(yaml.safe_dump(raw))
    told = CliRunner().invoke(app, ["fleet", str(tmp_path / "fleet.yaml")])
    assert "it was not decided whether the slices stand in their pods" in told.output
