"""A fleet's plan as a document, the rows of its table, and what both sum up: the bill, and how full replicas are."""

from collections import defaultdict
from math import fsum
from typing import Any

from servesat.fleet.conflict import Collision
from servesat.fleet.formulation.limits import Limit
from servesat.fleet.instance import WorkloadDemand
from servesat.fleet.placement_map import FloorMap
from servesat.fleet.plan import Allocation, FleetResult
from servesat.fleet.policies import Comparison
from servesat.fleet.unservable import Unservable
from servesat.report.documents import plan_document

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
"""The columns of the table of all that makes up the bill."""


def fleet_document(result: FleetResult, beside: Comparison | None) -> dict[str, Any]:
    """The answer to `servesat fleet --json`."""
    sizes = {need.name: need.sizes for need in result.instance.needs}
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
        "allocations": [_allocation_document(one, sizes[one.workload]) for one in result.allocations],
        "reservations": [
            {"region": one.region, "chip": one.chip, "chips": one.chips, "usd": one.usd} for one in result.reservations
        ],
        "bill": {name: dict(parts) for name, parts in bills(result).items()},
        "utilisation": {
            "workloads": workload_utilisation(result),
            "sizes": {
                need.name: {
                    name: dict(zip(need.sizes, shares, strict=True))
                    for name, shares in size_shares(result, need).items()
                }
                for need in result.instance.needs
                if need.sizes
            },
            "quotas": [
                {"region": region, "chip": chip, "quota": quota, "chips": result.chips_taken[region, chip]}
                for (region, chip), quota in (result.instance.quotas.items() if result.chips_taken else ())
            ],
        },
        "floors": [_floor_document(one) for one in result.floors],
        "unserved_requests_per_s": None
        if result.unserved is None
        else {k: list(v) for k, v in result.unserved.items()},
        "conflict": None if result.conflict is None else [_limit_document(limit) for limit in result.conflict],
        "stranded": [_stranded_document(one) for one in result.unservable],
        "collisions": [_collision_document(one) for one in result.collisions],
        "corrections": [
            {**_limit_document(one.limit), "value": one.value, "unit": one.unit} for one in result.corrections
        ],
        "solve_s": result.solve_s,
    }
    return document if beside is None else document | _beside(beside)


def _beside(beside: Comparison) -> dict[str, Any]:
    return {
        "policies": [{"name": one.name, "total_usd": one.total_usd, "proved": one.proved} for one in beside.policies],
        "quotas": [
            {
                "region": one.region,
                "chip": one.chip,
                "quota": one.quota,
                "full_in_periods": one.periods,
                "one_more_saves_usd": one.saves_usd,
                "proved": one.proved,
            }
            for one in beside.quotas
        ],
        "pods": [
            {
                "region": one.region,
                "chip": one.chip,
                "pods": one.pods.count,
                "one_more_saves_usd": one.saves_usd,
                "proved": one.proved,
            }
            for one in beside.pods
        ],
    }


def _allocation_document(one: Allocation, sizes: tuple[str, ...]) -> dict[str, Any]:
    """An allocation with its plan, at the price of its chips: the plan itself was found at $1 a chip-hour.

    Of several sizes of requests, what it serves of each, and the plan for each that it can serve.
    """
    configuration, usd = one.option.configuration, one.option.usd_per_chip_hour
    if not sizes:
        plan = configuration.plan
        return {**_allocation_row(one), "plan": None if plan is None else _at_price(plan_document(plan), usd)}
    return {
        **_allocation_row(one),
        "plan": None,
        "sizes": dict(zip(sizes, one.requests_per_s, strict=True)),
        "plans": {size: _at_price(plan_document(plan), usd) for size, plan in configuration.plans.items()},
    }


def _at_price(document: Any, usd_per_chip_hour: float) -> Any:
    """A document with every figure in dollars times a price, its parts included."""
    if not isinstance(document, dict):
        return document
    return {
        name: value * usd_per_chip_hour
        if name.startswith("usd_") and isinstance(value, float)
        else _at_price(value, usd_per_chip_hour)
        for name, value in document.items()
    }


def _floor_document(floor: FloorMap) -> dict[str, Any]:
    return {
        "region": floor.region,
        "chip": floor.chip,
        "shape": list(floor.pods.shape),
        "pods": floor.pods.count,
        "period": floor.period,
        "slices": [
            {
                "workload": option.workload,
                "configuration": option.configuration.name,
                "slice": str(block.slice),
                "pod": block.pod,
                "at": list(block.at),
                "sizes": list(block.sizes),
            }
            for option, block in floor.placed
        ],
    }


def _collision_document(one: Collision) -> dict[str, Any]:
    return {
        "region": one.region,
        "chip": one.chip,
        "slices": {kind.name: count for kind, count in one.slices},
        "proved": one.proved,
    }


def _stranded_document(one: Unservable) -> dict[str, Any]:
    return {
        "workload": one.workload,
        "size": one.size,
        "sold": list(one.sold),
        "unsold": list(one.unsold),
        "conflict": [[str(member) for member in members] for members in one.conflict],
    }


def _limit_document(limit: Limit) -> dict[str, Any]:
    return {"limit": limit.kind, "of": list(limit.of)}


def bill_rows(result: FleetResult) -> list[dict[str, Any]]:
    """A row for each allocation, for chips reserved and for changes, over all periods: their dollars are the bill."""
    sizes = {need.name: tuple(map(_of_size, need.sizes)) for need in result.instance.needs}
    nothing = dict.fromkeys(columns(result))
    rows = [
        nothing | _allocation_row(one) | dict(zip(sizes[one.workload], one.requests_per_s, strict=False))
        for one in result.allocations
    ]
    rows += [
        {**nothing, "workload": "(reserved)", "region": one.region, "purchase": "reserved", "chip": one.chip,
         "chips": one.chips, "usd": one.usd}
        for one in result.reservations
    ]  # fmt: skip
    earlier = result.instance.earlier
    if earlier is not None and earlier.usd_per_change and result.changes:
        rows.append({**nothing, "workload": "(changes)", "usd": earlier.usd_per_change * result.changes})
    return rows


def columns(result: FleetResult) -> dict[str, type]:
    """The columns of a fleet's table: with requests of several sizes, one for each of them."""
    sizes = dict.fromkeys(size for need in result.instance.needs for size in need.sizes)
    return COLUMNS | {_of_size(size): float for size in sizes}


def _of_size(size: str) -> str:
    return f"{size}_requests_per_s"


def _allocation_row(one: Allocation) -> dict[str, Any]:
    option = one.option
    return {
        "workload": one.workload,
        "period": one.period,
        "region": one.region,
        "purchase": one.purchase,
        "chip": option.configuration.chip,
        "configuration": option.configuration.name,
        "replicas": one.replicas,
        "chips": one.replicas * option.chips,
        "requests_per_s": fsum(one.requests_per_s),
        "usd": one.usd,
    }


def bills(result: FleetResult) -> dict[str, list[tuple[str, float]]]:
    """The bill by workload, region, chip and purchase, the largest first; reserved chips stand for themselves."""
    parts: dict[str, dict[str, float]] = {
        name: defaultdict(float) for name in ("workload", "region", "chip", "purchase")
    }
    for one in result.allocations:
        for name, key in zip(
            parts, (one.workload, one.region, one.option.configuration.chip, one.purchase), strict=True
        ):
            parts[name][key] += one.usd
    for kept in result.reservations:
        for name, key in zip(parts, ("(reserved)", kept.region, kept.chip, "reserved"), strict=True):
            parts[name][key] += kept.usd
    earlier = result.instance.earlier
    if earlier is not None and earlier.usd_per_change and result.changes:
        for found in parts.values():
            found["(changes)"] = earlier.usd_per_change * result.changes
    return {name: sorted(found.items(), key=lambda pair: -pair[1]) for name, found in parts.items()}


def workload_utilisation(result: FleetResult) -> dict[str, list[float | None]]:
    """Share of the capacity counted on that each workload uses in each period; None where it has none."""
    capacity = {need.name: [0.0] * len(need.requests_per_s) for need in result.instance.needs}
    for one in result.allocations:
        capacity[one.workload][one.period] += fsum(one.requests_per_s)
    unserved = result.unserved or {}
    return {
        need.name: [
            (demand - missing) / there if there else None
            for demand, missing, there in zip(
                need.requests_per_s,
                unserved.get(need.name, [0.0] * len(need.requests_per_s)),
                capacity[need.name],
                strict=True,
            )
        ]
        for need in result.instance.needs
        if result.total_usd is not None
    }


def size_shares(result: FleetResult, need: WorkloadDemand) -> dict[str, list[float]]:
    """The share that each configuration has in what is served of each size of a workload, over all hours.

    Replicas serve the demand in the proportions in which they could serve the most of it.
    """
    hours, sizes = result.instance.hours, range(len(need.sizes))
    unserved = (result.unserved or {}).get(need.name, (0.0,) * len(hours))
    capacity = [0.0] * len(hours)
    mine = [one for one in result.allocations if one.workload == need.name]
    for one in mine:
        capacity[one.period] += fsum(one.requests_per_s)
    found: dict[str, list[float]] = defaultdict(lambda: [0.0 for _ in sizes])
    for one in mine:
        period, own = one.period, found[one.option.configuration.name]
        if capacity[period]:
            used = (need.requests_per_s[period] - unserved[period]) * hours[period] / capacity[period]
            for size, rate in enumerate(one.requests_per_s):
                own[size] += used * rate
    whole = [fsum(own[size] for own in found.values()) for size in sizes]
    return {name: [own[size] / whole[size] if whole[size] else 0.0 for size in sizes] for name, own in found.items()}
