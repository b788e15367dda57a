"""Questions that compare plans in one pool only, and what they leave out."""

from dataclasses import dataclass

from servesat.core.plan import Mode, Plan
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.spec.spec import Spec


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The modes that a question leaves out, as their pairs of pools are too many to compare, and their best plan."""

    modes: tuple[Mode, ...]
    best: Plan | None


def in_one_pool(spec: Spec, settings: Settings | None = None) -> tuple[Spec, LeftOut | None]:
    """The spec without disaggregated plans, and what that leaves out. Raises SpecError if nothing remains."""
    narrowed = spec.in_one_pool()
    modes = tuple(mode for mode in spec.modes if mode not in narrowed.modes)
    if not modes or not spec.has_network:
        return narrowed, None
    return narrowed, LeftOut(modes=modes, best=cheapest_plan(spec.changed({"search.modes": modes}), settings))
