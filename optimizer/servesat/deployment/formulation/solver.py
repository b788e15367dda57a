"""Solving an instance to a proved optimum, in two stages: the cost, then the order among plans that tie on it."""

import time
from dataclasses import dataclass, replace

import numpy as np

from servesat.candidates.rule import EVERY_REQUIREMENT
from servesat.core.arrays import Ints
from servesat.core.errors import SolverError
from servesat.core.result import Status
from servesat.deployment.formulation.cp_sat import solve_model
from servesat.deployment.formulation.expressions import Compiler
from servesat.deployment.formulation.instance import Instance, with_rows
from servesat.deployment.formulation.model import DeploymentModel
from servesat.deployment.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The chosen column (None without a plan), and the proved lower bound on `Instance.cost` (None without one)."""

    status: Status
    column: int | None
    bound: int | None


MAX_COLUMNS = 30_000
"""Columns in a model that constraints have not screened: with more, looking them up takes longer than all else."""


def solve(instance: Instance, settings: Settings) -> Solution:
    """Choose the cheapest column that satisfies every requirement and constraint; of those that tie, the first.

    With `settings.screen` columns that violate a requirement are left out of the model, where there are very many also
    those that violate a constraint, and of those that no constraint can tell apart all but the first; without, the
    model has every column, and the requirements as rows. Raises SolverError when the model is invalid or when the
    proved optimum differs from the vectorised minimum over the same columns: an OPTIMAL alone is no evidence
    (docs/formulation.md).
    """
    possible = np.arange(len(instance))
    if settings.screen:
        possible = np.flatnonzero(instance.violated & EVERY_REQUIREMENT == 0)
        if len(possible) > MAX_COLUMNS:
            possible = np.flatnonzero(instance.violated == 0)
    satisfying = instance.cost[instance.violated == 0]
    start = time.perf_counter()
    chosen = _first(instance, possible, instance.cost[possible], settings)
    if chosen.status is Status.INFEASIBLE:
        if len(satisfying):
            raise SolverError(f"CP-SAT calls an instance infeasible that {len(satisfying)} columns satisfy")
        return chosen
    if chosen.column is None:
        return chosen if len(satisfying) else _infeasible()
    if not len(satisfying):
        raise SolverError("CP-SAT finds a plan where every column violates a requirement")
    found = replace(chosen, status=Status.FEASIBLE)
    if chosen.status is Status.FEASIBLE:
        return found

    cost = int(instance.cost[chosen.column])
    if cost != int(satisfying.min()):
        raise SolverError(f"CP-SAT proved the cost {cost}, the minimum over its columns is {satisfying.min()}")
    tied = possible[instance.cost[possible] <= cost + instance.tie]
    if len(tied) == 1:
        return chosen
    return _first_of_tied(instance, tied, found, settings.in_the_time_left(start))


def _first_of_tied(instance: Instance, tied: Ints, found: Solution, settings: Settings) -> Solution:
    """The first in order of some columns that tie on the least cost, of which one is found."""
    rank = instance.tie_rank(tied)
    if settings.screen:
        tied = instance.first_of_each_choice(tied, rank)
        rank = np.arange(len(tied))
        if len(tied) == 1:  # like the one found, to every constraint
            return replace(found, status=Status.OPTIMAL, column=int(tied[0]))
    first = _first(instance, tied, rank, settings)
    if first.column is None:
        return found
    allowed = rank[instance.violated[tied] == 0]
    if first.status is Status.OPTIMAL and rank[np.flatnonzero(tied == first.column)[0]] != allowed.min():
        raise SolverError("CP-SAT and the vectorised minimum disagree on the order of plans that tie")
    return replace(found, status=first.status, column=first.column)


def _infeasible() -> Solution:
    """That every column violates a requirement is known, whether or not CP-SAT has the time to say so."""
    return Solution(status=Status.INFEASIBLE, column=None, bound=None)


def _first(instance: Instance, columns: Ints, rank: Ints, settings: Settings) -> Solution:
    """The first by rank of some columns that satisfies everything, and the cost below which there is none."""
    if settings.screen:
        columns = instance.first_of_each_choice(columns, rank)
    else:
        columns = columns[np.argsort(rank, kind="stable")]
    if not len(columns):  # each violates a requirement: one stands for all that violate the same
        columns = instance.one_of_each_violation()
        settings = replace(settings, screen=False)
    if not len(columns):
        return _infeasible()
    if settings.screen and not instance.constraints:
        instance = replace(instance, values=None)  # which constraints name
    some = instance.take(columns)
    solution = _minimise(some if settings.screen else with_rows(some), settings)
    return replace(
        solution,
        column=None if solution.column is None else int(columns[solution.column]),
        bound=None if solution.bound is None else int(instance.cost[columns[solution.bound]]),
    )


def _minimise(instance: Instance, settings: Settings) -> Solution:
    """The first column of an instance that satisfies everything; its bound is a column too."""
    built = DeploymentModel(instance)
    built.require()
    for on in built.literals.values():
        built.model.add(on == 1)
    if instance.spec is not None:
        compiler = Compiler(built, instance.spec.number_at)
        for expression in instance.constraints:
            compiler.add(expression)
    built.model.minimize(built.column)

    solver, status = solve_model(built.model, **settings.of_solver)
    if status in {Status.INFEASIBLE, Status.UNKNOWN}:
        return Solution(status=status, column=None, bound=None)
    return Solution(status=status, column=solver.value(built.column), bound=round(solver.best_objective_bound))
