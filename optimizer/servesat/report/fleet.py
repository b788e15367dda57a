"""A fleet's plan as tables on a terminal."""

from collections import defaultdict
from math import prod

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.quantities import dollars, number
from servesat.core.result import Status
from servesat.fleet.instance import WorkloadDemand
from servesat.fleet.plan import FleetResult
from servesat.fleet.pods.slices import whole_pods
from servesat.fleet.policies import Comparison
from servesat.report.fleet_document import bills, size_shares, workload_utilisation
from servesat.report.fleet_words import collision_words, conflict_words, correction_words, unservable_words

OUT_OF_TIME = "the time limit struck before a plan was found; give it more with --time-limit"

ACROSS = 24
"""Periods beside each other in a table."""


def print_fleet(console: Console, result: FleetResult, beside: Comparison | None) -> None:
    """Print a fleet's plan, or why there is none."""
    if result.total_usd is None:
        _print_conflict(console, result)
        return
    hours = sum(result.instance.hours)
    console.print(
        Text.assemble(
            (dollars(result.total_usd), "bold"),
            f" for {number(hours)} {'hour' if hours == 1 else 'hours'}, in {_count(result)}\n",
        )
    )
    for first in range(0, len(result.instance.hours), ACROSS):
        console.print(_schedule(result, range(first, min(first + ACROSS, len(result.instance.hours)))))
    console.print(_bill_table(result))
    for need in result.instance.needs:
        if need.sizes:
            console.print(_sizes_table(result, need))
    console.print(_utilisation_table(result))
    if result.floors:
        console.print(_floors_table(result))
    if result.reservations:
        kept = (f"{one.chips} {one.chip} in {one.region} ({dollars(one.usd)})" for one in result.reservations)
        console.print(f"reserved for all periods: {', '.join(kept)}\n")
    if result.changes is not None:
        console.print(f"{result.changes} replicas started or stopped against the earlier plan\n")
    _print_unserved(console, result)
    if beside is not None:
        console.print(_policies_table(result, beside))
        if beside.quotas:
            console.print(_quotas_table(beside))
        if beside.pods:
            console.print(_pods_table(beside))
    console.print(_proof(result))


def _count(result: FleetResult) -> str:
    used = {(one.workload, one.option.configuration.name) for one in result.allocations}
    return f"{_counted(len(used), 'configuration')} of {_counted(len(result.instance.needs), 'workload')}"


def _counted(count: int, name: str) -> str:
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def _schedule(result: FleetResult, periods: range) -> Table:
    """Replicas by workload and configuration, one number a period, a dot where there are none."""
    every = len(periods) == len(result.instance.hours)
    title = "replicas in each period" if every else f"replicas in periods {periods[0]} to {periods[-1]}"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("workload", "region", "bought", "configuration", "replicas"):
        table.add_column(name, overflow="fold", no_wrap=name == "replicas")
    rows: dict[tuple[str, str, str, str], list[int]] = defaultdict(lambda: [0] * len(periods))
    for one in result.allocations:
        if one.period in periods:
            own = rows[one.workload, one.region, one.purchase, one.option.configuration.name]
            own[one.period - periods[0]] += one.replicas
    width = len(str(max((count for counts in rows.values() for count in counts), default=0)))
    for key, counts in rows.items():
        table.add_row(*key, " ".join((str(count) if count else ".").rjust(width) for count in counts))
    return table


def _bill_table(result: FleetResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="the bill", title_justify="left")
    table.add_column("by")
    table.add_column("")
    table.add_column("$", justify="right")
    for name, parts in bills(result).items():
        for position, (key, usd) in enumerate(parts):
            table.add_row(name if position == 0 else "", key, dollars(usd))
    return table


def _sizes_table(result: FleetResult, need: WorkloadDemand) -> Table:
    """Which replicas serve which requests: the share of each size served that each configuration has in all periods."""
    title = f"which replicas serve what is served of {need.name}, in one pool"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("configuration", overflow="fold")
    for size in need.sizes:
        table.add_column(size, justify="right", overflow="fold")
    rows = size_shares(result, need)
    for name, shares in rows.items():
        table.add_row(name, *(f"{share:.0%}" if share else "." for share in shares))
    return table


def _utilisation_table(result: FleetResult) -> Table:
    """How full replicas and quotas are, as a mean over the hours and at most."""
    table = Table(box=box.SIMPLE_HEAD, title="used, of replicas and of quotas", title_justify="left")
    for name, justify in (("", "left"), ("mean", "right"), ("most", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    hours = result.instance.hours

    def row(name: str, shares: list[float | None]) -> None:
        there = [(share, hour) for share, hour in zip(shares, hours, strict=True) if share is not None]
        if there:
            mean = sum(share * hour for share, hour in there) / sum(hour for _, hour in there)
            table.add_row(name, f"{mean:.0%}", f"{max(share for share, _ in there):.0%}")

    for name, shares in workload_utilisation(result).items():
        row(name, shares)
    for (region, chip), quota in result.instance.quotas.items():
        taken = result.chips_taken[region, chip]
        row(f"{quota} {chip} in {region}", [chips / quota if quota else None for chips in taken])
    return table


def _floors_table(result: FleetResult) -> Table:
    """How full each floor is when it is fullest, and what stands on it."""
    table = Table(box=box.SIMPLE_HEAD, title="pods at their fullest", title_justify="left")
    for name, justify in (("pods", "left"), ("period", "right"), ("chips", "right"), ("slices", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for one in result.floors:
        kinds: dict[tuple[str, str], float] = defaultdict(float)
        for option, block in one.placed:
            kinds[option.workload, str(block.slice)] += 1 / (whole_pods(one.pods.shape, block.slice) or 1)
        chips = sum(prod(block.sizes) for _, block in one.placed)
        table.add_row(
            f"{one.pods} {one.chip} in {one.region}",
            str(one.period),
            f"{chips} of {one.pods.chips}",
            ", ".join(f"{count:g} of {shape} for {workload}" for (workload, shape), count in kinds.items()),
        )
    return table


def _policies_table(result: FleetResult, beside: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="simpler policies", title_justify="left")
    for name, justify in (("policy", "left"), ("$", "right"), ("more", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for policy in beside.policies:
        if policy.total_usd is None:
            table.add_row(policy.name, "cannot serve it", "")
        else:
            more = policy.total_usd / (result.total_usd or 1.0) - 1
            table.add_row(policy.name, dollars(policy.total_usd), f"{round(more, 3) + 0.0:+.1%}")
    return table


def _quotas_table(beside: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="quotas that are used up", title_justify="left")
    for name in ("region", "chip", "quota", "full in periods", "one more saves $"):
        table.add_column(name, justify="left" if name in {"region", "chip"} else "right")
    for one in beside.quotas:
        table.add_row(one.region, one.chip, str(one.quota), str(one.periods), dollars(one.saves_usd))
    return table


def _pods_table(beside: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="more pods", title_justify="left")
    table.add_column("pods")
    table.add_column("one more saves $", justify="right")
    for one in beside.pods:
        table.add_row(f"{one.pods} {one.chip} in {one.region}", dollars(one.saves_usd))
    return table


def _print_unserved(console: Console, result: FleetResult) -> None:
    for name, rates in (result.unserved or {}).items():
        if any(rates):
            parts = ", ".join(f"{number(rate)} requests/s in period {t}" for t, rate in enumerate(rates) if rate)
            console.print(Text.assemble((f"not served of {name}", "bold"), f": {parts}"))
    _print_stranded(console, result)


def _proof(result: FleetResult) -> str:
    how = f"({result.engine}, {result.solve_s:.2f} s)"
    proved = result.proved or {}
    if result.status is not Status.OPTIMAL:
        gap = f"no fleet costs less than {dollars(result.bound_usd or 0.0)}, a gap of {result.gap or 0.0:.2%}"
        gap = gap if result.bound_usd else "it was not found in time what the bill is at least"
        return f"feasible: {gap}; proved: {', '.join(name for name, done in proved.items() if done) or 'nothing'} {how}"
    tidy = {
        "moves": "differs less from the earlier plan",
        "configurations": "runs in fewer configurations",
        "changes": "changes less from period to period",
    }
    done = [words for name, words in tidy.items() if proved.get(name)]
    beside = f"; none at that cost {', and none of those '.join(done)}" if done else ""
    return f"optimal: proved that no fleet costs less{beside} {how}"


def _print_conflict(console: Console, result: FleetResult) -> None:
    if result.status is Status.UNKNOWN:
        why = "it was not decided whether the slices stand in their pods" if result.undecided else OUT_OF_TIME
        console.print(f"{result.status}: {why}")
        return
    console.print(Text.assemble(("infeasible", "bold"), ": no fleet meets every demand and limit"))
    if result.conflict is None:
        console.print("  the time limit struck before it was found which of them conflict")
        return
    if result.unservable:
        _print_stranded(console, result)
        return
    cannot = "cannot be met" if len(result.conflict) == 1 else "cannot hold together"
    console.print(f"  {conflict_words(result.conflict, result)} {cannot}")
    for one in result.collisions:
        console.print(f"  {collision_words(one, result)}")
    if result.corrections:
        console.print("\nWith any one of these a plan exists")
        for correction in result.corrections:
            console.print(f"  {correction_words(correction)}")


def _print_stranded(console: Console, result: FleetResult) -> None:
    for one in result.unservable:
        for line in unservable_words(one):
            console.print(f"  {line}")
