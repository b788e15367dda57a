"""Lower bounds on the cost of layouts at any latency, which rule out most of them before their times are bisected.

Cost per token never rises with the batch, so no layout costs less than at the largest batch that its machine allows.
"""

from typing import NamedTuple

import numpy as np

from servesat.candidates.batch_breakpoints import legal_batch
from servesat.candidates.columns import Columns, columns_at
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirements import RULES
from servesat.candidates.rule import REQUIREMENT_BIT, Kind, Rule, is_relaxed
from servesat.candidates.step_times import replica_times
from servesat.core.arrays import Bools, Floats
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.spec.spec import Spec


class CostBounds(NamedTuple):
    """The least that layouts can cost [$/1M output tokens]; shape [layouts] each, infinite where no batch is legal.

    `within` all that the machine sets, and `beyond` that of its limits that bounds the batch most.
    """

    within: Floats
    beyond: Floats

    def contenders(self, columns: Columns) -> Bools:
        """Which layouts may tie with the cheapest of some columns, of plans or of what breaks one limit alone."""
        least = _least(columns, 0)
        least_beyond = max(min(least, _least(columns, REQUIREMENT_BIT[rule.name])) for rule in _MACHINE_RULES)
        slack = 1 + 2 * COST_TIE_RTOL
        near = (self.within <= least * slack) | (self.beyond <= least_beyond * slack)
        return near & np.isfinite(self.beyond)


def cost_bounds(spec: Spec, layouts: Layouts, relaxed: int) -> CostBounds:
    """The bounds of layouts, each in its serving mode, when the requirements of the bit mask `relaxed` hold."""
    times, most = replica_times(spec, layouts), spec.search.max_batch
    with np.errstate(divide="ignore"):
        limits = [
            rule.largest_batch(spec, layouts, times)
            for rule in _MACHINE_RULES
            if rule.largest_batch is not None and rule.is_stated(spec) and not is_relaxed(relaxed, rule.name)
        ]
    in_order = np.sort(np.clip(np.column_stack([*limits, *np.full((2, len(layouts)), most)]), 0.0, most), axis=1)
    return CostBounds(*(_least_usd(spec, layouts, largest) for largest in in_order.T[:2]))


_MACHINE_RULES: tuple[Rule, ...] = tuple(
    rule for rule in RULES.values() if rule.kind is Kind.HARDWARE and rule.largest_batch is not None
)
"""The limits on the batch that a machine sets; they have a closed form, where those on times may need bisection."""


def _least_usd(spec: Spec, layouts: Layouts, largest_batch: Floats) -> Floats:
    """The cost of each layout at its largest legal batch [$/1M output tokens]; infinite where it has none."""
    batch = legal_batch(largest_batch, layouts)
    return np.where(batch > 0, columns_at(spec, layouts, np.maximum(batch, 1)).usd_per_million, np.inf)


def _least(columns: Columns, violated: int) -> float:
    """The least cost of the columns that violate just this."""
    return float(np.min(columns.usd_per_million, initial=np.inf, where=columns.violated == violated))
