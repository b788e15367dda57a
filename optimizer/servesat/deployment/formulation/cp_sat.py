"""OR-Tools' `cp_model`, imported without pandas: a third of a second's start, and 60 MB, for two names in annotations.

`cp_model` evaluates `pandas.Index` and `pandas.Series` in the annotations of its methods on series, which nothing here
calls. A stand-in gives it these two names while it is imported, and is pandas itself to whatever looks at it later.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from ortools.sat.python import cp_model_helper  # noqa: F401  # first, as nearly all of the time, and without pandas

from servesat.core.errors import SolverError
from servesat.core.result import Status

__all__ = ["cp_model", "solve_model"]


class _StandIn(ModuleType):
    """Empty classes for the two names while it stands in for pandas; afterwards what pandas has under a name."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get("pandas") is not self:
            return getattr(import_module("pandas"), name)
        if name not in {"Index", "Series"}:
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Let imports of pandas find a stand-in, unless pandas is imported already."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = _StandIn("pandas")
    try:
        yield
    finally:
        del sys.modules["pandas"]


with _without_pandas():
    from ortools.sat.python import cp_model

_STATUS = {
    cp_model.OPTIMAL: Status.OPTIMAL,
    cp_model.FEASIBLE: Status.FEASIBLE,
    cp_model.INFEASIBLE: Status.INFEASIBLE,
    cp_model.UNKNOWN: Status.UNKNOWN,
}


def solve_model(
    model: cp_model.CpModel,
    *,
    workers: int = 1,
    seed: int = 0,
    time_limit_s: float | None = None,
    deterministic_limit: float | None = None,
    log: bool = False,
) -> tuple[cp_model.CpSolver, Status]:
    """Solve a model: the solver, with values and bound, and its status. Raises SolverError for an invalid model.

    `deterministic_limit` ends the search after so much work, the same on every machine.
    """
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    solver.parameters.log_search_progress = log
    solver.parameters.catch_sigint_signal = False  # it would leave Ctrl-C to end the process, and what is done with it
    if time_limit_s is not None:
        solver.parameters.max_time_in_seconds = time_limit_s
    if deterministic_limit is not None:
        solver.parameters.max_deterministic_time = deterministic_limit
    outcome = solver.solve(model)
    if outcome not in _STATUS:
        raise SolverError(f"CP-SAT refuses the model: {model.validate() or solver.status_name(outcome)}")
    return solver, _STATUS[outcome]
