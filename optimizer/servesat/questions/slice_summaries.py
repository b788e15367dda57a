"""The best plan of each slice of a plan's chip, and whether search.max_batch binds."""

from dataclasses import replace

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.candidates.tabulation import evaluated
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
    chip = next(chip for chip in spec.chips if chip.id == plan.chip)
    alone = spec.in_one_pool().in_means()
    found = (
        _summary(alone.changed({"search.chips": [chip.id], "search.topologies": {chip.id: [topology]}}), settings)
        for topology in spec.topologies_of(chip)
    )
    return tuple(summary for summary in found if summary is not None)


def max_batch_binds(spec: Spec, plan: Plan) -> bool:
    """Whether the next larger batch exceeds search.max_batch, meets every requirement, and costs less."""
    batch = plan.batch + plan.kv_batch_shards
    if batch <= spec.search.max_batch or spec.workload.requests_per_s is not None:
        return False  # under demand a larger batch may need as many slices
    wider = spec.changed({"search.max_batch": batch})
    larger, margins = rederive(wider, replace(plan, batch=batch))
    cheaper = larger.usd_per_million_output_tokens * (1 + COST_TIE_RTOL) < plan.usd_per_million_output_tokens
    return cheaper and all(margin.holds for margin in margins)


def _summary(spec: Spec, settings: Settings) -> SliceSummary | None:
    """The optimum of a search over one slice, or its nearest plan; None where no offer holds the slice."""
    best = cheapest_by_means(spec, settings)
    if best is not None:
        return SliceSummary(plan=best[0], margins=best[1])
    tried = evaluate(
        spec.changed({"constraints": ()})
    )  # at batches where limits bind, as constraints may need every one
    if not len(tried):
        return None
    columns = evaluated(spec, tried.layouts, tried.batch, 0)
    plan, margins = rederive(spec, columns.assignment(_nearest(columns)))
    return SliceSummary(plan=plan, margins=margins)


def _nearest(columns: Columns) -> int:
    """The column that violates the fewest requirements; ties by throughput where that is short, then by step time."""
    is_short = columns.violated & REQUIREMENT_BIT[Requirement.THROUGHPUT] != 0
    negative_output = np.where(is_short, -columns.tokens_per_s, 0.0)
    return int(np.lexsort((columns.tpot_s, negative_output, np.bitwise_count(columns.violated)))[0])
