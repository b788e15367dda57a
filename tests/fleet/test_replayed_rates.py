"""What a replica of a fleet serves at random arrivals, against replays of other seeds."""

from typing import Any

import numpy as np
import pytest

from servesat import SpecError
from servesat.deployment.first_looks import servers_slower
from servesat.fleet.configurations import configurations, on_chip
from servesat.fleet.plan import plan_fleet
from servesat.fleet.replayed_rates import replayed_rate
from servesat.fleet.spec import AtRandom, FleetSpec
from servesat.replay.replayed import Replay, limits_of
from servesat.report.fleet_words import unservable_words
from servesat.spec.spec import Spec
from servesat.spec.workload import Lengths
from tests.fleet.fleets import fleet

CHAT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "engine": "vllm",
    "workload": {"prompt_tokens": 1000, "output_tokens": 200},
    "slo": {"ttft_ms": 200, "tpot_ms": 20},
    "search": {
        "modes": ["interleaved"], "weights": ["fp8"], "kv_cache": ["fp8"], "topologies": {"h100-sxm": ["1x1"]},
        "chips": ["h100-sxm"],
    },
    "utilisation": 0.85,
    "price": {"h100-sxm": 1.0},
}  # fmt: skip
DEPLOYED = {key: value for key, value in CHAT.items() if key != "price"}


@pytest.mark.slow
def test_a_replica_serves_what_keeps_its_limits_with_other_seeds() -> None:
    """95 % of 20,000 requests are within 200 ms of four seeds that the search has not seen; a tenth more are not."""
    spec = on_chip(Spec.load(CHAT), "h100-sxm")
    (means,), (found,) = (configurations(spec, ["h100-sxm"], at_random=how) for how in (None, AtRandom(0.95)))
    assert found.plan is not None
    assert means.plan is not None
    assert found.plan.batch > 10 * means.plan.batch  # which the limit on the mean at a full batch keeps small
    kept = []
    for rate in (found.requests_per_s, 1.1 * found.requests_per_s):
        loaded = spec.changed({"workload.requests_per_s": rate, "slo.percentile": 0.95})
        servers = servers_slower(loaded, found.plan)
        runs = [Replay(loaded.workload, servers, 20_000, seed).run.times for seed in range(100, 104)]
        at_95 = {limit: np.mean([np.quantile(limit.of(one), 0.95) for one in runs]) for limit in limits_of(loaded)}
        kept.append(all(value <= limit.limit_s * 1.01 for limit, value in at_95.items()))
    assert kept == [True, False]


@pytest.mark.slow
def test_replicas_that_share_a_slice_serve_as_many_times_one() -> None:
    """Replays of both, with seeds of their own, are within the limits that one of them keeps at half the rate."""
    topologies = {**CHAT["search"], "topologies": {"h100-sxm": ["1x1", "2x1"]}}
    spec = on_chip(Spec.load({**CHAT, "search": topologies}), "h100-sxm")
    one, two = configurations(spec, ["h100-sxm"], at_random=AtRandom(0.95))
    assert two.plan is not None
    assert (two.chips, two.plan.tp) == (2, 1)
    assert two.requests_per_s == pytest.approx(2 * one.requests_per_s)
    loaded = spec.changed({"workload.requests_per_s": two.requests_per_s, "slo.percentile": 0.95})
    servers = servers_slower(loaded, two.plan)
    assert servers.pool.replicas == 2
    runs = [Replay(loaded.workload, servers, 20_000, seed).run.times for seed in range(500, 504)]
    for limit in limits_of(loaded):
        assert np.mean([np.quantile(limit.of(one), 0.95) for one in runs]) <= limit.limit_s * 1.01


def test_a_rate_that_keeps_every_limit_is_taken_as_it_is() -> None:
    spec = on_chip(Spec.load({**CHAT, "slo": {"ttft_ms": 60_000}}), "h100-sxm")
    (means,) = configurations(spec, ["h100-sxm"])
    assert means.plan is not None
    assert replayed_rate(spec, means.plan, AtRandom(0.5), 1.0) == 1.0
    assert replayed_rate(spec.changed({"slo.ttft_ms": 1}), means.plan, AtRandom(0.5), 1.0) == 0.0


@pytest.mark.slow
def test_a_fleet_rents_what_serves_a_share_of_the_requests_within_the_limits() -> None:
    """At 68 requests/s three H100 keep the means at a full batch, by 33.5 each; at random each serves 34.7."""
    regions = {"east": {"quota": {"h100-sxm": 8}, "price": {"h100-sxm": {"on_demand": 3.0}}}}
    chat = {"deployment": DEPLOYED, "demand": [20, 68]}
    bills = [
        plan_fleet(fleet(regions=regions, periods_h=[8, 8], workloads={"chat": chat | more}, buy="share")).total_usd
        for more in ({}, {"percentile": 0.95})
    ]
    assert bills == pytest.approx([3 * 8 * (1 + 3), 3 * 8 * (1 + 2)])


@pytest.mark.soak
def test_lengths_that_spread_cost_rate() -> None:
    """Prompts of 1,000 ± 1,000 tokens wait for longer ones: 35.3 requests/s in place of 38.5."""
    spec = on_chip(Spec.load(CHAT), "h100-sxm")
    (alike,), (spread,) = (
        configurations(spec, ["h100-sxm"], at_random=AtRandom(0.9, Lengths(prompt_cv=cv))) for cv in (0.0, 1.0)
    )
    assert spread.requests_per_s < 0.95 * alike.requests_per_s


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lengths": {"prompt_cv": 1.0}}, "lengths: expected none without a percentile"),
        (
            {"deployment": {**DEPLOYED, "slo": {"percentile": 0.9}}},
            "slo.percentile: expected a limit on the mean",
        ),
        (
            {"deployment": {**DEPLOYED, "slo": {"ttft_ms": {"p99": 800}}}},
            "slo.ttft_ms: expected a limit on the mean",
        ),
        ({"deployment": {**DEPLOYED, "workload": {"lengths": {}}}}, "workload.lengths: expected a limit on the"),
    ],
)
def test_what_belongs_to_the_workload_is_said(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as fault:
        plan_fleet(fleet(workloads={"chat": {"deployment": DEPLOYED, "demand": 1, **keys}}))
    assert message in str(fault.value)


def test_a_limit_that_only_means_keep_is_said_to_be_broken() -> None:
    """Every prompt of 6,000 tokens is in time; of lengths that spread by half as much again a tenth is not."""
    regions = {"east": {"quota": {"h100-sxm": 8}, "price": {"h100-sxm": {"on_demand": 3.0}}}}
    deployment = {**DEPLOYED, "slo": {"ttft_ms": 240}}
    deployment["workload"] = {"prompt_tokens": 6000, "output_tokens": 100}
    chat = {"deployment": deployment, "demand": 1, "percentile": 0.9}
    given = fleet(regions=regions, workloads={"chat": chat}, buy="share")
    assert plan_fleet(given).total_usd == pytest.approx(3.0)
    chat["lengths"] = {"prompt_cv": 1.5}
    (unservable,) = plan_fleet(given).unservable
    (words,) = unservable_words(unservable)
    assert (
        words
        == "chat has nothing to run on: at no rate within its costs do replays keep its limits for 90% of the requests"
    )


def test_what_rates_rest_on_is_noted() -> None:
    chat = {"deployment": DEPLOYED, "demand": 1, "percentile": 0.95}
    assert FleetSpec.load(fleet(workloads={"chat": chat})).notes == (
        "workloads.chat: a replica is planned for the highest rate that keeps 0.95 of the requests within the limits "
        "in replays",
    )


def test_sizes_have_no_percentile() -> None:
    sizes = {"short": {"prompt_tokens": 100, "output_tokens": 10, "demand": 1}}
    given = {"chat": {"deployment": DEPLOYED, "sizes": sizes, "percentile": 0.95}}
    with pytest.raises(SpecError, match=r"workloads\.chat.*percentile: expected none beside sizes"):
        plan_fleet(fleet(workloads=given))
