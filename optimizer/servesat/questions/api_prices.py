"""Beside an API: what providers charge for the model, and the load from which serving it yourself costs less."""

from typing import Any

import numpy as np

from servesat.candidates.serving_modes import in_modes_by_block, searched_layouts
from servesat.candidates.tabulation import columns_of, constrained_breakpoints
from servesat.catalogue.api_prices import published_api_prices
from servesat.core.plan import Mode, Plan
from servesat.core.result import ApiComparison, ApiOffer
from servesat.core.tolerances import is_at_most
from servesat.spec.expressions import counts_slices
from servesat.spec.spec import Spec


def beside_apis(spec: Spec, plan: Plan) -> ApiComparison | None:
    """Compare a plan of whole requests with the published API prices of its model; None where there are none."""
    workload = spec.workload
    if plan.usd_per_request is None or plan.requests_per_s is None or workload.output_tokens is None:
        return None
    prices = published_api_prices()
    listed = prices.models.get(spec.model.id, ())
    if not listed:
        return None
    tokens = workload.new_prompt_tokens, workload.cached_prompt_tokens, workload.output_tokens
    offers = sorted((ApiOffer(one.provider, one.listed_as, one.usd_per_request(*tokens)) for one in listed), key=_order)
    served = workload.requests_per_s or plan.requests_per_s * spec.utilisation
    usd = offers[0].usd_per_request
    load = None if spec.percentile is not None else break_even(spec, usd)  # replays may allow what means do not
    if load == np.inf and plan.usd_per_request <= usd:  # a plan with two pools, at this load
        load = None
    return ApiComparison(
        checked=None if prices.checked is None else prices.checked.isoformat(),
        offers=tuple(offers),
        usd_per_hour=usd * served * 3600,
        break_even_requests_per_s=load if load is not None and np.isfinite(load) else None,
        pays_at_no_load=load is not None and not np.isfinite(load),
    )


def break_even(spec: Spec, usd_per_request: float) -> float | None:
    """The least load at which some plan costs no more than an API does [requests/s]; infinite where none ever does.

    A plan that pays at all pays first as one unit of what is bought: n units cost n times as much, and so need n times
    the load. So it is the least price of a unit that, full, costs no more a request than the API, over its price a
    request. Of plans of one pool; None, as not known, for a search of two pools alone, and where constraints count.
    """
    one_pool = [mode for mode in spec.modes if mode is not Mode.DISAGGREGATED]
    if not one_pool or counts_slices(spec.expressions):
        return None
    without_demand: dict[str, Any] = {"workload.requests_per_s": None, "workload.arrivals": {}, "workload.lengths": {}}
    full = spec.changed({**without_demand, "search.modes": one_pool})
    usd_per_million = usd_per_request / (spec.workload.output_tokens or 1) * 1e6
    least = np.inf
    for layouts in in_modes_by_block(full, searched_layouts(full, undominated=True)):
        columns = columns_of(full, layouts, constrained_breakpoints(full, layouts), 0)
        pays = (columns.violated == 0) & is_at_most(columns.usd_per_million, usd_per_million)
        least = min(least, float(columns.usd_per_hour[pays].min(initial=np.inf)))
    return least / 3600 / usd_per_request


def _order(offer: ApiOffer) -> tuple[float, str]:
    return offer.usd_per_request, offer.provider
