"""The k best plans, each different from the ones before in the way that the user asks."""

from enum import StrEnum

import numpy as np

from servesat.arrays import Ints
from servesat.deployment import solve
from servesat.formulation import Settings
from servesat.layouts import Layouts, enumerate_layouts
from servesat.plan import Plan, Status
from servesat.spec import Spec


class Distinct(StrEnum):
    """What makes two plans different: another chip, another slice, or another layout (axes and dtypes included)."""

    CHIP = "chip"
    TOPOLOGY = "topology"
    LAYOUT = "layout"


def alternatives(spec: Spec, count: int, distinct: Distinct, settings: Settings | None = None) -> tuple[Plan, ...]:
    """The `count` best distinct plans, the best first; fewer where there are no more.

    Each is the proved optimum, ties in the usual order, of what the plans before it leave over: the first of a chip,
    slice or layout takes the rest of it away. Stops at the first that the time limit leaves unproved.
    """
    layouts = enumerate_layouts(spec)
    group = _groups(layouts, distinct)
    plans: list[Plan] = []
    while len(plans) < count and len(layouts):
        result = solve(spec, settings, layouts=layouts)
        if result.status is not Status.OPTIMAL or result.plan is None:
            break
        plans.append(result.plan)
        left = np.flatnonzero(group != group[row_of(layouts, result.plan)])
        layouts, group = layouts.take(left), group[left]
    return tuple(plans)


def _groups(layouts: Layouts, distinct: Distinct) -> Ints:
    """A number for each layout, the same for those that count as one."""
    if distinct is Distinct.LAYOUT:
        return np.arange(len(layouts))
    names = [
        place.offer.chip.id if distinct is Distinct.CHIP else f"{place.offer.chip.id} {place.topology}"
        for place in layouts.places
    ]
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([known[name] for name in names])[layouts.place]


def row_of(layouts: Layouts, plan: Plan) -> int:
    """Where the layout of a plan stands."""
    place = next(
        number
        for number, place in enumerate(layouts.places)
        if (place.offer.chip.id, place.topology, place.tp_axes) == (plan.chip, plan.topology, plan.tp_axes)
    )
    dtype = layouts.dtypes.index((plan.weights, plan.kv_cache, plan.compute))
    return int(np.flatnonzero((layouts.place == place) & (layouts.dtype == dtype))[0])
