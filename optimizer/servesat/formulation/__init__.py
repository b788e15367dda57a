"""The constraint model of one deployment: the only place that knows OR-Tools (docs/formulation.md)."""

from servesat.formulation.solver import Settings, Solution, solve

__all__ = ["Settings", "Solution", "solve"]
