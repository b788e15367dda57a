"""The batches worth trying: where a requirement starts or stops holding, and where a cost ties with the cheapest.

In every serving mode the time per output token of a layout is max(load, flops, ici) + kv·B. Each of them grows with B,
or stays, and grows no faster than B, the loading of experts included: so cost per token never rises with the batch.
Only the largest batch that a set of requirements allows can be cheapest, and only the smallest one within the tie band
can win the tie. A cost model without this monotonicity must tabulate the batch instead.
"""

import numpy as np

from servesat.candidates.layouts import Layouts
from servesat.candidates.requirement_formulas import tokens_per_s_to_meet_demand
from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Requirement, is_relaxed
from servesat.candidates.step_times import replica_times
from servesat.core.arrays import Floats, Ints
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL
from servesat.spec.spec import Spec


def breakpoints(spec: Spec, layouts: Layouts) -> Ints:
    """The batches at which a requirement starts or stops holding, as legal multiples; shape [layouts, breakpoints].

    Entries below 1 or above max_batch are not batches of the search.
    """
    clip = spec.search.max_batch + 1.0
    with np.errstate(divide="ignore"):
        largest, smallest = list(_largest_batches(spec, layouts).values()), _smallest_batches(spec, layouts)
    highest = np.floor(np.clip(np.column_stack([*largest, np.full(len(layouts), clip - 1)]), 0.0, clip))
    lowest = np.ceil(np.clip(np.column_stack(smallest), 0.0, clip)).astype(np.int64)
    multiple = layouts.batch_shards[:, None]
    # `lowest` itself stands for dropping `kv_heads`, its next multiple for keeping it.
    return np.column_stack([highest.astype(np.int64) // multiple * multiple, lowest, -(-lowest // multiple) * multiple])


def largest_batch(spec: Spec, layouts: Layouts, relaxed: int) -> Ints:
    """The largest legal batch within every limit that sets one, but for those relaxed; 0 where there is none."""
    with np.errstate(divide="ignore"):
        by_requirement = _largest_batches(spec, layouts)
    limits: list[Floats] = [largest for name, largest in by_requirement.items() if not is_relaxed(relaxed, name)]
    legal = legal_batch(np.minimum(np.min(limits, axis=0, initial=np.inf), spec.search.max_batch), layouts)
    smallest = 1 if is_relaxed(relaxed, Requirement.MIN_BATCH) else spec.search.min_batch or 1
    return legal * (legal >= smallest)


def legal_batch(largest: Floats, layouts: Layouts) -> Ints:
    """The largest batch of each layout that its shards divide, up to a bound; 0 where there is none."""
    multiple = layouts.batch_shards
    legal: Ints = np.floor(np.maximum(largest, 0.0)).astype(np.int64) // multiple * multiple
    return legal


def tie_breakpoints(spec: Spec, layouts: Layouts, cheapest: Floats | float, relaxed: int) -> Ints:
    """The smallest legal batch of each layout whose cost ties with the cheapest column; shape [layouts, 1].

    Cost is flat beyond the critical batch, nearly so where the KV cache dominates, and steps down with the number of
    slices that a demand needs: of the batches that tie, the smallest is the fastest.
    """
    if not np.all(np.isfinite(cheapest)):
        return np.zeros((len(layouts), 1), dtype=np.int64)
    with np.errstate(divide="ignore"):
        needed = _tokens_per_s_that_tie(spec, layouts, cheapest * (1 + COST_TIE_RTOL))
        if spec.slo.min_tokens_per_s is not None and not is_relaxed(relaxed, Requirement.THROUGHPUT):
            needed = np.maximum(needed, spec.slo.min_tokens_per_s / (1 + LIMIT_RTOL) / layouts.serving.slices)
        smallest = replica_times(spec, layouts).smallest_batch_for(needed / layouts.counted_replicas)
    smallest = np.clip(np.maximum(smallest, spec.search.min_batch or 1), 1.0, spec.search.max_batch + 1.0)
    multiple = layouts.batch_shards
    tied: Ints = -(-np.ceil(smallest).astype(np.int64) // multiple) * multiple
    return tied[:, None]


def _tokens_per_s_that_tie(spec: Spec, layouts: Layouts, usd_per_million: Floats | float) -> Floats:
    """Output tokens/s of one slice at which a layout costs that much a token; infinite where it cannot."""
    serving, demand, purchase = layouts.serving, spec.workload.requests_per_s, layouts.purchase
    if demand is not None:
        per_hour = usd_per_million * demand * (spec.workload.output_tokens or 0) * 3600 / 1e6
        usd_of_units = purchase.units.usd_per_hour, purchase.pool.usd_per_hour
        return tokens_per_s_to_meet_demand(spec, purchase.slices_within(*usd_of_units, per_hour, serving.pool_slices))
    usd = purchase.usd_per_hour(serving.slices, serving.pool_slices)
    tokens = usd / 3600 * 1e6 / usd_per_million / spec.utilisation
    return np.where(serving.prefill_limited_tokens_per_s >= tokens, tokens / serving.slices, np.inf)


def _largest_batches(spec: Spec, layouts: Layouts) -> dict[str, Floats]:
    """The largest batch that each requirement allows, not rounded; shape [layouts] each."""
    times = replica_times(spec, layouts)
    stated = [rule for rule in RULES.values() if rule.largest_batch is not None and rule.is_stated(spec)]
    return {rule.name: rule.largest_batch(spec, layouts, times) for rule in stated if rule.largest_batch is not None}


def _smallest_batches(spec: Spec, layouts: Layouts) -> list[Floats]:
    """1, and the smallest batch that each requirement allows, not rounded; shape [layouts] each.

    With a demand a limit on all slices sets one: fewer slices must each serve more.
    """
    times = replica_times(spec, layouts)
    found = [np.ones(len(layouts))]
    for rule in RULES.values():
        if rule.smallest_batch is not None and rule.is_stated(spec):
            found.append(rule.smallest_batch(spec, layouts, times))
        if rule.shared is not None and spec.workload.requests_per_s is not None:
            for limit in rule.shared(spec, layouts):
                slices = limit.slices_left_by(layouts.serving.pool_slices)
                needed = tokens_per_s_to_meet_demand(spec, slices) / layouts.counted_replicas
                found.append(times.smallest_batch_for(needed))
    return found
