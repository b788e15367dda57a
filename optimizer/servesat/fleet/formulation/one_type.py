"""Fleets of which each workload uses a single type of chip, by CP-SAT: one column for each workload and chip.

On one type of chip, and at one price for each of its chips, the fewest chips that serve the demand cost least and leave
most to the others, so a workload and a chip have one column. What is left is a choice of a column for each workload
within the quotas: HiGHS takes 8 to 16 s for llm-inferno's large fleet as whole replicas, and CP-SAT milliseconds so.
"""

from collections import defaultdict
from dataclasses import dataclass
from math import ceil

import numpy as np

from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.deployment.formulation.cp_sat import cp_model, solve_model
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, RegionChip

MAX_COST = 1 << 40
"""The largest cost of a column in the solver's units: sums of thousands of them stay exact."""

MAX_CHIPS = 100_000
"""The most chips of a column that are counted one by one."""


@dataclass(frozen=True)
class _Column:
    """A workload on one type of chip: replicas by option, the chips that they take, and their cost [$]."""

    workload: str
    region_chip: RegionChip
    replicas: dict[int, int]
    chips: int
    usd: float


def is_choice_of_columns(instance: FleetInstance) -> bool:
    """Whether each workload is to use one type of chip in one region, at one price, and nothing else joins them."""
    one_period = len(instance.hours) == 1 and instance.previous_plan is None and instance.budget_usd is None
    plain = not (instance.pods or instance.occupied_chips or instance.usd_per_change or instance.machines)
    return one_period and plain and all(_is_plain(instance, number) for number in range(len(instance.workloads)))


def _is_plain(instance: FleetInstance, number: int) -> bool:
    workload = instance.workloads[number]
    options = [instance.options[o] for o in instance.options_of(workload.name)]
    prices: dict[str, set[float]] = defaultdict(set)
    for option in options:
        prices[option.configuration.chip].add(option.usd_per_chip_hour)
    limited = workload.redundant_replicas or workload.sizes or workload.max_configurations is not None
    shared = workload.max_share_per_region is not None or workload.max_spot_share < 1
    single = len({option.region for option in options}) <= 1 and all(one.purchase == "on_demand" for one in options)
    return workload.one_chip and single and not (limited or shared) and all(len(one) == 1 for one in prices.values())


def choose_columns(instance: FleetInstance, time_limit_s: float | None) -> FleetSolution | None:
    """The cheapest choice; None where a column has more chips than can be counted."""
    columns: list[_Column] = []
    for workload in instance.workloads:
        if any(workload.demand):
            found = _columns_of(instance, workload.name, workload.demand[0])
            if found is None:
                return None
            columns += found
    asked = {workload.name for workload in instance.workloads if any(workload.demand)}
    if not asked:
        return FleetSolution(Status.OPTIMAL, tuple((0,) for _ in instance.options))
    if asked > {column.workload for column in columns}:
        return FleetSolution(Status.INFEASIBLE)
    unit = max(column.usd for column in columns) / MAX_COST or 1.0
    model = cp_model.CpModel()
    chosen = [model.new_bool_var("") for _ in columns]
    for name in sorted(asked):
        model.add_exactly_one(on for on, column in zip(chosen, columns, strict=True) if column.workload == name)
    for region_chip, quota in instance.quotas.items():
        taken = [
            column.chips * on for on, column in zip(chosen, columns, strict=True) if column.region_chip == region_chip
        ]
        model.add(cp_model.LinearExpr.sum(taken) <= quota)
    model.minimize(cp_model.LinearExpr.weighted_sum(chosen, [round(column.usd / unit) for column in columns]))
    return _solved(instance, model, list(zip(chosen, columns, strict=True)), unit, time_limit_s)


def _solved(
    instance: FleetInstance,
    model: cp_model.CpModel,
    choice: list[tuple[cp_model.IntVar, _Column]],
    unit: float,
    time_limit_s: float | None,
) -> FleetSolution:
    solver, status = solve_model(model, time_limit_s=time_limit_s)
    if status in {Status.INFEASIBLE, Status.UNKNOWN}:
        return FleetSolution(status)
    replicas = [0] * len(instance.options)
    usd = 0.0
    for on, column in choice:
        if solver.boolean_value(on):
            usd += column.usd
            for option, count in column.replicas.items():
                replicas[option] = count
    return FleetSolution(
        status=status,
        replicas=tuple((count,) for count in replicas),
        objective=usd,
        bound=usd if status is Status.OPTIMAL else solver.best_objective_bound * unit * (1 - LIMIT_RTOL),
    )


def _columns_of(instance: FleetInstance, workload: str, demand: int) -> list[_Column] | None:
    """The column of a workload on each type of chip; None where one has too many chips to count."""
    by_chip: dict[RegionChip, list[int]] = defaultdict(list)
    for o in instance.options_of(workload):
        if instance.options[o].capacity:
            by_chip[instance.options[o].region_chip].append(o)
    columns = []
    for region_chip, options in by_chip.items():
        needed = min(
            instance.options[o].configuration.chips * ceil(demand / instance.options[o].capacity) for o in options
        )
        most = min(needed, instance.quotas.get(region_chip, needed))
        if most > MAX_CHIPS:
            return None
        replicas = _fewest_chips(instance, options, demand, most)
        if replicas is None:
            continue
        chips = sum(instance.options[o].configuration.chips * count for o, count in replicas.items())
        usd = chips * instance.options[options[0]].usd_per_chip_hour * instance.hours[0]
        columns.append(_Column(workload, region_chip, replicas, chips, usd))
    return columns


def _fewest_chips(instance: FleetInstance, options: list[int], demand: int, most: int) -> dict[int, int] | None:
    """Replicas that serve a demand on the fewest chips, by dynamic programming over them; None beyond `most`."""
    sizes = [(o, instance.options[o].configuration.chips, instance.options[o].capacity) for o in options]
    best = np.zeros(most + 1, dtype=np.int64)  # the largest capacity of so many chips
    last = np.full(most + 1, -1, dtype=np.int64)  # the option added last, -1 where a chip stays idle
    for count in range(1, most + 1):
        best[count] = best[count - 1]
        for o, chips, capacity in sizes:
            if chips <= count and best[count - chips] + capacity > best[count]:
                best[count], last[count] = best[count - chips] + capacity, o
        if best[count] >= demand:
            return _traced(instance, last, count)
    return None


def _traced(instance: FleetInstance, last: np.ndarray, count: int) -> dict[int, int]:
    """The replicas behind a number of chips."""
    replicas: dict[int, int] = defaultdict(int)
    while count:
        option = int(last[count])
        if option < 0:
            count -= 1
            continue
        replicas[option] += 1
        count -= instance.options[option].configuration.chips
    return dict(replicas)
