"""The k best plans that are distinct by chip, slice or layout."""

from enum import StrEnum

import numpy as np

from servesat.candidates.engines import Dtypes
from servesat.candidates.layouts import MODES, Layouts
from servesat.candidates.screening import valid_layouts
from servesat.candidates.serving_modes import in_modes
from servesat.candidates.tabulation import least_cost_of_each
from servesat.core.arrays import Bools, Floats
from servesat.core.plan import Mode, Plan, PrefillPool
from servesat.core.result import Status
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec


class Distinct(StrEnum):
    """What makes two plans distinct: the chip, the slice, or the layout with its axes and dtypes."""

    CHIP = "chip"
    TOPOLOGY = "topology"
    LAYOUT = "layout"


def alternatives(spec: Spec, count: int, distinct: Distinct, settings: Settings | None = None) -> tuple[Plan, ...]:
    """The `count` best distinct plans, the best first, or as many as there are.

    Each plan is the proved optimum, with ties in the usual order, among the layouts that are distinct from all plans
    before it. Stops at the first plan that is not proved within the time limit.
    """
    plans: list[Plan] = []
    base_layouts = valid_layouts(spec)
    pooled = Mode.DISAGGREGATED in spec.modes  # of pairs of pools only the best ones are enumerated, and so anew

    def like_an_earlier_plan(layouts: Layouts) -> Bools:
        rows = np.zeros(len(layouts), dtype=np.bool_)
        for plan in plans:
            rows |= _not_distinct(layouts, plan, distinct)
        return rows

    layouts = in_modes(spec, base_layouts)
    least = _least_costs(spec, layouts)
    while len(plans) < count:
        if pooled and plans:
            layouts = in_modes(spec, base_layouts, excluded=like_an_earlier_plan)
            least = _least_costs(spec, layouts)
        least = np.where(like_an_earlier_plan(layouts), np.inf, least)
        near = np.flatnonzero(np.isfinite(least) & (least <= least.min(initial=np.inf) * (1 + 2 * COST_TIE_RTOL)))
        result = solve(spec, settings, layouts=layouts.take(near)) if len(near) else None
        if result is None or result.status is not Status.OPTIMAL or result.plan is None:
            break
        plans.append(result.plan)
    return tuple(plans)


def _least_costs(spec: Spec, layouts: Layouts) -> Floats:
    """The least that a plan of each layout costs, infinite where it has none; 0 of each where constraints choose."""
    return np.zeros(len(layouts)) if spec.expressions else least_cost_of_each(spec.in_means(), layouts, 0)


def _not_distinct(layouts: Layouts, plan: Plan, distinct: Distinct) -> Bools:
    """Which layouts are not distinct from a plan: those of its chip, of its slice, or its layout with any chunk."""
    same_place = [
        place.offer.chip.id == plan.chip and (distinct is Distinct.CHIP or place.topology == plan.topology)
        for place in layouts.places
    ]
    same: Bools = np.array(same_place, dtype=np.bool_)[layouts.place]
    return same & _is_layout(layouts, plan) if distinct is Distinct.LAYOUT else same


def _is_layout(layouts: Layouts, plan: Plan) -> Bools:
    """Which rows have the place, dtypes, mode and prefill pool of a plan."""
    serving, pool = layouts.serving, plan.prefill
    rows: Bools = _is_machine(layouts, plan)[layouts.place] & (serving.mode == MODES.index(plan.mode))
    chosen = Dtypes(plan.weights, plan.kv_cache, plan.compute, plan.engine or "", plan.draft or "", plan.draft_tokens)
    rows &= layouts.dtype == layouts.dtypes.index(chosen)
    if pool is not None:
        rows &= _is_machine(layouts, pool)[serving.pool_place] & (serving.pool_place >= 0)
        rows &= serving.pool_dtype == layouts.dtypes.index(
            Dtypes(pool.weights, plan.kv_cache, pool.compute, plan.engine or "")
        )
    return rows


def row_of(layouts: Layouts, plan: Plan) -> int:
    """The row of a plan's layout, offer and chunk."""
    rows = _is_layout(layouts, plan) & (layouts.serving.chunk == (plan.chunk_tokens or 0))
    return int(np.flatnonzero(rows & _is_rented_as(layouts, plan))[0])


def _is_machine(layouts: Layouts, pool: Plan | PrefillPool) -> Bools:
    """Which places have the slice and the sharding of a pool, at whatever offer; shape [places]."""
    machine = (pool.chip, pool.topology, tuple(pool.sharding))
    places = [(place.offer.chip.id, place.topology, tuple(place.sharding)) == machine for place in layouts.places]
    return np.array(places, dtype=np.bool_)


def _is_rented_as(layouts: Layouts, plan: Plan) -> Bools:
    """Which layouts are rented at the offers of a plan; shape [layouts]."""
    places = [place.offer.place for place in layouts.places]
    rented: Bools = np.array([place == plan.rented for place in places], dtype=np.bool_)[layouts.place]
    if plan.prefill is None:
        return rented
    of_pool = np.array([place == plan.prefill.rented for place in places], dtype=np.bool_)
    return rented & of_pool[layouts.serving.pool_place]
