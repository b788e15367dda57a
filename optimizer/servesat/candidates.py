"""The columns of a deployment: every layout at every batch that can be optimal, evaluated.

Under the ideal cost model the step is max(t_weights, t_flops·B, t_ici·B) + t_kv·B, so a layout's cost per token falls
with the batch until the matmuls are compute-bound and is flat from there: only the largest batch that a set of
requirements allows can be cheapest, and only the smallest one within the tie band can win the tie. Those breakpoints
are all the columns there are. A cost model without this monotonicity must tabulate the batch instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from servesat.arrays import Bools, Floats, Ints
from servesat.errors import SpecError
from servesat.latency import decode_step, largest_batch_within, mlp_matmul, usd_per_million_tokens
from servesat.layouts import Layouts, enumerate_layouts
from servesat.memory import BYTES_PER_VALUE, kv_cache_bytes, sequences_that_fit, weights_bytes
from servesat.plan import Assignment, Requirement
from servesat.sharding import heads_divide, kv_batch_shards, kv_heads_split
from servesat.spec import Spec

TOLERANCE = 1e-9
"""A limit met within this relative error is met: 15 ms is not missed by the rounding of a float."""

TIE = 1e-6
"""Plans within this relative cost of the cheapest tie with it."""

TABLE_BLOCK = 200_000
"""Columns that are tabulated at a time: enough to keep numpy busy, few enough to stay within 100 MB."""

MAX_TABLE = 50_000_000
"""Columns that are tabulated in all; more would take minutes, and gigabytes for what is kept of them."""

Bits = npt.NDArray[np.uint16]
BIT = {requirement: np.uint16(1 << position) for position, requirement in enumerate(Requirement)}
"""The bit of each requirement in a violation mask."""


@dataclass(frozen=True)
class Columns:
    """Layouts at batches, with what each costs and which requirements it violates; arrays of shape [columns]."""

    layouts: Layouts  # one row a column
    batch: Ints
    step_s: Floats
    usd_per_million: Floats
    violated: Bits  # bit mask over Requirement, see BIT

    def __len__(self) -> int:
        return len(self.batch)

    def join(self, other: "Columns") -> "Columns":
        """These columns followed by others of the same enumeration; one that stands twice changes no answer."""
        arrays: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _ARRAYS}
        return Columns(layouts=self.layouts.join(other.layouts), **arrays)

    def take(self, columns: Ints) -> "Columns":
        """The columns at these positions, in that order."""
        arrays: dict[str, Any] = {name: getattr(self, name)[columns] for name in _ARRAYS}
        return Columns(layouts=self.layouts.take(columns), **arrays)

    def assignment(self, column: int) -> Assignment:
        """The decisions that a column stands for."""
        place = self.layouts.places[self.layouts.place[column]]
        dtypes = self.layouts.dtypes[self.layouts.dtype[column]]
        return Assignment(
            chip=place.offer.chip.id,
            topology=place.topology,
            tp_axes=place.tp_axes,
            batch=int(self.batch[column]),
            **dtypes._asdict(),
        )


_ARRAYS = ("batch", "step_s", "usd_per_million", "violated")


def evaluate(spec: Spec, layouts: Layouts | None = None, *, relaxed: int = 0, batches: Ints | None = None) -> Columns:
    """Evaluate every layout at every breakpoint of the batch, the tie breakpoints included.

    Each requirement's own breakpoint is kept whether or not another requirement forbids it, so that the violation
    masks hold the whole truth about what conflicts with what. `layouts` restricts the search to some of its layouts;
    `relaxed` is a bit mask of requirements taken to hold; `batches` are tried in place of the breakpoints.
    """
    layouts = enumerate_layouts(spec) if layouts is None else layouts
    if batches is not None:
        return _at(spec, layouts, np.tile(batches, (len(layouts), 1)), relaxed)
    columns = _at(spec, layouts, _breakpoints(spec, layouts), relaxed)
    return columns.join(_at(spec, layouts, _tie_breakpoints(spec, layouts, columns, relaxed), relaxed))


def tabulate(spec: Spec, layouts: Layouts, columns: Columns) -> Iterator[Columns]:
    """Every legal batch of every layout that satisfies the spec, in blocks of about TABLE_BLOCK columns.

    `columns` are the layouts' breakpoints, from `evaluate`: the batches that satisfy every requirement are the
    multiples of Z between the least and the largest of them, since each requirement sets either a least or a largest
    batch.
    """
    satisfying = np.flatnonzero(columns.violated == 0)
    size = len(layouts.places) * len(layouts.dtypes)
    least, most = np.full(size, spec.search.max_batch + 1), np.zeros(size, dtype=np.int64)
    number = columns.layouts.number[satisfying]
    np.minimum.at(least, number, columns.batch[satisfying])
    np.maximum.at(most, number, columns.batch[satisfying])

    rows = np.flatnonzero(most[layouts.number] > 0)
    first, last = least[layouts.number[rows]], most[layouts.number[rows]]
    step = kv_batch_shards(spec.model, layouts.tp[rows])
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


def _slopes(spec: Spec, layouts: Layouts) -> tuple[Floats, Floats, Floats]:
    """The step of each layout as max(base, slope·B) + kv·B: base, slope, kv [s]; shape [layouts] each."""
    one = decode_step(
        spec.model, spec.workload.kv_tokens, layouts.replica, np.ones(len(layouts)), pay_ici=spec.ici == "pay"
    )
    return np.asarray(one.weights_s), np.maximum(one.flops_s, one.ici_s), np.asarray(one.kv_cache_s)


def _breakpoints(spec: Spec, layouts: Layouts) -> Ints:
    """The batches at which a requirement starts or stops to hold, as legal multiples; shape [layouts, breakpoints].

    Entries below 1 or above max_batch are left for `_at` to drop.
    """
    base, slope, kv = _slopes(spec, layouts)
    room = (1 - spec.headroom) * layouts.tp * layouts.hbm_bytes * (1 + TOLERANCE)
    weights = weights_bytes(spec.model, layouts.replica.weights_value_bytes)
    sequence = kv_cache_bytes(spec.model, spec.workload.kv_tokens, layouts.replica.kv_cache_value_bytes)

    fit = np.asarray(sequences_that_fit(room, weights, sequence))
    upper = [np.full(len(layouts), float(spec.search.max_batch)), fit]
    lower = [np.ones(len(layouts))]
    if spec.slo.tpot_ms is not None:
        limit_s = spec.slo.tpot_ms / 1e3 * (1 + TOLERANCE)
        upper.append(np.asarray(largest_batch_within(limit_s, base, slope, kv)))
    if spec.ici == "forbid":
        matmul = mlp_matmul(spec.model, layouts.replica, np.ones(len(layouts)))
        with np.errstate(divide="ignore"):  # one chip sends nothing
            upper.append(np.asarray(matmul.hbm_s * (1 + TOLERANCE) / matmul.ici_s))
    if spec.slo.min_tokens_per_s is not None:
        lower.append(_least_batch(spec, layouts, np.full(len(layouts), spec.slo.min_tokens_per_s / (1 + TOLERANCE))))

    clip = spec.search.max_batch + 1.0
    highest = np.floor(np.clip(np.column_stack(upper), 0.0, clip)).astype(np.int64)
    lowest = np.ceil(np.clip(np.column_stack(lower), 0.0, clip)).astype(np.int64)
    multiple = kv_batch_shards(spec.model, layouts.tp)[:, None]
    # `lowest` itself stands for dropping `kv_heads`, its next multiple for keeping it.
    return np.column_stack([highest // multiple * multiple, lowest, -(-lowest // multiple) * multiple])


def _least_batch(spec: Spec, layouts: Layouts, tokens_per_s: Floats) -> Floats:
    """The smallest batch, not rounded, at which each layout puts out `tokens_per_s`; infinite where none does."""
    base, slope, kv = _slopes(spec, layouts)
    budget_s = layouts.replicas / tokens_per_s  # step time that each sequence of the batch may add
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((budget_s > kv) & (budget_s >= slope + kv), base / (budget_s - kv), np.inf)


def _tie_breakpoints(spec: Spec, layouts: Layouts, columns: Columns, relaxed: int) -> Ints:
    """The smallest legal batch of each layout whose cost ties with the cheapest column; shape [layouts, 1].

    Cost is flat beyond the critical batch, and nearly so where the KV cache dominates: of the batches that tie, the
    smallest is the fastest.
    """
    best = cheapest(columns)
    if not np.isfinite(best):
        return np.zeros((len(layouts), 1), dtype=np.int64)
    needed = layouts.usd_per_hour / 3600 * 1e6 / (best * (1 + TIE))
    if spec.slo.min_tokens_per_s is not None and not relaxed & int(BIT[Requirement.THROUGHPUT]):
        needed = np.maximum(needed, spec.slo.min_tokens_per_s / (1 + TOLERANCE))
    least = np.ceil(np.clip(_least_batch(spec, layouts, needed), 1.0, spec.search.max_batch + 1.0)).astype(np.int64)
    multiple = kv_batch_shards(spec.model, layouts.tp)
    return (-(-least // multiple) * multiple)[:, None]


def _at(spec: Spec, layouts: Layouts, batches: Ints, relaxed: int) -> Columns:
    """Evaluate layouts at batches of shape [layouts, k]; batches repeated or outside 1…max_batch are dropped."""
    batches = np.sort(batches, axis=1)
    keep = (batches >= 1) & (batches <= spec.search.max_batch)
    keep[:, 1:] &= batches[:, 1:] != batches[:, :-1]
    row, position = np.nonzero(keep)
    return _columns(spec, layouts.take(row), batches[row, position], relaxed)


def _columns(spec: Spec, chosen: Layouts, batch: Ints, relaxed: int) -> Columns:
    """Evaluate each of the chosen layouts at a batch of its own."""
    step = decode_step(
        spec.model, spec.workload.kv_tokens, chosen.replica, batch.astype(np.float64), pay_ici=spec.ici == "pay"
    )
    step_s = np.asarray(step.total_s)
    tokens_per_s = chosen.replicas * batch / step_s
    return Columns(
        layouts=chosen,
        batch=batch,
        step_s=step_s,
        usd_per_million=np.asarray(usd_per_million_tokens(chosen.usd_per_hour, tokens_per_s)),
        violated=_violations(spec, chosen, batch, step_s, tokens_per_s) & ~np.uint16(relaxed),
    )


def _violations(spec: Spec, layouts: Layouts, batch: Ints, step_s: Floats, tokens_per_s: Floats) -> Bits:
    """Which requirements each column violates, as a bit mask; docs/cost-model.md gives each rule."""
    model, replica, search = spec.model, layouts.replica, spec.search
    sequence = kv_cache_bytes(model, spec.workload.kv_tokens, replica.kv_cache_value_bytes)
    used = weights_bytes(model, replica.weights_value_bytes) + batch * sequence
    room = (1 - spec.headroom) * layouts.tp * layouts.hbm_bytes
    compute_bytes = np.array([BYTES_PER_VALUE[dtypes.compute] for dtypes in layouts.dtypes])[layouts.dtype]

    broken: dict[Requirement, Bools] = {
        Requirement.HBM: used > room * (1 + TOLERANCE),
        Requirement.HEADS: ~heads_divide(model, layouts.tp),
        Requirement.KV_HEADS: ~kv_heads_split(model, layouts.tp, batch),
        Requirement.DTYPES: replica.weights_value_bytes > compute_bytes,
    }
    if spec.ici == "forbid":
        matmul = mlp_matmul(model, replica, batch.astype(np.float64))
        broken[Requirement.ICI] = np.asarray(matmul.ici_s > matmul.hidden_s * (1 + TOLERANCE))
    if spec.slo.tpot_ms is not None:
        broken[Requirement.TPOT] = step_s > spec.slo.tpot_ms / 1e3 * (1 + TOLERANCE)
    if search.max_chips is not None:
        broken[Requirement.CHIPS] = layouts.chips > search.max_chips
    if search.max_usd_per_hour is not None:
        broken[Requirement.BUDGET] = layouts.usd_per_hour > search.max_usd_per_hour * (1 + TOLERANCE)
    if spec.slo.min_tokens_per_s is not None:
        broken[Requirement.THROUGHPUT] = tokens_per_s * (1 + TOLERANCE) < spec.slo.min_tokens_per_s

    mask = np.zeros(len(batch), dtype=np.uint16)
    for requirement, where in broken.items():
        mask |= np.where(where, BIT[requirement], np.uint16(0))
    return mask
