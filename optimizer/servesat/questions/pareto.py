"""The exact Pareto frontier between two or three figures of a plan."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate, tabulate
from servesat.candidates.requirements import bits_of
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.core.arrays import Floats, Ints
from servesat.core.dominance import undominated
from servesat.core.errors import SolverError, SpecError
from servesat.core.parallel.runs import THIS_PROCESS, Workers, in_chunks
from servesat.core.plan import Mode, Plan
from servesat.core.result import Status
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.core.validation import nearest
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.formulation.instance import round_columns
from servesat.deployment.settings import Settings
from servesat.deployment.solve import checked, solve
from servesat.questions.one_pool import LeftOut, in_one_pool
from servesat.spec.spec import Spec

RESOLUTION = 1e-9
"""Figures are compared as logarithms in this unit, so that one computed in another order is the same."""

MIN_POINTS_FOR_PROCESSES = 2000
"""Points of a frontier below which starting processes takes longer than it saves."""


class By(StrEnum):
    """What the plans are grouped by, with a frontier for each group."""

    CHIP = "chip"
    TOPOLOGY = "topology"


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The non-dominated plans, sorted by the first axis; none when the spec is infeasible.

    `compared` is the number of feasible plans: every batch of every layout that satisfies the spec. `left_out` says
    which modes were not compared. `conflict` is as in `Result`.
    """

    status: Status
    axes: tuple[str, ...]
    by: By | None
    points: tuple[Plan, ...]
    compared: int
    left_out: LeftOut | None
    conflict: tuple[tuple[str, ...], ...] | None = None
    solve_s: float


def _logarithm(values: Floats) -> Ints:
    """Positive figures as integers, equal for a relative difference below RESOLUTION."""
    return np.rint(np.log(values) / RESOLUTION).astype(np.int64)


def _tokens_per_s_per_chip(columns: Columns) -> Floats:
    return columns.tokens_per_s / columns.chips


AXES: Mapping[str, Callable[[Columns], Ints]] = {
    "tpot_ms": lambda columns: _logarithm(columns.tpot_s),
    "usd_per_million_output_tokens": lambda columns: _logarithm(columns.usd_per_million),
    "tokens_per_s_per_chip": lambda columns: -_logarithm(_tokens_per_s_per_chip(columns)),
    "chips": lambda columns: columns.chips,
    "usd_per_hour": lambda columns: _logarithm(columns.usd_per_hour),
    "batch": lambda columns: -columns.batch,
    "ttft_ms": lambda columns: _logarithm(columns.ttft_s),
}
"""The figures that can be traded, as integer codes where lower is better."""

MAXIMISED = {"tokens_per_s_per_chip", "batch"}
"""Those of which more is better: throughput, and sequences that a replica serves at once."""


def trace_frontier(
    spec: Spec | Mapping[str, Any] | str | Path,
    axes: Sequence[str] = ("tpot_ms", "usd_per_million_output_tokens"),
    by: str | None = None,
    settings: Settings | None = None,
    workers: Workers = THIS_PROCESS,
) -> Frontier:
    """Find every plan within the spec that no other equals or beats in all of two or three figures.

    Exhaustive, hence exact: every legal batch of every layout is evaluated, and figures are compared as integers with a
    relative resolution of 1e-9. Disaggregated plans are left out: they have too many pairs of pools. Plans with equal
    figures are a single point, the first by speed, chips and id. `by` traces a frontier for each chip, or for each
    topology of each chip. The plans are re-derived by the workers. The cheapest point is checked against CP-SAT's
    optimum. Raises SpecError for axes that are not in AXES, or not two or three.
    """
    start = time.perf_counter()
    axes = _checked_axes(axes)
    spec, left_out = in_one_pool(Spec.load(spec).in_means(), settings)
    if "ttft_ms" in axes and Mode.DECODE_ONLY in spec.modes:
        raise SpecError("axis 'ttft_ms': decode_only has no first token; give prompt_tokens and output_tokens")
    if by is not None and by not in list(By):
        raise SpecError(f"by = {by!r}: expected {' or '.join(By)}")
    layouts = enumerate_layouts(spec)
    breakpoints = evaluate(spec, layouts)
    if not np.any(breakpoints.violated == 0):
        return Frontier(
            status=Status.INFEASIBLE,
            axes=axes,
            by=None if by is None else By(by),
            points=(),
            compared=0,
            left_out=left_out,
            conflict=minimal_conflicts(breakpoints.violated.tolist(), bits_of(spec)),
            solve_s=time.perf_counter() - start,
        )
    compared, frontiers = 0, []
    for block in tabulate(spec, layouts, breakpoints):
        feasible = block.take(np.flatnonzero(block.violated == 0))
        compared += len(feasible)
        frontiers.append(_non_dominated(feasible, axes, by))
    columns = _non_dominated(reduce(Columns.join, frontiers), axes, by)
    numbers, is_long = range(len(columns)), len(columns) >= MIN_POINTS_FOR_PROCESSES
    chunks = in_chunks(partial(_rederived, spec, columns), numbers, workers, named="points", is_long=is_long)
    points = tuple(plan for chunk in chunks for plan in chunk)
    if "usd_per_million_output_tokens" in axes:
        _check_cheapest(spec, points, settings)
    return Frontier(
        status=Status.OPTIMAL,
        axes=axes,
        by=None if by is None else By(by),
        points=points,
        compared=compared,
        left_out=left_out,
        solve_s=time.perf_counter() - start,
    )


def _rederived(spec: Spec, columns: Columns, some: range) -> list[Plan]:
    return [checked(spec, columns, column)[0] for column in some]


def _checked_axes(axes: Sequence[str]) -> tuple[str, ...]:
    for axis in axes:
        if axis not in AXES:
            raise SpecError(f"axis '{axis}': no such figure; {nearest(axis, AXES)}")
    if len(set(axes)) != len(axes) or len(axes) not in {2, 3}:
        raise SpecError(f"axes {', '.join(axes)}: expected two or three different ones")
    return tuple(axes)


def _check_cheapest(spec: Spec, points: tuple[Plan, ...], settings: Settings | None) -> None:
    """Check that the frontier's cheapest point costs as much as CP-SAT's optimum, within its tie tolerance."""
    result = solve(spec, settings)
    if result.status is not Status.OPTIMAL:  # the time limit was reached: nothing to compare with
        return
    plan, lowest = result.plan, min(point.usd_per_million_output_tokens for point in points)
    if plan is None or not lowest * (1 - RESOLUTION) <= plan.usd_per_million_output_tokens <= lowest * (
        1 + 2 * COST_TIE_RTOL
    ):
        raise SolverError(f"the frontier's lowest cost is ${lowest}, CP-SAT's plan is {plan}")


def _non_dominated(columns: Columns, axes: tuple[str, ...], by: str | None) -> Columns:
    """The non-dominated columns of each group, sorted by the first axis, then by the others."""
    codes = np.column_stack([AXES[axis](columns) for axis in axes])
    rank = round_columns(columns).tie_rank(np.arange(len(columns)))
    groups = _groups(columns, by)
    frontiers = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        frontiers.append(members[undominated(codes[members], rank[members])])
    rows = np.concatenate(frontiers)
    return columns.take(rows[np.lexsort((rank[rows], *codes[rows].T[::-1]))])


def _groups(columns: Columns, by: str | None) -> Ints:
    """The number of each column's group; shape [columns]."""
    if by is None:
        return np.zeros(len(columns), dtype=np.int64)
    names = [(place.offer.chip.id, place.topology if by == By.TOPOLOGY else "") for place in columns.layouts.places]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])[columns.layouts.place]
