"""Disaggregated serving: which prefill pools stand beside which decode pools, and how many slices of each.

Every pair of a prefill and a decode layout is a candidate, each pool on a chip of its own if need be; multiplied out
they are far too many to evaluate. But their cost has a lower bound that adds up, what a request costs in a prefill pool
and in a decode pool that are both busy, so pairs are taken in the order of that bound, until it exceeds the cost of a
pair that meets every requirement. Nothing that could be cheapest, or tie with it, is left out. Where no pair meets them
all, every pair that violates no more than another is a candidate: the masks of what each violates then say why.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import numpy.typing as npt

from servesat.arrays import Bools, Floats, Ints
from servesat.batches import largest_batch, of_chip, step_shape
from servesat.latency import mlp_matmul
from servesat.layouts import MODES, Layouts, programs
from servesat.memory import BYTES_PER_VALUE, kv_cache_bytes, weights_bytes
from servesat.plan import Mode, Requirement
from servesat.prefill import kv_transfer_s, prompt_s
from servesat.rules import BIT, TIE, TOLERANCE
from servesat.sharding import heads_divide, kv_heads_split
from servesat.spec import Spec

SCARCER = 4
"""Slices of the scarcer pool, at most, where there is no demand to size them by: enough to match the other's pace."""

AT_A_TIME = 500
"""Pairs that are sized together."""


@dataclass(frozen=True)
class _Sides:
    """The plain layouts as prefill pools and as decode pools; arrays of shape [layouts].

    `busy` is what one slice takes for a request, in seconds: a request is prefilled, or decoded, every so often.
    """

    layouts: Layouts
    prefill_s: Floats
    prefill_busy_s: Floats
    prefill_violated: Ints
    decode_busy_s: Floats  # at the largest batch; infinite where there is none
    decode_violated: Ints
    transfer_s: Floats


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
        return reduce(Layouts.join, [best, *others])
    sides = _sides(spec, plain, relaxed)
    every = _same_kv_cache(plain, _undominated(spec, sides), np.arange(len(plain)))
    found = [_paired(spec, sides, every)]
    if spec.slo.min_tokens_per_s is not None:  # which takes more slices than one, if only there is room
        limits = relaxed | sum(int(BIT[limit]) for limit in _stated_limits(spec))
        found += [
            _sized(spec, sides, every, limits)[0],
            _sized(spec, sides, every, limits | int(BIT[Requirement.HBM]), any_batch=True)[0],
            _enough(spec, sides, every, relaxed),
        ]
    rows = reduce(Layouts.join, found)
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
    }
    return [limit for limit, value in limits.items() if value is not None]


def _cheapest_pairs(spec: Spec, sides: _Sides, relaxed: int, excluded: Callable[[Layouts], Bools] | None) -> Layouts:
    """The pairs that meet every requirement that is not relaxed and tie with the cheapest; none where none does."""
    pairs = _compatible(spec, sides, relaxed)
    bound = _usd_per_request(spec, sides, pairs)
    order = np.argsort(bound, kind="stable")
    sized, least = [sides.layouts.take(np.zeros(0, dtype=np.int64))], np.inf
    costs = [np.zeros(0)]
    for first in range(0, len(order), AT_A_TIME):
        if bound[order[first]] > least * (1 + TIE):
            break
        rows, usd = _sized(spec, sides, pairs[order[first : first + AT_A_TIME]], relaxed)
        if excluded is not None:
            usd = np.where(excluded(rows), np.inf, usd)
        least = min(least, float(np.min(usd, initial=np.inf)))
        sized.append(rows)
        costs.append(usd)
    if not np.isfinite(least):
        return sized[0]
    kept = (rows.take(np.flatnonzero(usd <= least * (1 + 2 * TIE))) for rows, usd in zip(sized, costs, strict=True))
    return reduce(Layouts.join, kept)


def prefill_waits(spec: Spec, layouts: Layouts) -> Ints:
    """The bit of `ici` where prefill, a matmul over all new tokens of a prompt, would wait for the interconnect."""
    if spec.ici == "pay":
        return np.zeros(len(layouts), dtype=np.int64)
    matmul = mlp_matmul(spec.model, layouts.replica, np.full(len(layouts), spec.workload.new_prompt_tokens))
    return _bit(Requirement.ICI, np.asarray(matmul.ici_s > matmul.hidden_s * (1 + TOLERANCE)))


def _bit(requirement: Requirement, where: Bools) -> Ints:
    return np.where(where, int(BIT[requirement]), 0)


def _network(plain: Layouts) -> Floats:
    """What all chips of a replica together send over the network; 0 where that is not known [bytes/s]."""
    of_place = np.array([place.offer.chip.network_bytes_per_s or 0.0 for place in plain.places])
    return of_place[plain.place] * plain.tp


def _smallest_lots(plain: Layouts) -> Bools:
    """Whether no smaller slice runs the same program: several replicas in one slice are the same in larger lots."""
    program = programs(plain)
    fewest = np.full(int(program.max(initial=0)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(fewest, program, plain.chips)
    smallest: Bools = plain.chips == fewest[program]
    return smallest


def _sides(spec: Spec, plain: Layouts, relaxed: int) -> _Sides:
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
    held = weights_bytes(model, plain.replica.weights_value_bytes) + prompt_bytes
    room = (1 - spec.headroom) * plain.tp * plain.hbm_bytes
    compute_bytes = np.array([BYTES_PER_VALUE[dtypes.compute] for dtypes in plain.dtypes])[plain.dtype]
    splits = kv_heads_split(model, plain.tp, plain.tp)  # as it does for any batch of a legal multiple
    shape = (
        _bit(Requirement.HEADS, ~heads_divide(model, plain.tp))
        | _bit(Requirement.KV_HEADS, ~splits)
        | _bit(Requirement.DTYPES, plain.replica.weights_value_bytes > compute_bytes)
    )
    batch = largest_batch(spec, plain, relaxed)
    step_s = np.asarray(step_shape(spec, plain).at(np.maximum(batch, 1)))
    busy_s = (workload.output_tokens or 0) * step_s / (plain.replicas * np.maximum(batch, 1))
    return _Sides(
        layouts=plain,
        prefill_s=prefill_s,
        prefill_busy_s=prefill_s / plain.replicas,
        prefill_violated=shape | _bit(Requirement.HBM, held > room * (1 + TOLERANCE)) | prefill_waits(spec, plain),
        decode_busy_s=np.where(batch > 0, busy_s, np.inf),
        decode_violated=shape,
        transfer_s=np.asarray(kv_transfer_s(prompt_bytes, _network(plain))),
    )


def _same_kv_cache(plain: Layouts, prefill: Ints, decode: Ints) -> Ints:
    """Every pair of these rows with one dtype of the KV cache; shape [pairs, 2], prefill first."""
    kv_cache, found = _kv_cache(plain), []
    for one in np.unique(kv_cache):
        sides = np.meshgrid(prefill[kv_cache[prefill] == one], decode[kv_cache[decode] == one])
        found.append(np.stack(sides, axis=-1).reshape(-1, 2))
    return np.concatenate(found)


def _undominated(spec: Spec, sides: _Sides) -> Ints:
    """The prefill pools that matter to what conflicts: any other violates no less than one of them, in every pair.

    That one has the same dtype of the KV cache (and the same chip, where chips have quotas), violates no other
    requirement of its own, is no slower, and takes no more chips or dollars.
    """
    plain = sides.layouts
    count = np.ones(len(plain)) if spec.workload.requests_per_s is None else _slices_for(spec, sides.prefill_busy_s)
    figures = np.column_stack(
        [sides.prefill_s, sides.transfer_s, sides.prefill_busy_s, count * plain.chips, count * plain.usd_per_hour]
    )
    chip = np.array([place.offer.chip.id for place in plain.places])[plain.place]
    kind = np.char.add(_kv_cache(plain), np.where(bool(spec.search.quota), chip, ""))
    kept = []
    for one in np.unique(kind):
        rows = np.flatnonzero(kind == one)
        mine, violated = figures[rows], sides.prefill_violated[rows]
        # [i, j]: whether j does no worse than i; of equals the first stays
        no_worse = np.all(mine[None] <= mine[:, None], axis=2) & (violated[None] & ~violated[:, None] == 0)
        earlier = np.tri(len(rows), k=-1, dtype=np.bool_)
        kept.append(rows[~np.any(no_worse & (~no_worse.T | earlier), axis=1)])
    return np.concatenate(kept)


def _kv_cache(plain: Layouts) -> npt.NDArray[np.str_]:
    return np.array([dtypes.kv_cache for dtypes in plain.dtypes])[plain.dtype]


def _compatible(spec: Spec, sides: _Sides, relaxed: int) -> Ints:
    """The pairs of which each side meets its own requirements, and both together the time to the first token."""
    prefill = np.flatnonzero(sides.prefill_violated & ~relaxed == 0)
    decode = np.flatnonzero((sides.decode_violated & ~relaxed == 0) & np.isfinite(sides.decode_busy_s))
    pairs = _same_kv_cache(sides.layouts, prefill, decode)
    if spec.slo.ttft_ms is not None and not relaxed & int(BIT[Requirement.TTFT]):
        pairs = pairs[_first_token_s(sides, pairs) * 1e3 <= spec.slo.ttft_ms * (1 + TOLERANCE)]
    return pairs


def _first_token_s(sides: _Sides, pairs: Ints) -> Floats:
    """The prefill, then the KV cache over the slower network of the two [s]."""
    prefill, decode = pairs.T
    transfer_s: Floats = np.maximum(sides.transfer_s[prefill], sides.transfer_s[decode])
    whole: Floats = sides.prefill_s[prefill] + transfer_s
    return whole


def _usd_per_request(spec: Spec, sides: _Sides, pairs: Ints) -> Floats:
    """The least that a request could cost in each pair [$]: every slice busy, or as many as the demand needs."""
    usd: Floats = np.zeros(len(pairs))
    for rows, busy_s in ((pairs[:, 0], sides.prefill_busy_s), (pairs[:, 1], sides.decode_busy_s)):
        usd += _slices_busy(spec, busy_s[rows]) * sides.layouts.usd_per_hour[rows]
    return usd / 3600


def _slices_busy(spec: Spec, busy_s: Floats) -> Floats:
    """Slices for each request a second: as many as are busy, or the whole number that a demand needs."""
    demand = spec.workload.requests_per_s
    return busy_s / spec.utilisation if demand is None else _slices_for(spec, busy_s) / demand


def _slices_for(spec: Spec, busy_s: Floats) -> Floats:
    """The whole number of slices that meet the demand."""
    return np.ceil((spec.workload.requests_per_s or 0.0) * busy_s / spec.utilisation * (1 - TOLERANCE))


def _paired(spec: Spec, sides: _Sides, pairs: Ints) -> Layouts:
    """The layouts of pairs: one slice each, or as many for prefill as the demand needs."""
    prefill, decode = pairs.T
    plain, rows = sides.layouts, sides.layouts.take(decode)
    output_tokens = spec.workload.output_tokens or 0
    pool_slices = np.ones(len(pairs), dtype=np.int64)
    if spec.workload.requests_per_s is not None:
        pool_slices = _slices_for(spec, sides.prefill_busy_s[prefill]).astype(np.int64)
    transfer_s = np.maximum(sides.transfer_s[prefill], sides.transfer_s[decode])
    serving = replace(
        rows.serving,
        mode=np.full(len(pairs), MODES.index(Mode.DISAGGREGATED)),
        prefill_s=sides.prefill_s[prefill],
        transfer_s=transfer_s,
        first_token_s=sides.prefill_s[prefill] + transfer_s,
        pool_place=plain.place[prefill],
        pool_dtype=plain.dtype[prefill],
        pool_slices=pool_slices,
        pool_chips=plain.chips[prefill],
        pool_usd_per_hour=plain.usd_per_hour[prefill],
        pool_tokens_per_s=output_tokens / sides.prefill_busy_s[prefill],
        violated=sides.prefill_violated[prefill],
    )
    return replace(rows, serving=serving)


def _sized(spec: Spec, sides: _Sides, pairs: Ints, relaxed: int, *, any_batch: bool = False) -> tuple[Layouts, Floats]:
    """The layouts of pairs with their slices counted, and what a request costs in them at their largest batch [$].

    Infinite where the requirements on both pools together do not allow it; pairs without a batch are left out, or, with
    `any_batch`, sized for the largest of the search.
    """
    rows, output_tokens = _paired(spec, sides, pairs), spec.workload.output_tokens or 0
    batch = largest_batch(spec, rows, relaxed)
    if any_batch:
        batch = np.where(batch > 0, batch, spec.search.max_batch)
    possible = np.flatnonzero(batch > 0)
    rows, batch, pool_busy_s = rows.take(possible), batch[possible], sides.prefill_busy_s[pairs[possible, 0]]
    busy_s = output_tokens * np.asarray(step_shape(spec, rows).at(batch.astype(np.float64))) / (rows.replicas * batch)
    if spec.workload.requests_per_s is None:
        row, slices, pool_slices = _units(busy_s, pool_busy_s, _rooms(spec, rows, relaxed))
        rows = rows.take(row)
        rows = replace(rows, serving=replace(rows.serving, slices=slices, pool_slices=pool_slices))
        per_s = np.minimum(slices / busy_s[row], pool_slices / pool_busy_s[row])
    else:
        slices = _slices_for(spec, busy_s).astype(np.int64)
        per_s = np.full(len(rows), spec.workload.requests_per_s / spec.utilisation)
    usd_per_hour = slices * rows.usd_per_hour + rows.serving.pool_total_usd_per_hour
    over = np.zeros(len(rows), dtype=np.bool_)
    for room in _rooms(spec, rows, relaxed):
        taken = slices * room.slice + rows.serving.pool_slices * room.pool_slice
        over |= taken > room.most * (1 + TOLERANCE)
    if spec.slo.min_tokens_per_s is not None and not relaxed & int(BIT[Requirement.THROUGHPUT]):
        over |= per_s * output_tokens * (1 + TOLERANCE) < spec.slo.min_tokens_per_s
    return rows, np.where(over, np.inf, usd_per_hour / 3600 / (per_s * spec.utilisation))


def _enough(spec: Spec, sides: _Sides, pairs: Ints, relaxed: int) -> Layouts:
    """The layouts of pairs with the fewest slices that put out the tokens asked for, at their largest batch."""
    rows, output_tokens = _paired(spec, sides, pairs), spec.workload.output_tokens or 0
    batch = largest_batch(spec, rows, relaxed)
    possible = np.flatnonzero(batch > 0)
    rows, batch = rows.take(possible), batch[possible]
    per_s = (spec.slo.min_tokens_per_s or 0.0) / output_tokens / (1 + TOLERANCE)
    busy_s = output_tokens * np.asarray(step_shape(spec, rows).at(batch.astype(np.float64))) / (rows.replicas * batch)
    slices = np.ceil(per_s * busy_s).astype(np.int64)
    pool_slices = np.ceil(per_s * sides.prefill_busy_s[pairs[possible, 0]]).astype(np.int64)
    rows = replace(rows, serving=replace(rows.serving, slices=slices, pool_slices=pool_slices))
    return rows.take(np.flatnonzero(np.minimum(slices, pool_slices) <= SCARCER))


@dataclass(frozen=True)
class _Room:
    """A limit on both pools together: what a slice that decodes takes of it, and one that prefills."""

    most: float
    slice: Floats
    pool_slice: Floats

    def beside(self, taken: Floats, each: Floats) -> Floats:
        """How many slices that take `each` there is room for beside what is taken already."""
        left = self.most * (1 + TOLERANCE) - taken
        return np.where(each > 0, np.floor(left / np.where(each > 0, each, 1.0)), np.inf)


def _rooms(spec: Spec, rows: Layouts, relaxed: int) -> list[_Room]:
    """The limits on chips and money that the spec has and that are not relaxed."""
    search, serving = spec.search, rows.serving
    chips, pool_chips = rows.chips.astype(np.float64), serving.pool_chips.astype(np.float64)
    rooms = []
    if search.max_chips is not None and not relaxed & int(BIT[Requirement.CHIPS]):
        rooms.append(_Room(search.max_chips, chips, pool_chips))
    if search.max_usd_per_hour is not None and not relaxed & int(BIT[Requirement.BUDGET]):
        rooms.append(_Room(search.max_usd_per_hour, rows.usd_per_hour, serving.pool_usd_per_hour))
    if not relaxed & int(BIT[Requirement.QUOTA]):
        for chip, most in search.quota.items():
            here, pool = of_chip(rows, chip)
            rooms.append(_Room(most, np.where(here, chips, 0.0), np.where(pool, pool_chips, 0.0)))
    return rooms


def _units(busy_s: Floats, pool_busy_s: Floats, rooms: list[_Room]) -> tuple[Ints, Ints, Ints]:
    """For each pair, the numbers of slices that match the pools' pace: rows, slices that decode, slices that prefill.

    Up to SCARCER slices of either pool, with the other rounded down and up, and no more than there is room for. Any
    other number of it costs more: beyond the pace of the rest a slice brings nothing, and short of it each brings the
    same.
    """
    rows = np.arange(len(busy_s))
    ratio = pool_busy_s / busy_s  # prefill slices that keep one decode slice fed
    found = []
    for count in range(1, SCARCER + 1):
        same = np.full(len(rows), count)
        pool_most = np.min([room.beside(count * room.slice, room.pool_slice) for room in rooms], axis=0, initial=np.inf)
        most = np.min([room.beside(count * room.pool_slice, room.slice) for room in rooms], axis=0, initial=np.inf)
        for rounded in (np.floor, np.ceil):
            found.append(np.column_stack([rows, same, np.minimum(rounded(ratio * count), pool_most)]))
            found.append(np.column_stack([rows, np.minimum(rounded(count / ratio), most), same]))
    every = np.unique(np.maximum(np.concatenate(found), [0, 1, 1]).astype(np.int64), axis=0)
    return every[:, 0], every[:, 1], every[:, 2]
