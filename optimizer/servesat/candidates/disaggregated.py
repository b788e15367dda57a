"""Disaggregated serving: which prefill pools stand beside which decode pools, and how many slices of each.

Every pair of a prefill and a decode layout is a candidate, each pool possibly on a chip of its own; multiplied out they
are far too many to evaluate. But their cost has a lower bound that adds up: what a request costs in a prefill pool and
in a decode pool that are both busy. So pairs are taken in the order of that bound, until it exceeds the cost of a pair
that meets every requirement. Nothing that could be cheapest, or tie with it, is left out. Where no pair meets them all,
every pair that violates no more than another is a candidate: the masks of what each violates then say why.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from servesat.candidates.batch_breakpoints import largest_batch
from servesat.candidates.columns import columns_at
from servesat.candidates.constraints import Values, constraint_bits, upper_limit_bits
from servesat.candidates.engine_memory import prefill_engine_bytes
from servesat.candidates.layouts import KV_LAYOUTS, Layouts, ShardedSlice, execution_signatures
from servesat.candidates.pool_sizing import (
    PoolCandidates,
    decoding_busy_s,
    first_token_s,
    pair_pools,
    size_for_throughput,
    size_pools,
    size_under_constraints,
    slices_for_demand,
    slices_per_request_rate,
)
from servesat.candidates.purchases import Purchase
from servesat.candidates.requirement_formulas import exceeds_quality_loss, not_moved_by_engine, splits_as_no_prefill
from servesat.candidates.requirements import RULES, prefill_violations, structural_violations, violations
from servesat.candidates.rule import REQUIREMENT_BIT, Kind, Requirement, is_relaxed, mask_of
from servesat.candidates.step_times import prompt_times
from servesat.candidates.tabulation import least_cost_of_each
from servesat.candidates.tie_order import tie_order
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.dominance import undominated_in_groups
from servesat.core.plan import KvLayout
from servesat.core.tolerances import COST_TIE_RTOL, is_at_most
from servesat.cost_model.decode import replica_kv_bytes, replica_weights_bytes
from servesat.cost_model.memory import kv_cache_bytes
from servesat.cost_model.prefill import kv_transfer_s
from servesat.spec.expressions import NAMES, Level, Type, counts_slices
from servesat.spec.spec import Spec

FIRST_PAIRS, MOST_PAIRS = 25, 500
"""Pairs that are sized together: few at first, as the best often stands among them; then twice as many, up to most."""

Excluded = Callable[[Layouts], Bools]
"""Tells which of some layouts are not to be searched."""


def disaggregated(spec: Spec, layouts: Layouts, relaxed: int, excluded: Excluded | None = None) -> Layouts:
    """The decode layouts as decode pools, each with the prefill pools that could serve it best.

    `relaxed` as in `evaluate`. Also includes each pair that is optimal when one limit is relaxed, so that binding
    limits can be reported. Chips without a network figure are left out: the KV cache could not move; and drafts, whose
    cache of the prompt no pool prefills.
    """
    is_pool = (_network_bytes_per_s(layouts) > 0) & (np.asarray(layouts.replica.drafting.tokens) == 0)
    if spec.search.max_slices is None and not counts_slices(spec.expressions):
        is_pool &= _in_smallest_slices(layouts)
    layouts = layouts.take(np.flatnonzero(is_pool))
    if not len(layouts):
        return layouts
    stated = _limits_of_pairs(spec)
    best = _cheapest_pairs(spec, _pool_candidates(spec, layouts, relaxed), relaxed, excluded)
    if len(best):
        masks = [relaxed | mask_of(limit) for limit in stated]
        masks += [relaxed | bit for bit in constraint_bits(spec).values()]
        return best.join(*(_cheapest_pairs(spec, _pool_candidates(spec, layouts, m), m, excluded) for m in masks))
    pools = _pool_candidates(spec, layouts, relaxed)
    able = np.flatnonzero(pools.prefill_able)
    prefill = _undominated_prefill(spec, pools, able, _figures_that_matter(spec, pools))
    every = _pairs_of(spec, layouts, prefill, np.arange(len(layouts)))
    found = [pair_pools(spec, pools, every)]
    if spec.slo.min_tokens_per_s is not None:  # which takes more slices than one, fewer where a limit is broken
        limits = relaxed | mask_of(*stated)
        looser = dict.fromkeys([relaxed, *(relaxed | mask_of(limit) for limit in stated), limits])
        found += [size_for_throughput(spec, pools, every, mask) for mask in looser]
        found.append(size_for_throughput(spec, pools, every, limits | mask_of(Requirement.HBM), any_batch=True))
    rows = found[0].join(*found[1:])
    return rows if excluded is None else rows.take(np.flatnonzero(~excluded(rows)))


def _limits_of_pairs(spec: Spec) -> list[str]:
    """The limits that the spec states and that a pair of pools could break."""
    return [
        name
        for name, rule in RULES.items()
        if rule.kind in {Kind.SERVICE_LEVEL, Kind.RESOURCE} and rule.is_stated(spec)
    ]


def _cheapest_pairs(spec: Spec, pools: PoolCandidates, relaxed: int, excluded: Excluded | None) -> Layouts:
    """The pairs that meet every requirement that is not relaxed and tie with the cheapest; none where none does."""
    apart = spec.buy == "instances"  # so that few prefill pools compare
    any_prefill = apart or excluded is not None or bool(spec.expressions)
    pairs = _compatible_pairs(spec, pools, relaxed, any_prefill=any_prefill)
    bound = _usd_per_request(spec, pools, pairs)
    order = np.argsort(bound, kind="stable")
    least = np.inf
    found, costs = [pools.layouts.take(np.zeros(0, dtype=np.int64))], [np.zeros(0)]
    first, count = 0, FIRST_PAIRS
    while first < len(order) and bound[order[first]] <= least * (1 + COST_TIE_RTOL):
        rows, usd = _sized(spec, pools, pairs[order[first : first + count]], relaxed)
        first, count = first + count, min(2 * count, MOST_PAIRS)
        if excluded is not None:
            usd = np.where(excluded(rows), np.inf, usd)
        least = min(least, float(np.min(usd, initial=np.inf)))
        found.append(rows)
        costs.append(usd)
    if not np.isfinite(least):
        return found[0]
    near = zip(found, costs, strict=True)
    kept = [rows.take(np.flatnonzero(usd <= least * (1 + 2 * COST_TIE_RTOL))) for rows, usd in near]
    return kept[0].join(*kept[1:])


def _sized(spec: Spec, pools: PoolCandidates, pairs: Ints, relaxed: int) -> tuple[Layouts, Floats]:
    """The layouts of pairs with their slices counted, and the least that a request costs in them [$]."""
    if not spec.expressions:
        return size_pools(spec, pools, pairs, relaxed)
    rows = size_under_constraints(spec, pools, pairs, relaxed)
    rows = _within_upper_limits(spec, rows, relaxed)
    return rows, least_cost_of_each(spec, rows, relaxed) * (spec.workload.output_tokens or 0) / 1e6


def _within_upper_limits(spec: Spec, rows: Layouts, relaxed: int) -> Layouts:
    """The pairs that break no upper limit among the constraints with a single slice that decodes."""
    limits = upper_limit_bits(spec) & ~relaxed
    if not limits:
        return rows
    one = np.ones(len(rows), dtype=np.int64)
    return rows.take(np.flatnonzero(violations(spec, columns_at(spec, rows, one, one), limits) == 0))


def _network_bytes_per_s(layouts: Layouts) -> Floats:
    """What all chips of a replica together send over the network; 0 where that is not known [bytes/s]."""
    of_place = np.array([place.offer.network_bytes_per_s for place in layouts.places])
    network: Floats = of_place[layouts.place] * layouts.replica.chips
    return network


def _in_smallest_slices(layouts: Layouts) -> Bools:
    """Whether no slice that divides it executes alike: several replicas in one slice are the same in larger lots."""
    alike = execution_signatures(layouts) * (1 + int(layouts.units.offer.max(initial=0))) + layouts.units.offer
    signature = np.unique(alike, return_inverse=True)[1]
    smallest: Bools = np.ones(len(layouts), dtype=np.bool_)
    for chips in np.unique(layouts.chips):
        has_it = np.zeros(int(signature.max(initial=0)) + 1, dtype=np.bool_)
        has_it[signature[layouts.chips == chips]] = True
        smallest &= ~(has_it[signature] & (layouts.chips > chips) & (layouts.chips % chips == 0))
    return smallest


def _pool_candidates(spec: Spec, layouts: Layouts, relaxed: int) -> PoolCandidates:
    model, workload = spec.model, spec.workload
    prompt = prompt_times(spec, layouts)
    prompt_tokens = workload.prompt_tokens or 0
    replica = layouts.replica
    sent_bytes = kv_cache_bytes(
        model,
        prompt_tokens,
        replica.kv_token_bytes,
        replica.kv_value_bytes,
        window_times=replica.window_times,
        window_slack=replica.window_slack,
    )
    held = replica_weights_bytes(layouts.replica) + replica_kv_bytes(model, prompt_tokens, layouts.replica)
    held = held + prefill_engine_bytes(spec, layouts)
    room = (1 - spec.kept_free) * layouts.replica_hbm_bytes
    violated = structural_violations(spec, layouts) | _bit(Requirement.ENGINE, not_moved_by_engine(spec, layouts))
    if spec.search.max_quality_loss is not None:
        violated |= _bit(Requirement.QUALITY, exceeds_quality_loss(spec, layouts))
    batch = largest_batch(spec, layouts, relaxed)
    busy_s = decoding_busy_s(spec, layouts, np.maximum(batch, 1))
    too_large = _bit(Requirement.HBM, ~is_at_most(held, room))
    splits = splits_as_no_prefill(spec, layouts)
    return PoolCandidates(
        layouts=layouts,
        prefill_s=prompt.prefill_s,
        prefill_busy_s=prompt.prefill_s / (layouts.counted_replicas * layouts.replica.pp),
        prefill_able=_first_kv_layout(layouts, splits),
        prefill_violated=violated | too_large | prefill_violations(spec, layouts) | _bit(Requirement.ENGINE, splits),
        decode_busy_s=np.where(batch > 0, busy_s, np.inf),
        decode_violated=violated,
        transfer_s=np.asarray(kv_transfer_s(sent_bytes, _network_bytes_per_s(layouts))),
        request_s=prompt.request_s,
    )


def _first_kv_layout(layouts: Layouts, splits: Bools) -> Bools:
    """The first of the layouts that differ in where the KV cache lies alone: as prefill pools they are alike.

    Those that an engine `splits` as no prefill pool come last.
    """
    sharding = [(id(place.offer), place.topology, *_split_of_matrices(place)) for place in layouts.places]
    distinct = {each: number for number, each in enumerate(dict.fromkeys(sharding))}
    split = np.array([distinct[each] for each in sharding])[layouts.place]
    order = np.lexsort((layouts.kv_layout, splits, layouts.dtype, split))
    first: Bools = np.zeros(len(layouts), dtype=np.bool_)
    _, position = np.unique(np.column_stack([split, layouts.dtype])[order], axis=0, return_index=True)
    first[order[position]] = True
    return first


def _split_of_matrices(place: ShardedSlice) -> tuple[tuple[int, ...], ...]:
    return place.sharding.tp_axes, place.sharding.ep_axes, place.sharding.pp_axes


def _bit(requirement: str, where: Bools) -> Ints:
    return np.where(where, REQUIREMENT_BIT[requirement], 0)


def _pairs_of(spec: Spec, layouts: Layouts, prefill: Ints, decode: Ints) -> Ints:
    """Every pair of these rows that the KV cache can move between; shape [pairs, 2], prefill first.

    Both hold it in one dtype, on chips of one type unless the spec mixes them, and neither is known to be in another
    cloud or region than the other.
    """
    kind, found = _kv_kinds(spec, layouts), [np.zeros((0, 2), dtype=np.int64)]
    sites = [_site(place) for place in layouts.places]
    distinct = sorted(set(sites), key=str)
    site = np.array([distinct.index(name) for name in sites])[layouts.place]
    together = np.array([[_may_be_one_site(one, other) for other in distinct] for one in distinct])
    for each in np.unique(kind):
        grid = np.meshgrid(prefill[kind[prefill] == each], decode[kind[decode] == each])
        pairs = np.stack(grid, axis=-1).reshape(-1, 2)
        found.append(pairs[together[site[pairs[:, 0]], site[pairs[:, 1]]]])
    return np.concatenate(found)


Site = tuple[str | None, str | None]
"""A cloud and a region, None where a price names none."""


def _site(place: ShardedSlice) -> Site:
    price = place.offer.price
    return (None, None) if price is None else (price.cloud, price.region)


def _may_be_one_site(one: Site, other: Site) -> bool:
    """Whether two sites may be the same, as far as is known."""
    return all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def _undominated_prefill(spec: Spec, pools: PoolCandidates, rows: Ints, figures: Floats) -> Ints:
    """Of some prefill pools those that no other matches or beats in all `figures` of shape [layouts, figures].

    The other has the same dtype of the KV cache and stands at the same site (and is the same chip, where chips have
    quotas; or a slice as large in the same instances).
    """
    layouts = pools.layouts
    chips = [place.offer.chip.id if spec.search.quota else "" for place in layouts.places]
    standing = np.array([f" {chip} {_site(place)}" for chip, place in zip(chips, layouts.places, strict=True)])
    kind = np.char.add(_kv_kinds(spec, layouts), standing[layouts.place])
    units = layouts.units
    machine = np.where(units.instances > 0, 1 + units.offer * (int(units.slice_chips.max(initial=0)) + 1), 0)
    machine += np.where(units.instances > 0, units.slice_chips, 0)
    kind = np.char.add(kind, np.char.add(" ", machine.astype(np.str_)))
    for constrained in _constrained_in_prefill(spec, layouts):
        kind = np.char.add(kind, constrained)
    _, group = np.unique(kind[rows], return_inverse=True)
    return rows[undominated_in_groups(group, figures[rows])]


def _constrained_in_prefill(spec: Spec, layouts: Layouts) -> list[npt.NDArray[np.str_]]:
    """What constraints say of prefill pools, of each layout as one; shape [layouts] each."""
    values = Values(layouts, np.ones(len(layouts), dtype=np.int64))
    found = []
    for name in dict.fromkeys(name for expression in spec.expressions for name in expression.names):
        of_pool = NAMES.get(name.id.removeprefix("prefill."), name)
        if of_pool is name or of_pool.level is not Level.LAYOUT:
            continue
        found.append(values.texts(of_pool.id) if of_pool.type is Type.TEXT else values.whole(of_pool).astype(np.str_))
    return [np.char.add(" ", texts) for texts in found]


def _figures_that_matter(spec: Spec, pools: PoolCandidates) -> Floats:
    """What a request costs in each prefill pool, what the spec limits, and a 1 for each requirement that it violates.

    The shape is [layouts, figures]. A pool that is dominated in them violates no less than another, in every pair.
    """
    slo, layouts = spec.slo, pools.layouts
    usd_per_slice_hour = layouts.units.usd_per_hour / layouts.units.slices
    figures = [slices_per_request_rate(spec, pools.prefill_busy_s) * usd_per_slice_hour]
    figures += [(pools.prefill_violated & bit != 0).astype(np.float64) for bit in REQUIREMENT_BIT.values()]
    if slo.ttft_ms is not None or slo.e2e_ms is not None:
        figures += [pools.request_s + pools.prefill_s, pools.transfer_s]
    stated = [rule.shared for rule in RULES.values() if rule.shared is not None and rule.is_stated(spec)]
    if stated or slo.min_tokens_per_s is not None:
        demand = spec.workload.requests_per_s
        count = np.ones(len(layouts)) if demand is None else slices_for_demand(spec, pools.prefill_busy_s)
        figures += [pools.prefill_busy_s, count * layouts.chips, count * usd_per_slice_hour]
        figures += [count * limit.of_unit for shared in stated for limit in shared(spec, layouts)]
    return np.column_stack(figures)


def _figures_of_slices(pools: PoolCandidates) -> Floats:
    """What a slice of each prefill pool costs and takes, and its rank among those that tie; shape [layouts, figures].

    In place of one that is dominated in them as many slices of another serve as much, as soon, for no more.
    """
    layouts = pools.layouts
    place_rank, dtype_rank = tie_order(layouts)
    rank = place_rank[layouts.place] * len(dtype_rank) + dtype_rank[layouts.dtype]
    usd_per_slice_hour = layouts.units.usd_per_hour / layouts.units.slices
    first_token = [pools.request_s + pools.prefill_s, pools.transfer_s]
    return np.column_stack([usd_per_slice_hour, pools.prefill_busy_s, layouts.chips, *first_token, rank])


def _kv_kinds(spec: Spec, layouts: Layouts) -> npt.NDArray[np.str_]:
    """What two pools must share for the KV cache to move: its dtype, the engine, and the chip unless pools mix them."""
    of_dtypes = np.array([f"{dtypes.kv_cache} {dtypes.engine}" for dtypes in layouts.dtypes])[layouts.dtype]
    alike = [one.id for one in spec.engine if one.disaggregation is not None and one.disaggregation.splits_alike]
    if alike and spec.model.has_states_beside_latent:
        is_alike = np.array([dtypes.engine in alike for dtypes in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
        splits = is_alike & (layouts.kv_layout == KV_LAYOUTS.index(KvLayout.SEQUENCE))
        of_dtypes = np.char.add(of_dtypes, np.char.mod(" over %d", np.where(splits, layouts.tp, 1)))
    if spec.mixes_pools:
        return of_dtypes
    chips = np.array([place.offer.chip.id for place in layouts.places])[layouts.place]
    return np.char.add(np.char.add(of_dtypes, " "), chips)


def _compatible_pairs(spec: Spec, pools: PoolCandidates, relaxed: int, *, any_prefill: bool) -> Ints:
    """The pairs of which each pool meets its own requirements, and both together the time to the first token.

    Unless `any_prefill` pool may be wanted, those that another betters slice for slice are left out.
    """
    prefill = np.flatnonzero((pools.prefill_violated & ~relaxed == 0) & pools.prefill_able)
    if not any_prefill:
        prefill = _undominated_prefill(spec, pools, prefill, _figures_of_slices(pools))
    decode = np.flatnonzero((pools.decode_violated & ~relaxed == 0) & np.isfinite(pools.decode_busy_s))
    pairs = _pairs_of(spec, pools.layouts, prefill, decode)
    if spec.slo.ttft_ms is not None and not is_relaxed(relaxed, Requirement.TTFT):
        kept_ms = first_token_s(pools, pairs) * 1e3 * (1 + pools.layouts.ttft_margin[pairs[:, 1]])
        pairs = pairs[is_at_most(kept_ms, spec.slo.ttft_ms)]
    return pairs


def _usd_per_request(spec: Spec, pools: PoolCandidates, pairs: Ints) -> Floats:
    """The least that a request could cost in each pair [$]: every slice busy, or as many as the demand needs."""
    prefill, decode = pairs.T
    units, demand = pools.layouts.units, spec.workload.requests_per_s
    purchase = Purchase(units.take(decode), units.take(prefill))
    busy_s = pools.decode_busy_s[decode], pools.prefill_busy_s[prefill]
    if demand is not None:
        slices, pool_slices = (slices_for_demand(spec, busy) for busy in busy_s)
        return purchase.usd_per_hour(slices, pool_slices) / demand / 3600
    each = [slices_per_request_rate(spec, busy) for busy in busy_s]
    usd_per_slice_hour = purchase.usd_per_slice_hour()
    return (each[0] * usd_per_slice_hour[0] + each[1] * usd_per_slice_hour[1]) / 3600
