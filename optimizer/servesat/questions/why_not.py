"""Why not: the best plan under decisions that a user fixes, compared with the best plan overall."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesat.candidates.evaluation import cheapest, evaluate
from servesat.candidates.layouts import on_chip
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.catalogue.chip import offered_topology
from servesat.core.errors import SpecError
from servesat.core.plan import Mode, Plan
from servesat.core.result import Result
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan, solve
from servesat.spec.engines import NONE
from servesat.spec.spec import Spec
from servesat.spec.speculation import NO_DRAFTING

MIN_PRICE, MAX_PRICE = 1e-6, 1e6
"""The range searched for a break-even price [$/chip-hour]."""

PRICE_STEP, LOWEST_SHARE = 0.8, 0.02
"""Factor between prices at which a plan may overtake others on its chip, and the lowest price tried, as a share."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The decisions that a user fixes; None leaves a decision open."""

    chip: str | None = None
    topology: str | None = None
    weights: str | None = None
    kv_cache: str | None = None
    compute: str | None = None
    batch: int | None = None
    engine: str | None = None
    pp: int | None = None
    draft: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best plan overall, and the best under the decisions: a plan, or the conflict that excludes them.

    `break_even_usd_per_chip_hour` is the price of the alternative's chip below which the alternative costs less than
    every other plan. None when no price is low enough, because another plan on that chip stays cheaper,
    or when the alternative has no plan.
    """

    spec: Spec
    best: Result
    alternative: Result
    break_even_usd_per_chip_hour: float | None


def why_not(spec: Spec, decisions: Decisions, settings: Settings | None = None) -> Comparison:
    """Compare the best plan under the decisions with the best plan overall.

    Raises SpecError for decisions that cannot be made.
    """
    spec = spec.in_means()
    narrowed = _narrowed(spec, decisions)
    best = solve(spec, settings)
    alternative = solve(narrowed, settings, batch=decisions.batch)
    price = None
    if best.plan is not None and alternative.plan is not None and alternative.plan != best.plan:
        price = _break_even(spec, narrowed, decisions.batch, alternative.plan, settings)
        if price is not None:  # `price.CHIP` is that of the cheapest offer; all others are scaled with it
            cheapest_usd = narrowed.offers_of(alternative.plan.chip)[0].usd_per_chip_hour
            price *= alternative.plan.usd_per_chip_hour / cheapest_usd
    return Comparison(spec=narrowed, best=best, alternative=alternative, break_even_usd_per_chip_hour=price)


def _narrowed(spec: Spec, decisions: Decisions) -> Spec:
    """The spec with its search replaced by the decisions, which may lie outside that search."""
    keys: dict[str, Any] = {
        f"search.{name}": [value]
        for name in ("weights", "kv_cache", "compute", "pp")
        if (value := getattr(decisions, name)) is not None
    }
    if decisions.chip is not None:
        searched = {chip.id: chip for chip in spec.chips}
        keys["search.chips"] = [searched.get(decisions.chip, decisions.chip)]
        topologies = spec.search.topologies.get(decisions.chip)
        keys["search.topologies"] = {} if topologies is None else {decisions.chip: topologies}
    if decisions.topology is not None:
        chips = (spec.changed(keys) if decisions.chip is not None else spec).chips
        with_topology = [chip for chip in chips if offered_topology(chip, decisions.topology)]
        if not with_topology:
            raise SpecError(f"--topology {decisions.topology}: not offered by {', '.join(chip.id for chip in chips)}")
        keys["search.chips"] = with_topology
        keys["search.topologies"] = {chip.id: [decisions.topology] for chip in with_topology}
    if decisions.engine is not None:
        spec = spec.without_engines() if decisions.engine == NONE else spec.changed({"engine": decisions.engine})
    if decisions.draft == NO_DRAFTING:
        keys["speculative"] = {"draft": NO_DRAFTING}
    elif decisions.draft is not None:
        stated = {} if spec.speculative is None else spec.speculative.model_dump(exclude_unset=True)
        keys["speculative"] = stated | {"draft": decisions.draft}
        drafts = spec.changed({"speculative": keys["speculative"]}).drafts
        keys["constraints"] = [*spec.constraints, f"draft == {drafts[0].draft}"]
    if decisions.batch is not None:
        keys["search.max_batch"] = max(decisions.batch, spec.search.min_batch or 1)
    return spec.changed(keys)


def _break_even(
    spec: Spec, narrowed: Spec, batch: int | None, alternative: Plan, settings: Settings | None
) -> float | None:
    """The price of the alternative's chip at which it costs as much as the best plan on all other chips."""
    chip = next(chip for chip in narrowed.chips if chip.id == alternative.chip)
    others = [other for other in spec.chips if other.id != chip.id]
    if not others:
        return None
    topologies = {name: slices for name, slices in spec.search.topologies.items() if name != chip.id}
    rival = cheapest_plan(spec.changed({"search.chips": others, "search.topologies": topologies}), settings)
    if rival is None:
        return None
    limit = rival.usd_per_million_output_tokens
    winning_price = _winning_price if Mode.DISAGGREGATED not in spec.modes else _bisected_price
    price = winning_price(narrowed, alternative.chip, limit, batch)
    is_searched = bool(spec.offers_of(chip.id))
    if is_searched and winning_price(spec, chip.id, limit, None) > price * (1 + COST_TIE_RTOL):
        return _overtaking_price(spec, narrowed, chip.id, batch, price)
    return price


def _overtaking_price(spec: Spec, narrowed: Spec, chip: str, batch: int | None, price: float) -> float | None:
    """The price of a chip below which the narrowed search wins over other plans on that chip; None if it never does.

    A plan with more of these chips gains more from a lower price.
    """
    batches = None if batch is None else np.array([batch])

    def wins(price: float) -> bool:
        change = {f"price.{chip}": price}
        narrowed_cost = cheapest(evaluate(narrowed.changed(change), batches=batches))
        return narrowed_cost <= cheapest(evaluate(spec.changed(change))) * (1 + LIMIT_RTOL)

    high, low = price, PRICE_STEP * price
    while not wins(low):
        high, low = low, PRICE_STEP * low
        if low < LOWEST_SHARE * price:
            return None
    return _highest(wins, low, high)


def _bisected_price(spec: Spec, chip: str, usd_per_million: float, batch: int | None) -> float:
    """`_winning_price` by bisection, because the pairing of pools changes with the price."""
    batches = None if batch is None else np.array([batch])

    def wins(price: float) -> bool:
        return cheapest(evaluate(spec.changed({f"price.{chip}": price}), batches=batches)) <= usd_per_million

    low, high = 0.0, spec.offers_of(chip)[0].usd_per_chip_hour
    while wins(high):
        low, high = high, 2 * high
        if high > MAX_PRICE:
            return low
    return _highest(wins, low, high)


def _highest(wins: Callable[[float], bool], low: float, high: float) -> float:
    """Bisect for the highest price that wins, between a price that wins and a price that does not."""
    while high - low > COST_TIE_RTOL * high and high > MIN_PRICE:
        middle = (low + high) / 2
        low, high = (middle, high) if wins(middle) else (low, middle)
    return low


def _winning_price(spec: Spec, chip: str, usd_per_million: float, batch: int | None) -> float:
    """The highest price of a chip at which a plan on it costs at most `usd_per_million` and keeps within the budget.

    The hourly cost of a column rises with the price by what its chips of this type cost, beside the cost of its chips
    of other types; each column therefore has a highest winning price, and the maximum is taken.
    """
    columns = evaluate(spec, batches=None if batch is None else np.array([batch]))
    layouts = columns.layouts
    decodes_on, prefills_on = on_chip(layouts, chip)
    purchase = layouts.purchase
    units, pool_units = purchase.counted(columns.slices, layouts.serving.pool_slices)
    usd = np.where(decodes_on, units * purchase.units.usd_per_hour, 0.0)
    usd += np.where(prefills_on, pool_units * purchase.pool.usd_per_hour, 0.0)
    price = spec.offers_of(chip)[0].usd_per_chip_hour
    rows = np.flatnonzero((usd > 0) & (columns.violated & ~REQUIREMENT_BIT[Requirement.BUDGET] == 0))
    usd_of_other_chips = columns.usd_per_hour[rows] - usd[rows]
    allowed = columns.usd_per_hour[rows] * (usd_per_million / columns.usd_per_million[rows])
    if spec.search.max_usd_per_hour is not None:
        allowed = np.minimum(allowed, spec.search.max_usd_per_hour)
    return float(np.max((allowed - usd_of_other_chips) / (usd[rows] / price), initial=0.0))
