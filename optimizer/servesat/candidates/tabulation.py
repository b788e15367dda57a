"""Layouts at batches, evaluated: their figures, and which requirements and constraints they violate."""

from dataclasses import replace

import numpy as np

from servesat.candidates.batch_breakpoints import breakpoints
from servesat.candidates.columns import Columns, columns_at
from servesat.candidates.constrained_batches import need_every_batch, with_constraints
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirements import violations
from servesat.core.arrays import Floats, Ints
from servesat.spec.spec import Spec


def columns_of(spec: Spec, layouts: Layouts, batches: Ints, relaxed: int) -> Columns:
    """Evaluate layouts at batches of shape [layouts, k]; batches repeated or outside 1…max_batch are dropped."""
    batches = np.sort(batches, axis=1)
    keep = (batches >= 1) & (batches <= spec.search.max_batch)
    keep[:, 1:] &= batches[:, 1:] != batches[:, :-1]
    row, position = np.nonzero(keep)
    return evaluated(spec, layouts.take(row), batches[row, position], relaxed)


def evaluated(spec: Spec, layouts: Layouts, batch: Ints, relaxed: int) -> Columns:
    """Each layout at a batch of its own, with what it violates that is not `relaxed`."""
    columns = columns_at(spec, layouts, batch)
    return replace(columns, violated=violations(spec, columns) & ~relaxed)


def constrained_breakpoints(spec: Spec, layouts: Layouts) -> Ints:
    """The batches at which a requirement or a constraint starts or stops holding; shape [layouts, breakpoints]."""
    return with_constraints(spec, layouts, breakpoints(spec, layouts))


def least_cost_of_each(spec: Spec, layouts: Layouts, relaxed: int) -> Floats:
    """The least cost of each layout over its batches [$/1M output tokens]; infinite where none satisfies the spec."""
    every = np.tile(np.arange(1, spec.search.max_batch + 1), (len(layouts), 1)) if need_every_batch(spec) else None
    numbered = replace(layouts, number=np.arange(len(layouts)))
    columns = columns_of(spec, numbered, constrained_breakpoints(spec, numbered) if every is None else every, relaxed)
    least = np.full(len(layouts), np.inf)
    satisfying = columns.violated == 0
    np.minimum.at(least, columns.layouts.number[satisfying], columns.usd_per_million[satisfying])
    return least
