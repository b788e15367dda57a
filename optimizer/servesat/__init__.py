"""The cheapest way to serve an open model within your limits, found and proved.

>>> import servesat
>>> solution = servesat.solve("examples/llama-3-405b-under-15ms.yaml")
>>> solution.plan.topology, solution.plan.batch
('8x8', 88)

docs/python.md has every function.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servesat.api.accuracy import accuracy
    from servesat.api.batch import batch
    from servesat.api.catalogue import chips, engines, models, prices
    from servesat.api.fleet import fleet
    from servesat.api.frontier import frontier
    from servesat.api.launching import launch
    from servesat.api.modes import modes
    from servesat.api.portfolio import portfolio
    from servesat.api.ranking import rank
    from servesat.api.replaying import replay
    from servesat.api.solving import solve, why
    from servesat.api.whatif import breakpoints, robustness, what_if
    from servesat.candidates.rule import Requirement
    from servesat.core.errors import CatalogueError, LaunchError, NoPlanError, ServesatError, SolverError, SpecError
    from servesat.core.plan import Plan
    from servesat.core.result import Margin, Result, Status
    from servesat.spec.spec import Spec

    __version__: str

# Names are imported when first used: `servesat --help` needs neither numpy nor the solver.
_HOMES = {
    "CatalogueError": "core.errors",
    "LaunchError": "core.errors",
    "Margin": "core.result",
    "NoPlanError": "core.errors",
    "Plan": "core.plan",
    "Requirement": "candidates.rule",
    "Result": "core.result",
    "ServesatError": "core.errors",
    "SolverError": "core.errors",
    "Spec": "spec.spec",
    "SpecError": "core.errors",
    "Status": "core.result",
    "accuracy": "api.accuracy",
    "batch": "api.batch",
    "breakpoints": "api.whatif",
    "chips": "api.catalogue",
    "engines": "api.catalogue",
    "fleet": "api.fleet",
    "frontier": "api.frontier",
    "launch": "api.launching",
    "models": "api.catalogue",
    "modes": "api.modes",
    "portfolio": "api.portfolio",
    "prices": "api.catalogue",
    "rank": "api.ranking",
    "replay": "api.replaying",
    "robustness": "api.whatif",
    "solve": "api.solving",
    "what_if": "api.whatif",
    "why": "api.solving",
}

__all__ = [
    "CatalogueError",
    "LaunchError",
    "Margin",
    "NoPlanError",
    "Plan",
    "Requirement",
    "Result",
    "ServesatError",
    "SolverError",
    "Spec",
    "SpecError",
    "Status",
    "__version__",
    "accuracy",
    "batch",
    "breakpoints",
    "chips",
    "engines",
    "fleet",
    "frontier",
    "launch",
    "models",
    "modes",
    "portfolio",
    "prices",
    "rank",
    "replay",
    "robustness",
    "solve",
    "what_if",
    "why",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("servesat")
    if name not in _HOMES:
        raise AttributeError(f"module 'servesat' has no attribute {name!r}")
    return getattr(import_module(f"servesat.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """The package: `servesat.fleet`, `launch` and `replay` are functions, though packages inside have those names."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, but no package inside in place of a function, as its import would."""
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
