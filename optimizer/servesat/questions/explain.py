"""Results with their explanation: corrections, what each limit costs, and the next best plans."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from servesat.candidates.engines import loading
from servesat.candidates.evaluation import evaluate_search
from servesat.core.errors import SpecError
from servesat.core.plan import Plan
from servesat.core.result import Result, Status
from servesat.deployment.binding import relaxations
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan, solve
from servesat.questions.api_prices import beside_apis
from servesat.questions.basis import basis
from servesat.questions.corrections import corrections
from servesat.questions.cost_of_limits import limit_values
from servesat.questions.engine_costs import engine_costs
from servesat.questions.expected import expected
from servesat.questions.k_best import Distinct, alternatives
from servesat.questions.replayed_conflicts import replayed_conflicts
from servesat.questions.replayed_corrections import replayed_corrections
from servesat.questions.servable import servable_requests_per_s
from servesat.questions.slice_summaries import max_batch_binds, slice_summaries
from servesat.spec.spec import Spec


def answer(
    spec: Spec | Mapping[str, Any] | str | Path,
    settings: Settings | None = None,
    *,
    limits: bool = True,
    top: int = 1,
    distinct: str = Distinct.LAYOUT,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Solve a spec and explain the result.

    An infeasible spec gets its corrections. A feasible spec gets its slices; with `limits` what each limit costs; and
    with `top` > 1 the `top` best plans that are `distinct` by chip, topology or layout. `on_progress` is called with a
    description of each step. Raises as `solve` does.
    """
    start, spec, given = time.perf_counter(), Spec.load(spec), settings or Settings()
    result = solve(spec, given, on_progress=on_progress)
    limits &= spec.percentile is None  # what a limit, or a constraint, costs is worked out for means
    settings = replace(given, time_limit_s=None)  # explanations take milliseconds, but for those that may replay
    if result.status is Status.INFEASIBLE:
        on_progress("no plan: looking for changes that would allow one")
        result = replace(result, servable_requests_per_s=servable_requests_per_s(spec, settings))
        if spec.percentile is not None:
            result = replayed_conflicts(spec, result, given.in_the_time_left(start))
            return replayed_corrections(spec, result, given.in_the_time_left(start), on_progress)
        return replace(result, corrections=corrections(spec, settings))
    if result.plan is not None and spec.expressions and spec.percentile is None:
        cost = result.plan.usd_per_million_output_tokens
        result = replace(result, relaxations=relaxations(spec, evaluate_search(spec), cost))
    if result.plan is not None:
        on_progress("the best plan of each slice, and without spot")
        slices, api = slice_summaries(spec, result.plan, settings), beside_apis(spec, result.plan)
        binds, rests_on = max_batch_binds(spec, result.plan), basis(spec, result.plan, given.in_the_time_left(start))
        without_spot = _without_spot(spec, result.plan, given.in_the_time_left(start))
        loaded, practice = loading(spec, result.plan), expected(spec, result.plan)
        result = replace(result, slices=slices, max_batch_binds=binds, api=api, without_spot=without_spot)
        result = replace(result, loading=loaded, expected=practice, basis=rests_on)
    if limits:
        on_progress("what each limit and engine costs")
        engines = engine_costs(spec, result.plan, settings)
        result = replace(result, limit_values=limit_values(spec, result, settings), engines=engines)
    if top > 1:
        on_progress("the next best plans")
        result = replace(result, alternatives=alternatives(spec, top, Distinct(distinct), settings))
    return result


def _without_spot(spec: Spec, plan: Plan, settings: Settings) -> Plan | None:
    """The best plan without spot, for a plan on spot: its prices are a snapshot, its machines may be withdrawn."""
    if all(bill.purchase != "spot" for bill in plan.bills):
        return None
    others = [purchase for purchase in spec.purchase if purchase != "spot"]
    without = {"purchase": others} if others else {"purchase": ["on_demand"], "price": {}}  # the spec's are of spot
    try:
        return cheapest_plan(spec.changed(without), settings)
    except SpecError:  # then no chip of the search has such a price
        return None
