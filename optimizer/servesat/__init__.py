"""The cheapest way to serve an open model within your limits, found and proved.

>>> import servesat
>>> result = servesat.solve("examples/llama-3-405b-under-15ms.yaml")
>>> result.plan.topology, result.plan.batch
('8x8', 88)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servesat.candidates.requirements import Requirement
    from servesat.core.errors import CatalogueError, ServesatError, SolverError, SpecError
    from servesat.core.plan import Plan
    from servesat.core.result import Margin, Result, Status
    from servesat.deployment.settings import Settings
    from servesat.deployment.solve import solve
    from servesat.questions.breakpoints import find_breakpoints
    from servesat.questions.explain import answer
    from servesat.questions.pareto import trace_frontier
    from servesat.questions.robustness import assess_robustness
    from servesat.questions.whatif import what_if
    from servesat.spec.spec import Spec

# Names are imported when first used: `servesat --help` needs neither numpy nor the solver.
_HOMES = {
    "CatalogueError": "core.errors",
    "Margin": "core.result",
    "Plan": "core.plan",
    "Requirement": "candidates.requirements",
    "Result": "core.result",
    "ServesatError": "core.errors",
    "Settings": "deployment.settings",
    "SolverError": "core.errors",
    "Spec": "spec.spec",
    "SpecError": "core.errors",
    "Status": "core.result",
    "answer": "questions.explain",
    "assess_robustness": "questions.robustness",
    "find_breakpoints": "questions.breakpoints",
    "solve": "deployment.solve",
    "trace_frontier": "questions.pareto",
    "what_if": "questions.whatif",
}

__all__ = [
    "CatalogueError",
    "Margin",
    "Plan",
    "Requirement",
    "Result",
    "ServesatError",
    "Settings",
    "SolverError",
    "Spec",
    "SpecError",
    "Status",
    "answer",
    "assess_robustness",
    "find_breakpoints",
    "solve",
    "trace_frontier",
    "what_if",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'servesat' has no attribute {name!r}")
    return getattr(import_module(f"servesat.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
