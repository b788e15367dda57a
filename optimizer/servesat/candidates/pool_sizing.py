"""How many slices each pool of a disaggregated plan has: what a demand needs, or what matches the pools' pace."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from servesat.candidates.batch_breakpoints import breakpoints, largest_batch
from servesat.candidates.constrained_batches import with_constraints
from servesat.candidates.layouts import MODES, Layouts
from servesat.candidates.purchases import Purchase, SharedLimit
from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Requirement, is_relaxed
from servesat.candidates.step_times import replica_times
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.plan import Mode
from servesat.core.tolerances import is_at_least, round_up
from servesat.spec.expressions import counts_slices
from servesat.spec.spec import Spec

MAX_SMALLER_POOL_SLICES = 4
"""Slices of the smaller pool where no demand sizes them: enough to match the pace of the larger pool."""

MAX_SMALLER_POOL_SLICES_COUNTED = 16
"""The same where whole instances are bought, or a constraint names what grows with the slices."""


@dataclass(frozen=True)
class PoolCandidates:
    """The decode layouts of a spec as prefill pools and as decode pools; arrays of shape [layouts].

    `busy` is what one slice takes for a request: its prefill, or its decoding [s].
    """

    layouts: Layouts
    prefill_s: Floats
    prefill_busy_s: Floats
    prefill_able: Bools  # the same pool with its KV cache elsewhere is not listed again
    prefill_violated: Ints
    decode_busy_s: Floats  # at the largest batch; infinite where there is none
    decode_violated: Ints
    transfer_s: Floats
    request_s: Floats  # that pass before the prompt


def decoding_busy_s(spec: Spec, layouts: Layouts, batch: Ints) -> Floats:
    """What a slice of each layout takes to decode the answer of a request, among so many at once [s]."""
    tokens_per_s = replica_times(spec, layouts).at(batch.astype(np.float64)).tokens_per_s
    return np.asarray((spec.workload.output_tokens or 0) / (layouts.counted_replicas * tokens_per_s))


def first_token_s(pools: PoolCandidates, pairs: Ints) -> Floats:
    """The time to the first token in each pair: the prompt, then its KV cache over the slower network [s]."""
    prefill, decode = pairs.T
    transfer_s = np.maximum(pools.transfer_s[prefill], pools.transfer_s[decode])
    whole: Floats = pools.request_s[prefill] + pools.prefill_s[prefill] + transfer_s
    return whole


def slices_per_request_rate(spec: Spec, busy_s: Floats) -> Floats:
    """Slices for each request a second: as many as are busy, or the whole number that a demand needs [slices·s]."""
    demand = spec.workload.requests_per_s
    return busy_s / spec.utilisation if demand is None else slices_for_demand(spec, busy_s) / demand


def slices_for_demand(spec: Spec, busy_s: Floats) -> Floats:
    """The whole number of slices that meet the demand, each busy for `busy_s` with a request."""
    return round_up((spec.workload.requests_per_s or 0.0) * busy_s / spec.utilisation)


def pair_pools(spec: Spec, pools: PoolCandidates, pairs: Ints) -> Layouts:
    """The layouts of pairs of shape [pairs, 2], prefill first: one slice each, or as many for prefill as are needed."""
    prefill, decode = pairs.T
    every, rows = pools.layouts, pools.layouts.take(decode)
    output_tokens = spec.workload.output_tokens or 0
    pool_slices = np.ones(len(pairs), dtype=np.int64)
    if spec.workload.requests_per_s is not None:
        pool_slices = slices_for_demand(spec, pools.prefill_busy_s[prefill]).astype(np.int64)
    transfer_s = np.maximum(pools.transfer_s[prefill], pools.transfer_s[decode])
    serving = replace(
        rows.serving,
        mode=np.full(len(pairs), MODES.index(Mode.DISAGGREGATED)),
        prefill_s=pools.prefill_s[prefill],
        transfer_s=transfer_s,
        first_token_s=first_token_s(pools, pairs),
        pool_place=every.place[prefill],
        pool_dtype=every.dtype[prefill],
        pool_slices=pool_slices,
        pool_units=every.units.take(prefill),
        pool_tokens_per_s=output_tokens / pools.prefill_busy_s[prefill],
        violated=pools.prefill_violated[prefill],
    )
    return replace(rows, serving=serving)


def size_pools(
    spec: Spec, pools: PoolCandidates, pairs: Ints, relaxed: int, *, any_batch: bool = False
) -> tuple[Layouts, Floats]:
    """The layouts of pairs with their slices counted, and what a request costs in them at their largest batch [$].

    The cost is infinite where the limits on both pools together do not allow the pair. Pairs without a legal batch are
    left out, or, with `any_batch`, sized for the largest batch of the search.
    """
    rows, busy_s, pool_busy_s = _at_largest_batch(spec, pools, pairs, relaxed, any_batch)
    shared = _shared_limits(spec, relaxed)
    if spec.workload.requests_per_s is None:
        row, slices, pool_slices = _matching_slices(busy_s, pool_busy_s, rows.purchase, shared(rows), _most(spec))
        rows = rows.take(row)
        rows = replace(rows, serving=replace(rows.serving, slices=slices, pool_slices=pool_slices))
        per_s = np.minimum(slices / busy_s[row], pool_slices / pool_busy_s[row])
    else:
        slices = slices_for_demand(spec, busy_s).astype(np.int64)
        per_s = np.full(len(rows), spec.workload.requests_per_s / spec.utilisation)
    over = np.zeros(len(rows), dtype=np.bool_)
    for limit in shared(rows):
        over |= limit.is_exceeded_by(slices, rows.serving.pool_slices)
    if spec.slo.min_tokens_per_s is not None and not is_relaxed(relaxed, Requirement.THROUGHPUT):
        over |= ~is_at_least(per_s * (spec.workload.output_tokens or 0), spec.slo.min_tokens_per_s)
    usd_per_hour = rows.purchase.usd_per_hour(slices, rows.serving.pool_slices)
    return rows, np.where(over, np.inf, usd_per_hour / 3600 / (per_s * spec.utilisation))


def size_under_constraints(spec: Spec, pools: PoolCandidates, pairs: Ints, relaxed: int) -> Layouts:
    """The layouts of pairs with their slices counted: those that match the pools' pace at some batch worth trying.

    Constraints may rule out the largest batch, or any other.
    """
    rows = pair_pools(spec, pools, pairs)
    if spec.workload.requests_per_s is not None or not len(rows):
        return rows
    tried = with_constraints(spec, rows, breakpoints(spec, rows))
    row, position = np.nonzero((tried >= 1) & (tried <= spec.search.max_batch))
    row, batch = np.unique(np.column_stack([row, tried[row, position]]), axis=0).T
    at_batch = rows.take(row)
    busy_s = decoding_busy_s(spec, at_batch, batch)
    limits = _shared_limits(spec, relaxed)(at_batch)
    pool_busy_s = pools.prefill_busy_s[pairs[row, 0]]
    one, slices, pool_slices = _matching_slices(busy_s, pool_busy_s, at_batch.purchase, limits, _most(spec))
    pair, slices, pool_slices = np.unique(np.column_stack([row[one], slices, pool_slices]), axis=0).T
    sized = rows.take(pair)
    return replace(sized, serving=replace(sized.serving, slices=slices, pool_slices=pool_slices))


def size_for_throughput(
    spec: Spec, pools: PoolCandidates, pairs: Ints, relaxed: int, *, any_batch: bool = False
) -> Layouts:
    """The layouts of pairs with the fewest slices that put out `slo.min_tokens_per_s` at their largest batch.

    Pairs without a legal batch are left out, or, with `any_batch`, sized for the largest batch of the search.
    """
    rows, busy_s, pool_busy_s = _at_largest_batch(spec, pools, pairs, relaxed, any_batch)
    per_s = (spec.slo.min_tokens_per_s or 0.0) / (spec.workload.output_tokens or 1)
    slices = round_up(per_s * busy_s).astype(np.int64)
    pool_slices = round_up(per_s * pool_busy_s).astype(np.int64)
    rows = replace(rows, serving=replace(rows.serving, slices=slices, pool_slices=pool_slices))
    return rows.take(np.flatnonzero(np.minimum(slices, pool_slices) <= MAX_SMALLER_POOL_SLICES))


def _at_largest_batch(
    spec: Spec, pools: PoolCandidates, pairs: Ints, relaxed: int, any_batch: bool
) -> tuple[Layouts, Floats, Floats]:
    """The layouts of pairs that have a legal batch, and what a slice of each pool takes for a request there [s]."""
    rows = pair_pools(spec, pools, pairs)
    batch = largest_batch(spec, rows, relaxed)
    if any_batch:
        batch = np.where(batch > 0, batch, spec.search.max_batch)
    possible = np.flatnonzero(batch > 0)
    rows, batch = rows.take(possible), batch[possible]
    return rows, decoding_busy_s(spec, rows, batch), pools.prefill_busy_s[pairs[possible, 0]]


def _shared_limits(spec: Spec, relaxed: int) -> Callable[[Layouts], list[SharedLimit]]:
    """The limits on all slices together that the spec has and that are not relaxed, for some layouts."""
    sources = [rule.shared for name, rule in RULES.items() if rule.shared is not None and not is_relaxed(relaxed, name)]
    return lambda layouts: [limit for source in sources for limit in source(spec, layouts)]


def _most(spec: Spec) -> int:
    """The most slices of the smaller pool, where no demand sizes them."""
    counted = spec.buy == "instances" or counts_slices(spec.expressions)
    return MAX_SMALLER_POOL_SLICES_COUNTED if counted else MAX_SMALLER_POOL_SLICES


def _matching_slices(
    busy_s: Floats,
    pool_busy_s: Floats,
    purchase: Purchase,
    limits: list[SharedLimit],
    most: int,
) -> tuple[Ints, Ints, Ints]:
    """For each pair, the numbers of slices that match the pools' pace: rows, slices that decode, slices that prefill.

    Up to `most` slices of either pool, with the other rounded down and up, or filling one unit less than its pace asks
    for, and no more than the limits leave room for. Any other number costs more: beyond the pace of the rest a slice
    brings nothing, and short of it each brings the same.
    """
    rows = np.arange(len(busy_s))
    ratio = pool_busy_s / busy_s  # prefill slices that keep one decode slice fed
    found = []
    for count in range(1, most + 1):
        same = np.full(len(rows), count)
        max_pool = np.min([limit.pool_slices_left_by(count) for limit in limits], axis=0, initial=np.inf)
        max_decode = np.min([limit.slices_left_by(count) for limit in limits], axis=0, initial=np.inf)
        for rounded in (np.floor, np.ceil):
            found.append(np.column_stack([rows, same, np.minimum(rounded(ratio * count), max_pool)]))
            found.append(np.column_stack([rows, np.minimum(rounded(count / ratio), max_decode), same]))
        if np.any(purchase.units.instances + purchase.pool.instances):
            pool_filling = _filling(purchase.swapped(), np.ceil(ratio * count), count)
            filling = _filling(purchase, np.ceil(count / ratio), count)
            found.append(np.column_stack([rows, same, np.minimum(pool_filling, max_pool)]))
            found.append(np.column_stack([rows, np.minimum(filling, max_decode), same]))
    every = np.unique(np.maximum(np.concatenate(found), [0, 1, 1]).astype(np.int64), axis=0)
    return every[:, 0], every[:, 1], every[:, 2]


def _filling(purchase: Purchase, slices: Floats, pool_slices: int) -> Floats:
    """The most slices that decode, beside so many of the prefill pool, in one unit less than `slices` take."""
    each, none = np.ones_like(slices), np.zeros_like(slices)
    count = purchase.counted(slices, pool_slices * each)[0] - 1
    return purchase.slices_within(each, none, count, pool_slices)
