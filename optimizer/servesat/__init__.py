"""The cheapest way to serve an open model within your limits, found and proved.

>>> import servesat
>>> result = servesat.solve("examples/llama-3-405b-under-15ms.yaml")
>>> result.plan.topology, result.plan.batch
('8x8', 88)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servesat.breakpoints import find_breakpoints
    from servesat.deployment import solve
    from servesat.errors import CatalogueError, ServesatError, SolverError, SpecError
    from servesat.explain import answer
    from servesat.formulation import Settings
    from servesat.frontier import trace_frontier
    from servesat.plan import Margin, Plan, Requirement, Result, Status
    from servesat.robustness import assess_robustness
    from servesat.spec import Spec
    from servesat.whatif import what_if

# Names are imported when first used: `servesat --help` needs neither numpy nor the solver.
_HOMES = {
    "CatalogueError": "errors",
    "Margin": "plan",
    "Plan": "plan",
    "Requirement": "plan",
    "Result": "plan",
    "ServesatError": "errors",
    "Settings": "formulation",
    "SolverError": "errors",
    "Spec": "spec",
    "SpecError": "errors",
    "Status": "plan",
    "answer": "explain",
    "assess_robustness": "robustness",
    "find_breakpoints": "breakpoints",
    "solve": "deployment",
    "trace_frontier": "frontier",
    "what_if": "whatif",
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
