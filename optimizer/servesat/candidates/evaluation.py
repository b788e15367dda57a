"""Every layout at every batch that can be optimal, evaluated: what it costs, and which requirements it violates."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np

from servesat.candidates.batch_breakpoints import tie_breakpoints
from servesat.candidates.columns import Columns
from servesat.candidates.constrained_batches import need_every_batch, with_constraints
from servesat.candidates.cost_bounds import cost_bounds
from servesat.candidates.layouts import Layouts
from servesat.candidates.serving_modes import (
    BLOCK_ROWS,
    enumerate_layouts,
    in_modes,
    in_modes_by_block,
    searched_layouts,
)
from servesat.candidates.tabulation import columns_of, constrained_breakpoints, evaluated
from servesat.core.arrays import Bools, Ints, join_all
from servesat.core.errors import SpecError
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.spec.spec import Spec

TABLE_BLOCK = 200_000
"""Columns that are tabulated at a time: enough to keep numpy busy, few enough to stay within 100 MB."""

MAX_TABLE = 50_000_000
"""Columns that are tabulated in all; more would take minutes, and gigabytes for what is kept of them."""

FIRST_CONTENDERS = 1_000
"""Layouts that are evaluated first, in a search of more for the cheapest; then four times as many, if any are left."""


def evaluate(spec: Spec, layouts: Layouts | None = None, *, relaxed: int = 0, batches: Ints | None = None) -> Columns:
    """Evaluate every layout at every breakpoint of the batch, the tie breakpoints included.

    Each requirement's own breakpoint is kept whether or not another requirement forbids it, so that the violation
    masks hold the whole truth about what conflicts with what. `layouts` restricts the search to some of its layouts;
    `relaxed` is a bit mask of requirements taken to hold; `batches` are tried in place of the breakpoints.
    """
    layouts = enumerate_layouts(spec, relaxed) if layouts is None else layouts
    if batches is not None:
        return columns_of(spec, layouts, np.tile(batches, (len(layouts), 1)), relaxed)
    if need_every_batch(spec):
        return _every_batch(spec, layouts, relaxed, of_each_layout=True)
    columns = columns_of(spec, layouts, constrained_breakpoints(spec, layouts), relaxed)
    ties = with_constraints(spec, layouts, tie_breakpoints(spec, layouts, cheapest(columns), relaxed))
    return columns.join(columns_of(spec, layouts, ties, relaxed))


def _every_batch(spec: Spec, layouts: Layouts, relaxed: int, *, of_each_layout: bool) -> Columns:
    """Of every batch the columns that can decide: of each layout and violation the first, the last, and what ties.

    Unless `of_each_layout` is wanted, those of the cheapest layout stand for each violation.
    """
    blocks = _all_batches(spec, layouts, relaxed, _first_and_last)
    columns = join_all(blocks) if of_each_layout else _deciding_among(blocks)
    least = cheapest(columns)
    near = (columns.violated == 0) & (columns.usd_per_million <= least * (1 + COST_TIE_RTOL))
    tied = layouts.take(np.flatnonzero(np.isin(layouts.number, columns.layouts.number[near])))
    if not len(tied):
        return columns
    return columns.join(*_all_batches(spec, tied, relaxed, lambda block: _tied(block, least)))


def _all_batches(spec: Spec, layouts: Layouts, relaxed: int, chosen: Callable[[Columns], Columns]) -> Iterator[Columns]:
    """Some columns of each block of layouts at every batch. Raises SpecError for more than MAX_TABLE of them."""
    batches = np.arange(1, spec.search.max_batch + 1)
    check_table(len(layouts) * len(batches))
    at_a_time = max(1, TABLE_BLOCK // len(batches))
    for first in range(0, max(1, len(layouts)), at_a_time):
        some = layouts.take(np.arange(first, min(first + at_a_time, len(layouts))))
        yield chosen(columns_of(spec, some, np.tile(batches, (len(some), 1)), relaxed))


def _first_and_last(columns: Columns) -> Columns:
    """Of each layout and set of violations the columns with the smallest and the largest batch."""
    order = np.lexsort((columns.batch, columns.violated, columns.layouts.number))
    kind = np.column_stack([columns.layouts.number, columns.violated])[order]
    changes = np.any(kind[1:] != kind[:-1], axis=1)
    ends = np.concatenate([[True], changes]) | np.concatenate([changes, [True]]) if len(order) else changes
    return columns.take(np.sort(order[ends]))


def _tied(columns: Columns, least: float) -> Columns:
    """The columns that satisfy the spec and tie with the least cost."""
    return columns.take(
        np.flatnonzero((columns.violated == 0) & (columns.usd_per_million <= least * (1 + COST_TIE_RTOL)))
    )


def evaluate_search(
    spec: Spec,
    relaxed: int = 0,
    *,
    batches: Ints | None = None,
    undominated: bool = False,
    block_rows: int = BLOCK_ROWS,
) -> Columns:
    """Evaluate the layouts of `enumerate_layouts`, and keep the columns that can decide the answer.

    For each set of violated requirements those that tie with the cheapest, and all columns of the layouts with a plan
    that ties with the best. Layouts are evaluated `block_rows` at a time. All columns are kept of a single block where
    constraints or a limit on accuracy choose: what they limit is not known of every column.
    """
    searched = searched_layouts(spec, relaxed, undominated=undominated)
    if batches is None and need_every_batch(spec):
        return _every_batch(spec, in_modes(spec, searched, relaxed), relaxed, of_each_layout=False)
    blocks = list(in_modes_by_block(spec, searched, relaxed, rows=block_rows))
    if len(blocks) == 1 and (spec.expressions or spec.search.max_quality_loss is not None):
        return evaluate(spec, blocks[0], relaxed=relaxed, batches=batches)
    if batches is not None:
        tried = (columns_of(spec, block, np.tile(batches, (len(block), 1)), relaxed) for block in blocks)
        return _deciding_among(tried)
    if undominated and sum(map(len, blocks)) > FIRST_CONTENDERS:
        blocks, columns = _contenders(spec, blocks, relaxed)
    else:
        columns = _deciding_among(_at_breakpoints(spec, blocks, relaxed))
    least = cheapest(columns)
    if not np.isfinite(least):
        return columns
    ties = (
        columns_of(spec, block, with_constraints(spec, block, tie_breakpoints(spec, block, least, relaxed)), relaxed)
        for block in blocks
    )
    return _deciding_among(chain([columns], ties))


def _at_breakpoints(spec: Spec, blocks: Iterable[Layouts], relaxed: int) -> Iterator[Columns]:
    """The columns of each block of layouts at its breakpoints."""
    return (columns_of(spec, block, constrained_breakpoints(spec, block), relaxed) for block in blocks)


def _contenders(spec: Spec, blocks: Sequence[Layouts], relaxed: int) -> tuple[list[Layouts], Columns]:
    """The layouts that may tie with the cheapest, of plans and of what breaks one limit alone; and their columns.

    Those with the least bounds are evaluated first; what they cost leaves few of the others.
    """
    bounds = [cost_bounds(spec, block, relaxed) for block in blocks]
    evaluated_yet = [np.zeros(len(block), dtype=np.bool_) for block in blocks]
    none = blocks[0].take(np.zeros(0, dtype=np.int64))
    columns, count = next(_at_breakpoints(spec, [none], relaxed)), FIRST_CONTENDERS
    while True:
        contending = [bound.contenders(columns) for bound in bounds]
        left = [near & ~done for near, done in zip(contending, evaluated_yet, strict=True)]
        least = np.sort(np.concatenate([bound.within[rows] for bound, rows in zip(bounds, left, strict=True)]))
        if not len(least):
            return _taken(blocks, contending), columns
        most = least[min(count, len(least)) - 1]
        chosen = [rows & (bound.within <= most) for bound, rows in zip(bounds, left, strict=True)]
        columns = _deciding_among(chain([columns], _at_breakpoints(spec, _taken(blocks, chosen), relaxed)))
        evaluated_yet = [done | rows for done, rows in zip(evaluated_yet, chosen, strict=True)]
        count *= 4


def _taken(blocks: Sequence[Layouts], chosen: Sequence[Bools]) -> list[Layouts]:
    return [block.take(np.flatnonzero(rows)) for block, rows in zip(blocks, chosen, strict=True)]


def _deciding_among(blocks: Iterable[Columns]) -> Columns:
    """The columns of all blocks together that can decide an answer."""
    first, *others = map(_deciding, blocks)
    return _deciding(first.join(*others)) if others else first


def _deciding(columns: Columns) -> Columns:
    """For each set of violated requirements the columns that tie with the cheapest; of the best layouts, all."""
    masks, mask = np.unique(columns.violated, return_inverse=True)
    least = np.full(len(masks), np.inf)
    np.minimum.at(least, mask, columns.usd_per_million)
    ties = columns.usd_per_million <= least[mask] * (1 + 2 * COST_TIE_RTOL)
    best = columns.layouts.number[ties & (columns.violated == 0)]
    return columns.take(np.flatnonzero(ties | np.isin(columns.layouts.number, best)))


def tabulate(spec: Spec, layouts: Layouts, columns: Columns) -> Iterator[Columns]:
    """Every legal batch of every layout that satisfies the spec, in blocks of about TABLE_BLOCK columns.

    `columns` are the layouts' breakpoints, from `evaluate`: the batches that satisfy every requirement are the
    multiples of Z between the smallest and the largest of them, since each requirement sets either a smallest or a
    largest batch. Raises SpecError for more than MAX_TABLE columns.
    """
    satisfying = np.flatnonzero(columns.violated == 0)
    size = int(layouts.number.max()) + 1
    smallest, largest = np.full(size, spec.search.max_batch + 1), np.zeros(size, dtype=np.int64)
    number = columns.layouts.number[satisfying]
    np.minimum.at(smallest, number, columns.batch[satisfying])
    np.maximum.at(largest, number, columns.batch[satisfying])

    rows = np.flatnonzero(largest[layouts.number] > 0)
    first, last = smallest[layouts.number[rows]], largest[layouts.number[rows]]
    counts = (last - first) // layouts.batch_shards[rows] + 1
    check_table(int(counts.sum()))
    for some, batch in at_legal_batches(layouts.take(rows), first, counts):
        yield evaluated(spec, some, batch, 0)


def at_legal_batches(layouts: Layouts, first: Ints, counts: Ints) -> Iterator[tuple[Layouts, Ints]]:
    """Layouts repeated for so many legal batches each, from the first on, in blocks of about TABLE_BLOCK rows."""
    block = np.cumsum(counts) // TABLE_BLOCK
    for chosen in np.split(np.arange(len(layouts)), np.flatnonzero(np.diff(block)) + 1):
        count = counts[chosen]
        position = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        batch = np.repeat(first[chosen], count) + position * np.repeat(layouts.batch_shards[chosen], count)
        yield layouts.take(np.repeat(chosen, count)), batch


class TooManyPlansError(SpecError):
    """A search with more plans than can be tabulated."""


def check_table(columns: int) -> None:
    """Raise TooManyPlansError for more columns than can be tabulated."""
    if columns > MAX_TABLE:
        raise TooManyPlansError(
            f"{columns:,} plans to compare, expected at most {MAX_TABLE:,}; narrow the search, as with a lower "
            "search.max_batch"
        )


def cheapest(columns: Columns) -> float:
    """The least cost among columns that violate nothing; infinite when there is none [$/1M output tokens]."""
    return float(np.min(columns.usd_per_million, initial=np.inf, where=columns.violated == 0))
