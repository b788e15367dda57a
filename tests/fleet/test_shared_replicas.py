import json
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from servesat import SpecError, Status
from servesat.cli import app
from servesat.fleet.conflict import minimal_conflict
from servesat.fleet.plan import plan_fleet, plan_instance
from servesat.fleet.policies import compared
from servesat.fleet.shared_replicas import shared_configurations
from servesat.fleet.spec import FleetSpec
from servesat.report.documents import dumps
from servesat.spec.spec import Spec
from tests.fleet.fleets import (
    conflict_is_true_and_minimal,
    fleets_of_two_sizes,
    instance_of,
    is_that_of_enumeration,
)
from tests.oracles import requests as requests_oracle
from tests.strategies import examples
from tests.whole_requests import small_specs


def melange(rate: float) -> dict[str, Any]:
    """The toy that Mélange's authors published (arXiv 2404.14527): requests of four sizes on A10G and A100."""
    rates = {"a10g": (2.0, 1.0, 5.0, 2.0), "a100": (20.0, 20.0, 40.0, 20.0)}
    return {
        "hours": [1.0],
        "needs": [
            {"name": "a", "demand": [rate], "n_plus": 0, "max_share_per_region": None, "max_spot_share": 1.0,
             "shares": [(0.2, 0.1, 0.5, 0.2)]},
        ],
        "options": [
            {"workload": "a", "name": chip, "chip": chip, "region": "r", "purchase": "on_demand", "rate": 1.0,
             "chips": 1, "usd": usd, "rates": rates[chip]}
            for chip, usd in (("a10g", 1.01), ("a100", 3.67))
        ],
        "quotas": {},
        "budget": None,
    }  # fmt: skip


def test_sizes_share_replicas_as_in_melange() -> None:
    """An A100 has time for all but 5 requests/s of the third size, which are an A10G's whole time."""
    result = plan_instance(instance_of(melange(30.0)), inf)
    assert result.status is Status.OPTIMAL
    assert result.total_usd == pytest.approx(4.68)
    small, large = result.allocations
    assert (small.replicas, large.replicas) == (1, 1)
    assert small.requests_per_s == pytest.approx((0, 0, 5, 0), abs=1e-6)
    assert large.requests_per_s == pytest.approx((6, 3, 10, 6))


@pytest.mark.parametrize(("rate", "usd"), [(30.00001, 5.69), (30 / 1.125, 3.67), (5.0, 2.02), (1.0, 1.01)])
def test_a_replica_has_no_more_than_all_of_its_time(rate: float, usd: float) -> None:
    assert plan_instance(instance_of(melange(rate)), inf).total_usd == pytest.approx(usd)


@pytest.mark.slow
@examples(150)
@given(fleets_of_two_sizes())
def test_a_fleet_of_two_sizes_is_that_of_enumeration(raw: dict[str, Any]) -> None:
    is_that_of_enumeration(raw)


@pytest.mark.slow
@examples(60)
@given(fleets_of_two_sizes())
def test_conflicts_of_two_sizes_are_true_and_minimal(raw: dict[str, Any]) -> None:
    conflict_is_true_and_minimal(raw)


def test_spare_replicas_are_in_conflict_with_a_quota_only_where_something_is_served() -> None:
    raw = melange(10.0)
    raw["needs"][0]["n_plus"] = 1
    raw["quotas"] = {("r", "a10g"): 0, ("r", "a100"): 1}
    found = minimal_conflict(instance_of(raw)) or ()
    quotas = {("quota", "r", "a10g"), ("quota", "r", "a100")}
    assert {(limit.kind, *limit.of) for limit in found} == {("demand", "a"), ("n_plus", "a"), *quotas}
    assert plan_instance(instance_of({**raw, "quotas": {("r", "a100"): 2}}), inf).total_usd == pytest.approx(5 * 1.01)


@pytest.mark.slow
@examples(60)
@given(small_specs(["interleaved", "chunked"], 12), st.tuples(st.sampled_from([40, 700]), st.sampled_from([8, 300])))
def test_shared_configurations_are_the_programs_that_no_other_makes_up_for(
    raw: dict[str, Any], other: tuple[int, int]
) -> None:
    """Every program at every batch, in plain loops: for each size the most that it serves, of all sizes together."""
    workload = {name: value for name, value in raw["workload"].items() if name != "requests_per_s"}
    search = {name: value for name, value in raw["search"].items() if name not in {"quota", "max_usd_per_hour"}}
    sizes = [
        {**raw, "search": search, "workload": {**workload, "prompt_tokens": prompt, "output_tokens": output}}
        for prompt, output in ((workload["prompt_tokens"], workload["output_tokens"]), other)
    ]
    chips = [chip["name"] for chip in search["chips"]]
    specs = {f"size{number}": Spec.load(size) for number, size in enumerate(sizes)}
    found = shared_configurations(specs, chips, pods={})
    programs = programs_of(sizes)
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert one.size_rates in [pytest.approx(rates) for chip, count, rates in programs if chip == one.chip]
        for name, plan in one.plans.items():
            assert specs[name].utilisation * plan.requests_per_s in [pytest.approx(rate) for rate in one.size_rates]
    for chip, count, rates in programs:
        assert any(
            one.chip == chip and one.chips <= count and np.all(np.array(one.size_rates) >= np.array(rates) * (1 - 1e-8))
            for one in found
        )
    for one, two in product(found, found):
        makes_up = (
            one.chip == two.chip and one.chips <= two.chips and np.all(np.array(one.size_rates) >= two.size_rates)
        )
        assert one is two or not makes_up


GPUS = {"l40s": 1.6, "h100-sxm": 4.5}
LLAMA = {"cost_model": "ideal", "model": "llama-3-8b", "slo": {"tpot_ms": 50, "ttft_ms": 1000}, "headroom": 0.2}
SHORT = {"prompt_tokens": 200, "output_tokens": 100, "demand": [60, 200]}
LONG = {"prompt_tokens": 8000, "output_tokens": 400, "demand": [4, 9], "slo": {"ttft_ms": 4000}}


def fleet(quota: dict[str, int] | None = None, **workload: Any) -> dict[str, Any]:
    """A workload of short and long requests on GPUs, with keys in place of its own."""
    price = {chip: {"on_demand": usd} for chip, usd in GPUS.items()}
    region = {"price": price, "quota": dict.fromkeys(GPUS, 100) if quota is None else quota}
    chat = {"deployment": LLAMA, "sizes": {"short": SHORT, "long": LONG}} | workload
    return {"periods_h": [12, 12], "regions": {"us": region}, "workloads": {"chat": chat}}


def test_each_size_is_served_within_its_own_limits() -> None:
    result = plan_fleet(fleet())
    assert result.status is Status.OPTIMAL
    (need,) = result.instance.workloads
    assert need.requests_per_s == (64, 209)
    assert need.size_demand(1) == pytest.approx((200, 9))
    for period in range(2):
        mine = [one for one in result.allocations if one.period == period]
        short, long = (sum(one.requests_per_s[size] for one in mine) for size in range(2))
        assert short >= need.size_demand(period)[0] * (1 - 1e-8)
        assert short / long == pytest.approx(need.size_demand(period)[0] / need.size_demand(period)[1])
        for one in mine:
            rates = zip(one.requests_per_s, one.option.size_rates, strict=True)
            assert sum(served / rate for served, rate in rates if rate) <= one.replicas * (1 + 1e-9)
    for one in result.allocations:
        plans = one.option.configuration.plans
        assert all(plan.ttft_ms <= limit for plan, limit in zip(plans.values(), (1000, 4000), strict=True))
        assert len({(plan.mode, plan.chunk_tokens, plan.weights, plan.topology) for plan in plans.values()}) == 1


def test_one_size_alone_costs_what_a_workload_without_sizes_does() -> None:
    alone = plan_fleet(fleet(sizes={"short": SHORT}))
    deployment = {**LLAMA, "workload": {"prompt_tokens": 200, "output_tokens": 100},
                  "search": {"modes": ["interleaved", "chunked"]}}  # fmt: skip
    plain = fleet()
    plain["workloads"]["chat"] = {"deployment": deployment, "demand": SHORT["demand"]}
    assert alone.total_usd == pytest.approx(plan_fleet(plain).total_usd)


def test_sharing_replicas_costs_no_more_than_replicas_of_its_own_for_each_size() -> None:
    result = plan_fleet(fleet())
    costs = {policy.name: policy.total_usd for policy in compared(result).policies}
    apart = costs["replicas of its own for each size of requests, in one pool"]
    alone = [plan_fleet(fleet(sizes={name: size})).total_usd for name, size in (("short", SHORT), ("long", LONG))]
    assert apart == pytest.approx(sum(usd or 0.0 for usd in alone))
    assert result.total_usd is not None
    assert result.total_usd < apart
    assert costs["a static fleet, sized for the peak"] > result.total_usd


@pytest.mark.parametrize("names", [["short", "long"], ["long", "short"]])
def test_the_service_levels_of_one_size_are_not_those_of_another(names: list[str]) -> None:
    sizes = {"short": {**SHORT, "slo": {"tpot_ms": 20}}, "long": LONG}
    spec = FleetSpec.load(fleet(sizes={name: sizes[name] for name in names})).workloads["chat"]
    levels = {name: (own.slo.tpot_ms, own.slo.ttft_ms) for name, own in spec.deployments.items()}
    assert levels == {"short": (20, 1000), "long": (50, 4000)}


def test_the_length_of_a_size_is_its_own_whatever_the_deployment_says() -> None:
    workload = {"context_tokens": 300, "prompt_tokens": 7, "output_tokens": 9}
    spec = FleetSpec.load(fleet(deployment={**LLAMA, "workload": workload})).workloads["chat"]
    assert {name: own.workload.held_tokens for name, own in spec.deployments.items()} == {"short": 300, "long": 8400}


@pytest.mark.parametrize("demand", [1e-9, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("other", [1.0, 1e-6, 1000.0])
def test_next_to_no_demand_takes_one_replica(demand: float, other: float) -> None:
    sizes = {"short": {**SHORT, "demand": [demand, demand * other]}, "long": {**LONG, "demand": demand}}
    raw = fleet(sizes=sizes) | {"periods_h": [1, 1]}
    assert plan_fleet(raw).total_usd == pytest.approx(2 * GPUS["l40s"])


def test_a_quiet_night_takes_one_replica() -> None:
    busy = fleet(sizes={"short": {**SHORT, "demand": [1000, 1e-6]}, "long": {**LONG, "demand": [0, 1e-6]}})
    result = plan_fleet(busy)
    assert [(one.option.configuration.chip, one.replicas) for one in result.allocations if one.period == 1] == [
        ("l40s", 1)
    ]


def test_sizes_apart_are_not_taken_for_another_workload() -> None:
    raw = fleet({"l40s": 1000, "h100-sxm": 1000})
    plain = {"deployment": {**LLAMA, "workload": {"prompt_tokens": 200, "output_tokens": 100}}, "demand": 500}
    raw["workloads"]["chat, short"] = plain
    result = plan_fleet(raw)
    costs = {policy.name: policy.total_usd for policy in compared(result).policies}
    assert result.total_usd is not None
    assert (costs["replicas of its own for each size of requests, in one pool"] or 0) > result.total_usd


def test_spare_replicas_are_asked_for_of_what_is_used() -> None:
    """Every configuration of a chip may fail once; of those not used there are no rows, so it ends in a moment."""
    plain, spare = plan_fleet(fleet()), plan_fleet(fleet(n_plus=1))
    assert spare.status is Status.OPTIMAL
    assert (plain.total_usd or 0) < (spare.total_usd or 0) <= (plain.total_usd or 0) + 2 * 24 * 4.5


def test_what_is_not_served_is_of_all_sizes_alike() -> None:
    result = plan_fleet(fleet({"l40s": 1}), degrade=True)
    assert result.unserved is not None
    (need,) = result.instance.workloads
    for period, missing in enumerate(result.unserved["chat"]):
        mine = [one.requests_per_s for one in result.allocations if one.period == period]
        left = [rate * (1 - missing / need.requests_per_s[period]) for rate in need.size_demand(period)]
        assert [sum(served) for served in zip(*mine, strict=True)] == pytest.approx(left, rel=1e-6)


def test_the_size_that_nothing_serves_is_named(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(fleet(sizes={"short": SHORT, "long": {**LONG, "slo": {"ttft_ms": 1}}})))
    ran = CliRunner().invoke(app, ["fleet", str(path)])
    assert ran.exit_code == 3
    assert "the long requests of chat have nothing to run on: " in ran.stdout
    (one,) = json.loads(CliRunner().invoke(app, ["fleet", str(path), "--json"]).stdout)["stranded"]
    assert (one["workload"], one["size"], one["conflict"]) == ("chat", "long", [["ttft"]])


def test_the_command_says_which_replicas_serve_what(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(dumps(fleet()))
    assert "which replicas serve what is served of chat" in CliRunner().invoke(app, ["fleet", str(path)]).stdout
    document = json.loads(CliRunner().invoke(app, ["fleet", str(path), "--json"]).stdout)
    shares = document["utilisation"]["sizes"]["chat"]
    assert {size: sum(own[size] for own in shares.values()) for size in ("short", "long")} == pytest.approx(
        {"short": 1, "long": 1}
    )
    table = tmp_path / "fleet.csv"
    CliRunner().invoke(app, ["fleet", str(path), "--out", str(table)])
    rows = pd.read_csv(table)
    assert (rows["short_requests_per_s"] + rows["long_requests_per_s"]).tolist() == pytest.approx(
        rows["requests_per_s"].tolist()
    )
    page = tmp_path / "fleet.html"
    CliRunner().invoke(app, ["fleet", str(path), "--out", str(page)])
    assert "Which replicas serve which requests of chat" in page.read_text()
    for one in document["allocations"]:
        assert one["plan"] is None
        assert sum(one["sizes"].values()) == pytest.approx(one["requests_per_s"])
        assert {plan["topology"] for plan in one["plans"].values()} == {one["configuration"].split(",")[0].split()[1]}
    used = document["utilisation"]["workloads"]["chat"]
    assert all(0 < share <= 1 + 1e-8 for share in used)


@pytest.mark.parametrize(
    ("workload", "complaint"),
    [
        ({"sizes": {}}, "workloads.chat.sizes = {}: expected prompt_tokens, output_tokens and demand of each, by name"),
        ({"demand": 3}, "workloads.chat.demand: expected none beside sizes; each of them has its own"),
        (
            {"sizes": {"short": {**SHORT, "prompt_tokens": 0}}},
            "sizes.short.prompt_tokens = 0: expected at least 1",
        ),
        ({"sizes": {"short": {**SHORT, "demand": [1]}}}, "workloads.chat.sizes.short.demand: 1 number, expected 2"),
        ({"sizes": {"short": {**SHORT, "demand": [1, -1]}}}, "chat.sizes.short.demand.1 = -1.0: expected at least 0"),
        ({"sizes": {"short": {"prompt_tokens": 5, "output_tokens": 5}}}, "chat.sizes.short.demand is missing"),
        ({"sizes": {"short": {**SHORT, "tokens": 5}}}, "chat.sizes.short.tokens: unknown key"),
        ({"sizes": {"short": 5}}, "chat.sizes.short"),
        (
            {"deployment": {**LLAMA, "search": {"modes": ["chunked", "disaggregated"]}}},
            "search.modes: requests of several sizes share one pool; leave out disaggregated",
        ),
        (
            {"deployment": {**LLAMA, "slo": {}, "search": {"modes": ["decode_only"]}}},
            "workloads.chat: sizes.long: slo.ttft_ms: decode_only has no first token",
        ),
        ({"size": {}}, "workloads.chat.size: unknown key; did you mean 'sizes'"),
        ({"sizes": {"": SHORT}}, "workloads.chat.sizes"),
    ],
)
def test_malformed_sizes_are_named(workload: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError) as error:
        plan_fleet(fleet(**workload))
    assert complaint in str(error.value)


def programs_of(sizes: list[dict[str, Any]]) -> list[tuple[str, int, tuple[float, ...]]]:
    """The chip, the chips and the requests/s of each size of every program that serves any of them."""
    search = sizes[0]["search"]
    chunks = search.get("chunk_tokens", [128, 256, 512, 1024, 2048, 4096, 8192])
    found: dict[Any, list[float]] = {}
    for mode, chunk in [("interleaved", 1), *(("chunked", chunk) for chunk in chunks)]:
        for number, size in enumerate(sizes):
            scheduled = {**size, "search": {**search, "modes": [mode], "chunk_tokens": [chunk]}}
            for plan, violated in requests_oracle.enumerate_plans(scheduled):
                if not violated:
                    program = (plan["id"][:8], plan["chips"], mode, chunk)
                    rates = found.setdefault(program, [0.0] * len(sizes))
                    served = size.get("utilisation", 1.0) * plan["tokens_per_s"] / size["workload"]["output_tokens"]
                    rates[number] = max(rates[number], served)
    return [(program[0][0], program[1], tuple(rates)) for program, rates in found.items()]


def test_a_size_that_is_hardly_asked_for_breaks_no_solver() -> None:
    """Its rate over its demand would be a coefficient of 10³¹, beside a bill of 10¹⁵ dollars."""
    sizes = {"short": SHORT, "long": LONG | {"demand": 1e-30}}
    price = {"l40s": {"on_demand": 1e9}}
    raw = fleet(sizes=sizes) | {"periods_h": [1e6, 1e6], "regions": {"us": {"quota": {"l40s": 10**9}, "price": price}}}
    result = plan_fleet(raw)
    assert result.status is Status.OPTIMAL
    assert all(one.requests_per_s[1] <= 1e-20 for one in result.allocations)
