"""Configurations of an earlier plan that may keep running, though others may be the best of their slice now."""

from collections.abc import Mapping

from servesat.core.errors import SolverError
from servesat.core.plan import Assignment, Plan
from servesat.deployment.check.plan import rederive
from servesat.fleet.configurations import Configuration, on_chip, slice_chips_of, slices_of, without_limits_on_times
from servesat.fleet.replayed_rates import replayed_rate
from servesat.fleet.spec import FleetWorkload
from servesat.spec.spec import Spec


def configuration_as_before(
    workload: FleetWorkload, name: str, decisions: Mapping[str, Assignment]
) -> Configuration | None:
    """A configuration with the decisions of an earlier plan, of each size of request; None if it may not run now.

    It serves what the same replica serves today, with the lengths, limits and catalogue of today; of several sizes,
    those whose limits it keeps. Requests of one size have no name.
    """
    given = workload.deployments or {"": workload.deployment}
    specs = {size: on_chip(given[size], one.chip) for size, one in decisions.items() if size in given}
    plans = {size: plan for size, spec in specs.items() if (plan := _replanned(workload, spec, decisions[size]))}
    if not plans:
        return None
    size, plan = next(iter(plans.items()))
    rates = {size: specs[size].utilisation * (plan.requests_per_s or 0.0) for size, plan in plans.items()}
    if workload.at_random is not None:
        rates = {size: replayed_rate(specs[size], plan, workload.at_random, rates[size])}
        if not rates[size]:
            return None
    return Configuration(
        name=name,
        chip=plan.chip,
        chips=plan.chips,
        requests_per_s=0.0 if workload.sizes else rates[size],
        plan=None if workload.sizes else plan,
        slices=slices_of(specs[size], specs[size].chips[0], plan),
        slice_chips=slice_chips_of(plan),
        size_rates=tuple(rates.get(one, 0.0) for one in workload.sizes),
        plans=plans if workload.sizes else {},
    )


def _replanned(workload: FleetWorkload, spec: Spec, decisions: Assignment) -> Plan | None:
    """The plan of some decisions, if it is one of the spec's and keeps its limits.

    Where requests arrive at random, replays decide on the limits on times.
    """
    asked = spec if workload.at_random is None else without_limits_on_times(spec)
    try:
        plan, margins = rederive(asked, decisions)
    except SolverError:
        return None
    return plan if all(margin.holds for margin in margins) else None
