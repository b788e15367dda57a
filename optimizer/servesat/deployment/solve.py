"""One deployment, from spec to proved result."""

import time
from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate, evaluate_search
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirements import is_relaxed
from servesat.core.arrays import Ints
from servesat.core.errors import SolverError
from servesat.core.plan import Plan
from servesat.core.result import Margin, Result, Status
from servesat.deployment.binding import binding_limits, relaxations
from servesat.deployment.check.plan import rederive
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.formulation.instance import LOG_RESOLUTION, round_columns
from servesat.deployment.formulation.solver import solve as solve_instance
from servesat.deployment.settings import Settings
from servesat.spec.spec import Spec

FIGURE_RTOL = 1e-9
"""How near the figures of the chosen column and those that `check` derives must lie, relatively."""


def solve(
    spec: Spec | Mapping[str, Any] | str | Path,
    settings: Settings | None = None,
    *,
    layouts: Layouts | None = None,
    relaxed: int = 0,
    batch: int | None = None,
) -> Result:
    """Find the cheapest plan for a spec, proved by CP-SAT and re-derived without it.

    The spec is a path to a YAML file, a mapping with the same keys, or a Spec. No plan is a result too: its status
    says why. `layouts` and `relaxed` restrict or relax the search as in `candidates.evaluation.evaluate`, `batch` fixes
    the batch. The margins of a relaxed requirement may then be negative. Raises SpecError when the spec is malformed,
    SolverError when an answer fails its own proof.
    """
    spec = Spec.load(spec)
    start = time.perf_counter()
    columns = _columns(spec, layouts, relaxed, None if batch is None else np.array([batch]))
    solution = solve_instance(round_columns(columns), settings or Settings())
    if solution.column is None:
        infeasible = solution.status is Status.INFEASIBLE
        return Result(
            status=solution.status,
            plan=None,
            conflict=minimal_conflicts(columns) if infeasible else None,
            solve_s=time.perf_counter() - start,
        )
    plan, margins = _checked(spec, columns, solution.column, relaxed)
    return Result(
        status=solution.status,
        plan=plan,
        bound_usd_per_million_output_tokens=_bound(solution.status, solution.bound, plan),
        binding=binding_limits(spec, columns, solution.column, margins, relaxed),
        relaxations=relaxations(spec, columns, solution.column),
        margins=margins,
        solve_s=time.perf_counter() - start,
    )


def _columns(spec: Spec, layouts: Layouts | None, relaxed: int, batches: Ints | None) -> Columns:
    """The columns of the layouts: of a whole search, of the undominated ones where one satisfies every requirement."""
    if layouts is not None:
        return evaluate(spec, layouts, relaxed=relaxed, batches=batches)
    columns = evaluate_search(spec, relaxed, batches=batches, undominated=True)
    return columns if np.any(columns.violated == 0) else evaluate_search(spec, relaxed, batches=batches)


def _checked(spec: Spec, columns: Columns, column: int, relaxed: int) -> tuple[Plan, tuple[Margin, ...]]:
    """The chosen plan, re-derived: a plan that fails its check is an internal error and is never shown."""
    plan, margins = rederive(spec, columns.assignment(column))
    broken = [m.requirement for m in margins if not m.holds and not is_relaxed(relaxed, m.requirement)]
    if broken:
        raise SolverError(f"the chosen plan fails its check: it violates {', '.join(broken)}")
    for name, figure in _figures(columns, column).items():
        derived = getattr(plan, name)
        if derived is not None and abs(derived - figure) > FIGURE_RTOL * abs(figure):
            raise SolverError(f"the chosen plan fails its check: {name} is {derived}, the column has {figure}")
    return plan, margins


def _figures(columns: Columns, column: int) -> dict[str, float]:
    """The figures of a column by the names that a plan has for them."""
    ms = {"tpot_ms": columns.step_s, "stall_ms": columns.stall_s, "ttft_ms": columns.ttft_s, "e2e_ms": columns.e2e_s}
    same = {
        "chips": columns.chips,
        "usd_per_hour": columns.usd_per_hour,
        "tokens_per_s": columns.tokens_per_s,
        "usd_per_million_output_tokens": columns.usd_per_million,
        "hbm_used_fraction": columns.hbm_used_fraction,
    }
    figures = {name: float(values[column]) for name, values in same.items()}
    return figures | {name: float(values[column]) * 1e3 for name, values in ms.items()}


def _bound(status: Status, bound: int | None, plan: Plan) -> float | None:
    """The proved lower bound on the cost; that of an optimal plan is its own cost, without the solver's rounding."""
    if status is Status.OPTIMAL:
        return plan.usd_per_million_output_tokens
    return None if bound is None else min(exp(bound * LOG_RESOLUTION), plan.usd_per_million_output_tokens)
