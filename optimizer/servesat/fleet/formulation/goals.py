"""Objectives of the compact model beyond the bill: unserved demand, configurations, changes, and relaxed limits."""

from math import fsum
from operator import mul

from ortools.math_opt.python import mathopt

from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution, Limit
from servesat.fleet.formulation.workload_rows import unit_in_rows
from servesat.fleet.instance import RESOLUTION, FleetInstance, RegionChip, WorkloadDemand


def total_shortfall(model: FleetModel, workloads: list[WorkloadDemand]) -> mathopt.LinearSum:
    """The demand of some workloads that is not served, each in hours of its largest demand, times RESOLUTION.

    Smaller coefficients would fall below the tolerances of the solver.
    """
    return mathopt.fast_sum([_shortfall(model, workload) for workload in workloads])


def _shortfall(model: FleetModel, workload: WorkloadDemand) -> mathopt.LinearSum:
    scale = RESOLUTION / (max(workload.demand) or 1)
    unserved = zip(model.instance.hours, model.unserved[workload.name], strict=True)
    return mathopt.fast_sum(hours * scale * units for hours, units in unserved)


def shortfall_of(hours: tuple[float, ...], workloads: list[WorkloadDemand], solution: FleetSolution) -> float:
    """The value of `total_shortfall` in a plan."""
    return fsum(
        RESOLUTION / (max(workload.demand) or 1) * fsum(map(mul, hours, solution.unserved[workload.name]))
        for workload in workloads
    )


def configurations(model: FleetModel) -> mathopt.LinearSum:
    """The number of configurations in use, counted once per workload, in whichever regions and periods."""
    used: dict[tuple[str, str], mathopt.Variable] = {}
    for o, option in enumerate(model.instance.options):
        key = (option.workload, option.configuration.name)
        if key not in used:
            used[key] = model.model.add_binary_variable()
        max_replicas = model.rows.max_replicas(o)
        for count in model.replicas[o]:
            model.model.add_linear_constraint(count <= max_replicas * used[key])
    return mathopt.fast_sum(used.values())


def configurations_in(instance: FleetInstance, solution: FleetSolution) -> int:
    """The value of `configurations` in a plan."""
    options = zip(instance.options, solution.replicas, strict=True)
    return len({(option.workload, option.configuration.name) for option, counts in options if any(counts)})


def extra_quota(model: FleetModel, region_chip: RegionChip) -> mathopt.Variable:
    """The chips that a plan takes beyond a relaxed quota."""
    extra = model.model.add_integer_variable(lb=0)
    model.add_quota_rows(region_chip, extra)
    return extra


def required_configurations(model: FleetModel, limit: Limit) -> mathopt.Variable:
    """The most configurations that a workload runs in in some region, if that is not limited."""
    required = model.model.add_integer_variable(lb=0)
    for used in model.rows.configurations_by_region(model.rows.workloads[limit.of[0]]):
        model.model.add_linear_constraint(required >= used)
    return required


def required_share(model: FleetModel, limit: Limit) -> mathopt.Variable:
    """The smallest value of a relaxed share of regions or spot that a plan complies with in every period."""
    workload = model.rows.workloads[limit.of[0]]
    share = model.model.add_variable(lb=0, ub=1)
    for period, units in ((period, units) for period, units in enumerate(workload.demand) if units):
        demand = unit_in_rows(workload, period) * units
        for options in model.rows.counted_options(workload, limit.kind):
            served = model.rows.served(workload, options, period)
            model.model.add_linear_constraint(served >= demand - demand * share)
    return share


def unserved_fraction(model: FleetModel) -> mathopt.Variable:
    """The largest fraction of a demand that is left unserved; the model must allow that."""
    fraction = model.model.add_variable(lb=0, ub=1)
    for workload in model.instance.workloads:
        for demand, unserved in zip(workload.demand, model.unserved[workload.name], strict=True):
            model.model.add_linear_constraint(unserved <= demand * fraction)
    return fraction
