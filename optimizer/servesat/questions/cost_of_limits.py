"""What each limit of a feasible spec costs, by solving again without it."""

from dataclasses import replace

from servesat.core.result import LimitValue, Margin, Plan, Requirement, Result
from servesat.core.tolerances import BIT, TIE
from servesat.deployment.conflicts import LIMITS
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec

_OF_THE_LAYOUT = (Requirement.HBM, Requirement.ICI)
"""Limits that differ from layout to layout, so that those of two plans do not compare."""


def limit_values(spec: Spec, result: Result, settings: Settings) -> tuple[LimitValue, ...]:
    """For each limit: the best plan without it, how much less that costs, and how far the limit would have to move.

    Exact: each is a proved optimum of its own, not a dual price. For `hbm` the headroom goes to 0; where it is 0
    already, and for `ici`, the requirement is left out: what more memory, or a faster interconnect, would be worth.
    """
    if result.plan is None:
        return ()
    held = {margin.requirement: margin for margin in result.margins}
    return tuple(_value(spec, result.plan, held[limit], settings) for limit in LIMITS if limit in held)


def _value(spec: Spec, plan: Plan, margin: Margin, settings: Settings) -> LimitValue:
    requirement, held = margin.requirement, margin
    if requirement is Requirement.HBM and spec.headroom > 0:
        without = solve(spec.changed({"headroom": 0.0}), settings)
        held = replace(margin, value=1 - plan.hbm_used_fraction, limit=spec.headroom, unit="of HBM free")
        reached = 1 - without.plan.hbm_used_fraction if without.plan else None
    else:
        without = solve(spec, settings, relaxed=int(BIT[requirement]))
        reached = next((other.value for other in without.margins if other.requirement is requirement), None)
        reached = None if requirement in _OF_THE_LAYOUT else reached
    cost = plan.usd_per_million_output_tokens
    relaxed = without.plan.usd_per_million_output_tokens if without.plan else cost
    saves = cost - relaxed if relaxed * (1 + TIE) < cost else 0.0
    return LimitValue(
        requirement=requirement,
        value=held.value,
        limit=held.limit,
        unit=held.unit,
        relaxed_to=reached if saves else None,
        saves_usd_per_million_output_tokens=saves,
        saves_fraction=saves / cost,
        then_binding=without.binding if saves else (),
    )
