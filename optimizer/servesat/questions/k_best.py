"""The k best plans, each different from the ones before in the way that the user asks."""

from enum import StrEnum

import numpy as np

from servesat.candidates.layouts import MODES, Layouts
from servesat.candidates.screening import valid_layouts
from servesat.candidates.serving_modes import in_modes
from servesat.core.arrays import Bools
from servesat.core.plan import Plan, PrefillPool
from servesat.core.result import Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec


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
    plans: list[Plan] = []
    plain = valid_layouts(spec)

    def taken(layouts: Layouts) -> Bools:
        rows = np.zeros(len(layouts), dtype=np.bool_)
        for plan in plans:
            rows |= _alike(layouts, plan, distinct)
        return rows

    while len(plans) < count:
        layouts = in_modes(spec, plain, excluded=taken)
        result = solve(spec, settings, layouts=layouts) if len(layouts) else None
        if result is None or result.status is not Status.OPTIMAL or result.plan is None:
            break
        plans.append(result.plan)
    return tuple(plans)


def _alike(layouts: Layouts, plan: Plan, distinct: Distinct) -> Bools:
    """Which layouts do not count as different from a plan: of its chip, of its slice, or its own with any chunk."""
    of_place = [
        place.offer.chip.id == plan.chip and (distinct is Distinct.CHIP or place.topology == plan.topology)
        for place in layouts.places
    ]
    alike: Bools = np.array(of_place, dtype=np.bool_)[layouts.place]
    return alike & _is_layout(layouts, plan) if distinct is Distinct.LAYOUT else alike


def _is_layout(layouts: Layouts, plan: Plan) -> Bools:
    """Which rows are a plan's layout: its machine and dtypes, in its mode, with its prefill pool."""
    serving, pool = layouts.serving, plan.prefill
    rows: Bools = (layouts.place == _place_of(layouts, plan)) & (serving.mode == MODES.index(plan.mode))
    rows &= layouts.dtype == layouts.dtypes.index((plan.weights, plan.kv_cache, plan.compute))
    if pool is not None:
        rows &= serving.pool_place == _place_of(layouts, pool)
        rows &= serving.pool_dtype == layouts.dtypes.index((pool.weights, plan.kv_cache, pool.compute))
    return rows


def row_of(layouts: Layouts, plan: Plan) -> int:
    """Where the layout of a plan stands, with its chunk."""
    return int(np.flatnonzero(_is_layout(layouts, plan) & (layouts.serving.chunk == (plan.chunk_tokens or 0)))[0])


def _place_of(layouts: Layouts, side: Plan | PrefillPool) -> int:
    sought = (side.chip, side.topology, tuple(side.sharding))
    found = [(place.offer.chip.id, place.topology, tuple(place.sharding)) for place in layouts.places]
    return found.index(sought)
