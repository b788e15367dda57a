"""Everything of the fleet that knows OR-Tools: the compact model, and the two halves of the decomposition."""

from servesat.fleet.formulation.compact import FleetModel, FleetSolution, Limit, limits_of

__all__ = ["FleetModel", "FleetSolution", "Limit", "limits_of"]
