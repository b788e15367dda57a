"""Solving a spec with constraints: below one cost after another, until the first plan that they leave.

Every legal plan below a cost is a column of the model, so constraints can only remove columns, and the first optimum is
the optimum. The first cost is that of the best plan without the constraints, times BANDS in turn.
"""

import time
from collections.abc import Iterable, Sequence

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.constraints import Values, all_satisfied, choices, kept_constraints
from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import Layouts
from servesat.candidates.threshold import columns_below, least_costs
from servesat.core.arrays import join_all
from servesat.core.result import Status
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.formulation.instance import round_columns
from servesat.deployment.formulation.solver import Solution, solve
from servesat.deployment.settings import Settings
from servesat.spec.expressions import Expression, Level
from servesat.spec.spec import Spec

BANDS = (1.001, 1.01, 1.1, 1.5, 4.0, np.inf)
"""Times the cost of the best plan without the constraints: each band has several times the columns of the last."""


def solve_constrained(spec: Spec, layouts: Layouts, relaxed: int, settings: Settings) -> tuple[Columns, Solution]:
    """The columns that decided, and the solution over them; infeasible where the constraints leave no plan.

    Raises SpecError where constraints compare figures that grow at odds, over more columns than can be tabulated.
    """
    start = time.perf_counter()
    if settings.screen:
        values = Values(layouts, np.ones(len(layouts), dtype=np.int64))
        layouts = layouts.take(np.flatnonzero(all_satisfied(spec, values, Level.LAYOUT, relaxed)))
    constraints = kept_constraints(spec, relaxed)
    floor = least_costs(spec, layouts, relaxed)
    least = float(floor.min(initial=np.inf))
    for band in BANDS:
        usd = least * band
        within = layouts.take(np.flatnonzero(np.isfinite(floor) & (floor <= usd * (1 + 2 * COST_TIE_RTOL))))
        blocks = columns_below(spec, within, usd, relaxed, screen=settings.screen)
        if blocks is None:  # then only the batches at which something starts or stops holding, of all layouts
            columns = evaluate(spec, layouts, relaxed=relaxed)
            return columns, solve(round_columns(columns, spec, relaxed), settings.in_the_time_left(start))
        columns = _distinguishable(constraints, blocks) if settings.screen else join_all(blocks)
        solution = solve(round_columns(columns, spec, relaxed), settings.in_the_time_left(start))
        at_last = not np.isfinite(usd)
        if solution.status is Status.UNKNOWN or at_last:
            break
        if solution.column is not None and columns.usd_per_million[solution.column] <= usd:
            break  # beyond the cost of the band some that tie may be missing
    return columns, solution


def _distinguishable(constraints: Sequence[Expression], blocks: Iterable[Columns]) -> Columns:
    """Of the columns that no constraint can tell apart, those that tie with the cheapest of them."""
    kept: Columns | None = None
    for block in blocks:
        columns = block if kept is None else kept.join(block)
        choice = choices(constraints, columns)
        least = np.full(int(choice.max(initial=0)) + 1, np.inf)
        np.minimum.at(least, choice, columns.usd_per_million)
        near = columns.usd_per_million <= least[choice] * (1 + 2 * COST_TIE_RTOL)
        kept = columns.take(np.flatnonzero(near))
    if kept is None:
        raise TypeError("no block of columns")
    return kept
