"""Mixtures of covers of one workload in one period, on a quota that is wide or tight."""

from dataclasses import replace

import pytest

from servesat.fleet.decomposition.master import Cover, Master
from servesat.fleet.decomposition.options import MasterOptions
from tests.fleet.fleets import instance_of


@pytest.fixture(params=["simplex", "first order"])
def options(request: pytest.FixtureRequest) -> MasterOptions:
    """Few covers are mixed by the one, many by the other."""
    return MasterOptions(max_simplex_covers=1000 if request.param == "simplex" else 0)


def master(quota: int, options: MasterOptions) -> tuple[Master, list[Cover]]:
    """Twelve covers of one replica, the n-th of 12 - n chips at 100 + n² / 10 dollars: fewer chips cost ever more."""
    need = {"name": "a", "demand": [1.0], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0}
    replicas = [
        {"workload": "a", "name": f"c{n}", "chip": "x", "region": "r", "purchase": "on_demand", "rate": 1.0,
         "chips": 12 - n, "usd": (100 + n**2 / 10) / (12 - n)}
        for n in range(12)
    ]  # fmt: skip
    instance = instance_of(
        {"hours": [1.0], "needs": [need], "options": replicas, "quotas": {("r", "x"): quota}, "budget": None}
    )
    return Master(instance, [("r", "x")], options), [Cover(0, 0, ((n, 1),)) for n in range(12)]


def test_the_cheapest_cover_is_taken_where_there_is_room_and_the_next_ones_are_promising(
    options: MasterOptions,
) -> None:
    wide, covers = master(20, replace(options, promising_covers=8))
    mixed = wide.solve_with(covers, 20.0)
    assert mixed is not None
    assert mixed[0] == pytest.approx(100, rel=1e-3)
    assert wide.promising() == covers[:8]


def test_a_tight_quota_has_a_price_and_its_mixture_is_promising(options: MasterOptions) -> None:
    """The cover of three chips costs $108.1, those of four and two $1.7 less and $1.9 more."""
    tight, covers = master(3, replace(options, promising_covers=0, min_promising_per_block=0))
    mixed = tight.solve_with(covers, 20.0)
    assert mixed is not None
    usd, scarce, _ = mixed
    assert usd == pytest.approx(108.1, rel=1e-3)
    assert 1.7 - 0.1 <= scarce.item() <= 1.9 + 0.1
    assert covers[9] in tight.promising()
    assert {cover.replicas[0][0] for cover in tight.promising()} <= {8, 9, 10}


def test_not_to_serve_costs_twice_the_cheapest_cover_in_whatever_order_they_come(options: MasterOptions) -> None:
    none, covers = master(0, options)
    mixed = none.solve_with(covers[::-1], 20.0)
    assert mixed is not None
    assert none.has_unserved
    assert mixed[0] == pytest.approx(200, rel=1e-3)
