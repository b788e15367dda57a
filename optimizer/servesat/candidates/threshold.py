"""Every legal plan that costs at most so much: complete under any further constraint.

A constraint only removes plans, so the cheapest of these that it leaves is the cheapest of all.
"""

from collections.abc import Iterator

import numpy as np

from servesat.candidates.batch_breakpoints import largest_batch, tie_breakpoints
from servesat.candidates.columns import Columns
from servesat.candidates.constraints import Values, all_satisfied, upper_limit_bits
from servesat.candidates.evaluation import at_legal_batches
from servesat.candidates.layouts import Layouts
from servesat.candidates.rule import EVERY_REQUIREMENT
from servesat.candidates.tabulation import evaluated
from servesat.core.arrays import Floats, Ints
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.spec.expressions import Level
from servesat.spec.spec import Spec

MAX_BAND = 5_000_000
"""Columns that are tabulated below a cost, in some ten seconds."""


def least_costs(spec: Spec, layouts: Layouts, relaxed: int) -> Floats:
    """The cost of each layout at its largest legal batch, which no batch of it undercuts; infinite where it has none.

    Of the constraints only upper limits on what is least with the fewest slices count, as `chips <= 8`: there they are.
    Shape [layouts] [$/1M output tokens].
    """
    largest = largest_batch(spec, layouts, relaxed)
    possible = np.flatnonzero(largest > 0)
    columns = evaluated(spec, layouts.take(possible), largest[possible], relaxed)
    least = np.full(len(layouts), np.inf)
    counting = EVERY_REQUIREMENT | upper_limit_bits(spec)
    least[possible] = np.where(columns.violated & counting == 0, columns.usd_per_million, np.inf)
    return least


def columns_below(spec: Spec, layouts: Layouts, usd: float, relaxed: int, *, screen: bool) -> Iterator[Columns] | None:
    """Every legal batch of some layouts at which a million tokens cost at most `usd`, in blocks.

    With `screen`, plans that violate a constraint on decisions alone are left out before their figures are worked out.
    None where there are more than MAX_BAND.
    """
    smallest, largest = _range(spec, layouts, usd, relaxed)
    rows = np.flatnonzero(smallest <= largest)
    counts = (largest[rows] - smallest[rows]) // layouts.batch_shards[rows] + 1
    if counts.sum() > MAX_BAND:
        return None
    return _tabulated(spec, layouts.take(rows), (smallest[rows], counts), usd, relaxed, screen=screen)


def _tabulated(
    spec: Spec, layouts: Layouts, batches: tuple[Ints, Ints], usd: float, relaxed: int, *, screen: bool
) -> Iterator[Columns]:
    """Layouts at so many legal batches from their smallest on, if they cost at most `usd`, in blocks."""
    for some, batch in at_legal_batches(layouts, *batches):
        kept = np.arange(len(some))
        if screen:
            kept = np.flatnonzero(all_satisfied(spec, Values(some, batch), Level.BATCH, relaxed))
        columns = evaluated(spec, some.take(kept), batch[kept], relaxed)
        legal = columns.violated & EVERY_REQUIREMENT == 0
        yield columns.take(np.flatnonzero(legal & (columns.usd_per_million <= usd * (1 + 2 * COST_TIE_RTOL))))


def _range(spec: Spec, layouts: Layouts, usd: float, relaxed: int) -> tuple[Ints, Ints]:
    """The smallest legal batch of each layout that costs at most `usd`, and the largest; shape [layouts] each."""
    largest = largest_batch(spec, layouts, relaxed)
    if np.isfinite(usd):
        return np.maximum(tie_breakpoints(spec, layouts, usd, relaxed)[:, 0], 1), largest
    return layouts.batch_shards, largest
