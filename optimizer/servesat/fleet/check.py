"""Checks a fleet plan: recomputes the bill and verifies every limit in floating point.

How replicas share their time over sizes is proposed by GLOP, and where slices stand by the packer; what they propose is
verified here.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from math import fsum

from servesat.core.errors import SolverError
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL, is_at_most
from servesat.fleet.formulation.instance_rows import filled_instances
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.mixes import best_mix
from servesat.fleet.instance import FleetInstance, RegionChip, ReplicaOption, WorkloadDemand
from servesat.fleet.machines import MAX_SEARCHED_PIECES, Machine, fewest_instances, nest
from servesat.fleet.pods.packing import pack
from servesat.fleet.pods.slices import is_valid_packing
from servesat.fleet.previous_plan import ReplicaKey

UNIT_RTOL = 10 * LIMIT_RTOL
"""Relative error of a demand that rounding to whole units may cause in the formulation."""

Replicas = Sequence[tuple[ReplicaOption, int]]
"""Pairs of an option and its number of replicas."""


def bill_of(instance: FleetInstance, solution: FleetSolution) -> float:
    """The bill over all periods, recomputed from replicas, instances, reserved chips and changes [$]."""
    rented = (
        option.usd_per_hour * hours * count
        for option, counts in zip(instance.options, solution.replicas, strict=True)
        if option.purchase != "reserved" and option.machine is None
        for hours, count in zip(instance.hours, counts, strict=True)
    )
    all_hours = sum(instance.hours)
    whole = (
        machine.usd_per_hour * hours * count
        for machine, counts in instances_of(instance, solution.replicas).items()
        for hours, count in zip(instance.hours, counts, strict=True)
    )
    reserved = (place.usd_per_chip_hour * all_hours * chips for place, chips in solution.reserved.items())
    previous_plan = instance.previous_plan
    changes = 0.0 if previous_plan is None else previous_plan.usd_per_change * changes_of(instance, solution)
    return fsum((*rented, *whole, *reserved, changes, instance.usd_per_change * period_changes_of(solution)))


def is_as_solved(usd: float, solution: FleetSolution) -> bool:
    """Whether a bill is the one that a solver found: the fewest instances may not be counted in time."""
    return bool(is_at_most(usd, solution.objective * (1 + COST_TIE_RTOL)))


def instances_of(instance: FleetInstance, replicas: Sequence[Sequence[int]]) -> dict[Machine, tuple[int, ...]]:
    """The fewest instances of each machine that hold its replicas in each period; reserved ones are kept in all."""
    rented = {}
    for machine, options in instance.machines.items():
        counts = []
        for period in range(len(instance.hours)):
            pieces: dict[int, int] = defaultdict(int)
            for o in options:
                for chips, number in instance.options[o].pieces:
                    pieces[chips] += number * replicas[o][period]
            counts.append(_fewest(machine.chips, pieces))
        rented[machine] = tuple(counts) if machine.purchase != "reserved" else (max(counts),) * len(counts)
    return {machine: counts for machine, counts in rented.items() if any(counts)}


def _fewest(chips: int, pieces: dict[int, int]) -> int:
    """The fewest instances that hold some pieces; of many whose sizes do not nest, by fillings that are verified."""
    first_fit = fewest_instances(chips, pieces)
    if nest(pieces) or sum(pieces.values()) <= MAX_SEARCHED_PIECES:
        return first_fit
    filled = filled_instances(chips, pieces)
    return first_fit if filled is None else min(first_fit, filled)


def period_changes_of(solution: FleetSolution) -> int:
    """Replicas started or stopped from one period to the next."""
    return sum(abs(after - before) for counts in solution.replicas for before, after in pairwise(counts))


def changes_of(instance: FleetInstance, solution: FleetSolution) -> int:
    """Replicas started or stopped relative to the previous plan; 0 if there is none."""
    periods = len(instance.hours)
    replicas: dict[ReplicaKey, list[int]] = defaultdict(lambda: [0] * periods)
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        key = option.replica_key
        replicas[key] = [before + count for before, count in zip(replicas[key], counts, strict=True)]
    return 0 if instance.previous_plan is None else instance.previous_plan.changes(replicas, periods)


def chips_taken(instance: FleetInstance, solution: FleetSolution) -> dict[RegionChip, list[int]]:
    """Chips paid for in each period, reserved ones included, for every region and chip with a quota or an option."""
    periods = len(instance.hours)
    region_chips = {*instance.quotas, *(option.region_chip for option in instance.options)}
    taken = {region_chip: [0] * periods for region_chip in region_chips}
    for place, reserved in solution.reserved.items():
        taken[place.region_chip] = [chips + reserved for chips in taken[place.region_chip]]
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        if option.purchase != "reserved" and option.machine is None:
            before = taken[option.region_chip]
            taken[option.region_chip] = [
                chips + option.chips * count for chips, count in zip(before, counts, strict=True)
            ]
    for machine, counts in instances_of(instance, solution.replicas).items():
        before = taken[machine.region, machine.chip]
        taken[machine.region, machine.chip] = [
            chips + machine.chips * count for chips, count in zip(before, counts, strict=True)
        ]
    return taken


def check(instance: FleetInstance, solution: FleetSolution) -> float:
    """The bill of a plan that complies with every limit. Raises SolverError naming the first violated limit."""
    for workload in instance.workloads:
        for period in range(len(instance.hours)):
            _check_workload(instance, solution, workload, period)
    _check_chips(instance, solution)
    _check_packings(instance, solution)
    usd = bill_of(instance, solution)
    max_changes = None if instance.previous_plan is None else instance.previous_plan.max_changes
    if max_changes is not None and changes_of(instance, solution) > max_changes:
        raise SolverError(f"{changes_of(instance, solution)} replicas change, more than {max_changes}")
    if instance.budget_usd is not None and usd > instance.budget_usd * (1 + LIMIT_RTOL):
        raise SolverError(f"the fleet costs ${usd}, more than the budget")
    return usd


def served_rates(workload: WorkloadDemand, period: int, replicas: Replicas) -> list[tuple[float, ...]]:
    """What the replicas of a workload serve of each size, in the proportions of a period's demand [requests/s].

    One tuple for each option; with requests of one size, it has one entry.
    """
    if not workload.sizes:
        return [(option.requests_per_s * count,) for option, count in replicas]
    by_rates: dict[tuple[float, ...], int] = defaultdict(int)
    for option, count in replicas:
        by_rates[option.size_rates] += count
    served = best_mix(by_rates, workload.size_shares[period])
    per_replica = {rates: row / max(by_rates[rates], 1) for rates, row in zip(by_rates, served, strict=True)}
    return [tuple((per_replica[option.size_rates] * count).tolist()) for option, count in replicas]


def used_options(instance: FleetInstance, solution: FleetSolution, workload: WorkloadDemand) -> list[int]:
    """Positions of the options of a workload with a replica in some period."""
    return [o for o in instance.options_of(workload.name) if any(solution.replicas[o])]


def _check_workload(instance: FleetInstance, solution: FleetSolution, workload: WorkloadDemand, period: int) -> None:
    positions = instance.options_of(workload.name)
    counts = [(instance.options[o], solution.replicas[o][period]) for o in positions]
    used = [(option, count) for option, count in counts if count]
    unserved_units = solution.unserved.get(workload.name, (0,) * len(workload.demand))[period]
    demand = workload.requests_per_s[period]
    required = max(0.0, demand - unserved_units * workload.unit)
    for limit, served, share in _rows(workload, period, used):
        if served < share * required - UNIT_RTOL * demand:
            raise SolverError(
                f"the fleet breaks {limit.kind} of {workload.name} in period {period}: {served} of {share * required}"
            )
    chips = {instance.options[o].configuration.chip for o in used_options(instance, solution, workload)}
    names: dict[str, set[str]] = defaultdict(set)
    for o in used_options(instance, solution, workload):
        names[instance.options[o].region].add(instance.options[o].configuration.name)
    if (
        workload.max_configurations is not None
        and max(map(len, names.values()), default=0) > workload.max_configurations
    ):
        raise SolverError(f"the fleet runs {workload.name} in more than {workload.max_configurations} configurations")
    if workload.one_chip and len(chips) > 1:
        raise SolverError(f"the fleet serves {workload.name} on several types of chips")


def _rows(workload: WorkloadDemand, period: int, used: Replicas) -> list[tuple[Limit, float, float]]:
    """The rows of a workload in a period: the limit, what counts as served, and the required share of the demand."""

    def served(regions: set[str] | None = None, *, spot: bool = True) -> float:
        counted = [
            (option, count)
            for option, count in used
            if (regions is None or option.region in regions) and (spot or option.purchase != "spot")
        ]
        return _total_served(workload, period, counted)

    of = (workload.name,)
    regions = {option.region for option, _ in used}
    rows = [(Limit("demand", of), served(), 1.0)]
    if workload.max_share_per_region is not None:
        share = 1 - workload.max_share_per_region
        rows += [(Limit("region_share", of), served(regions - {region}), share) for region in regions or {""}]
    rows.append((Limit("spot_share", of), served(spot=False), workload.min_non_spot_share))
    if workload.redundant_replicas and workload.requests_per_s[period]:
        rows += [(Limit("n_plus", of), _served_without(workload, period, used, option), 1.0) for option, _ in used]
    return rows


def _total_served(workload: WorkloadDemand, period: int, replicas: Replicas) -> float:
    """What some replicas serve together [requests/s]."""
    return fsum(map(fsum, served_rates(workload, period, replicas)))


def _served_without(workload: WorkloadDemand, period: int, used: Replicas, failing: ReplicaOption) -> float:
    """What is served if redundant replicas of an option fail; with several sizes, of all options with its rates."""
    if not workload.sizes:
        return _total_served(workload, period, used) - workload.redundant_replicas * failing.requests_per_s
    remaining, failures_left = [], workload.redundant_replicas
    for option, count in used:
        failed = min(count, failures_left) if option.size_rates == failing.size_rates else 0
        remaining.append((option, count - failed))
        failures_left -= failed
    return _total_served(workload, period, remaining)


def _check_packings(instance: FleetInstance, solution: FleetSolution) -> None:
    for (region, chip), pods in instance.pods.items():
        for period in range(len(instance.hours)):
            slices = instance.slices((region, chip), period, solution.replicas)
            if not is_valid_packing(pods, slices, pack(pods, slices).placed):
                raise SolverError(f"the slices of {chip} in {region} do not fit in {pods} in period {period}")


def _check_chips(instance: FleetInstance, solution: FleetSolution) -> None:
    for (region, chip), counts in chips_taken(instance, solution).items():
        quota = instance.quotas.get((region, chip))
        if quota is not None and max(counts) > quota:
            raise SolverError(f"the fleet takes {max(counts)} {chip} in {region}, of {quota}")
    for place in {*solution.reserved, *instance.reservable}:
        reserved = solution.reserved.get(place, 0)
        users = [
            (option.chips, counts)
            for option, counts in zip(instance.options, solution.replicas, strict=True)
            if option.place == place
        ]
        used = [sum(chips * counts[period] for chips, counts in users) for period in range(len(instance.hours))]
        if max(used) > reserved:
            raise SolverError(
                f"the fleet uses {max(used)} {place.chip} in {place.region} reserved at ${place.usd_per_chip_hour:g}, "
                f"of {reserved}"
            )
