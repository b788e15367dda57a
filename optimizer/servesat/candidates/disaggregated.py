"""Disaggregated serving: which prefill pools stand beside which decode pools, and how many slices of each.

Every pair of a prefill and a decode layout is a candidate, each pool on a chip of its own if need be; multiplied out
they are far too many to evaluate. But their cost has a lower bound that adds up, what a request costs in a prefill pool
and in a decode pool that are both busy, so pairs are taken in the order of that bound, until it exceeds the cost of a
pair that meets every requirement. Nothing that could be cheapest, or tie with it, is left out. Where no pair meets them
all, every pair that violates no more than another is a candidate: the masks of what each violates then say why.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from servesat.candidates.batch_breakpoints import largest_batch, step_shape
from servesat.candidates.layouts import Layouts, Place, broken_rules, programs, too_lossy
from servesat.candidates.pool_sizing import Sides, enough, paired, sized, slices_busy, slices_for
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.dominance import undominated
from servesat.core.result import Requirement
from servesat.core.tolerances import BIT, TIE, TOLERANCE
from servesat.cost_model.decode import replica_weights_bytes, waits_for_ici
from servesat.cost_model.memory import kv_cache_bytes
from servesat.cost_model.prefill import kv_transfer_s, prompt_s
from servesat.spec.spec import Spec

AT_A_TIME = 500
"""Pairs that are sized together."""


def disaggregated(
    spec: Spec, plain: Layouts, relaxed: int, excluded: Callable[[Layouts], Bools] | None = None
) -> Layouts:
    """The plain layouts as decode pools, each with the prefill pools that could serve it best.

    `relaxed` as in `candidates.evaluate`; `excluded` tells which pairs are not searched. Those that would be best
    without one of the limits are there too, to show what binds. Chips without a network figure are left out: the KV
    cache could not move.
    """
    plain = plain.take(np.flatnonzero((_network(plain) > 0) & _smallest_lots(plain)))
    if not len(plain):
        return plain
    best = _cheapest_pairs(spec, _sides(spec, plain, relaxed), relaxed, excluded)
    if len(best):
        without = [relaxed | int(BIT[limit]) for limit in _stated_limits(spec)]
        others = [_cheapest_pairs(spec, _sides(spec, plain, bits), bits, excluded) for bits in without]
        return best.join(*others)
    sides = _sides(spec, plain, relaxed)
    every = _pairs_of(plain, _undominated(spec, sides), np.arange(len(plain)))
    found = [paired(spec, sides, every)]
    if spec.slo.min_tokens_per_s is not None:  # which takes more slices than one, if only there is room
        limits = relaxed | sum(int(BIT[limit]) for limit in _stated_limits(spec))
        found += [
            sized(spec, sides, every, limits)[0],
            sized(spec, sides, every, limits | int(BIT[Requirement.HBM]), any_batch=True)[0],
            enough(spec, sides, every, relaxed),
            enough(spec, sides, every, limits | int(BIT[Requirement.HBM]), any_batch=True),
        ]
    rows = found[0].join(*found[1:])
    return rows if excluded is None else rows.take(np.flatnonzero(~excluded(rows)))


def _stated_limits(spec: Spec) -> list[Requirement]:
    """The limits that the spec states and that a pair of pools could break."""
    slo, search = spec.slo, spec.search
    limits = {
        Requirement.TPOT: slo.tpot_ms,
        Requirement.TTFT: slo.ttft_ms,
        Requirement.E2E: slo.e2e_ms,
        Requirement.STALL: slo.stall_ms,
        Requirement.THROUGHPUT: slo.min_tokens_per_s,
        Requirement.CHIPS: search.max_chips,
        Requirement.BUDGET: search.max_usd_per_hour,
        Requirement.QUOTA: search.quota or None,
        Requirement.MIN_BATCH: search.min_batch,
        Requirement.QUALITY: search.max_quality_loss,
    }
    return [limit for limit, value in limits.items() if value is not None]


def _cheapest_pairs(spec: Spec, sides: Sides, relaxed: int, excluded: Callable[[Layouts], Bools] | None) -> Layouts:
    """The pairs that meet every requirement that is not relaxed and tie with the cheapest; none where none does."""
    pairs = _compatible(spec, sides, relaxed)
    bound = _usd_per_request(spec, sides, pairs)
    order = np.argsort(bound, kind="stable")
    least = np.inf
    found, costs = [sides.layouts.take(np.zeros(0, dtype=np.int64))], [np.zeros(0)]
    for first in range(0, len(order), AT_A_TIME):
        if bound[order[first]] > least * (1 + TIE):
            break
        rows, usd = sized(spec, sides, pairs[order[first : first + AT_A_TIME]], relaxed)
        if excluded is not None:
            usd = np.where(excluded(rows), np.inf, usd)
        least = min(least, float(np.min(usd, initial=np.inf)))
        found.append(rows)
        costs.append(usd)
    if not np.isfinite(least):
        return found[0]
    close = zip(found, costs, strict=True)
    kept = [rows.take(np.flatnonzero(usd <= least * (1 + 2 * TIE))) for rows, usd in close]
    return kept[0].join(*kept[1:])


def prefill_waits(spec: Spec, layouts: Layouts) -> Ints:
    """The bit of `ici` where prefill, a matmul over all new tokens of a prompt, would wait for the interconnect."""
    if spec.ici == "pay":
        return np.zeros(len(layouts), dtype=np.int64)
    tokens = np.full(len(layouts), spec.workload.new_prompt_tokens)
    return _bit(Requirement.ICI, waits_for_ici(spec.model, layouts.replica, tokens, TOLERANCE))


def _bit(requirement: Requirement, where: Bools) -> Ints:
    return np.where(where, int(BIT[requirement]), 0)


def _network(plain: Layouts) -> Floats:
    """What all chips of a replica together send over the network; 0 where that is not known [bytes/s]."""
    of_place = np.array([place.offer.chip.network_bytes_per_s or 0.0 for place in plain.places])
    network: Floats = of_place[plain.place] * plain.replica.chips
    return network


def _smallest_lots(plain: Layouts) -> Bools:
    """Whether no smaller slice runs the same program: several replicas in one slice are the same in larger lots."""
    program = programs(plain)
    fewest = np.full(int(program.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(fewest, program, plain.chips)
    smallest: Bools = plain.chips == fewest[program]
    return smallest


def _sides(spec: Spec, plain: Layouts, relaxed: int) -> Sides:
    model, workload = spec.model, spec.workload
    prefill_s = np.asarray(
        prompt_s(
            model,
            workload.cached_prompt_tokens,
            workload.new_prompt_tokens,
            plain.replica,
            mfu=spec.prefill_mfu,
            pay_ici=spec.ici == "pay",
        )
    )
    prompt_bytes = kv_cache_bytes(model, workload.prompt_tokens or 0, plain.replica.kv_cache_value_bytes)
    held = replica_weights_bytes(model, plain.replica) + prompt_bytes
    room = (1 - spec.headroom) * plain.replica_hbm_bytes
    shape = broken_rules(spec, plain)
    if spec.search.max_quality_loss is not None:
        shape |= _bit(Requirement.QUALITY, too_lossy(spec, plain))
    batch = largest_batch(spec, plain, relaxed)
    step_s = np.asarray(step_shape(spec, plain).at(np.maximum(batch, 1)))
    busy_s = (workload.output_tokens or 0) * step_s / (plain.replicas * np.maximum(batch, 1))
    return Sides(
        layouts=plain,
        prefill_s=prefill_s,
        prefill_busy_s=prefill_s / plain.replicas,
        prefill_able=np.asarray(plain.replica.kv_copies) == 1,
        prefill_violated=shape | _bit(Requirement.HBM, held > room * (1 + TOLERANCE)) | prefill_waits(spec, plain),
        decode_busy_s=np.where(batch > 0, busy_s, np.inf),
        decode_violated=shape,
        transfer_s=np.asarray(kv_transfer_s(prompt_bytes, _network(plain))),
    )


def _pairs_of(plain: Layouts, prefill: Ints, decode: Ints) -> Ints:
    """Every pair of these rows that the KV cache can move between; shape [pairs, 2], prefill first.

    Both hold it in one dtype, and neither is known to be in another cloud or region than the other.
    """
    kv_cache, found = _kv_cache(plain), [np.zeros((0, 2), dtype=np.int64)]
    sites = [_site(place) for place in plain.places]
    distinct = sorted(set(sites), key=str)
    site = np.array([distinct.index(one) for one in sites])[plain.place]
    together = np.array([[_together(one, other) for other in distinct] for one in distinct])
    for one in np.unique(kv_cache):
        sides = np.meshgrid(prefill[kv_cache[prefill] == one], decode[kv_cache[decode] == one])
        pairs = np.stack(sides, axis=-1).reshape(-1, 2)
        found.append(pairs[together[site[pairs[:, 0]], site[pairs[:, 1]]]])
    return np.concatenate(found)


def _site(place: Place) -> tuple[str | None, str | None]:
    """The cloud and the region that a place's price names."""
    price = place.offer.price
    return (None, None) if price is None else (price.cloud, price.region)


def _together(one: tuple[str | None, str | None], other: tuple[str | None, str | None]) -> bool:
    """Whether two sites, a cloud and a region each, may be the same, as far as is known."""
    return all(None in pair or pair[0] == pair[1] for pair in zip(one, other, strict=True))


def _undominated(spec: Spec, sides: Sides) -> Ints:
    """The prefill pools that matter to what conflicts: any other violates no less than one of them, in every pair.

    That one has the same dtype of the KV cache, stands at the same site (and is the same chip, where chips have
    quotas), violates no other requirement of its own, is no slower, and takes no more chips or dollars.
    """
    plain, figures = sides.layouts, _figures_that_matter(spec, sides)
    chips = [place.offer.chip.id if spec.search.quota else "" for place in plain.places]
    standing = np.array([f" {chip} {_site(place)}" for chip, place in zip(chips, plain.places, strict=True)])
    kind = np.char.add(_kv_cache(plain), standing[plain.place])
    kept = []
    for one in np.unique(kind):
        rows = np.flatnonzero((kind == one) & sides.prefill_able)
        kept.append(rows[undominated(figures[rows])])
    return np.concatenate(kept)


def _figures_that_matter(spec: Spec, sides: Sides) -> Floats:
    """What a request costs in each prefill pool, what the spec limits, and a 1 for each requirement that it violates.

    The shape is [layouts, figures].
    """
    slo, search, plain = spec.slo, spec.search, sides.layouts
    figures = [slices_busy(spec, sides.prefill_busy_s) * plain.usd_per_hour]
    figures += [(sides.prefill_violated & int(bit) != 0).astype(np.float64) for bit in BIT.values()]
    if slo.ttft_ms is not None or slo.e2e_ms is not None:
        figures += [sides.prefill_s, sides.transfer_s]
    sized = (search.max_chips, search.max_usd_per_hour, search.quota or None, slo.min_tokens_per_s)
    if any(limit is not None for limit in sized):
        demand = spec.workload.requests_per_s
        count = np.ones(len(plain)) if demand is None else slices_for(spec, sides.prefill_busy_s)
        figures += [sides.prefill_busy_s, count * plain.chips, count * plain.usd_per_hour]
    return np.column_stack(figures)


def _kv_cache(plain: Layouts) -> npt.NDArray[np.str_]:
    return np.array([dtypes.kv_cache for dtypes in plain.dtypes])[plain.dtype]


def _compatible(spec: Spec, sides: Sides, relaxed: int) -> Ints:
    """The pairs of which each side meets its own requirements, and both together the time to the first token."""
    prefill = np.flatnonzero((sides.prefill_violated & ~relaxed == 0) & sides.prefill_able)
    decode = np.flatnonzero((sides.decode_violated & ~relaxed == 0) & np.isfinite(sides.decode_busy_s))
    pairs = _pairs_of(sides.layouts, prefill, decode)
    if spec.slo.ttft_ms is not None and not relaxed & int(BIT[Requirement.TTFT]):
        pairs = pairs[_first_token_s(sides, pairs) * 1e3 <= spec.slo.ttft_ms * (1 + TOLERANCE)]
    return pairs


def _first_token_s(sides: Sides, pairs: Ints) -> Floats:
    """The prefill, then the KV cache over the slower network of the two [s]."""
    prefill, decode = pairs.T
    transfer_s: Floats = np.maximum(sides.transfer_s[prefill], sides.transfer_s[decode])
    whole: Floats = sides.prefill_s[prefill] + transfer_s
    return whole


def _usd_per_request(spec: Spec, sides: Sides, pairs: Ints) -> Floats:
    """The least that a request could cost in each pair [$]: every slice busy, or as many as the demand needs."""
    usd: Floats = np.zeros(len(pairs))
    for rows, busy_s in ((pairs[:, 0], sides.prefill_busy_s), (pairs[:, 1], sides.decode_busy_s)):
        usd += slices_busy(spec, busy_s[rows]) * sides.layouts.usd_per_hour[rows]
    return usd / 3600
