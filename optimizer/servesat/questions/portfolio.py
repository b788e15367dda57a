"""Portfolios: several deployments decided together, with what that costs against each alone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.constraints import Values, alike
from servesat.candidates.evaluation import evaluate, tabulate
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.core.dominance import undominated_in_groups
from servesat.core.errors import SolverError
from servesat.core.parallel.runs import THIS_PROCESS, Workers, in_chunks
from servesat.core.plan import Plan
from servesat.core.result import Status
from servesat.core.tolerances import COST_TIE_RTOL, round_up
from servesat.deployment.check.constraints import holds_of, named
from servesat.deployment.formulation.instance import Instance, round_columns
from servesat.deployment.formulation.portfolio import Choice, PortfolioModel, limits_of
from servesat.deployment.settings import Settings
from servesat.deployment.solve import checked, solve
from servesat.spec.expression_signs import Signs, easier, together
from servesat.spec.expressions import NAMES, Level, Name
from servesat.spec.portfolio import PortfolioSpec, owner_of, shared_names
from servesat.spec.spec import Spec

DTYPES = {"weights", "kv_cache", "compute"}

MIN_DEPLOYMENTS_FOR_PROCESSES = 30
"""Deployments below which starting processes takes longer than it saves."""


@dataclass(frozen=True, kw_only=True)
class LimitChange:
    """The value of a limit that would allow a portfolio, the others as they are."""

    limit: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """The answer to a portfolio: a plan of each deployment, or the limits in conflict.

    `alone` has the best plan of each deployment alone. `conflict` is an irreducible set of limits (None where time ran
    out), or the deployments without a plan, with their own conflicts in `conflicts_alone`; `corrections` says what each
    number in it would have to be. `left_out` names the deployments of which disaggregated plans were not compared: a
    search keeps too few of their pairs to share decisions. `in_means` names those whose limits are of a share of the
    requests, and are compared with means.
    """

    status: Status
    plans: dict[str, Plan]
    alone: dict[str, Plan]
    usd_per_hour: float | None = None
    bound_usd_per_hour: float | None = None
    conflict: tuple[str, ...] | None = None
    conflicts_alone: dict[str, tuple[tuple[str, ...], ...]]
    corrections: tuple[LimitChange, ...] = ()
    left_out: tuple[str, ...]
    in_means: tuple[str, ...] = ()
    solve_s: float

    @property
    def alone_usd_per_hour(self) -> float | None:
        """The bill of the deployments, each decided alone; None where one has no plan."""
        return None if self.conflicts_alone else sum(plan.usd_per_hour for plan in self.alone.values())

    @property
    def gap(self) -> float | None:
        """The relative distance of the bill from its bound; None without plans."""
        if self.usd_per_hour is None or self.bound_usd_per_hour is None:
            return None
        return 1 - self.bound_usd_per_hour / self.usd_per_hour if self.usd_per_hour else 0.0

    @property
    def sharing_costs_usd_per_hour(self) -> float | None:
        """What deciding together costs more than each alone."""
        if self.usd_per_hour is None or self.alone_usd_per_hour is None:
            return None
        return max(0.0, self.usd_per_hour - self.alone_usd_per_hour)


def solve_portfolio(
    source: PortfolioSpec | Mapping[str, Any] | str | Path,
    settings: Settings | None = None,
    workers: Workers = THIS_PROCESS,
) -> Portfolio:
    """Find the cheapest plans of several deployments together, proved by CP-SAT and re-derived without it.

    The workers find the plans that each deployment contributes. A deployment alone without a plan makes the portfolio
    infeasible. Raises SpecError for a malformed portfolio, SolverError when an answer fails its own proof.
    """
    portfolio, settings = PortfolioSpec.load(source), settings or Settings()
    start = time.perf_counter()
    specs = {name: spec.in_means().in_one_pool() for name, spec in portfolio.deployments.items()}
    chunks = in_chunks(
        partial(_columns_of, portfolio, list(specs.items())),
        range(len(specs)),
        workers,
        named="deployment",
        is_long=len(specs) >= MIN_DEPLOYMENTS_FOR_PROCESSES,
        largest_chunk=1,
    )
    columns = dict(zip(specs, (one for chunk in chunks for one in chunk), strict=True))
    conflicts = {name: solve(specs[name], settings).conflict or () for name, one in columns.items() if not len(one)}
    answer = Portfolio(
        status=Status.INFEASIBLE,
        plans={},
        alone={name: _best(specs[name], one) for name, one in columns.items() if len(one)},
        conflict=tuple(f"deployments.{name}" for name in conflicts) or None,
        conflicts_alone=conflicts,
        in_means=tuple(name for name, spec in portfolio.deployments.items() if spec.percentile is not None),
        left_out=tuple(name for name, spec in portfolio.deployments.items() if spec.modes != specs[name].modes),
        solve_s=0.0,
    )
    if not conflicts:
        answer = _decided(answer, portfolio, specs, _Question(portfolio, columns, settings, start))
    return replace(answer, solve_s=time.perf_counter() - start)


def _decided(
    answer: Portfolio, portfolio: PortfolioSpec, specs: Mapping[str, Spec], question: "_Question"
) -> Portfolio:
    """The answer with the plans of all deployments, or what is in conflict."""
    choice = question.solved()
    if choice.status is Status.INFEASIBLE:
        conflict = question.conflict()
        return replace(answer, conflict=conflict, corrections=question.corrections(conflict or ()))
    if not choice.columns:
        return replace(answer, status=choice.status)
    plans = {name: checked(specs[name], question.columns[name], at)[0] for name, at in choice.columns.items()}
    _check_together(portfolio, plans)
    usd = sum(plan.usd_per_hour for plan in plans.values())
    bound = usd if choice.status is Status.OPTIMAL else min(usd, choice.bound)
    return replace(answer, status=choice.status, plans=plans, usd_per_hour=usd, bound_usd_per_hour=bound)


def _best(spec: Spec, columns: Columns) -> Plan:
    """The best plan of a deployment alone: of those that tie on cost, the first by speed and id."""
    usd = columns.usd_per_million
    tied = np.flatnonzero(usd <= usd.min() * (1 + COST_TIE_RTOL))
    return checked(spec, columns, int(tied[round_columns(columns).tie_rank(tied).argmin()]))[0]


def _signs_of(portfolio: PortfolioSpec, deployment: str) -> Signs:
    """What is shared, limited, or named by a constraint of a deployment's plans, and which way of it is the better."""
    found = [dict.fromkeys(shared_names(portfolio), 0)]
    if limits_of(portfolio).keys() - {"max_usd_per_hour"}:
        found.append({NAMES["chip"]: 0, NAMES["chips"]: -1})  # on spot or in instances, more chips may cost less
    for expression in portfolio.expressions:
        named = ((*owner_of(name), sign) for name, sign in easier(expression.tree).items())
        found.append({own: sign for owner, own, sign in named if owner == deployment})
    return together(found)


def _columns_of(portfolio: PortfolioSpec, specs: Sequence[tuple[str, Spec]], some: range) -> list[Columns]:
    return [_columns(portfolio, *specs[number]) for number in some]


def _columns(portfolio: PortfolioSpec, deployment: str, spec: Spec) -> Columns:
    """The plans of a deployment that a portfolio could choose: none costs more than another that is as good for it.

    A layout's largest batch costs least and takes the fewest chips. Only where a constraint names what follows from the
    batch is every legal one a candidate.
    """
    signs = _signs_of(portfolio, deployment)
    ids = {name.id for name in signs}
    named = (owner_of(name) for expression in portfolio.expressions for name in expression.names)
    constrained = {name for owner, name in named if owner == deployment}
    layouts = enumerate_layouts(spec, undominated=not (constrained or ids & DTYPES), named=ids)
    columns = evaluate(spec, layouts)
    if any(name.level > Level.LAYOUT for name in constrained):
        blocks = (_useful(signs, _satisfying(block)) for block in tabulate(spec, layouts, columns))
        columns = reduce(Columns.join, blocks)
    return _useful(signs, _satisfying(columns))


def _satisfying(columns: Columns) -> Columns:
    return columns.take(np.flatnonzero(columns.violated == 0))


def _useful(signs: Signs, columns: Columns) -> Columns:
    """The columns that no cheaper one is as good as: at least as far in each name's better way, the same in the others.

    Of those that differ in nothing and tie on cost, the first by speed and id.
    """
    kind = alike(list(signs), columns)
    least = np.full(int(kind.max(initial=0)) + 1, np.inf)
    np.minimum.at(least, kind, columns.usd_per_hour)
    tied = np.flatnonzero(columns.usd_per_hour <= least[kind] * (1 + COST_TIE_RTOL))
    rank = round_columns(columns).tie_rank(tied)
    order = tied[np.argsort(rank, kind="stable")]
    _, first = np.unique(kind[order], return_index=True)
    distinct = columns.take(np.sort(order[first]))
    group = alike([name for name, sign in signs.items() if not sign], distinct)
    values = Values(distinct.layouts, distinct.batch, distinct)
    worse = [-sign * values.whole(name) for name, sign in signs.items() if sign]
    return distinct.take(undominated_in_groups(group, np.column_stack([distinct.usd_per_hour, *worse])))


class _Question:
    """A portfolio with its columns, solved with or without some of its limits."""

    def __init__(
        self, portfolio: PortfolioSpec, columns: Mapping[str, Columns], settings: Settings, start: float
    ) -> None:
        self.columns = columns
        self._portfolio = portfolio
        self._settings = settings
        self._start = start
        self._instances: dict[str, Instance] = {name: round_columns(one) for name, one in columns.items()}
        self._usd = {name: one.usd_per_hour for name, one in columns.items()}
        self._limits = [
            *(f"shared.{name}" for name in portfolio.shared),
            *limits_of(portfolio),
            *(expression.text for expression in portfolio.expressions),
        ]

    def solved(self, goal: str = "usd", relaxed: frozenset[str] = frozenset()) -> Choice:
        """The best choice without some limits."""
        model = PortfolioModel(self._portfolio, self._instances, self._usd, relaxed)
        return model.solve(goal, self._settings.in_the_time_left(self._start))

    def conflict(self) -> tuple[str, ...] | None:
        """An irreducible set of limits that cannot hold together, by a deletion filter; None once out of time."""
        kept = list(self._limits)
        for limit in self._limits:
            others = [one for one in kept if one != limit]
            status = self.solved(relaxed=frozenset(self._limits) - set(others)).status
            if status is Status.UNKNOWN:
                return None
            if status is Status.INFEASIBLE:
                kept = others
        return tuple(kept)

    def corrections(self, conflict: tuple[str, ...]) -> tuple[LimitChange, ...]:
        """What each number in a conflict would have to be, all other limits as they are."""
        found = []
        for limit in (one for one in conflict if one in limits_of(self._portfolio)):
            choice = self.solved(limit, frozenset({limit}))
            if choice.status is Status.OPTIMAL:
                cents = float(round_up(choice.value * 100)) / 100
                found.append(
                    LimitChange(limit=limit, value=cents if limit == "max_usd_per_hour" else round(choice.value))
                )
        return tuple(found)


def _check_together(portfolio: PortfolioSpec, plans: Mapping[str, Plan]) -> None:
    """Hold the plans to what ties them together, in plain Python. Raises SolverError."""
    chips = {plan.chip for plan in plans.values()}
    figures: dict[str, float] = {
        "max_chip_types": len(chips),
        "max_chips": sum(plan.chips for plan in plans.values()),
        "max_usd_per_hour": sum(plan.usd_per_hour for plan in plans.values()),
    }
    for chip in portfolio.quota:
        figures[f"quota.{chip}"] = sum(plan.chips for plan in plans.values() if plan.chip == chip)
    broken = [name for name, limit in limits_of(portfolio).items() if figures[name] > limit * (1 + 1e-8)]
    for shared in shared_names(portfolio):
        if len({named(plan, shared) for plan in plans.values()}) > 1:
            broken.append(f"shared.{shared.id}")

    def value_of(name: Name) -> Any:
        owner, own = owner_of(name)
        return named(plans[owner], own)

    broken += [one.text for one in portfolio.expressions if not holds_of(one, value_of, _no_key)]
    if broken:
        raise SolverError(f"the portfolio fails its check: it breaks {', '.join(broken)}")


def _no_key(key: str) -> Any:
    raise SolverError(f"a portfolio has no key {key}")
