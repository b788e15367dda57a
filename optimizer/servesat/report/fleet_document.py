"""A fleet's plan as a JSON document and as table rows, with the bill and the utilisation that both contain."""

from collections import defaultdict
from dataclasses import asdict, replace
from math import fsum
from typing import Any

from servesat.core.plan import Plan
from servesat.fleet.conflict import Collision
from servesat.fleet.formulation.limits import Limit
from servesat.fleet.instance import ReplicaOption, WorkloadDemand
from servesat.fleet.placement_map import PlacementMap
from servesat.fleet.policies import Comparison
from servesat.fleet.result import Allocation, FleetResult, Rental
from servesat.fleet.unservable import Unservable
from servesat.report.documents import plan_document
from servesat.spec.offers import bill_of

IDLE = "(idle)"
"""Stands for a workload: the chips of instances that nothing uses."""

COLUMNS: dict[str, type] = {
    "workload": str,
    "period": int,
    "region": str,
    "purchase": str,
    "chip": str,
    "configuration": str,
    "replicas": int,
    "chips": int,
    "requests_per_s": float,
    "usd": float,
}
"""The columns of the table with the rows of the bill."""


def fleet_document(result: FleetResult, comparison: Comparison | None) -> dict[str, Any]:
    """The output of `servesat fleet --json`."""
    sizes = {workload.name: workload.sizes for workload in result.instance.workloads}
    document: dict[str, Any] = {
        "status": str(result.status),
        "total_usd": result.total_usd,
        "bound_usd": result.bound_usd,
        "gap": result.gap,
        "proved": result.proved,
        "undecided": result.undecided,
        "engine": result.engine,
        "periods": len(result.instance.hours),
        "changes": result.changes,
        "period_changes": result.period_changes,
        "no_longer_possible": [
            dict(zip(("workload", "configuration", "region"), key, strict=True))
            for key in result.instance.no_longer_possible()
        ],
        "allocations": [
            _allocation_document(allocation, sizes[allocation.workload]) for allocation in result.allocations
        ],
        "reservations": [
            {name: getattr(reservation, name) for name in ("region", "chip", "chips", "usd")}
            for reservation in result.reservations
        ],
        "instances": [_rental_document(rental) for rental in result.rentals],
        "bill": {name: dict(parts) for name, parts in bills(result).items()},
        "utilisation": _utilisation_document(result),
        "floors": [_placement_document(placement) for placement in result.placement_maps],
        "unserved_requests_per_s": None
        if result.unserved is None
        else {k: list(v) for k, v in result.unserved.items()},
        "conflict": None if result.conflict is None else [_limit_document(limit) for limit in result.conflict],
        "further_conflicts": [list(map(_limit_document, members)) for members in result.further_conflicts],
        "stranded": [_unservable_document(unservable) for unservable in result.unservable],
        "collisions": [_collision_document(collision) for collision in result.collisions],
        "corrections": [
            {**_limit_document(correction.limit), "value": correction.value, "unit": correction.unit}
            for correction in result.corrections
        ],
        "solve_s": result.solve_s,
    }
    return document if comparison is None else document | _comparison_document(comparison)


def _rental_document(rental: Rental) -> dict[str, Any]:
    machine = rental.machine
    return {
        "region": machine.region,
        "cloud": machine.price.cloud,
        "cloud_region": machine.price.region,
        "purchase": machine.purchase,
        "term": machine.price.term,
        "chip": machine.chip,
        "instance": machine.name,
        "usd_per_instance_hour": machine.usd_per_hour,
        "period": rental.period,
        "instances": rental.instances,
        "chips": rental.chips,
        "chips_used": rental.chips_used,
        "usd": rental.usd,
    }


def _utilisation_document(result: FleetResult) -> dict[str, Any]:
    return {
        "workloads": workload_utilisation(result),
        "sizes": {
            workload.name: {
                name: dict(zip(workload.sizes, shares, strict=True))
                for name, shares in size_shares(result, workload).items()
            }
            for workload in result.instance.workloads
            if workload.sizes
        },
        "quotas": [
            {"region": region, "chip": chip, "quota": quota, "chips": result.chips_taken[region, chip]}
            for (region, chip), quota in (result.instance.quotas.items() if result.chips_taken else ())
        ],
    }


def _comparison_document(comparison: Comparison) -> dict[str, Any]:
    return {
        "policies": [
            {"name": policy.name, "total_usd": policy.total_usd, "proved": policy.proved}
            for policy in comparison.policies
        ],
        "quotas": [
            {
                "region": value.region,
                "chip": value.chip,
                "quota": value.quota,
                "full_in_periods": value.periods,
                "one_more_saves_usd": value.saves_usd,
                "proved": value.proved,
            }
            for value in comparison.quotas
        ],
        "pods": [
            {
                "region": value.region,
                "chip": value.chip,
                "pods": value.pods.count,
                "one_more_saves_usd": value.saves_usd,
                "proved": value.proved,
            }
            for value in comparison.pods
        ],
    }


def _allocation_document(allocation: Allocation, sizes: tuple[str, ...]) -> dict[str, Any]:
    """An allocation with its plan at the price of its chips.

    If requests come in several sizes, it has what is served of each, and a plan for each size that can be served.
    """
    configuration = allocation.option.configuration
    row = _allocation_row(allocation)
    if not sizes:
        plan = configuration.plan
        return {**row, "plan": None if plan is None else _billed_plan(plan, allocation.option)}
    return {
        **row,
        "plan": None,
        "sizes": dict(zip(sizes, allocation.requests_per_s, strict=True)),
        "plans": {size: _billed_plan(plan, allocation.option) for size, plan in configuration.plans.items()},
    }


def _billed_plan(plan: Plan, option: ReplicaOption) -> dict[str, Any]:
    """A plan, which was found at $1 per chip-hour, at the price of its chips, with their bill."""
    document: dict[str, Any] = _at_price(plan_document(plan), option.usd_per_chip_hour)
    billed = [
        replace(
            bill_of(bill.chip, bill.chips, option.usd_per_chip_hour, option.price),
            purchase=option.purchase,
            region=option.region if option.price is None else option.price.region,
        )
        for bill in plan.bills
    ]
    return document | {"bills": [asdict(bill) for bill in billed]}


def _at_price(document: Any, usd_per_chip_hour: float) -> Any:
    """A document with every amount of dollars multiplied by a price, at all levels."""
    if not isinstance(document, dict):
        return document
    return {
        name: value * usd_per_chip_hour
        if name.startswith("usd_") and isinstance(value, float)
        else _at_price(value, usd_per_chip_hour)
        for name, value in document.items()
    }


def _placement_document(placement: PlacementMap) -> dict[str, Any]:
    return {
        "region": placement.region,
        "chip": placement.chip,
        "shape": list(placement.pods.shape),
        "pods": placement.pods.count,
        "period": placement.period,
        "slices": [
            {
                "workload": option.workload,
                "configuration": option.configuration.name,
                "slice": str(block.slice),
                "pod": block.pod,
                "at": list(block.at),
                "sizes": list(block.sizes),
            }
            for option, block in placement.placed
        ],
    }


def _collision_document(collision: Collision) -> dict[str, Any]:
    return {
        "region": collision.region,
        "chip": collision.chip,
        "slices": {item.name: count for item, count in collision.slices},
        "proved": collision.proved,
    }


def _unservable_document(unservable: Unservable) -> dict[str, Any]:
    return {
        "workload": unservable.workload,
        "size": unservable.size,
        "sold": list(unservable.sold),
        "unsold": list(unservable.unsold),
        "conflict": [[str(member) for member in members] for members in unservable.conflict],
        "percentile": unservable.percentile,
    }


def _limit_document(limit: Limit) -> dict[str, Any]:
    return {"limit": limit.kind, "of": list(limit.of)}


def bill_rows(result: FleetResult) -> list[dict[str, Any]]:
    """A row for each allocation and reservation, for idle chips, and for changes; their `usd` sum to the bill."""
    size_columns = {workload.name: tuple(map(_size_column, workload.sizes)) for workload in result.instance.workloads}
    empty = dict.fromkeys(columns(result))
    rows = [
        empty
        | _allocation_row(allocation)
        | dict(zip(size_columns[allocation.workload], allocation.requests_per_s, strict=False))
        for allocation in result.allocations
    ]
    rows += [
        {**empty, "workload": "(reserved)", "region": reservation.region, "purchase": "reserved",
         "chip": reservation.chip, "chips": reservation.chips, "usd": reservation.usd}
        for reservation in result.reservations
    ]  # fmt: skip
    rows += [
        {**empty, "workload": IDLE, "period": rental.period, "region": rental.machine.region,
         "purchase": rental.machine.purchase, "chip": rental.machine.chip,
         "chips": rental.chips - rental.chips_used, "usd": rental.usd_idle}
        for rental in result.rentals
        if rental.chips > rental.chips_used
    ]  # fmt: skip
    usd_of_changes = _usd_of_changes(result)
    if usd_of_changes:
        rows.append({**empty, "workload": "(changes)", "usd": usd_of_changes})
    return rows


def _usd_of_changes(result: FleetResult) -> float:
    """What the changes relative to a previous plan, and those between periods, cost."""
    previous_plan = result.instance.previous_plan
    to_previous = 0.0 if previous_plan is None else previous_plan.usd_per_change * (result.changes or 0)
    return to_previous + result.instance.usd_per_change * result.period_changes


def columns(result: FleetResult) -> dict[str, type]:
    """The columns of a fleet's table, with a column for each size of requests if there are several."""
    sizes = dict.fromkeys(size for workload in result.instance.workloads for size in workload.sizes)
    return COLUMNS | {_size_column(size): float for size in sizes}


def _size_column(size: str) -> str:
    return f"{size}_requests_per_s"


def _allocation_row(allocation: Allocation) -> dict[str, Any]:
    option = allocation.option
    return {
        "workload": allocation.workload,
        "period": allocation.period,
        "region": allocation.region,
        "purchase": allocation.purchase,
        "chip": option.configuration.chip,
        "configuration": option.configuration.name,
        "replicas": allocation.replicas,
        "chips": allocation.replicas * option.chips,
        "requests_per_s": fsum(allocation.requests_per_s),
        "usd": allocation.usd,
    }


def bills(result: FleetResult) -> dict[str, list[tuple[str, float]]]:
    """The bill by workload, region, chip and purchase, the largest first; reserved and idle chips are workloads."""
    parts: dict[str, dict[str, float]] = {
        name: defaultdict(float) for name in ("workload", "region", "chip", "purchase")
    }
    for allocation in result.allocations:
        chip = allocation.option.configuration.chip
        keys = (allocation.workload, allocation.region, chip, allocation.purchase)
        for name, key in zip(parts, keys, strict=True):
            parts[name][key] += allocation.usd
    for reservation in result.reservations:
        keys = ("(reserved)", reservation.region, reservation.chip, "reserved")
        for name, key in zip(parts, keys, strict=True):
            parts[name][key] += reservation.usd
    for rental in result.rentals:
        if rental.chips > rental.chips_used:
            machine = rental.machine
            keys = (IDLE, machine.region, machine.chip, machine.purchase)
            for name, key in zip(parts, keys, strict=True):
                parts[name][key] += rental.usd_idle
    usd_of_changes = _usd_of_changes(result)
    if usd_of_changes:
        for amounts in parts.values():
            amounts["(changes)"] = usd_of_changes
    return {name: sorted(amounts.items(), key=lambda pair: -pair[1]) for name, amounts in parts.items()}


def workload_utilisation(result: FleetResult) -> dict[str, list[float | None]]:
    """The share of its capacity that each workload uses in each period; None in periods without capacity."""
    workloads = result.instance.workloads if result.total_usd is not None else ()
    capacity = _capacity(result)
    unserved = result.unserved or {}
    return {
        workload.name: [
            (demand - missing) / available if available else None
            for demand, missing, available in zip(
                workload.requests_per_s,
                unserved.get(workload.name, [0.0] * len(workload.requests_per_s)),
                capacity[workload.name],
                strict=True,
            )
        ]
        for workload in workloads
    }


def _capacity(result: FleetResult) -> dict[str, list[float]]:
    """The capacity of each workload in each period, in the proportions of its demand [requests/s]."""
    capacity = {workload.name: [0.0] * len(workload.requests_per_s) for workload in result.instance.workloads}
    for allocation in result.allocations:
        capacity[allocation.workload][allocation.period] += fsum(allocation.requests_per_s)
    return capacity


def size_shares(result: FleetResult, workload: WorkloadDemand) -> dict[str, list[float]]:
    """The share of each configuration in what is served of each size of a workload, over all hours.

    Replicas serve the demand in proportion to the most that they could serve of it.
    """
    hours, sizes = result.instance.hours, range(len(workload.sizes))
    unserved = (result.unserved or {}).get(workload.name, (0.0,) * len(hours))
    capacity = _capacity(result)[workload.name]
    served: dict[str, list[float]] = defaultdict(lambda: [0.0 for _ in sizes])
    for allocation in result.allocations:
        if allocation.workload != workload.name:
            continue
        period, by_size = allocation.period, served[allocation.option.configuration.name]
        if capacity[period]:
            used = (workload.requests_per_s[period] - unserved[period]) * hours[period] / capacity[period]
            for size, rate in enumerate(allocation.requests_per_s):
                by_size[size] += used * rate
    total = [fsum(by_size[size] for by_size in served.values()) for size in sizes]
    return {
        name: [by_size[size] / total[size] if total[size] else 0.0 for size in sizes]
        for name, by_size in served.items()
    }
