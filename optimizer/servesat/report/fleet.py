"""A fleet's plan as tables on a terminal."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import prod

from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.quantities import dollars, number
from servesat.core.result import Status
from servesat.fleet.instance import WorkloadDemand
from servesat.fleet.machines import Machine
from servesat.fleet.pods.slices import whole_pods
from servesat.fleet.policies import Comparison
from servesat.fleet.result import FleetResult
from servesat.report.fleet_document import bills, size_shares, workload_utilisation
from servesat.report.fleet_words import collision_words, conflict_words, correction_words, unservable_words
from servesat.report.tables import Column, Fitted, columns, titled

OUT_OF_TIME = "the time limit was reached before a plan was found; raise it with --time-limit"

MAX_TABLE_PERIODS = 24
"""Maximum number of periods in one table."""

MAX_WIDE_PERIODS = 8
"""Periods up to which every one has room for its first hour."""


def print_fleet(console: Console, result: FleetResult, comparison: Comparison | None) -> None:
    """Print a fleet's plan, or why there is none."""
    if result.total_usd is None:
        _print_conflict(console, result)
        return
    hours = sum(result.instance.hours)
    console.print(
        Text.assemble(
            (dollars(result.total_usd), "bold"),
            f" for {number(hours)} {'hour' if hours == 1 else 'hours'}, in {_count(result)}",
        )
    )
    periods = len(result.instance.hours)
    for first in range(0, periods, MAX_TABLE_PERIODS):
        console.print(_schedule(result, range(first, min(first + MAX_TABLE_PERIODS, periods))))
        if result.rentals:
            console.print(_instances(result, range(first, min(first + MAX_TABLE_PERIODS, periods))))
    console.print(_bill_table(result))
    for workload in result.instance.workloads:
        if workload.sizes:
            console.print(_sizes_table(result, workload))
    console.print(_utilisation_table(result))
    if result.placement_maps:
        console.print(_pods_in_use_table(result))
    if result.reservations:
        reserved = (
            f"{reservation.chips} {reservation.chip} in {reservation.region} ({dollars(reservation.usd)})"
            for reservation in result.reservations
        )
        console.print(f"reserved for all periods: {', '.join(reserved)}\n")
    if periods > 1:
        console.print(Text(_count_changes(result)))
    if result.changes is not None:
        console.print(f"{result.changes} replicas started or stopped relative to the earlier plan")
        _print_no_longer_possible(console, result)
        console.print()
    _print_unserved(console, result)
    if comparison is not None:
        console.print(_policies_table(result, comparison))
        if comparison.quotas:
            console.print(_quotas_table(comparison))
        if comparison.pods:
            console.print(_pods_table(comparison))
    console.print(*_proof(result), sep="\n")


def _count(result: FleetResult) -> str:
    used = {(allocation.workload, allocation.option.configuration.name) for allocation in result.allocations}
    return f"{_counted(len(used), 'configuration')} of {_counted(len(result.instance.workloads), 'workload')}"


def _count_changes(result: FleetResult) -> str:
    """How often replicas start or stop, and what that costs."""
    changes, usd = result.period_changes, result.instance.usd_per_change
    cost = f", at {dollars(usd)} each" if usd else ""
    return f"{_counted(changes, 'replica')} start or stop between periods{cost}\n"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _schedule(result: FleetResult, periods: range) -> Fitted:
    """Replicas by workload and configuration: a number below each period's first hour, or a dot for none."""
    all_periods = len(periods) == len(result.instance.hours)
    title = "replicas in each period" if all_periods else f"replicas in periods {periods[0]} to {periods[-1]}"
    rows: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0] * len(periods))
    for allocation in result.allocations:
        if allocation.period in periods:
            configuration = allocation.option.configuration.name
            counts = rows[allocation.workload, allocation.region, allocation.purchase, configuration]
            counts[allocation.period - periods[0]] += allocation.replicas
    ruler, width = _ruler(result, periods, rows.values())
    table = Fitted([Column("workload"), *columns("configuration", "region", "bought", detail=True), ruler], title)
    for (workload, region, purchase, configuration), counts in rows.items():
        cells = " ".join((str(count) if count else ".").rjust(width) for count in counts)
        table.add_row([workload, configuration, region, purchase, cells])
    return table


def _instances(result: FleetResult, periods: range) -> Fitted:
    """Instances by machine: a number below each period's first hour, and the share of their chips that is idle."""
    rows: dict[Machine, list[int]] = defaultdict(lambda: [0] * len(periods))
    chips: dict[Machine, list[int]] = defaultdict(lambda: [0, 0])
    for rental in result.rentals:
        if rental.period in periods:
            rows[rental.machine][rental.period - periods[0]] = rental.instances
            chips[rental.machine][0] += rental.chips - rental.chips_used
            chips[rental.machine][1] += rental.chips
    ruler, width = _ruler(result, periods, rows.values())
    details = columns("chip", "where", "bought", detail=True)
    table = Fitted([Column("instances"), *details, Column("idle", right=True), ruler], "whole instances rented")
    for machine, counts in rows.items():
        where = " ".join(part for part in (machine.price.cloud, machine.price.region) if part) or machine.region
        idle, rented = chips[machine]
        cells = " ".join((str(count) if count else ".").rjust(width) for count in counts)
        chip = f"{machine.chips} {machine.chip}"
        table.add_row([machine.name, chip, where, machine.purchase, f"{idle / rented:.0%}", cells])
    return table


def _ruler(result: FleetResult, periods: range, rows: Iterable[list[int]]) -> tuple[Column, int]:
    """The hour at which each period starts, above its number of replicas, and how wide a number is.

    Of few periods every hour has room, of many as many as there is.
    """
    starts = list(accumulate(result.instance.hours, initial=0.0))
    hours = [f"{starts[period]:g}" + (" h" if period == periods[0] else "") for period in periods]
    width = max((len(str(count)) for counts in rows for count in counts), default=1)
    if len(periods) <= MAX_WIDE_PERIODS:
        width = max(width, *map(len, hours))
    line = ""
    for position, hour in enumerate(hours):
        at = position * (width + 1)
        if len(line) < at or position == 0:
            line = line.ljust(at) + hour.rjust(width)
    return Column(line), width


def _bill_table(result: FleetResult) -> Table:
    table = titled("the bill", ["by", ""], ["$"])
    for name, parts in bills(result).items():
        for position, (key, usd) in enumerate(parts):
            table.add_row(name if position == 0 else "", key, dollars(usd))
    return table


def _sizes_table(result: FleetResult, workload: WorkloadDemand) -> Table:
    """Which configurations serve which sizes: the share that each configuration serves of each size, in all periods."""
    title = f"which replicas serve what is served of {workload.name}, in one pool"
    table = titled(title, ["configuration"], workload.sizes)
    rows = size_shares(result, workload)
    for name, shares in rows.items():
        table.add_row(name, *(f"{share:.0%}" if share else "." for share in shares))
    return table


def _utilisation_table(result: FleetResult) -> Table:
    """The utilisation of replicas and quotas: the mean over the hours, and the maximum."""
    table = titled("utilisation of replicas and quotas", [""], ["mean", "max"])
    hours = result.instance.hours

    def row(name: str, shares: list[float | None]) -> None:
        defined = [(share, hour) for share, hour in zip(shares, hours, strict=True) if share is not None]
        if defined:
            mean = sum(share * hour for share, hour in defined) / sum(hour for _, hour in defined)
            most = max(share for share, _ in defined)
            table.add_row(name, f"{min(mean, most):.0%}", f"{most:.0%}")

    for name, shares in workload_utilisation(result).items():
        row(name, shares)
    for (region, chip), quota in result.instance.quotas.items():
        taken = result.chips_taken[region, chip]
        row(f"{quota} {chip} in {region}", [chips / quota if quota else None for chips in taken])
    return table


def _pods_in_use_table(result: FleetResult) -> Table:
    """The chips in use and the slices placed in the pods of each region, in the period with the most chips in use."""
    table = titled("pods in their fullest period", ["pods"], ["period", "chips"], "slices")
    for placement in result.placement_maps:
        slices: dict[tuple[str, str], float] = defaultdict(float)
        for option, block in placement.placed:
            slices[option.workload, str(block.slice)] += 1 / (whole_pods(placement.pods.shape, block.slice) or 1)
        chips = sum(prod(block.sizes) for _, block in placement.placed)
        table.add_row(
            f"{placement.pods} {placement.chip} in {placement.region}",
            str(placement.period),
            f"{chips} of {placement.pods.chips}",
            ", ".join(f"{count:g} of {shape} for {workload}" for (workload, shape), count in slices.items()),
        )
    return table


def _policies_table(result: FleetResult, comparison: Comparison) -> Table:
    table = titled("simpler policies", ["policy"], ["$", "more"])
    for policy in comparison.policies:
        if policy.total_usd is None:
            table.add_row(policy.name, "cannot serve it", "")
        else:
            more = policy.total_usd / (result.total_usd or 1.0) - 1
            table.add_row(policy.name, dollars(policy.total_usd), f"{round(more, 3) + 0.0:+.1%}")
    return table


def _quotas_table(comparison: Comparison) -> Table:
    table = titled("quotas that are used up", ["region", "chip"], ["quota", "full in periods", "one more saves $"])
    for value in comparison.quotas:
        table.add_row(value.region, value.chip, str(value.quota), str(value.periods), dollars(value.saves_usd))
    return table


def _pods_table(comparison: Comparison) -> Table:
    table = titled("more pods", ["pods"], ["one more saves $"])
    for value in comparison.pods:
        table.add_row(f"{value.pods} {value.chip} in {value.region}", dollars(value.saves_usd))
    return table


def _print_unserved(console: Console, result: FleetResult) -> None:
    for name, rates in (result.unserved or {}).items():
        if any(rates):
            parts = ", ".join(f"{number(rate)} requests/s in period {t}" for t, rate in enumerate(rates) if rate)
            console.print(Text.assemble((f"not served of {name}", "bold"), f": {parts}"))
    _print_unservable(console, result)


def _proof(result: FleetResult) -> Iterator[str]:
    how = f"({result.engine}, {result.solve_s:.2f} s)"
    proved = result.proved or {}
    if result.status is not Status.OPTIMAL:
        gap = f"no fleet costs less than {dollars(result.bound_usd or 0.0)}, a gap of {result.gap or 0.0:.2%}"
        gap = gap if result.bound_usd else "no lower bound on the bill was found in time"
        yield f"feasible: {gap}; proved: {', '.join(name for name, done in proved.items() if done) or 'nothing'} {how}"
        return
    secondary = {
        "moves": "differs less from the earlier plan",
        "configurations": "runs in fewer configurations",
        "changes": "changes less from period to period",
    }
    done = [words for name, words in secondary.items() if proved.get(name)]
    tidiest = f"; none at that cost {', and none of those '.join(done)}" if done else ""
    yield f"optimal: proved that no fleet costs less{tidiest} {how}"
    plans = (option.configuration.plan for option in result.instance.options)
    if any(plan is not None and plan.prefill is not None for plan in plans):
        yield "two pools were compared only at sizes for the whole demand or a fraction of it"


def _print_no_longer_possible(console: Console, result: FleetResult) -> None:
    for workload, configuration, region in result.instance.no_longer_possible():
        console.print(f"  no longer possible: {workload} on {configuration}, in {region}")


def _print_conflict(console: Console, result: FleetResult) -> None:
    if result.status is Status.UNKNOWN:
        why = "it was not decided whether the slices stand in their pods" if result.undecided else OUT_OF_TIME
        if not result.undecided and not result.engine:
            found = len(result.instance.workloads)
            why = f"the time limit was over with the configurations of {found:,} workloads; raise it with --time-limit"
        console.print(f"{result.status}: {why}")
        return
    console.print(Text.assemble(("infeasible", "bold"), ": no fleet meets every demand and limit"))
    if result.conflict is None:
        console.print("  the time limit was reached before the limits in conflict were found")
        return
    if result.unservable:
        _print_unservable(console, result)
        return
    for members in (result.conflict, *result.further_conflicts):
        cannot = "cannot be met" if len(members) == 1 else "cannot hold together"
        also = "" if members is result.conflict else "apart from these, "
        console.print(f"  {also}{conflict_words(members, result)} {cannot}")
    for collision in result.collisions:
        console.print(f"  {collision_words(collision, result)}")
    _print_no_longer_possible(console, result)
    if result.corrections:
        console.print("\nWith any one of these a plan exists")
        for correction in result.corrections:
            console.print(f"  {correction_words(correction)}")


def _print_unservable(console: Console, result: FleetResult) -> None:
    for unservable in result.unservable:
        for line in unservable_words(unservable):
            console.print(f"  {line}")
