"""A fleet as what starts it: a launch for each configuration of a workload in a region."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, count
from typing import Any

from servesat.core.errors import SpecError
from servesat.core.plan import Plan
from servesat.fleet.configurations import on_chip
from servesat.fleet.result import Allocation, FleetResult
from servesat.fleet.spec import FleetSpec, FleetWorkload
from servesat.launch.reading import proof_of
from servesat.launch.servers import LONGEST_LABEL, Launch, label, launch_of
from servesat.spec.spec import Spec

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
    spec, plan = _planned(workload, first)
    launch = launch_of(spec, plan, proof=proof_of(result.status).replace("plan of the spec", "fleet"), name=name)
    replicas = {one.period: one.replicas for one in allocations}
    by_period = " ".join(str(replicas.get(period, 0)) for period in range(len(fleet.periods_h)))
    most, price = max(replicas.values()), option.price
    servers = tuple(
        replace(
            server,
            count=server.count * most,
            region=first.region,
            purchase=first.purchase,
            cloud=None if price is None else price.cloud,
            instance=None if price is None else price.instance,
        )
        for server in launch.servers
    )
    usd_per_hour = most * launch.plan.chips_used * option.usd_per_chip_hour
    notes = (f"fleet      replicas in each period: {by_period}; the most are started here",)
    return replace(launch, servers=servers, times=most, usd_per_hour=usd_per_hour, notes=notes)


def _planned(workload: FleetWorkload, allocation: Allocation) -> tuple[Spec, Plan]:
    """The spec and the plan of a replica; of requests of several sizes those of the longest that it serves."""
    configuration = allocation.option.configuration
    spec = on_chip(workload.deployment, configuration.chip)
    if configuration.plan is not None:
        return spec, configuration.plan
    lengths = {name: spec.changed(size.length) for name, size in workload.sizes.items() if name in configuration.plans}
    longest = max(lengths, key=lambda name: lengths[name].workload.longest_context_tokens)
    return lengths[longest], configuration.plans[longest]
