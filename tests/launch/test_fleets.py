"""What starts a fleet: every replica of the busiest period, on the machines that it is planned for."""

from typing import Any

import pytest
import yaml

from servesat.fleet.plan import plan_fleet
from servesat.fleet.spec import FleetSpec
from servesat.launch import compose
from servesat.launch.fleets import fleet_launches

TWO_MACHINES = {
    "name": "test",
    "instances": {
        name: {"chip": "l40s", "chips": chips, "source": "test"} for name, chips in (("one", 1), ("eight", 8))
    },
    "offers": [
        {"instance": "one", "usd_per_instance_hour": 1.5, "source": "test"},
        {"instance": "eight", "usd_per_instance_hour": 8.0, "source": "test"},
    ],
}

ON_L40S: dict[str, Any] = {
    "periods_h": [8, 16],
    "regions": {"east": {"price_book": TWO_MACHINES}},
    "workloads": {
        "completion": {
            "chips": ["l40s"],
            "demand": [10, 40],
            "deployment": {
                "model": "llama-3-8b",
                "engine": "vllm",
                "speculative": "none",
                "workload": {"prompt_tokens": 2048, "output_tokens": 64},
                "slo": {"tpot_ms": 30},
                "search": {
                    "topologies": {"l40s": ["1x1"]}, "weights": "fp8", "kv_cache": "fp8", "compute": "fp8",
                    "modes": ["interleaved"],
                },
            },
        }
    },
}  # fmt: skip


def test_replicas_of_one_configuration_on_two_machines_are_all_started() -> None:
    """Of nine replicas eight stand in a machine of eight GPUs; of each machine as many as its busiest period has."""
    fleet = FleetSpec.load(ON_L40S)
    result = plan_fleet(fleet)
    replicas = {(one.period, one.option.machine.name): one.replicas for one in result.allocations if one.option.machine}
    assert replicas == {(0, "one"): 3, (1, "one"): 1, (1, "eight"): 8}
    launches = list(fleet_launches(fleet, result))
    assert {launch.servers[0].instance: launch.servers[0].count for launch in launches} == {"one": 3, "eight": 8}
    assert {launch.servers[0].instance: launch.servers[0].machine_chips for launch in launches} == {
        "one": 1,
        "eight": 8,
    }
    for launch in launches:
        services = yaml.safe_load(compose.files(launch)["compose.yaml"])["services"]
        assert len(services) == launch.servers[0].machine_chips
        usd_per_chip_hour = {"one": 1.5, "eight": 1.0}[str(launch.servers[0].instance)]
        counted_on = 0.85 * launch.plan.tokens_per_s_per_chip
        usd_per_million = usd_per_chip_hour / 3600 / counted_on * 1e6
        assert launch.plan.usd_per_million_output_tokens == pytest.approx(usd_per_million)


def test_workloads_whose_names_are_alike_start_under_names_of_their_own() -> None:
    workload = ON_L40S["workloads"]["completion"]
    names = ["chat_eu", "chat-eu", "summaries-of-legal-documents-of-customers-in-europe", "chat-eu-2", "要約", "翻訳"]
    fleet = FleetSpec.load({**ON_L40S, "workloads": dict.fromkeys(names, workload)})
    launches = [launch.name for launch in fleet_launches(fleet, plan_fleet(fleet))]
    assert len(set(launches)) == len(launches) >= len(names)
    assert launches[0] == "chat-eu-1"
    assert launches[-2:] == ["model-1", "model-2-1"]
    assert all(len(name) <= 40 for name in launches)


def test_a_server_stands_in_the_region_of_its_cloud() -> None:
    """The fleet calls it east; the price that it pays has no region, so that the one asked for counts."""
    regions = {"east": {"price_cloud": "aws", "price_region": "us-east-1"}}
    fleet = FleetSpec.load({**ON_L40S, "regions": regions})
    servers = [launch.servers[0] for launch in fleet_launches(fleet, plan_fleet(fleet))]
    assert {(server.cloud, server.region) for server in servers} == {("aws", "us-east-1")}


def test_a_server_admits_the_largest_batch_of_every_size_that_it_serves() -> None:
    workload = ON_L40S["workloads"]["completion"]
    deployment = {key: value for key, value in workload["deployment"].items() if key != "workload"}
    sizes = {
        "short": {"prompt_tokens": 300, "output_tokens": 200, "demand": [2, 4]},
        "long": {"prompt_tokens": 6000, "output_tokens": 100, "demand": [0.2, 0.4]},
    }
    shared = {"chips": ["l40s"], "deployment": deployment, "sizes": sizes}
    fleet = FleetSpec.load({**ON_L40S, "workloads": {"chat": shared}})
    result = plan_fleet(fleet)
    (launch,) = fleet_launches(fleet, result)
    plans = result.allocations[0].option.configuration.plans
    assert plans["short"].batch > plans["long"].batch
    (server,) = launch.servers
    assert (server.sequences, server.context_tokens, server.prompt_tokens) == (plans["short"].batch, 6100, 6000)
    assert (launch.plan.batch, launch.spec.workload.prompt_tokens) == (plans["short"].batch, 300)
    batches = f"{plans['short'].batch} of short, {plans['long'].batch} of long"
    assert f"sizes      batches of {batches}: the flags admit all; the benchmark sends short" in launch.notes
