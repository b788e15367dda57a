"""What a valid fleet plan is, without a solver: the bill and every limit again, in floats."""

from collections import defaultdict
from collections.abc import Sequence
from math import fsum

from servesat.core.errors import SolverError
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.mixes import best_mix
from servesat.fleet.instance import FleetInstance, ReplicaOption, WorkloadDemand
from servesat.fleet.pods.packing import pack
from servesat.fleet.pods.slices import stands
from servesat.fleet.previous_plan import ReplicaKey

ROUNDING = 10 * LIMIT_RTOL
"""What the whole numbers of the formulation may hide of a demand, relatively."""

Replicas = Sequence[tuple[ReplicaOption, int]]
"""How many of each option."""


def bill_of(instance: FleetInstance, solution: FleetSolution) -> float:
    """The money over all periods, re-derived from the replicas, the reserved chips, and what changes [$]."""
    price = instance.reserved_prices
    bought = (
        option.usd_per_hour * hours * count
        for option, counts in zip(instance.options, solution.replicas, strict=True)
        if option.purchase != "reserved"
        for hours, count in zip(instance.hours, counts, strict=True)
    )
    kept = (price[place] * sum(instance.hours) * count for place, count in solution.reserved.items())
    moved = 0.0 if instance.earlier is None else instance.earlier.usd_per_change * changes_of(instance, solution)
    return fsum((*bought, *kept, moved))


def changes_of(instance: FleetInstance, solution: FleetSolution) -> int:
    """Replicas started or stopped against the earlier plan; 0 without one."""
    periods = len(instance.hours)
    now: dict[ReplicaKey, list[int]] = defaultdict(lambda: [0] * periods)
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        now[option.runs] = [before + count for before, count in zip(now[option.runs], counts, strict=True)]
    return 0 if instance.earlier is None else instance.earlier.changes(now, periods)


def chips_taken(instance: FleetInstance, solution: FleetSolution) -> dict[tuple[str, str], list[int]]:
    """Chips taken of each region and type in each period, those reserved included; of every quota, and what is used."""
    periods = len(instance.hours)
    places = {*instance.quotas, *(option.place for option in instance.options)}
    taken = {place: [solution.reserved.get(place, 0)] * periods for place in places}
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        if option.purchase != "reserved":
            here = taken[option.place]
            taken[option.place] = [chips + option.chips * count for chips, count in zip(here, counts, strict=True)]
    return taken


def check(instance: FleetInstance, solution: FleetSolution) -> float:
    """The bill of a plan that meets every limit. Raises SolverError naming the first that it does not meet."""
    for need in instance.needs:
        for period in range(len(instance.hours)):
            _check_need(instance, solution, need, period)
    _check_chips(instance, solution)
    _check_floors(instance, solution)
    usd = bill_of(instance, solution)
    most = None if instance.earlier is None else instance.earlier.max_changes
    if most is not None and changes_of(instance, solution) > most:
        raise SolverError(f"{changes_of(instance, solution)} replicas change, more than {most}")
    if instance.budget_usd is not None and usd > instance.budget_usd * (1 + LIMIT_RTOL):
        raise SolverError(f"the fleet costs ${usd}, more than the budget")
    return usd


def counted_on(need: WorkloadDemand, period: int, used: Replicas) -> list[tuple[float, ...]]:
    """Requests/s of each size that some replicas of a workload serve together, in the shares of a period's demand.

    For each option; of requests of one size, what it serves.
    """
    if not need.sizes:
        return [(option.requests_per_s * count,) for option, count in used]
    alike: dict[tuple[float, ...], int] = defaultdict(int)
    for option, count in used:
        alike[option.of_size] += count
    served = best_mix(alike, need.shares[period])
    of_one = {rates: row / max(alike[rates], 1) for rates, row in zip(alike, served, strict=True)}
    return [tuple((of_one[option.of_size] * count).tolist()) for option, count in used]


def used_ever(instance: FleetInstance, solution: FleetSolution, need: WorkloadDemand) -> list[int]:
    """The options of a workload with a replica in some period, by position."""
    return [o for o in instance.of(need.name) if any(solution.replicas[o])]


def _check_need(instance: FleetInstance, solution: FleetSolution, need: WorkloadDemand, period: int) -> None:
    mine = [(instance.options[o], solution.replicas[o][period]) for o in instance.of(need.name)]
    used = [(option, count) for option, count in mine if count]
    unserved = solution.unserved.get(need.name, (0,) * len(need.demand))[period] * need.unit
    demand = need.requests_per_s[period]
    wanted = max(0.0, demand - unserved)

    def served(regions: set[str] | None = None, *, spot: bool = True) -> float:
        kept = [
            (option, count)
            for option, count in used
            if (regions is None or option.region in regions) and (spot or option.purchase != "spot")
        ]
        return _total(need, period, kept)

    regions = {option.region for option, _ in used}
    most_in_region = need.max_share_per_region
    rows = [(Limit("demand", (need.name,)), served(), wanted)]
    if most_in_region is not None:
        rows += [
            (Limit("region_share", (need.name,)), served(regions - {region}), (1 - most_in_region) * wanted)
            for region in regions or {""}
        ]
    rows.append((Limit("spot_share", (need.name,)), served(spot=False), (1 - need.max_spot_share) * wanted))
    if need.n_plus and demand:
        rows += [(Limit("n_plus", (need.name,)), _without(need, period, used, option), wanted) for option, _ in used]
    for limit, has, least in rows:
        if has < least - ROUNDING * demand:
            raise SolverError(f"the fleet breaks {limit.kind} of {need.name} in period {period}: {has} of {least}")
    if need.one_chip and len({instance.options[o].configuration.chip for o in used_ever(instance, solution, need)}) > 1:
        raise SolverError(f"the fleet serves {need.name} on several types of chips")


def _total(need: WorkloadDemand, period: int, used: Replicas) -> float:
    """What some replicas serve together [requests/s]."""
    return fsum(map(fsum, counted_on(need, period, used)))


def _without(need: WorkloadDemand, period: int, used: Replicas, gone: ReplicaOption) -> float:
    """What is served without n_plus replicas of an option; of several sizes, of those that serve as much of each."""
    if not need.sizes:
        return _total(need, period, used) - need.n_plus * gone.requests_per_s
    left, fail = [], need.n_plus
    for option, count in used:
        failed = min(count, fail) if option.of_size == gone.of_size else 0
        left.append((option, count - failed))
        fail -= failed
    return _total(need, period, left)


def _check_floors(instance: FleetInstance, solution: FleetSolution) -> None:
    for place, pods in instance.pods.items():
        for period in range(len(instance.hours)):
            slices = instance.slices(place, period, solution.replicas)
            if not stands(pods, slices, pack(pods, slices).placed):
                raise SolverError(f"the {place[1]} of {place[0]} do not stand in {pods} in period {period}")


def _check_chips(instance: FleetInstance, solution: FleetSolution) -> None:
    for place, counts in chips_taken(instance, solution).items():
        quota = instance.quotas.get(place)
        if quota is not None and max(counts) > quota:
            raise SolverError(f"the fleet takes {max(counts)} {place[1]} in {place[0]}, of {quota}")
    for place, kept in solution.reserved.items():
        own = [
            (option.chips, counts)
            for option, counts in zip(instance.options, solution.replicas, strict=True)
            if option.place == place and option.purchase == "reserved"
        ]
        used = [sum(chips * counts[period] for chips, counts in own) for period in range(len(instance.hours))]
        if max(used) > kept:
            raise SolverError(f"the fleet uses {max(used)} reserved {place[1]} in {place[0]}, of {kept}")
