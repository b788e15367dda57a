"""How many slices each pool of a disaggregated plan has: what a demand needs, or what matches the pools' pace."""

from dataclasses import dataclass, replace

import numpy as np

from servesat.candidates.batch_breakpoints import largest_batch, of_chip, step_shape
from servesat.candidates.layouts import MODES, Layouts
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.result import Mode, Requirement
from servesat.core.tolerances import BIT, TOLERANCE
from servesat.spec.spec import Spec

SCARCER = 4
"""Slices of the scarcer pool, at most, where there is no demand to size them by: enough to match the other's pace."""


@dataclass(frozen=True)
class Sides:
    """The plain layouts as prefill pools and as decode pools; arrays of shape [layouts].

    `busy` is what one slice takes for a request, in seconds: a request is prefilled, or decoded, every so often.
    """

    layouts: Layouts
    prefill_s: Floats
    prefill_busy_s: Floats
    prefill_able: Bools  # a replicated cache is the same prefill pool once more
    prefill_violated: Ints
    decode_busy_s: Floats  # at the largest batch; infinite where there is none
    decode_violated: Ints
    transfer_s: Floats


def slices_busy(spec: Spec, busy_s: Floats) -> Floats:
    """Slices for each request a second: as many as are busy, or the whole number that a demand needs."""
    demand = spec.workload.requests_per_s
    return busy_s / spec.utilisation if demand is None else slices_for(spec, busy_s) / demand


def slices_for(spec: Spec, busy_s: Floats) -> Floats:
    """The whole number of slices that meet the demand."""
    return np.ceil((spec.workload.requests_per_s or 0.0) * busy_s / spec.utilisation * (1 - TOLERANCE))


def paired(spec: Spec, sides: Sides, pairs: Ints) -> Layouts:
    """The layouts of pairs: one slice each, or as many for prefill as the demand needs."""
    prefill, decode = pairs.T
    plain, rows = sides.layouts, sides.layouts.take(decode)
    output_tokens = spec.workload.output_tokens or 0
    pool_slices = np.ones(len(pairs), dtype=np.int64)
    if spec.workload.requests_per_s is not None:
        pool_slices = slices_for(spec, sides.prefill_busy_s[prefill]).astype(np.int64)
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


def sized(spec: Spec, sides: Sides, pairs: Ints, relaxed: int, *, any_batch: bool = False) -> tuple[Layouts, Floats]:
    """The layouts of pairs with their slices counted, and what a request costs in them at their largest batch [$].

    Infinite where the requirements on both pools together do not allow it; pairs without a batch are left out, or, with
    `any_batch`, sized for the largest of the search.
    """
    rows, output_tokens = paired(spec, sides, pairs), spec.workload.output_tokens or 0
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
        slices = slices_for(spec, busy_s).astype(np.int64)
        per_s = np.full(len(rows), spec.workload.requests_per_s / spec.utilisation)
    usd_per_hour = slices * rows.usd_per_hour + rows.serving.pool_total_usd_per_hour
    over = np.zeros(len(rows), dtype=np.bool_)
    for room in _rooms(spec, rows, relaxed):
        taken = slices * room.slice + rows.serving.pool_slices * room.pool_slice
        over |= taken > room.most * (1 + TOLERANCE)
    if spec.slo.min_tokens_per_s is not None and not relaxed & int(BIT[Requirement.THROUGHPUT]):
        over |= per_s * output_tokens * (1 + TOLERANCE) < spec.slo.min_tokens_per_s
    return rows, np.where(over, np.inf, usd_per_hour / 3600 / (per_s * spec.utilisation))


def enough(spec: Spec, sides: Sides, pairs: Ints, relaxed: int, *, any_batch: bool = False) -> Layouts:
    """The layouts of pairs with the fewest slices that put out the tokens asked for, at their largest batch.

    Pairs without a batch are left out, or, with `any_batch`, sized for the largest of the search.
    """
    rows, output_tokens = paired(spec, sides, pairs), spec.workload.output_tokens or 0
    batch = largest_batch(spec, rows, relaxed)
    if any_batch:
        batch = np.where(batch > 0, batch, spec.search.max_batch)
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
