"""Several deployments in one CP-SAT model: a column of each, tied by shared decisions, limits and constraints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from servesat.core.arrays import Floats, Ints
from servesat.core.errors import SolverError
from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL, whole_units
from servesat.deployment.formulation.cp_sat import cp_model, solve_model
from servesat.deployment.formulation.expressions import Compiler
from servesat.deployment.formulation.instance import Instance
from servesat.deployment.formulation.model import DeploymentModel
from servesat.deployment.settings import Settings
from servesat.spec.expressions import NAMES, Name
from servesat.spec.portfolio import PortfolioSpec, owner_of, shared_names

BILL_RESOLUTION = 1e-11
"""Unit of the bill, relative to the sum of the least: of 200 deployments, far below the tolerance of ties."""

MAX_BILL = 1e17
"""Units of the largest bill, so that their sum is a whole number of the solver."""

Goal = str
"""What is minimised: `usd`, or the figure of a limit that is relaxed, by its name."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A column of each deployment (none without a plan), and the value and the proved bound of the goal."""

    status: Status
    columns: dict[str, int]
    value: float = 0.0
    bound: float = 0.0


class PortfolioModel:
    """The constraint model of a portfolio, given the columns of each deployment and their bills [$/h].

    Limits in `relaxed` are left out: `shared.chip`, `max_chips`, `quota.h100-sxm`, the text of a constraint.
    """

    def __init__(
        self,
        portfolio: PortfolioSpec,
        instances: Mapping[str, Instance],
        usd_per_hour: Mapping[str, Floats],
        relaxed: frozenset[str] = frozenset(),
    ) -> None:
        self.portfolio = portfolio
        self.model = cp_model.CpModel()
        texts: dict[str, int] = {}
        self.of = {name: DeploymentModel(instance, self.model, texts) for name, instance in instances.items()}
        self._usd = usd_per_hour
        bills = usd_per_hour.values()
        least, self._most = (sum(map(float, map(of, bills))) for of in (np.min, np.max))
        self._unit = max(least * BILL_RESOLUTION, self._most / MAX_BILL)
        self._relaxed = relaxed
        self._add_shared()
        self._add_limits()
        compiler = Compiler(self, _no_key)
        for expression in portfolio.expressions:
            if expression.text not in relaxed:
                compiler.add(expression)

    def value(self, name: Name) -> cp_model.IntVar:
        """The number of a deployment's name, or the code of its text."""
        owner, own = owner_of(name)
        return self.of[owner].value(own)

    def place(self, name: Name) -> cp_model.IntVar:
        """The place of a deployment's number among its distinct ones."""
        owner, own = owner_of(name)
        return self.of[owner].place(own)

    def distinct(self, name: Name) -> Ints:
        """The distinct numbers of a deployment's name, sorted."""
        owner, own = owner_of(name)
        return self.of[owner].distinct(own)

    def code_of(self, text: str) -> int:
        """The code of a text, the same in every deployment."""
        return next(iter(self.of.values())).code_of(text)

    def solve(self, goal: Goal, settings: Settings) -> Choice:
        """Minimise the bill, or what a relaxed limit would have to be."""
        unit = self._unit if goal in {"usd", "max_usd_per_hour"} else 1.0
        self.model.minimize(self._figure(goal))
        solver, status = solve_model(self.model, **settings.of_solver)
        if status in {Status.INFEASIBLE, Status.UNKNOWN}:
            return Choice(status=status, columns={})
        return Choice(
            status=status,
            columns={name: solver.value(one.column) for name, one in self.of.items()},
            value=solver.objective_value * unit,
            bound=solver.best_objective_bound * unit,
        )

    def _figure(self, goal: Goal) -> cp_model.LinearExprT:
        """The sum that a goal minimises, or that a limit bounds: of bills rounded down, so that it refuses none."""
        if goal in {"usd", "max_usd_per_hour"}:
            return self._sum(lambda name: whole_units(self._usd[name], self._unit), goal)
        if goal == "max_chip_types":
            return cp_model.LinearExpr.sum(list(self._used_types().values()))
        chip = goal.partition(".")[2] if goal.startswith("quota.") else None
        return self._sum(lambda name: _chips(self.of[name].instance, chip), goal)

    def _sum(self, of: Callable[[str], Ints], name: str) -> cp_model.LinearExprT:
        """The sum over the deployments of a number of their columns."""
        return cp_model.LinearExpr.sum([one.looked_up(of(owner), f"{owner}.{name}") for owner, one in self.of.items()])

    def _add_shared(self) -> None:
        """Hold the shared decisions the same in every deployment."""
        first, *others = self.of.values()
        for name in shared_names(self.portfolio):
            if f"shared.{name.id}" not in self._relaxed:
                for other in others:
                    self.model.add(first.value(name) == other.value(name))

    def _add_limits(self) -> None:
        """Hold the limits on all deployments together."""
        for name, limit in limits_of(self.portfolio).items():
            if name in self._relaxed or (name == "max_usd_per_hour" and limit >= self._most):
                continue
            unit = self._unit if name == "max_usd_per_hour" else 1.0
            self.model.add(self._figure(name) <= int(whole_units(limit * (1 + LIMIT_RTOL), unit)))

    def _used_types(self) -> dict[str, cp_model.IntVar]:
        """A literal for each type of chip, true where a deployment uses it."""
        used: dict[str, cp_model.IntVar] = {}
        for one in self.of.values():
            if one.instance.values is None:
                raise TypeError("an instance without columns has no chips")
            chip = one.value(NAMES["chip"])
            for text in np.unique(one.instance.values.texts("chip")).tolist():
                if text not in used:
                    used[text] = self.model.new_bool_var(f"uses {text}")
                self.model.add(chip != self.code_of(text)).only_enforce_if(~used[text])
        return used


def limits_of(portfolio: PortfolioSpec) -> dict[str, float]:
    """The limits on all deployments together that a portfolio states, by name."""
    stated = {name: getattr(portfolio, name) for name in ("max_chip_types", "max_chips", "max_usd_per_hour")}
    limits = {name: float(limit) for name, limit in stated.items() if limit is not None}
    return limits | {f"quota.{chip}": float(count) for chip, count in portfolio.quota.items()}


def _chips(instance: Instance, chip: str | None) -> Ints:
    """The chips of each column, or those of one type."""
    if instance.values is None or instance.values.columns is None:
        raise TypeError("an instance without columns has no chips")
    chips = instance.values.columns.chips
    return chips if chip is None else np.where(instance.values.texts("chip") == chip, chips, 0)


def _no_key(key: str) -> Fraction:
    raise SolverError(f"a portfolio has no key {key}")
