"""The price of a chip below which a plan on it costs less than every other.

At a fixed plan, cost is a line in the price of a chip. So without a budget, the least cost is the minimum of lines:
concave, and below each of its tangents. Where a tangent meets a cost that is to be reached, the least cost is no
higher; from price to price this leads to the highest such price in a few searches, where a bisection takes forty.
"""

from dataclasses import dataclass

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import on_chip
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.core.arrays import Floats
from servesat.core.plan import Mode, Plan
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.spec.spec import Spec

MIN_PRICE, MAX_PRICE = 1e-6, 1e6
"""The range searched for a break-even price [$/chip-hour]."""

PRICE_STEP, LOWEST_SHARE = 0.8, 0.02
"""Factor between prices at which a plan may overtake others on its chip, and the lowest price tried, as a share."""


def break_even_price(
    spec: Spec, narrowed: Spec, batch: int | None, alternative: Plan, settings: Settings | None
) -> float | None:
    """The price of the alternative's chip at which it costs as much as the best plan on all other chips.

    None where other plans on the chip stay cheaper, or where no other chip has a plan.
    """
    chip = next(chip for chip in narrowed.chips if chip.id == alternative.chip)
    others = [other for other in spec.chips if other.id != chip.id]
    if not others:
        return None
    topologies = {name: slices for name, slices in spec.search.topologies.items() if name != chip.id}
    rival = cheapest_plan(spec.changed({"search.chips": others, "search.topologies": topologies}), settings)
    if rival is None:
        return None
    limit = rival.usd_per_million_output_tokens
    price = _Search(narrowed, chip.id, batch).winning_price(limit)
    if price <= MIN_PRICE:
        return None
    if not spec.offers_of(chip.id) or _Search(spec, chip.id).winning_price(limit) <= price * (1 + COST_TIE_RTOL):
        return price
    return _overtaking_price(_Search(narrowed, chip.id, batch), _Search(spec, chip.id), price)


@dataclass(frozen=True)
class _Line:
    """The least cost at a price of a chip, and how it rises with the price if the plan stays; infinite without one."""

    price: float
    usd: float
    slope: float

    def at(self, price: float) -> float:
        """The cost of the same plan at another price [$/1M output tokens]."""
        return self.usd + self.slope * (price - self.price)


@dataclass(frozen=True)
class _Search:
    """The search of a spec, as a function of the price of a chip."""

    spec: Spec
    chip: str
    batch: int | None = None

    def winning_price(self, usd_per_million: float) -> float:
        """The highest price at which a plan on the chip costs at most that, within the budget; 0 if none."""
        if Mode.DISAGGREGATED not in self.spec.modes:
            price = self.spec.offers_of(self.chip)[0].usd_per_chip_hour
            return float(np.max(self._winning_prices(self._columns(price), price, usd_per_million), initial=0.0))
        return self._winning_price_of_pools(usd_per_million)

    def least(self, price: float) -> _Line:
        """The least cost at a price: of the plans that tie, that which gains the least from a lower one."""
        columns = self._columns(price)
        costs = np.where(columns.violated == 0, columns.usd_per_million, np.inf)
        least = float(np.min(costs, initial=np.inf))
        if not np.isfinite(least):
            return _Line(price, least, 0.0)
        slopes = self._usd_on_chip(columns) / columns.usd_per_hour * columns.usd_per_million / price
        return _Line(price, least, float(slopes[costs <= least * (1 + LIMIT_RTOL)].min()))

    def _columns(self, price: float) -> Columns:
        spec = self.spec.changed({f"price.{self.chip}": price})
        return evaluate(spec, batches=None if self.batch is None else np.array([self.batch]))

    def _usd_on_chip(self, columns: Columns) -> Floats:
        """What the chips of this kind cost in each column, of both pools [$/hour]."""
        layouts, purchase = columns.layouts, columns.layouts.purchase
        decodes_on, prefills_on = on_chip(layouts, self.chip)
        units, pool_units = purchase.counted(columns.slices, layouts.serving.pool_slices)
        usd = np.where(decodes_on, units * purchase.units.usd_per_hour, 0.0)
        usd += np.where(prefills_on, pool_units * purchase.pool.usd_per_hour, 0.0)
        return np.asarray(usd, dtype=np.float64)

    def _winning_prices(self, columns: Columns, price: float, usd_per_million: float) -> Floats:
        """The highest price of the chip at which each column with some of it costs so much, within the budget."""
        usd = self._usd_on_chip(columns)
        rows = np.flatnonzero((usd > 0) & (columns.violated & ~REQUIREMENT_BIT[Requirement.BUDGET] == 0))
        usd_of_other_chips = columns.usd_per_hour[rows] - usd[rows]
        allowed = columns.usd_per_hour[rows] * (usd_per_million / columns.usd_per_million[rows])
        if self.spec.search.max_usd_per_hour is not None:
            allowed = np.minimum(allowed, self.spec.search.max_usd_per_hour)
        return np.asarray((allowed - usd_of_other_chips) / (usd[rows] / price), dtype=np.float64)

    def _winning_price_of_pools(self, usd_per_million: float) -> float:
        """The same where the pairs of pools that are looked at change with the price: from one price to the next."""
        price, won = self.spec.offers_of(self.chip)[0].usd_per_chip_hour, 0.0
        while True:
            prices = self._winning_prices(self._columns(price), price, usd_per_million)
            higher = min(float(np.max(prices, initial=0.0)), MAX_PRICE)
            if higher < MIN_PRICE < price:  # what is cheapest at this price costs too much beside these chips
                price = MIN_PRICE
            elif higher <= won * (1 + COST_TIE_RTOL) or higher <= MIN_PRICE:
                return max(won, higher)
            else:
                price = won = higher


def _overtaking_price(narrowed: _Search, whole: _Search, price: float) -> float | None:
    """The price of a chip just below which the narrowed search wins over other plans on it; None if none is found.

    A plan with more of these chips gains more from a lower price. Above where the tangents of both searches meet the
    narrowed one loses as long as its plan stays; where it has another there, prices are tried in steps of PRICE_STEP.
    """
    lowest = LOWEST_SHARE * price
    ours, theirs = narrowed.least(price), whole.least(price)
    while not _wins(ours, theirs):
        high, gained = ours.price, ours.slope - theirs.slope
        if high <= lowest:
            return None
        step = max(PRICE_STEP * high, lowest)
        meet = high - (ours.usd - theirs.usd) / gained if gained > 0 and np.isfinite(ours.usd) else -np.inf
        low = max(meet, lowest) if meet > 0 else step
        tangent, ours, theirs = ours, narrowed.least(low), whole.least(low)
        stays = ours.usd >= tangent.at(low) * (1 - COST_TIE_RTOL)
        if _wins(ours, theirs):
            return low if stays and low == meet else _bisected(narrowed, whole, low, high)
        if not stays and low < step:
            ours, theirs = narrowed.least(step), whole.least(step)
            if _wins(ours, theirs):
                return _bisected(narrowed, whole, step, high)
    return ours.price


def _wins(ours: _Line, theirs: _Line) -> bool:
    return bool(np.isfinite(ours.usd)) and ours.usd <= theirs.usd * (1 + LIMIT_RTOL)


def _bisected(narrowed: _Search, whole: _Search, low: float, high: float) -> float:
    """The highest price at which the narrowed search wins, between one at which it does and one where it does not."""
    while high - low > COST_TIE_RTOL * high and high > MIN_PRICE:
        middle = (low + high) / 2
        low, high = (middle, high) if _wins(narrowed.least(middle), whole.least(middle)) else (low, middle)
    return low
