"""The cheapest plan of a fleet, by the method that suits it: decomposed, period by period, or as one compact model."""

import time
from collections.abc import Callable
from dataclasses import replace
from math import fsum, inf

from servesat.core.parallel.runs import THIS_PROCESS, Workers
from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.conflict import seconds_to
from servesat.fleet.decomposition.column_generation import decomposes, plan_by_decomposition
from servesat.fleet.decomposition.options import DEFAULT_OPTIONS, ColumnGenerationOptions
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance

DEFAULT_TIME_LIMIT_S = 300.0
"""Maximum seconds for a fleet if no time limit is given: its gap closes ever more slowly."""


def cheapest(
    instance: FleetInstance,
    deadline: float,
    on_progress: Callable[[str], None] = lambda _: None,
    options: ColumnGenerationOptions = DEFAULT_OPTIONS,
) -> FleetSolution:
    """The plan with the lowest bill, until a deadline, a moment of `time.perf_counter`."""
    if decomposes(instance, options):
        solution = cheapest_decomposed(instance, deadline, on_progress, options)
        if solution is not None or time.perf_counter() > deadline:
            return solution or FleetSolution(Status.UNKNOWN)
    if instance.periods_are_independent:
        return cheapest_by_period(instance, deadline, on_progress)
    model = FleetModel(instance, deadline=deadline)
    return model.solve(model.usd(), seconds_to(deadline))


def cheapest_by_period(instance: FleetInstance, deadline: float, on_progress: Callable[[str], None]) -> FleetSolution:
    """The cheapest plan of each period separately: the sums of bills and bounds are those of all periods.

    First every period gets an equal share of the time, then the periods that are not proved get what is left of it.
    """
    periods = len(instance.hours)
    models: dict[int, FleetModel] = {}
    best: dict[int, FleetSolution] = {}
    for attempt in range(2):
        unproved = [period for period in range(periods) if attempt == 0 or best[period].status is not Status.OPTIMAL]
        for number, period in enumerate(unproved):
            if attempt and time.perf_counter() > deadline:
                break
            on_progress(f"period {period + 1} of {periods}{', second attempt' if attempt else ''}")
            model = models.get(period) or FleetModel(instance.in_period(period), deadline=deadline)
            left_s = seconds_to(deadline)
            solution = model.solve(model.usd(), None if left_s is None else left_s / (len(unproved) - number))
            if solution.status is Status.INFEASIBLE:
                return solution
            models[period] = model
            best[period] = _better_of(best.get(period), solution)
    return _joined([best[period] for period in range(periods)])


def _better_of(first: FleetSolution | None, second: FleetSolution) -> FleetSolution:
    """The cheaper of two plans of one model, with the better of their bounds."""
    if first is None or first.status is Status.UNKNOWN:
        return second
    if second.status is Status.UNKNOWN:
        return first
    bound = max(first.bound, second.bound)
    return replace(min(second, first, key=lambda solution: solution.objective), bound=bound)


def _joined(solutions: list[FleetSolution]) -> FleetSolution:
    """The plan of all periods, from the plans of each; the first without a plan if there is one."""
    unknown = next((solution for solution in solutions if solution.status is Status.UNKNOWN), None)
    if unknown is not None:
        return unknown
    proved = all(solution.status is Status.OPTIMAL for solution in solutions)
    by_option = zip(*(solution.replicas for solution in solutions), strict=True)
    return FleetSolution(
        status=Status.OPTIMAL if proved else Status.FEASIBLE,
        replicas=tuple(tuple(counts[0] for counts in periods) for periods in by_option),
        objective=fsum(solution.objective for solution in solutions),
        bound=fsum(solution.bound for solution in solutions),
    )


def cheapest_decomposed(
    instance: FleetInstance,
    deadline: float,
    on_progress: Callable[[str], None],
    options: ColumnGenerationOptions = DEFAULT_OPTIONS,
    workers: Workers = THIS_PROCESS,
) -> FleetSolution | None:
    """The plan of a large fleet with its dual bound, OPTIMAL if they meet; None if decomposition finds no plan."""
    until = time.perf_counter() + DEFAULT_TIME_LIMIT_S if deadline == inf else deadline
    plan = plan_by_decomposition(instance, until, on_progress, options, workers)
    if plan.status is Status.UNKNOWN:
        return None
    if plan.status is Status.INFEASIBLE:
        return plan
    return replace(plan, status=Status.OPTIMAL) if plan.objective <= plan.bound * (1 + LIMIT_RTOL) else plan
