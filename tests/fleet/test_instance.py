import pytest

from servesat import SpecError, Status
from servesat.fleet.plan import plan_fleet
from servesat.spec.spec import Spec
from tests.fleet.fleets import CHAT, chat, fleet, one_region


@pytest.mark.parametrize(("demand", "replicas"), [(3, 3), (1000, 1000), (1e5, 100_000), (0.25, 1), (1e-9, 1)])
def test_a_demand_of_whole_replicas_takes_as_many(demand: float, replicas: int) -> None:
    rate = plan_fleet(fleet(regions=one_region(10), workloads=chat(1.0))).allocations[0].option.requests_per_s
    result = plan_fleet(fleet(regions=one_region(replicas), workloads=chat(demand * rate)))
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(replicas)


@pytest.mark.parametrize(("usd", "most", "total"), [(10.0, 4.0, None), (0.5, 2.0, 2.0)])
def test_what_a_replica_may_cost_is_at_the_price_of_its_region(usd: float, most: float, total: float | None) -> None:
    """31 requests/s are five single chips, or one 2x2."""
    asked = {"topologies": {"tpu-v5e": ["1x1", "2x2"]}, "max_usd_per_hour": most}
    result = plan_fleet(fleet(regions=one_region(100, usd), workloads=chat(31, asked)))
    assert result.total_usd == (None if total is None else pytest.approx(total))


def test_what_a_chip_costs_is_the_regions_to_say() -> None:
    """The L4 has no list price; a deployment of its own that names it is refused."""
    region = {"east": {"price": {"l4": {"on_demand": 0.7}}, "quota": {"l4": 8}}}
    deployment = {**CHAT, "slo": {"tpot_ms": 200}, "search": {"chips": ["l4"], "weights": ["int8"]}}
    with pytest.raises(SpecError, match="l4 has no price"):
        Spec.load(deployment)
    priced = {"chat": {"deployment": {**deployment, "price": {"l4": 0.1}}, "demand": 0.1}}
    with pytest.raises(SpecError, match=r"workloads.chat.deployment.price: expected none; regions say where chips are"):
        plan_fleet(fleet(regions=region, workloads=priced))
    for search in (deployment["search"], {"weights": ["int8"]}):
        workloads = {"chat": {"deployment": {**deployment, "search": search}, "demand": 0.1}}
        assert plan_fleet(fleet(regions=region, workloads=workloads)).total_usd == pytest.approx(0.7)
