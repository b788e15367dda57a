"""The columns of a deployment: every layout at every batch that can be optimal, evaluated."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from servesat.candidates.batch_breakpoints import breakpoints, of_chip, tie_breakpoints
from servesat.candidates.layouts import MODES, Layouts, too_lossy, too_wide
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.core.arrays import Bools, Floats, Ints, Rows
from servesat.core.errors import SpecError
from servesat.core.result import Assignment, PrefillPool, Requirement
from servesat.core.tolerances import BIT, TOLERANCE, Bits
from servesat.cost_model.decode import (
    decode_step,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
    waits_for_ici,
)
from servesat.cost_model.sharding import heads_divide, kv_heads_split
from servesat.spec.spec import Spec

TABLE_BLOCK = 200_000
"""Columns that are tabulated at a time: enough to keep numpy busy, few enough to stay within 100 MB."""

MAX_TABLE = 50_000_000
"""Columns that are tabulated in all; more would take minutes, and gigabytes for what is kept of them."""


@dataclass(frozen=True)
class Columns(Rows):
    """Layouts at batches, with what each costs and which requirements it violates; arrays of shape [columns].

    `step_s` is the mean time per output token; chips, dollars and tokens are those of all slices.
    """

    layouts: Layouts  # one row a column
    batch: Ints
    slices: Ints
    step_s: Floats
    stall_s: Floats
    ttft_s: Floats
    e2e_s: Floats
    chips: Ints
    usd_per_hour: Floats
    tokens_per_s: Floats
    usd_per_million: Floats
    violated: Bits  # bit mask over Requirement, see BIT

    def __len__(self) -> int:
        return len(self.batch)

    def assignment(self, column: int) -> Assignment:
        """The decisions that a column stands for."""
        layouts, serving = self.layouts, self.layouts.serving
        place, dtypes = layouts.places[layouts.place[column]], layouts.dtypes[layouts.dtype[column]]
        return Assignment(
            chip=place.offer.chip.id,
            topology=place.topology,
            **place.sharding._asdict(),
            batch=int(self.batch[column]),
            mode=MODES[serving.mode[column]],
            chunk_tokens=int(serving.chunk[column]) or None,
            slices=int(self.slices[column]),
            prefill=self._pool(column) if serving.pool_place[column] >= 0 else None,
            **dtypes._asdict(),
        )

    def _pool(self, column: int) -> PrefillPool:
        layouts, serving = self.layouts, self.layouts.serving
        place = layouts.places[serving.pool_place[column]]
        dtypes = layouts.dtypes[serving.pool_dtype[column]]
        return PrefillPool(
            chip=place.offer.chip.id,
            topology=place.topology,
            tp_axes=place.sharding.tp_axes,
            ep_axes=place.sharding.ep_axes,
            weights=dtypes.weights,
            compute=dtypes.compute,
            slices=int(serving.pool_slices[column]),
        )


def evaluate(spec: Spec, layouts: Layouts | None = None, *, relaxed: int = 0, batches: Ints | None = None) -> Columns:
    """Evaluate every layout at every breakpoint of the batch, the tie breakpoints included.

    Each requirement's own breakpoint is kept whether or not another requirement forbids it, so that the violation
    masks hold the whole truth about what conflicts with what. `layouts` restricts the search to some of its layouts;
    `relaxed` is a bit mask of requirements taken to hold; `batches` are tried in place of the breakpoints.
    """
    layouts = enumerate_layouts(spec, relaxed) if layouts is None else layouts
    if batches is not None:
        return _at(spec, layouts, np.tile(batches, (len(layouts), 1)), relaxed)
    columns = _at(spec, layouts, breakpoints(spec, layouts), relaxed)
    return columns.join(_at(spec, layouts, tie_breakpoints(spec, layouts, cheapest(columns), relaxed), relaxed))


def tabulate(spec: Spec, layouts: Layouts, columns: Columns) -> Iterator[Columns]:
    """Every legal batch of every layout that satisfies the spec, in blocks of about TABLE_BLOCK columns.

    `columns` are the layouts' breakpoints, from `evaluate`: the batches that satisfy every requirement are the
    multiples of Z between the least and the largest of them, since each requirement sets either a least or a largest
    batch.
    """
    satisfying = np.flatnonzero(columns.violated == 0)
    size = int(layouts.number.max()) + 1
    least, most = np.full(size, spec.search.max_batch + 1), np.zeros(size, dtype=np.int64)
    number = columns.layouts.number[satisfying]
    np.minimum.at(least, number, columns.batch[satisfying])
    np.maximum.at(most, number, columns.batch[satisfying])

    rows = np.flatnonzero(most[layouts.number] > 0)
    first, last = least[layouts.number[rows]], most[layouts.number[rows]]
    step = layouts.batch_shards[rows]
    counts = (last - first) // step + 1
    if counts.sum() > MAX_TABLE:
        raise SpecError(
            f"{counts.sum():,} plans to compare, expected at most {MAX_TABLE:,}; narrow the search, as with a lower "
            "search.max_batch"
        )
    block = np.cumsum(counts) // TABLE_BLOCK
    for chosen in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(block)) + 1):
        count = counts[chosen]
        position = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        batch = np.repeat(first[chosen], count) + position * np.repeat(step[chosen], count)
        yield _columns(spec, layouts.take(np.repeat(rows[chosen], count)), batch, 0)


def cheapest(columns: Columns) -> float:
    """The least cost among columns that violate nothing; infinite when there is none."""
    return float(np.min(columns.usd_per_million, initial=np.inf, where=columns.violated == 0))


def _at(spec: Spec, layouts: Layouts, batches: Ints, relaxed: int) -> Columns:
    """Evaluate layouts at batches of shape [layouts, k]; batches repeated or outside 1…max_batch are dropped."""
    batches = np.sort(batches, axis=1)
    keep = (batches >= 1) & (batches <= spec.search.max_batch)
    keep[:, 1:] &= batches[:, 1:] != batches[:, :-1]
    row, position = np.nonzero(keep)
    return _columns(spec, layouts.take(row), batches[row, position], relaxed)


def _columns(spec: Spec, chosen: Layouts, batch: Ints, relaxed: int) -> Columns:
    """Evaluate each of the chosen layouts at a batch of its own."""
    serving, workload = chosen.serving, spec.workload
    output_tokens = workload.output_tokens or 0
    step = decode_step(
        spec.model,
        workload.read_tokens,
        chosen.replica,
        batch.astype(np.float64),
        pay_ici=spec.ici == "pay",
        chunk_tokens=serving.riding_tokens,
        chunk_s=serving.riding_s,
    )
    step_s = np.asarray(step.total_s) + serving.share_s * batch
    of_slice = chosen.replicas * batch / step_s
    slices, demanded = serving.slices, (workload.requests_per_s or 0.0) * output_tokens
    if demanded:
        slices = np.ceil(demanded / (spec.utilisation * of_slice) * (1 - TOLERANCE)).astype(np.int64)
    tokens_per_s = np.minimum(slices * of_slice, serving.fed_tokens_per_s)
    usd_per_hour = slices * chosen.usd_per_hour + serving.pool_total_usd_per_hour
    sold_per_s = spec.utilisation * tokens_per_s if not demanded else np.full(len(batch), demanded)
    ttft_s = serving.first_token_s + serving.first_token_steps * step_s
    columns = Columns(
        layouts=chosen,
        batch=batch,
        slices=slices,
        step_s=step_s,
        stall_s=np.maximum(np.asarray(step.total_s), np.where(serving.share_s > 0, serving.prefill_s, 0.0)),
        ttft_s=ttft_s,
        e2e_s=ttft_s + (output_tokens - 1) * step_s,
        chips=slices * chosen.chips + serving.pool_total_chips,
        usd_per_hour=usd_per_hour,
        tokens_per_s=tokens_per_s,
        usd_per_million=np.asarray(usd_per_million_tokens(usd_per_hour, sold_per_s)),
        violated=np.zeros(len(batch), dtype=np.uint16),
    )
    return replace(columns, violated=_violations(spec, columns) & ~np.uint16(relaxed))


def _violations(spec: Spec, columns: Columns) -> Bits:
    """Which requirements each column violates, as a bit mask; docs/cost-model.md gives each rule."""
    layouts, batch, search = columns.layouts, columns.batch, spec.search
    model, replica, serving = spec.model, layouts.replica, layouts.serving
    used = replica_weights_bytes(model, replica) + batch * replica_kv_bytes(model, spec.workload.held_tokens, replica)
    room = (1 - spec.headroom) * layouts.replica_hbm_bytes

    broken: dict[Requirement, Bools] = {
        Requirement.HBM: used > room * (1 + TOLERANCE),
        Requirement.HEADS: ~heads_divide(model, layouts.tp),
        Requirement.KV_HEADS: ~kv_heads_split(model, layouts.tp, batch, layouts.batch_shards),
        Requirement.DTYPES: too_wide(spec, layouts),
        **_violated_limits(spec, columns),
    }
    if spec.ici == "forbid":
        broken[Requirement.ICI] = waits_for_ici(model, replica, batch + serving.riding_tokens, TOLERANCE)
    if np.any(serving.riding_tokens):
        arriving = batch * spec.workload.new_prompt_tokens / (spec.workload.output_tokens or 1)
        broken[Requirement.CHUNK] = (serving.riding_tokens > 0) & (arriving > serving.riding_tokens * (1 + TOLERANCE))
    if search.min_batch is not None:
        broken[Requirement.MIN_BATCH] = batch < search.min_batch
    if search.max_quality_loss is not None:
        broken[Requirement.QUALITY] = too_lossy(spec, layouts)
    if search.quota:
        broken[Requirement.QUOTA] = _over_quota(spec, columns)

    mask = serving.violated.astype(np.uint16)
    for requirement, where in broken.items():
        mask |= np.where(where, BIT[requirement], np.uint16(0))
    return mask


def _violated_limits(spec: Spec, columns: Columns) -> dict[Requirement, Bools]:
    """The limits on time, chips, money and throughput that the spec states."""
    slo, search = spec.slo, spec.search
    at_most = {
        Requirement.TPOT: (columns.step_s * 1e3, slo.tpot_ms),
        Requirement.TTFT: (columns.ttft_s * 1e3, slo.ttft_ms),
        Requirement.E2E: (columns.e2e_s * 1e3, slo.e2e_ms),
        Requirement.STALL: (columns.stall_s * 1e3, slo.stall_ms),
        Requirement.CHIPS: (columns.chips, search.max_chips),
        Requirement.BUDGET: (columns.usd_per_hour, search.max_usd_per_hour),
    }
    broken = {name: value > limit * (1 + TOLERANCE) for name, (value, limit) in at_most.items() if limit is not None}
    if slo.min_tokens_per_s is not None:
        broken[Requirement.THROUGHPUT] = columns.tokens_per_s * (1 + TOLERANCE) < slo.min_tokens_per_s
    return broken


def _over_quota(spec: Spec, columns: Columns) -> Bools:
    """Whether a plan takes more chips of a type than there are."""
    layouts, serving = columns.layouts, columns.layouts.serving
    over = np.zeros(len(columns), dtype=np.bool_)
    for chip, most in spec.search.quota.items():
        here, pool = of_chip(layouts, chip)
        taken = np.where(here, columns.slices * layouts.chips, 0)
        over |= taken + np.where(pool, serving.pool_total_chips, 0) > most
    return over
