"""Solving an instance to a proved optimum, in two stages: the cost, then the order among plans that tie on it."""

import time
from dataclasses import dataclass, replace

import numpy as np
from ortools.sat.python import cp_model

from servesat.core.arrays import Ints
from servesat.core.errors import SolverError
from servesat.core.result import Status
from servesat.deployment.formulation.constraints import require_all
from servesat.deployment.formulation.instance import Instance
from servesat.deployment.formulation.variables import add_variables, looked_up
from servesat.deployment.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The chosen column (None without a plan), and the proved lower bound on `Instance.cost` (None without one)."""

    status: Status
    column: int | None
    bound: int | None


_STATUS = {
    cp_model.OPTIMAL: Status.OPTIMAL,
    cp_model.FEASIBLE: Status.FEASIBLE,
    cp_model.INFEASIBLE: Status.INFEASIBLE,
    cp_model.UNKNOWN: Status.UNKNOWN,
}


def solve(instance: Instance, settings: Settings) -> Solution:
    """Choose the cheapest column that satisfies every requirement; among those that tie, the first by `tie_rank`.

    What cannot win is left out of the model: columns that violate a requirement, and, until ties are decided, all but
    the cheapest column of each layout. Raises SolverError when the model is invalid or when the proved optimum differs
    from the vectorised minimum over the same columns: an OPTIMAL alone is no evidence (docs/formulation.md).
    """
    satisfying = np.flatnonzero(instance.violated == 0)
    if not len(satisfying):
        return _infeasible(instance, settings)
    chosen = instance.take(satisfying)
    candidates = chosen.cheapest_of_each_layout()

    start = time.perf_counter()
    cheapest = _minimise(chosen.take(candidates), chosen.cost[candidates], settings)
    if cheapest.status is Status.INFEASIBLE:
        raise SolverError(f"CP-SAT calls an instance infeasible that {len(satisfying)} columns satisfy")
    if cheapest.column is None:
        return cheapest
    column = int(candidates[cheapest.column])
    found = Solution(status=Status.FEASIBLE, column=int(satisfying[column]), bound=cheapest.bound)
    if cheapest.status is Status.FEASIBLE:
        return found

    cost = int(chosen.cost[column])
    if cost != int(chosen.cost.min()):
        raise SolverError(f"CP-SAT proved the cost {cost}, the minimum over its columns is {chosen.cost.min()}")
    tied = chosen.tied(cost)
    if settings.time_limit_s is not None:
        left = settings.time_limit_s - (time.perf_counter() - start)
        settings = replace(settings, time_limit_s=max(left, 0.0))
    rank = chosen.tie_rank(tied)
    first = _minimise(chosen.take(tied), rank, settings)
    if first.column is None:
        return found
    if first.status is Status.OPTIMAL and first.column != int(rank.argmin()):
        raise SolverError("CP-SAT and the vectorised minimum disagree on the order of plans that tie")
    return replace(found, status=first.status, column=int(satisfying[tied[first.column]]))


def _infeasible(instance: Instance, settings: Settings) -> Solution:
    """Prove that the requirements exclude every column, one column standing for all that violate the same of them.

    That each column violates a requirement is known, whether or not CP-SAT has the time to say so.
    """
    columns = instance.one_of_each_violation()
    outcome = _minimise(instance.take(columns), instance.cost[columns], settings)
    if outcome.column is not None:
        raise SolverError("CP-SAT finds a plan where every column violates a requirement")
    return Solution(status=Status.INFEASIBLE, column=None, bound=None)


def _minimise(instance: Instance, objective: Ints, settings: Settings) -> Solution:
    """Build the model of an instance and minimise one value of its columns under every requirement."""
    model = cp_model.CpModel()
    variables = add_variables(model, instance)
    for on in require_all(model, variables, instance).values():
        model.add(on == 1)
    model.minimize(looked_up(model, variables.column, objective, "objective"))

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = settings.workers
    solver.parameters.random_seed = settings.seed
    solver.parameters.log_search_progress = settings.log
    solver.parameters.catch_sigint_signal = False  # it would leave Ctrl-C to end the process, and what is done with it
    if settings.time_limit_s is not None:
        solver.parameters.max_time_in_seconds = settings.time_limit_s
    outcome = solver.solve(model)
    if outcome not in _STATUS:
        raise SolverError(f"CP-SAT refuses the model: {model.validate() or solver.status_name(outcome)}")
    status = _STATUS[outcome]
    if status in {Status.INFEASIBLE, Status.UNKNOWN}:
        return Solution(status=status, column=None, bound=None)
    return Solution(status=status, column=solver.value(variables.column), bound=round(solver.best_objective_bound))
