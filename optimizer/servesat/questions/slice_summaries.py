"""The best plan of each slice of a plan's chip, and whether search.max_batch binds."""

from dataclasses import replace

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import Layouts
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.candidates.tabulation import evaluated
from servesat.core.arrays import Ints
from servesat.core.plan import Plan
from servesat.core.result import SliceSummary
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.check.plan import rederive
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_by_means
from servesat.spec.spec import Spec


def slice_summaries(spec: Spec, plan: Plan, settings: Settings) -> tuple[SliceSummary, ...]:
    """Summarise every slice of the plan's chip that an offer holds, by number of chips: its optimum, or nearest plan.

    Empty for a disaggregated plan, whose slices depend on those of the other pool.
    """
    if plan.prefill is not None:
        return ()
    spec = spec.in_one_pool().in_means()
    layouts = enumerate_layouts(spec)
    chip = next(chip for chip in spec.chips if chip.id == plan.chip)
    on_slices = [_on_slice(layouts, chip.id, topology) for topology in spec.topologies_of(chip)]
    return tuple(_summary(spec, layouts.take(rows), settings) for rows in on_slices if len(rows))


def max_batch_binds(spec: Spec, plan: Plan) -> bool:
    """Whether the next larger batch exceeds search.max_batch, meets every requirement, and costs less."""
    batch = plan.batch + plan.kv_batch_shards
    if batch <= spec.search.max_batch or spec.workload.requests_per_s is not None:
        return False  # under demand a larger batch may need as many slices
    wider = spec.changed({"search.max_batch": batch})
    larger, margins = rederive(wider, replace(plan, batch=batch))
    cheaper = larger.usd_per_million_output_tokens * (1 + COST_TIE_RTOL) < plan.usd_per_million_output_tokens
    return cheaper and all(margin.holds for margin in margins)


def _on_slice(layouts: Layouts, chip: str, topology: str) -> Ints:
    is_slice = [place.offer.chip.id == chip and place.topology == topology for place in layouts.places]
    return np.flatnonzero(np.array(is_slice)[layouts.place])


def _summary(spec: Spec, layouts: Layouts, settings: Settings) -> SliceSummary:
    best = cheapest_by_means(spec, settings, layouts)
    if best is not None:
        return SliceSummary(plan=best[0], margins=best[1])
    tried = evaluate(spec.changed({"constraints": ()}), layouts)  # where limits bind: constraints may need every batch
    columns = evaluated(spec, tried.layouts, tried.batch, 0)
    plan, margins = rederive(spec, columns.assignment(_nearest(columns)))
    return SliceSummary(plan=plan, margins=margins)


def _nearest(columns: Columns) -> int:
    """The column that violates the fewest requirements; ties by throughput where that is short, then by step time."""
    is_short = columns.violated & REQUIREMENT_BIT[Requirement.THROUGHPUT] != 0
    negative_output = np.where(is_short, -columns.tokens_per_s, 0.0)
    return int(np.lexsort((columns.tpot_s, negative_output, np.bitwise_count(columns.violated)))[0])
