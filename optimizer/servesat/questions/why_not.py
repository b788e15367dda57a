"""Why not this? The best plan under decisions that a user fixes, beside the best plan overall."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesat.candidates.evaluation import cheapest, evaluate
from servesat.candidates.layouts import on_chip
from servesat.candidates.requirements import REQUIREMENT_BIT, Requirement
from servesat.core.errors import SpecError
from servesat.core.plan import Mode, Plan
from servesat.core.result import Result
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec

MIN_PRICE, MAX_PRICE = 1e-6, 1e6
"""Dollars a chip-hour between which a break-even price is sought."""

LESS, LEAST = 0.8, 0.02
"""Steps of a price in search of one at which a plan overtakes others on its chip, and where that ends."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a user fixes; None leaves the decision open."""

    chip: str | None = None
    topology: str | None = None
    weights: str | None = None
    kv_cache: str | None = None
    compute: str | None = None
    batch: int | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best plan overall, and the best under the decisions: a plan, or the conflict that excludes them.

    `break_even_usd_per_chip_hour` is the price of the alternative's chip at which it would cost as much as the best
    other plan; below it the alternative wins. None when no price makes it win: it shares its chip with a plan that
    stays cheaper, or has no plan.
    """

    spec: Spec
    best: Result
    alternative: Result
    break_even_usd_per_chip_hour: float | None


def why_not(spec: Spec, decisions: Decisions, settings: Settings | None = None) -> Comparison:
    """Compare the best plan under the decisions with the best plan overall.

    Raises SpecError for decisions that are not on offer.
    """
    narrowed = _narrowed(spec, decisions)
    best = solve(spec, settings)
    alternative = solve(narrowed, settings, batch=decisions.batch)
    price = None
    if best.plan is not None and alternative.plan is not None and alternative.plan != best.plan:
        price = _break_even(spec, narrowed, decisions.batch, alternative.plan, settings)
    return Comparison(spec=narrowed, best=best, alternative=alternative, break_even_usd_per_chip_hour=price)


def _narrowed(spec: Spec, decisions: Decisions) -> Spec:
    """The spec with its search narrowed to the decisions, which need not lie inside it."""
    keys: dict[str, Any] = {
        f"search.{name}": [value]
        for name in ("weights", "kv_cache", "compute")
        if (value := getattr(decisions, name)) is not None
    }
    if decisions.chip is not None:
        known = {offer.chip.id: offer.chip for offer in spec.offers}
        keys["search.chips"] = [known.get(decisions.chip, decisions.chip)]
        own = spec.search.topologies.get(decisions.chip)
        keys["search.topologies"] = {} if own is None else {decisions.chip: own}
    if decisions.topology is not None:
        offers = (spec.changed(keys) if decisions.chip is not None else spec).offers
        having = [offer.chip for offer in offers if decisions.topology in offer.chip.topologies]
        if not having:
            raise SpecError(
                f"--topology {decisions.topology}: not offered by {', '.join(offer.chip.id for offer in offers)}"
            )
        keys["search.chips"] = having
        keys["search.topologies"] = {chip.id: [decisions.topology] for chip in having}
    if decisions.batch is not None:
        keys["search.max_batch"] = max(decisions.batch, spec.search.min_batch or 1)
    return spec.changed(keys)


def _break_even(
    spec: Spec, narrowed: Spec, batch: int | None, alternative: Plan, settings: Settings | None
) -> float | None:
    """The price of the alternative's chip at which the alternative costs as much as the best plan on the others."""
    chip = next(offer.chip for offer in narrowed.offers if offer.chip.id == alternative.chip)
    others = [offer.chip for offer in spec.offers if offer.chip.id != chip.id]
    if not others:
        return None
    kept = {name: slices for name, slices in spec.search.topologies.items() if name != chip.id}
    rival = solve(spec.changed({"search.chips": others, "search.topologies": kept}), settings).plan
    if rival is None:
        return None
    limit = rival.usd_per_million_output_tokens
    winning = _winning_price if Mode.DISAGGREGATED not in spec.modes else _closed_in_price
    price = winning(narrowed, alternative.chip, limit, batch)
    searched = any(offer.chip.id == chip.id for offer in spec.offers)
    if searched and winning(spec, chip.id, limit, None) > price * (1 + COST_TIE_RTOL):
        return _overtaking_price(spec, narrowed, chip.id, batch, price)
    return price


def _overtaking_price(spec: Spec, narrowed: Spec, chip: str, batch: int | None, price: float) -> float | None:
    """The price of a chip below which narrowed plans win, where others on it win at first; None if they never do.

    A plan that takes more of the chip gains more from each dollar less.
    """
    batches = None if batch is None else np.array([batch])

    def wins(price: float) -> bool:
        change = {f"price.{chip}": price}
        own = cheapest(evaluate(narrowed.changed(change), batches=batches))
        return own <= cheapest(evaluate(spec.changed(change))) * (1 + LIMIT_RTOL)

    high, low = price, LESS * price
    while not wins(low):
        high, low = low, LESS * low
        if low < LEAST * price:
            return None
    return _highest(wins, low, high)


def _closed_in_price(spec: Spec, chip: str, usd_per_million: float, batch: int | None) -> float:
    """`_winning_price` by bisection: which pools stand beside each other changes with the price."""
    batches = None if batch is None else np.array([batch])

    def wins(price: float) -> bool:
        return cheapest(evaluate(spec.changed({f"price.{chip}": price}), batches=batches)) <= usd_per_million

    low, high = 0.0, next(offer.usd_per_chip_hour for offer in spec.offers if offer.chip.id == chip)
    while wins(high):
        low, high = high, 2 * high
        if high > MAX_PRICE:
            return low
    return _highest(wins, low, high)


def _highest(wins: Callable[[float], bool], low: float, high: float) -> float:
    """The highest price that wins, between one that does and one that does not, within a tie."""
    while high - low > COST_TIE_RTOL * high and high > MIN_PRICE:
        middle = (low + high) / 2
        low, high = (middle, high) if wins(middle) else (low, middle)
    return low


def _winning_price(spec: Spec, chip: str, usd_per_million: float, batch: int | None) -> float:
    """The highest price of a chip at which some plan on it costs no more than `usd_per_million`, budget included.

    The dollars an hour of a column are the price times its chips of that type, and those of a prefill pool on another
    chip, so each column wins from a price of its own.
    """
    columns = evaluate(spec, batches=None if batch is None else np.array([batch]))
    layouts, serving = columns.layouts, columns.layouts.serving
    here, pool = on_chip(layouts, chip)
    taken = np.where(here, columns.slices * layouts.chips, 0) + np.where(pool, serving.pool_total_chips, 0)
    rows = np.flatnonzero((taken > 0) & (columns.violated & ~REQUIREMENT_BIT[Requirement.BUDGET] == 0))
    paid = next((offer.usd_per_chip_hour for offer in spec.offers if offer.chip.id == chip), 0.0)
    others = columns.usd_per_hour[rows] - paid * taken[rows]
    allowed = columns.usd_per_hour[rows] * (usd_per_million / columns.usd_per_million[rows])
    if spec.search.max_usd_per_hour is not None:
        allowed = np.minimum(allowed, spec.search.max_usd_per_hour)
    return float(np.max((allowed - others) / taken[rows], initial=0.0))
