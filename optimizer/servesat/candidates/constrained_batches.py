"""The batches at which the constraints of a spec start or stop holding, beside those of its requirements.

Between two breakpoints of the requirements a layout violates the same ones, and its cost never rises with the batch.
Constraints cut these intervals further. One on a figure that only grows with the batch, or only falls, does so
at one batch, found by bisection; one on the batch itself (`batch % 8 == 0`) may hold at any set of batches, so of each
interval the smallest and the largest batch of each combination of truths are tried.
"""

from collections.abc import Iterator

import numpy as np

from servesat.candidates.columns import columns_at
from servesat.candidates.constraints import Values, comparison, constant_of
from servesat.candidates.layouts import Layouts
from servesat.core.arrays import Bools, Ints
from servesat.spec.expressions import Arithmetic, Comparison, Level, Name, Term, Type, bounds, parts
from servesat.spec.spec import Spec

CODED_AT_A_TIME = 8
"""Truths that are put into one code before the codes are numbered anew, which takes a sort."""

MAX_BATCH_CONDITIONS = 4
"""Conditions on the batch whose combinations are tried about each breakpoint; of more, every batch is."""

_GROWING = ("batch", "tpot_ms", "ttft_ms", "e2e_ms", "stall_ms", "hbm_used_fraction")
_FALLING = ("slices", "chips", "instances", "usd_per_hour", "usd_per_million_output_tokens")


def need_every_batch(spec: Spec) -> bool:
    """Whether some constraint may start and stop holding at any batch, or there are too many conditions on the batch.

    Each of those doubles the kinds of batches; figures that grow at odds may compare either way at any batch.
    """
    if sum(1 for _ in _comparisons(spec, Level.BATCH)) > MAX_BATCH_CONDITIONS:
        return True
    return any(_direction(spec, part) is None for part in _comparisons(spec, Level.FIGURE))


def with_constraints(spec: Spec, layouts: Layouts, batches: Ints) -> Ints:
    """Batches of shape [layouts, k], and those about them at which constraints start or stop holding.

    Entries below 1 are not batches of the search.
    """
    of_batch = list(_comparisons(spec, Level.BATCH))
    of_figures = list(_comparisons(spec, Level.FIGURE))
    if not len(layouts) or not (of_batch or of_figures):
        return batches
    marks = np.column_stack([batches, *(_switches(spec, layouts, part) for part in of_figures)])
    return np.column_stack([batches, _around(spec, layouts, of_batch, marks)])


def _comparisons(spec: Spec, level: Level) -> Iterator[Comparison]:
    """The distinct comparisons of the constraints that are fixed at a level, and not before."""
    found: dict[Comparison, None] = {}
    for expression in spec.expressions:
        for part in parts(expression.tree):
            if isinstance(part, Comparison):
                names = [name.level for name in parts(part) if isinstance(name, Name)]
                if max(names, default=Level.LAYOUT) is level:
                    found[part] = None
    yield from found


def _direction(spec: Spec, node: Comparison) -> int | None:
    """Whether `left - right` grows with the batch (1), falls (-1), or stays (0); None where it may do either."""
    return _together(_growth(spec, node.left), _opposite(_growth(spec, node.right)))


def _growth(spec: Spec, term: Term) -> int | None:
    """Whether a number grows with the batch (1), falls (-1), or stays (0); None where it may do either."""
    match term:
        case Name():
            return _growth_of_name(spec, term)
        case Arithmetic(operator="+"):
            return _together(_growth(spec, term.left), _growth(spec, term.right))
        case Arithmetic(operator="-"):
            return _together(_growth(spec, term.left), _opposite(_growth(spec, term.right)))
        case Arithmetic(operator="%"):
            return 0 if _growth(spec, term.left) == 0 else None
        case Arithmetic(operator="*" | "/" | "//"):
            return _growth_of_product(spec, term)
        case _:
            return 0


def _growth_of_name(spec: Spec, name: Name) -> int | None:
    demand = spec.workload.requests_per_s is not None
    if name.id in _GROWING:
        return 1
    if name.id == "tokens_per_s":
        return None if demand else 1  # the number of slices falls while each puts out more
    if name.id in _FALLING:
        return -1 if demand or name.id == "usd_per_million_output_tokens" else 0
    return 0


def _growth_of_product(spec: Spec, term: Arithmetic) -> int | None:
    """The growth of a number times, or divided by, another."""
    factors = [side for side in (term.left, term.right) if not any(isinstance(part, Name) for part in parts(side))]
    if not factors:
        return _growth_of_two(spec, term)
    growing = term.right if factors[0] is term.left else term.left
    growth = _growth(spec, growing)
    return _opposite(growth) if constant_of(spec, factors[0]) < 0 else growth


def _growth_of_two(spec: Spec, term: Arithmetic) -> int | None:
    """The growth of a product of two numbers of a plan, of which a difference may be negative."""
    left, right = _growth(spec, term.left), _growth(spec, term.right)
    if left == right == 0:
        return 0
    least_left, least_right = bounds(term.left)[0], bounds(term.right)[0]
    if left == 0 and least_left >= 0:
        return right
    if right == 0 and least_right >= 0:
        return left
    return _together(left, right) if min(least_left, least_right) >= 0 else None


def _together(one: int | None, other: int | None) -> int | None:
    """The growth of a sum."""
    if one is None or other is None or one * other < 0:
        return None
    return one or other


def _opposite(growth: int | None) -> int | None:
    return None if growth is None else -growth


def _switches(spec: Spec, layouts: Layouts, node: Comparison) -> Ints:
    """The last batch of each layout at which the growing side is below the other, and the last at which it is at most.

    By bisection; shape [layouts, 2].
    """
    falls = _direction(spec, node) == -1
    found = []
    for operator in (">", ">=") if falls else ("<", "<="):
        low, high = np.zeros(len(layouts), dtype=np.int64), np.full(len(layouts), spec.search.max_batch)
        while np.any(low < high):
            middle = np.maximum((low + high + 1) // 2, 1)
            columns = columns_at(spec, layouts, middle)
            side = Comparison(operator, node.left, node.right)
            held: Bools = comparison(spec, side, Values(layouts, middle, columns))
            low, high = np.where(held & (low < high), middle, low), np.where(held, high, np.maximum(middle - 1, low))
        found.append(low)
    return np.column_stack(found)


def _alike(layouts: Layouts, names: list[Name]) -> tuple[Ints, Ints]:
    """A number for each layout, the same for those that differ in no name, and the first layout of each number."""
    values = Values(layouts, np.ones(len(layouts), dtype=np.int64))
    codes = [layouts.batch_shards]
    for name in dict.fromkeys(names):
        if name.id != "batch":
            of_name = values.texts(name.id) if name.type is Type.TEXT else values.whole(name)
            codes.append(np.unique(of_name, return_inverse=True)[1].reshape(-1))
    _, first, group = np.unique(np.column_stack(codes), axis=0, return_index=True, return_inverse=True)
    return group.reshape(-1), first


def _around(spec: Spec, layouts: Layouts, of_batch: list[Comparison], marks: Ints) -> Ints:
    """For each combination of truths, the batches that have it next to each mark, before and after it.

    The shape is [layouts, found]; 0 where there is none.
    """
    marks = np.clip(marks, 0, spec.search.max_batch)
    group, first = _alike(layouts, [name for part in of_batch for name in parts(part) if isinstance(name, Name)])
    rows = [np.flatnonzero(group == number) for number in range(len(first))]
    found = [
        _around_alike(spec, layouts.take(first[[number]]), of_batch, marks[of_group])
        for number, of_group in enumerate(rows)
    ]
    tried = np.zeros((len(layouts), max(some.shape[1] for some in found)), dtype=np.int64)
    for of_group, some in zip(rows, found, strict=True):
        tried[of_group, : some.shape[1]] = some
    return tried


def _around_alike(spec: Spec, layout: Layouts, of_batch: list[Comparison], marks: Ints) -> Ints:
    """What `_around` finds about the marks of layouts that are like this one."""
    batch = np.arange(1, spec.search.max_batch + 1)
    values, pattern = Values(layout, batch), (batch % layout.batch_shards[0] == 0).astype(np.int64)
    for number, node in enumerate(of_batch, start=1):
        pattern = 2 * pattern + comparison(spec, node, values)
        if number % CODED_AT_A_TIME == 0:
            _, pattern = np.unique(pattern, return_inverse=True)
    found = []
    for code in np.flatnonzero(np.bincount(pattern)):
        with_it = np.concatenate([[0], batch[pattern == code], [0]])
        for side in ("left", "right"):
            after = np.searchsorted(with_it[1:-1], marks, side=side)
            found += [with_it[after], with_it[after + 1]]
    return np.column_stack(found)
