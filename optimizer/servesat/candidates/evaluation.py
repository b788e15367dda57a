"""Every layout at every batch that can be optimal, evaluated: what it costs, and which requirements it violates."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import numpy as np

from servesat.candidates.batch_breakpoints import breakpoints, tie_breakpoints
from servesat.candidates.columns import Columns, columns_at
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirements import violations
from servesat.candidates.serving_modes import BLOCK_ROWS, enumerate_layouts, in_modes_by_block, searched_layouts
from servesat.core.arrays import Ints
from servesat.core.errors import SpecError
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.spec.spec import Spec

TABLE_BLOCK = 200_000
"""Columns that are tabulated at a time: enough to keep numpy busy, few enough to stay within 100 MB."""

MAX_TABLE = 50_000_000
"""Columns that are tabulated in all; more would take minutes, and gigabytes for what is kept of them."""


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


def evaluate_search(
    spec: Spec,
    relaxed: int = 0,
    *,
    batches: Ints | None = None,
    undominated: bool = False,
    block_rows: int = BLOCK_ROWS,
) -> Columns:
    """Evaluate the layouts of `enumerate_layouts`, of which a large search has too many to hold at once.

    Of more than `block_rows` layouts only the columns that can decide the answer are kept: for each set of violated
    requirements those that tie with the cheapest, and all columns of the layouts with a plan that ties with the best.
    """
    searched = searched_layouts(spec, relaxed, undominated=undominated)

    def blocks() -> Iterator[Layouts]:
        return in_modes_by_block(spec, searched, relaxed, rows=block_rows)

    first, *more = islice(blocks(), 2)
    if not more:
        return evaluate(spec, first, relaxed=relaxed, batches=batches)
    del first, more
    columns = _deciding_among(
        _at(spec, block, breakpoints(spec, block) if batches is None else np.tile(batches, (len(block), 1)), relaxed)
        for block in blocks()
    )
    least = cheapest(columns)
    if batches is not None or not np.isfinite(least):
        return columns
    ties = (_at(spec, block, tie_breakpoints(spec, block, least, relaxed), relaxed) for block in blocks())
    return _deciding_among(chain([columns], ties))


def _deciding_among(blocks: Iterable[Columns]) -> Columns:
    """The columns of all blocks together that can decide an answer."""
    first, *others = (_deciding(block) for block in blocks)
    return _deciding(first.join(*others))


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
    """The least cost among columns that violate nothing; infinite when there is none [$/1M output tokens]."""
    return float(np.min(columns.usd_per_million, initial=np.inf, where=columns.violated == 0))


def _at(spec: Spec, layouts: Layouts, batches: Ints, relaxed: int) -> Columns:
    """Evaluate layouts at batches of shape [layouts, k]; batches repeated or outside 1…max_batch are dropped."""
    batches = np.sort(batches, axis=1)
    keep = (batches >= 1) & (batches <= spec.search.max_batch)
    keep[:, 1:] &= batches[:, 1:] != batches[:, :-1]
    row, position = np.nonzero(keep)
    return _columns(spec, layouts.take(row), batches[row, position], relaxed)


def _columns(spec: Spec, layouts: Layouts, batch: Ints, relaxed: int) -> Columns:
    columns = columns_at(spec, layouts, batch)
    return replace(columns, violated=violations(spec, columns) & ~relaxed)
