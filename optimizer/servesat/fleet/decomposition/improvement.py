"""What the rest of the time is for: some workloads of a plan are planned anew in all periods, around the others.

Rounding plans one period at a time, with the reservations of the mixture. Here a few workloads may move between what is
reserved and what is rented in every period at once (large neighbourhood search).
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from servesat.core.arrays import Ints
from servesat.core.result import Status
from servesat.fleet.check import bill_of
from servesat.fleet.decomposition.options import ImprovementOptions
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, RegionChip, ReservedChips


def improved(
    instance: FleetInstance,
    solution: FleetSolution,
    deadline: float,
    options: ImprovementOptions,
    on_progress: Callable[[str], None] = lambda _: None,
) -> FleetSolution:
    """The plan, or a cheaper one found by `deadline`, a moment of `time.perf_counter`; with its bill as `objective`.

    Ends before where the gap to its bound is small, or where many choices of workloads have brought nothing.
    """
    best = replace(solution, objective=bill_of(instance, solution))
    if instance.machines:  # the pieces of their instances differ by period
        return best
    random, names = np.random.default_rng(0), [workload.name for workload in instance.workloads]
    size = max(1, options.variables * len(names) // (len(instance.options) * len(instance.hours)))
    failed = 0
    while failed < options.failures and best.objective > best.bound * (1 + options.target_gap):
        start = time.perf_counter()
        limit_s = min(deadline - start, options.time_s)
        if limit_s < options.min_time_s:
            break
        some = set(random.choice(names, min(size, len(names)), replace=False).tolist())
        found = _planned_anew(instance, best, some, limit_s, options.gap)
        if found.objective < best.objective * (1 - options.min_gain):
            best, failed = found, 0
            on_progress(f"planning {len(some)} workloads anew: gap {1 - best.bound / best.objective:.2%}")
            continue
        failed += 1
        taken = (time.perf_counter() - start) / limit_s
        size = size + 1 if taken < 1 / 4 else max(1, size - 1) if taken > 0.9 else size
    return best


def _planned_anew(
    instance: FleetInstance, solution: FleetSolution, names: set[str], time_limit_s: float, gap: float
) -> FleetSolution:
    """The plan with some workloads and what they reserve planned anew by the compact model, the others as they are."""
    part = instance.with_options(lambda option: option.workload in names)
    rented, reserved = _chips_of_others(instance, solution, names)
    for place, chips in solution.reserved.items():
        if place not in part.reservable:
            rented[place.region_chip] = rented[place.region_chip] + chips
    model = FleetModel(
        replace(
            part,
            workloads=tuple(workload for workload in instance.workloads if workload.name in names),
            occupied_chips={region_chip: tuple(rented[region_chip].tolist()) for region_chip in instance.quotas},
            occupied_reserved={place: tuple(reserved[place].tolist()) for place in part.reservable},
        )
    )
    found = model.solve(model.usd(), time_limit_s, relative_gap=gap)
    if found.status not in (Status.OPTIMAL, Status.FEASIBLE):
        return solution
    own = iter(found.replicas)
    replicas = tuple(
        next(own) if option.workload in names else counts
        for option, counts in zip(instance.options, solution.replicas, strict=True)
    )
    whole = replace(solution, replicas=replicas, reserved={**solution.reserved, **found.reserved})
    return replace(whole, objective=bill_of(instance, whole))


def _chips_of_others(
    instance: FleetInstance, solution: FleetSolution, names: set[str]
) -> tuple[dict[RegionChip, Ints], dict[ReservedChips, Ints]]:
    """The chips that the other workloads rent, and those of reservations that they use, in each period."""
    none = np.zeros(len(instance.hours), dtype=np.int64)
    rented: dict[RegionChip, Ints] = defaultdict(lambda: none)
    reserved: dict[ReservedChips, Ints] = defaultdict(lambda: none)
    for option, counts in zip(instance.options, solution.replicas, strict=True):
        if option.workload not in names and any(counts):
            place, chips = option.place, option.chips * np.array(counts)
            if isinstance(place, ReservedChips):
                reserved[place] = reserved[place] + chips
            else:
                rented[place] = rented[place] + chips
    return rented, reserved
