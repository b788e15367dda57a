"""What each limit of a feasible spec costs: the difference to the optimum without it."""

from dataclasses import replace

from servesat.candidates.requirements import bits_of, rules_of
from servesat.candidates.rule import Requirement
from servesat.core.plan import Plan
from servesat.core.result import LimitValue, Margin, Result
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec


def limit_values(spec: Spec, result: Result, settings: Settings) -> tuple[LimitValue, ...]:
    """Solve without each limit: how much the best plan then saves, and how far the limit would have to move.

    Exact: each value comes from a proved optimum, not from a dual price. For `hbm` the headroom is set to 0; if it
    is 0 already, and for `ici`, the requirement is dropped, which values more memory or a faster interconnect.
    """
    if result.plan is None:
        return ()
    margins = {margin.requirement: margin for margin in result.margins}
    limits = [name for name, rule in rules_of(spec).items() if rule.can_be_relaxed and name in margins]
    return tuple(_value(spec, result.plan, margins[name], settings) for name in limits)


def _value(spec: Spec, plan: Plan, margin: Margin, settings: Settings) -> LimitValue:
    name = margin.requirement
    if name == Requirement.HBM and spec.kept_free > 0:
        without = solve(spec.changed({"headroom": 0.0}), settings)
        margin = replace(margin, value=1 - plan.hbm_used_fraction, limit=spec.kept_free, unit="of HBM free")
        reached = 1 - without.plan.hbm_used_fraction if without.plan else None
    else:
        without = solve(spec, settings, relaxed=bits_of(spec)[name])
        reached = next((other.value for other in without.margins if other.requirement == name), None)
        if rules_of(spec)[name].upgrade:  # each layout has its own limit, so values of two plans cannot be compared
            reached = None
    cost = plan.usd_per_million_output_tokens
    relaxed = without.plan.usd_per_million_output_tokens if without.plan else cost
    saves = cost - relaxed if relaxed * (1 + COST_TIE_RTOL) < cost else 0.0
    return LimitValue(
        requirement=name,
        value=margin.value,
        limit=margin.limit,
        unit=margin.unit,
        relaxed_to=reached if saves else None,
        saves_usd_per_million_output_tokens=saves,
        saves_fraction=saves / cost,
        then_binding=without.binding if saves else (),
    )
