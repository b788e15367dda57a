"""One deployment, from spec to proved result."""

import time
from collections.abc import Callable, Mapping
from math import exp
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate, evaluate_search
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirements import bits_of
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.core.arrays import Ints
from servesat.core.errors import SolverError
from servesat.core.plan import Plan
from servesat.core.result import Margin, Result, Status
from servesat.deployment.binding import binding_limits, relaxations
from servesat.deployment.by_replay import solve_by_replay
from servesat.deployment.check.plan import rederive
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.constrained import solve_constrained
from servesat.deployment.formulation.instance import LOG_RESOLUTION, round_columns
from servesat.deployment.formulation.solver import Solution
from servesat.deployment.formulation.solver import solve as solve_instance
from servesat.deployment.proposals import Search
from servesat.deployment.settings import Settings
from servesat.spec.constraint_builder import ConstraintBuilder, built
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
    constrain: Callable[[ConstraintBuilder], object] | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Find the cheapest plan for a spec, proved by CP-SAT and re-derived without it.

    The spec is a path to a YAML file, a mapping with the same keys, or a Spec. No plan is a result too: its status
    says why. `constrain` adds constraints to those of the spec (docs/constraints.md). `layouts` and `relaxed` restrict
    or relax the search as in `candidates.evaluation.evaluate`, `batch` fixes the batch. The margins of a relaxed
    requirement may then be negative. Limits on a share of the requests are verified by replays (`by_replay`); in a
    search restricted by `layouts`, `relaxed` or `batch` they are applied to means. `on_progress` is called with a
    description of each step. Raises SpecError when the spec is
    malformed, SolverError when an answer fails its own proof.
    """
    spec = Spec.load(spec)
    if constrain is not None:
        spec = spec.constrained(built(constrain))
    start = time.perf_counter()
    settings = settings or Settings()
    if spec.percentile is not None and layouts is None and batch is None and not relaxed:
        return solve_by_replay(spec, settings, on_progress)
    spec = spec.in_means()
    batches = None if batch is None else np.array([batch])
    bounded = bool(spec.expressions) and batches is None  # what a looser limit would allow is beyond the bound
    on_progress("the cheapest plan")
    columns, solution = _decided(spec, settings, layouts, relaxed, batches)
    if solution.column is None:
        conflict = None
        if solution.status is Status.INFEASIBLE:
            is_whole = not bounded and (layouts is not None or not settings.screen)
            whole = columns if is_whole else _columns(spec, layouts, relaxed, batches, screen=False)
            conflict = minimal_conflicts(whole.violated.tolist(), bits_of(spec))
        return Result(status=solution.status, plan=None, conflict=conflict, solve_s=time.perf_counter() - start)
    plan, margins = checked(spec, columns, solution.column, relaxed)
    return Result(
        status=solution.status,
        plan=plan,
        bound_usd_per_million_output_tokens=_bound(solution.status, solution.bound, plan),
        binding=binding_limits(spec, columns, solution.column, margins, relaxed),
        relaxations=() if bounded else relaxations(spec, columns, plan.usd_per_million_output_tokens),
        margins=margins,
        solve_s=time.perf_counter() - start,
    )


def cheapest_plan(spec: Spec, settings: Settings | None = None) -> Plan | None:
    """The plan that `solve` finds, without what a result tells of it; None where it finds none."""
    if spec.percentile is None:
        by_means = cheapest_by_means(spec, settings or Settings())
        return None if by_means is None else by_means[0]
    found = Search(spec, time.perf_counter(), settings or Settings()).run()
    return None if found is None else found.plan


def cheapest_by_means(
    spec: Spec, settings: Settings, layouts: Layouts | None = None
) -> tuple[Plan, tuple[Margin, ...]] | None:
    """The plan that `solve` finds for means, and its margins; None where it finds none, without the reason."""
    columns, solution = _decided(spec, settings, layouts, 0, None)
    return None if solution.column is None else checked(spec, columns, solution.column)


def _decided(
    spec: Spec, settings: Settings, layouts: Layouts | None, relaxed: int, batches: Ints | None
) -> tuple[Columns, Solution]:
    """The columns that decide a search by means, and the solution over them."""
    if spec.expressions and batches is None:
        every = enumerate_layouts(spec, relaxed, undominated=settings.screen) if layouts is None else layouts
        return solve_constrained(spec, every, relaxed, settings)
    columns = _columns(spec, layouts, relaxed, batches, screen=settings.screen)
    return columns, solve_instance(round_columns(columns, spec, relaxed), settings)


def _columns(spec: Spec, layouts: Layouts | None, relaxed: int, batches: Ints | None, *, screen: bool) -> Columns:
    """The columns of the layouts; of a whole search, with `screen`, of the undominated ones."""
    if layouts is not None:
        return evaluate(spec, layouts, relaxed=relaxed, batches=batches)
    return evaluate_search(spec, relaxed, batches=batches, undominated=screen)


def checked(spec: Spec, columns: Columns, column: int, relaxed: int = 0) -> tuple[Plan, tuple[Margin, ...]]:
    """The chosen plan and its margins, re-derived: one that fails its check is an internal error and is never shown.

    Raises SolverError.
    """
    plan, margins = rederive(spec, columns.assignment(column))
    bits = bits_of(spec)
    broken = [m.requirement for m in margins if not m.holds and not relaxed & bits[m.requirement]]
    if broken:
        raise SolverError(f"the chosen plan fails its check: it violates {', '.join(broken)}")
    for name, figure in _figures(columns, column).items():
        derived = getattr(plan, name)
        if derived is not None and abs(derived - figure) > FIGURE_RTOL * abs(figure):
            raise SolverError(f"the chosen plan fails its check: {name} is {derived}, the column has {figure}")
    return plan, margins


def _figures(columns: Columns, column: int) -> dict[str, float]:
    """The figures of a column by the names that a plan has for them."""
    ms = {"tpot_ms": columns.tpot_s, "stall_ms": columns.stall_s, "ttft_ms": columns.ttft_s, "e2e_ms": columns.e2e_s}
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
