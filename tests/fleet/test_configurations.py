from pathlib import Path
from typing import Any

import pytest

from servesat import SpecError, Status
from servesat.deployment.solve import solve
from servesat.fleet.configurations import configurations
from servesat.fleet.plan import plan_fleet
from servesat.spec.spec import Spec
from tests.fleet.fleets import CHAT, fleet, in_small_pods

MACHINES = """
name = "Machines of one and of eight"
checked = 2026-11-28
[sources]
default = "a test"
[instances.one]
chip = "h100-sxm"
chips = 1
network_bytes_per_s = 50e9
source = "a test"
[instances.eight]
chip = "h100-sxm"
chips = 8
network_bytes_per_s = 400e9
source = "a test"
[[offers]]
cloud = "x"
instance = "one"
usd_per_instance_hour = 1.0
source = "a test"
[[offers]]
cloud = "x"
instance = "eight"
usd_per_instance_hour = 24.0
source = "a test"
"""


def test_two_pools_are_those_that_stand_in_the_pods() -> None:
    """The best of any shape take a 4x8, which stands in no pod of 4x4."""
    anywhere = plan_fleet(in_small_pods(8, {"modes": ["disaggregated"]}))
    small = {"tpu-v5e": ["1x1", "2x2", "2x4", "4x4"]}
    narrowed = plan_fleet(in_small_pods(8, {"modes": ["disaggregated"], "topologies": small}))
    assert anywhere.status is Status.OPTIMAL
    assert anywhere.total_usd == narrowed.total_usd == pytest.approx(96)


def test_a_shape_that_no_pod_holds_is_not_rented() -> None:
    """One 4x4 serves 16.4 requests/s, one 2x4 6.5; strips of 2x16 hold only those."""
    region: dict[str, Any] = {"quota": {"tpu-v5e": 64}, "price": {"tpu-v5e": {"on_demand": 1.0}}}
    deployment = {**CHAT, "model": "llama-3-70b"}
    given = fleet(regions={"east": region}, workloads={"chat": {"deployment": deployment, "demand": 16}})
    assert plan_fleet(given).total_usd == pytest.approx(16)
    region["pods"] = {"tpu-v5e": {"count": 2, "shape": "2x16"}}
    result = plan_fleet(given)
    assert result.total_usd == pytest.approx(24)
    assert [str(block.slice) for _, block in result.placement_maps[0].placed] == ["2x4"] * 3


def test_a_configuration_is_the_best_of_its_slice() -> None:
    spec = Spec.load(CHAT)
    found = configurations(spec, ["tpu-v5e"], keep_dominated=True)
    assert [one.chips for one in found] == [1, 4, 8, 16, 32, 64, 128, 256][: len(found)]
    for one in found:
        assert one.plan is not None
        assert one.requests_per_s == one.plan.requests_per_s
        assert one.plan.tpot_ms <= 30
    few = configurations(spec, ["tpu-v5e"])
    assert set(few) <= set(found)
    assert [one.requests_per_s for one in few] == sorted(one.requests_per_s for one in few)


def test_configurations_hold_the_constraints_of_the_deployment() -> None:
    free = fleet(workloads={"chat": {"deployment": CHAT, "demand": 20}})
    held = fleet(workloads={"chat": {"deployment": {**CHAT, "constraints": ["batch % 8 == 3"]}, "demand": 20}})
    plans = [[one.option.configuration.plan for one in plan_fleet(given).allocations] for given in (free, held)]
    batches = [{plan.batch % 8 for plan in of_fleet if plan is not None} for of_fleet in plans]
    assert batches[0] != {3}
    assert batches[1] == {3}


@pytest.mark.parametrize("name", ["cloud == gcp", "region != us-east-1", "purchase != spot", "usd_per_hour <= 10"])
def test_a_deployment_of_a_fleet_cannot_constrain_what_the_fleet_rents(name: str) -> None:
    given = fleet(workloads={"chat": {"deployment": {**CHAT, "constraints": [name]}, "demand": 20}})
    with pytest.raises(SpecError) as fault:
        plan_fleet(given)
    named = name.partition(" ")[0]
    assert f"deployment.constraints.0 = {name!r}: names {named}, which a fleet decides" in str(fault.value)


H200_FOR_ANSWERS = {
    "model": "llama-3.1-70b", "workload": {"prompt_tokens": 2000, "output_tokens": 300},
    "slo": {"tpot_ms": 30, "ttft_ms": 600}, "search": {"modes": ["interleaved", "disaggregated"], "chips": ["h200"]},
}  # fmt: skip


@pytest.mark.parametrize("demand", [5, 20, 60])
def test_two_pools_are_sized_for_what_is_asked(demand: float) -> None:
    """The cheapest two pools for each token are 9 x 2x1 beside 38 x 1x1, far more than one workload may need."""
    region = {"price": {"h200": {"on_demand": 3.59}}, "quota": {"h200": 64}}
    given = {
        "regions": {"e": region}, "buy": "share",
        "workloads": {"a": {"deployment": H200_FOR_ANSWERS, "demand": demand}},
    }  # fmt: skip
    alone = Spec.load({**H200_FOR_ANSWERS, "price": {"h200": 3.59}}).changed(
        {"workload.requests_per_s": demand, "slo.percentile": "mean", "utilisation": 0.85}
    )
    assert plan_fleet(given).total_usd == pytest.approx(solve(alone).plan.usd_per_hour)


def test_two_pools_are_of_slices_that_the_machines_hold() -> None:
    """RunPod sells H200 one by one, at $3.59: 5 decode and 6 prefill for 20 requests/s."""
    two_pools = {**H200_FOR_ANSWERS, "search": {"modes": ["disaggregated"], "chips": ["h200"]}}
    regions = {"e": {"price_cloud": "runpod", "quota": {"h200": 64}}}
    result = plan_fleet({"regions": regions, "workloads": {"a": {"deployment": two_pools, "demand": 20}}})
    assert result.status is Status.OPTIMAL
    (found,) = result.allocations
    pools = found.option.configuration.plan
    assert (pools.slices, pools.topology, pools.prefill.slices, pools.prefill.topology) == (5, "1x1", 6, "1x1")


def test_machines_are_named_that_have_the_network_that_two_pools_need() -> None:
    """Azure sells eight MI300X with a network and without one that is stated, for the same price."""
    asked = {"model": "llama-3.1-70b", "workload": {"prompt_tokens": 1000, "output_tokens": 200}}
    regions = {"e": {"price_cloud": "azure", "price_region": "eastus2", "quota": {"mi300x": 64}}}
    workloads = {
        mode: {"deployment": {**asked, "search": {"modes": [mode], "chips": ["mi300x"]}}, "demand": 10}
        for mode in ("chunked", "disaggregated")
    }
    result = plan_fleet({"regions": regions, "workloads": workloads})
    assert {one.option.machine.name for one in result.allocations} == {"Standard_ND96isr_MI300X_v5"}


def test_two_pools_leave_smaller_slices_that_need_no_network() -> None:
    """On L40S two pools serve more on as many chips as two slices, and stand on none of AWS's instances."""
    spec = Spec.load(
        {
            "cost_model": "ideal", "model": "qwen3-32b", "slo": {"tpot_ms": 45},
            "workload": {"prompt_tokens": 1000, "output_tokens": 500}, "search": {"chips": ["l40s"]},
        }
    )  # fmt: skip
    both = {one.name for one in configurations(spec, ["l40s"])}
    alone = {one.name for one in configurations(spec.in_one_pool(), ["l40s"])}
    assert alone < both


@pytest.mark.parametrize(("demand", "usd"), [(3, 4.0), (11, 11.0)])
def test_larger_slices_do_not_displace_those_that_cheaper_machines_hold(
    demand: float, usd: float, tmp_path: Path
) -> None:
    """Two GPUs together stand in machines at $3 a chip alone, single ones in machines at $1."""
    book = tmp_path / "book.toml"
    book.write_text(MACHINES)
    two_pools = {**CHAT["search"], "modes": ["disaggregated"]}  # type: ignore[dict-item]
    lengths = {"prompt_tokens": 1000, "output_tokens": 1000}
    deployment = {**CHAT, "model": "llama-3-70b", "workload": lengths, "slo": {"tpot_ms": 60}, "search": two_pools}
    chat = {"deployment": deployment, "chips": ["h100-sxm"], "demand": demand}
    given = fleet(regions={"east": {"price_book": str(book)}}, workloads={"chat": chat})
    of_single = {**two_pools, "topologies": {"h100-sxm": ["1x1"]}}
    narrow = fleet(**{**given, "workloads": {"chat": chat | {"deployment": deployment | {"search": of_single}}}})
    whole, single = plan_fleet(given), plan_fleet(narrow)
    assert whole.total_usd == pytest.approx(usd)
    assert single.total_usd == pytest.approx(usd)
