"""Everything of the fleet that knows OR-Tools: the compact model, the packing, and the halves of the decomposition."""

from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution, Limit, limits_of
from servesat.fleet.formulation.mixes import best_mix
from servesat.fleet.formulation.packing import collision, pack

__all__ = ["FleetModel", "FleetSolution", "Limit", "best_mix", "collision", "limits_of", "pack"]
