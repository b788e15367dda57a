"""Plans that other commands wrote: results, certificates and fleets."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from servesat.core.errors import LaunchError, ServesatError, SpecError
from servesat.core.plan import Plan
from servesat.core.reading import STANDARD_INPUT, read_json, read_yaml, shown
from servesat.core.result import Percentiles, Status
from servesat.core.validation import shorten
from servesat.deployment.check.plan import rederive
from servesat.deployment.decisions import assignment_of
from servesat.deployment.verification import MAX_CERTIFICATE_BYTES
from servesat.fleet.configurations import on_chip
from servesat.fleet.result import Allocation, FleetResult
from servesat.fleet.spec import FleetSpec, FleetWorkload
from servesat.launch.servers import Launch, launch_of
from servesat.spec.spec import Spec

_REPLAYED = ("ttft_ms", "tpot_ms")

PROVED = "no plan of the spec costs less"
VERIFIED = "verified by replay: no cheaper proposal keeps the limits"


def kind_of(path: Path) -> str:
    """What a file holds, by its keys: a `result` has a plan, a `fleet` workloads; else it is a `spec`."""
    document = _document(path)
    keys = set(document) if isinstance(document, Mapping) else set()
    return "result" if keys & {"plan", "status"} else "fleet" if "workloads" in keys else "spec"


def _document(path: Path) -> object:
    """What a file holds; standard input may be a result too, which is larger than a spec."""
    if path == STANDARD_INPUT:
        with suppress(LaunchError):
            return read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    is_json = path.suffix == ".json"
    return read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES) if is_json else read_yaml(path, SpecError)


def result_launch(path: Path, checkpoint: str | None = None) -> Launch:
    """The launch of a result of `solve --json`, or of a certificate.

    The figures are derived again, and must meet the limits of the spec. Raises LaunchError otherwise.
    """
    spec, plan, status = plan_of_result(path)
    name = shown(path) if path == STANDARD_INPUT else path.name
    launch = launch_of(spec, plan, proof=f"{status}, as {name} says; not solved again", checkpoint=checkpoint)
    return replace(launch, replayed=_replayed(path))


def _replayed(path: Path) -> tuple[Percentiles, Percentiles] | None:
    """The percentiles of a result whose plan was replayed. Raises LaunchError where they are malformed."""
    document = read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    found = document.get("replayed") if isinstance(document, dict) else None
    if found is None:
        return None
    try:
        ttft, tpot = (Percentiles(**{key: float(ms) for key, ms in found[name].items()}) for name in _REPLAYED)
    except (AttributeError, LookupError, TypeError, ValueError) as fault:
        raise LaunchError(f"{shown(path)}: replayed = {shorten(found)}: expected {' and '.join(_REPLAYED)}") from fault
    return ttft, tpot


def plan_of_result(path: Path) -> tuple[Spec, Plan, str]:
    """The spec and the plan of a result, its figures derived again, and its status. Raises LaunchError."""
    where = shown(path)
    document = read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    if not isinstance(document, Mapping) or not {"spec", "status", "plan"} <= set(document):
        raise LaunchError(
            f"{where}: expected the JSON of `servesat solve` or a certificate, with spec, status and plan"
        )
    if document["status"] not in list(Status):
        raise LaunchError(f"{where}: status = {shorten(document['status'])}: expected one of {', '.join(Status)}")
    if not isinstance(document["plan"], Mapping) or not isinstance(document["spec"], Mapping):
        raise LaunchError(f"{where}: has no plan: the result is {document['status']}")
    try:
        spec = Spec.load(document["spec"], folder=path.parent)
        plan, margins = rederive(spec, assignment_of(document["plan"]))
    except ServesatError as fault:
        raise LaunchError(f"{where}: {fault}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as fault:
        raise LaunchError(f"{where}: the plan is malformed: {fault}") from None
    broken = [margin.requirement for margin in margins if not margin.holds]
    if broken:
        raise LaunchError(f"{where}: the plan breaks {', '.join(broken)}: solve the spec again")
    return spec, plan, str(document["status"])


def proof_of(status: str, *, replayed: bool = False) -> str:
    """How far a plan is proved, or verified."""
    if status != Status.OPTIMAL:
        return "none: the time limit came first"
    return VERIFIED if replayed else PROVED


def fleet_launches(fleet: FleetSpec, result: FleetResult) -> Iterator[Launch]:
    """The launches of a fleet: one for each configuration of a workload in a region and a way to buy.

    Each has as many servers as its busiest period. Raises SpecError for a workload without an engine.
    """
    groups: dict[tuple[Any, ...], list[Allocation]] = {}
    for one in result.allocations:
        groups.setdefault((one.workload, one.option.configuration.name, one.region, one.purchase), []).append(one)
    numbers: dict[str, int] = {}
    for (name, *_), allocations in groups.items():
        numbers[name] = numbers.get(name, 0) + 1
        workload = fleet.workloads[name]
        if not workload.deployment.engine:
            raise SpecError(f"workloads.{name}.deployment.engine is missing: name an engine, as in engine: any")
        yield _of_allocations(fleet, workload, allocations, f"{name}-{numbers[name]}", result)


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
