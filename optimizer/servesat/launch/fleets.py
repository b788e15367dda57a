"""A fleet as what starts it: a launch for each configuration of a workload in a region."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, count
from typing import Any

from servesat.core.errors import SpecError
from servesat.fleet.configurations import on_chip
from servesat.fleet.result import Allocation, FleetResult
from servesat.fleet.spec import FleetSpec, FleetWorkload
from servesat.launch.reading import proof_of
from servesat.launch.servers import LONGEST_LABEL, Launch, label, launch_of, standing_on

NUMBERED = 5
"""Characters of a hyphen and a number after a label."""


def fleet_launches(fleet: FleetSpec, result: FleetResult) -> Iterator[Launch]:
    """The launches of a fleet: one for each configuration of a workload in a region and a way to buy.

    Each has as many servers as its busiest period. Raises SpecError for a workload without an engine.
    """
    groups: dict[tuple[Any, ...], list[Allocation]] = {}
    for one in result.allocations:
        option = one.option
        kind = one.workload, option.configuration.name, one.region, one.purchase, option.machine
        groups.setdefault(kind, []).append(one)
    labels, numbers = _labels(fleet.workloads), dict[str, int]()
    for (name, *_), allocations in groups.items():
        numbers[name] = numbers.get(name, 0) + 1
        workload = fleet.workloads[name]
        if not workload.deployment.engine:
            raise SpecError(f"workloads.{name}.deployment.engine is missing: name an engine, as in engine: any")
        yield _of_allocations(fleet, workload, allocations, f"{labels[name]}-{numbers[name]}", result)


def _labels(names: Iterable[str]) -> dict[str, str]:
    """A label for each workload, with room for a number after it; alike ones have one of their own."""
    found: dict[str, str] = {}
    for name in names:
        own = label(name, LONGEST_LABEL - NUMBERED)
        alike = (f"{label(name, LONGEST_LABEL - 2 * NUMBERED)}-{number}" for number in count(2))
        found[name] = next(one for one in chain([own], alike) if one not in found.values())
    return found


def _of_allocations(
    fleet: FleetSpec, workload: FleetWorkload, allocations: list[Allocation], name: str, result: FleetResult
) -> Launch:
    first = allocations[0]
    option = first.option
    launch = _of_replica(workload, allocations, proof_of(result.status).replace("plan of the spec", "fleet"), name)
    replicas = {one.period: one.replicas for one in allocations}
    by_period = " ".join(str(replicas.get(period, 0)) for period in range(len(fleet.periods_h)))
    most, price = max(replicas.values()), option.price
    servers = tuple(
        replace(
            standing_on(server, None if price is None else price.instance_chips),
            count=server.count * most,
            region=first.region if price is None else price.region or fleet.regions[first.region].price_region,
            purchase=first.purchase,
            cloud=None if price is None else price.cloud,
            instance=None if price is None else price.instance,
        )
        for server in launch.servers
    )
    usd_per_hour = most * launch.plan.chips_used * option.usd_per_chip_hour
    usd_per_million = launch.plan.usd_per_million_output_tokens * option.usd_per_chip_hour  # planned at $1 a chip-hour
    notes = (f"fleet      replicas in each period: {by_period}; the most are started here", *launch.notes)
    plan = replace(launch.plan, usd_per_million_output_tokens=usd_per_million)
    return replace(launch, plan=plan, servers=servers, times=most, usd_per_hour=usd_per_hour, notes=notes)


def _of_replica(workload: FleetWorkload, allocations: list[Allocation], proof: str, name: str) -> Launch:
    """The launch of one replica; of requests of several sizes with limits that admit each size that it serves.

    Its plan is then that of the size of which it makes most tokens, which the benchmark sends.
    """
    configuration = allocations[0].option.configuration
    spec = on_chip(workload.deployment, configuration.chip)
    if configuration.plan is not None:
        return launch_of(spec, configuration.plan, proof=proof, name=name)
    requests = zip(*(one.requests_per_s for one in allocations), strict=True)
    tokens = {
        size: sum(rates) * workload.sizes[size].output_tokens
        for size, rates in zip(workload.sizes, requests, strict=True)
    }
    able = list(configuration.plans)
    served = sorted((size for size in able if tokens[size]), key=lambda size: -tokens[size]) or able  # none by a spare
    launches = [
        launch_of(spec.changed(workload.sizes[size].length), configuration.plans[size], proof=proof, name=name)
        for size in served
    ]
    servers = [launch.servers[0] for launch in launches]
    admitting = replace(
        servers[0],
        sequences=max(server.sequences for server in servers),
        prompt_tokens=max(server.prompt_tokens for server in servers),
        whole_prompts=any(server.whole_prompts for server in servers),
        longest_prompt_tokens=max(server.longest_prompt_tokens for server in servers),
        context_tokens=max(server.context_tokens for server in servers),
    )
    batches = ", ".join(f"{configuration.plans[size].batch} of {size}" for size in served)
    note = f"sizes      batches of {batches}: the flags admit all; the benchmark sends {served[0]}"
    return replace(launches[0], servers=(admitting,), notes=(note,))
