"""The columns as the solver sees them: integers, sorted orders, and what the constraints name."""

from dataclasses import dataclass, field, replace

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.constraints import Values, choices, kept_constraints
from servesat.candidates.layouts import MODES
from servesat.candidates.requirements import bits_of, rules_of
from servesat.candidates.rule import EVERY_REQUIREMENT
from servesat.candidates.tie_order import tie_order
from servesat.core.arrays import Floats, Ints
from servesat.core.tolerances import COST_TIE_RTOL, is_at_least, is_at_most
from servesat.spec.expressions import Expression
from servesat.spec.spec import Spec

LOG_RESOLUTION = 1e-12
"""Unit of costs and steps, which are natural logarithms: a millionth of the tie band."""

STEP_TIE_RTOL = 1e-9
"""Steps within this of the fastest are as fast: the same machine computed in another order."""

STEP_TIE = round(STEP_TIE_RTOL / LOG_RESOLUTION)
"""The same, of steps as the solver sees them."""


@dataclass(frozen=True)
class Row:
    """A figure of each column, as its place among the distinct ones, and the places that a requirement allows."""

    place: Ints
    smallest: int
    largest: int

    def take(self, columns: Ints) -> "Row":
        """The row of only these columns, in that order."""
        return replace(self, place=self.place[columns])


@dataclass(frozen=True)
class Instance:
    """What the solver sees of the columns: integers only; arrays of shape [columns].

    `layout` numbers all decisions but the batch. `cost` is the natural logarithm of the cost per token in units of
    LOG_RESOLUTION, so that its relative resolution is the same whatever the prices, and `step` that of the time per
    output token. `order` is a place for each column: by fewest chips, then by id. `violated` has a bit for each
    requirement and constraint. `choice` is the same for columns that none of the `constraints` can tell apart; None
    without any. `rows` are the requirements as rows on figures, by name.
    """

    layout: Ints
    cost: Ints
    step: Ints
    order: Ints
    violated: Ints
    tie: int = int(np.log1p(COST_TIE_RTOL) / LOG_RESOLUTION)
    choice: Ints | None = None
    spec: Spec | None = None
    constraints: tuple[Expression, ...] = ()
    values: Values | None = None
    rows: dict[str, tuple[Row, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cost)

    def take(self, columns: Ints) -> "Instance":
        """The instance with only these columns, in that order."""
        values = self.values
        if values is not None:
            of_columns = None if values.columns is None else values.columns.take(columns)
            values = Values(values.layouts.take(columns), values.batch[columns], of_columns)
        return replace(
            self,
            layout=self.layout[columns],
            cost=self.cost[columns],
            step=self.step[columns],
            order=self.order[columns],
            violated=self.violated[columns],
            choice=None if self.choice is None else self.choice[columns],
            values=values,
            rows={name: tuple(row.take(columns) for row in rows) for name, rows in self.rows.items()},
        )

    def tie_rank(self, columns: Ints) -> Ints:
        """The place of each of some columns among them: the fastest first, then by `order`; shape [columns].

        Those within STEP_TIE_RTOL of the fastest of them that violates nothing are as fast.
        """
        allowed = self.step[columns][self.violated[columns] == 0]
        behind = self.step[columns] - allowed.min(initial=np.iinfo(np.int64).max)
        behind[behind <= STEP_TIE] = 0
        rank = np.empty(len(columns), dtype=np.int64)
        rank[np.lexsort((self.order[columns], behind))] = np.arange(len(columns))
        return rank

    def first_of_each_choice(self, columns: Ints, rank: Ints) -> Ints:
        """Of some columns, given a rank of each, the first of each combination of what constraints name.

        Sorted by rank, as positions. Without constraints the first of each layout. Columns that no constraint can tell
        apart are alike to the solver, so none but the first of them can be chosen.
        """
        order = np.argsort(rank, kind="stable")
        choice = self.layout[columns] if self.choice is None else self.choice[columns]
        _, first = np.unique(choice[order], return_index=True)
        found: Ints = columns[order[np.sort(first)]]
        return found

    def one_of_each_violation(self) -> Ints:
        """One column for each set of violated requirements, as positions."""
        return np.unique(self.violated, return_index=True)[1]

    def tied(self, cost: int) -> Ints:
        """The columns whose cost ties with `cost`, as positions."""
        return np.flatnonzero(self.cost <= cost + self.tie)


def round_columns(columns: Columns, spec: Spec | None = None, relaxed: int = 0) -> Instance:
    """Round the columns to the solver's integers; with the spec, also what its constraints that are kept name."""
    constraints = () if spec is None else kept_constraints(spec, relaxed)
    layouts = columns.layouts
    place_rank, dtype_rank = tie_order(layouts)
    serving = layouts.serving
    mode_rank = np.argsort(np.argsort(MODES))[serving.mode]
    pool_rank = place_rank[serving.pool_place] * len(dtype_rank) + dtype_rank[serving.pool_dtype]
    pool = np.where(serving.pool_place < 0, -1, pool_rank)
    ids = (place_rank[layouts.place], dtype_rank[layouts.dtype], columns.batch, mode_rank, serving.chunk, pool)
    order = np.empty(len(columns), dtype=np.int64)
    order[np.lexsort((serving.pool_slices, columns.slices, *ids[::-1], columns.chips))] = np.arange(len(columns))
    return Instance(
        layout=layouts.number,
        cost=_logarithms(columns.usd_per_million),
        step=_logarithms(columns.tpot_s),
        order=order,
        violated=columns.violated,
        choice=choices(constraints, columns) if constraints else None,
        spec=spec,
        constraints=constraints,
        values=Values(layouts, columns.batch, columns),
    )


def with_rows(instance: Instance) -> Instance:
    """The instance with its requirements as rows on figures, for a model that none of them has screened."""
    spec, columns = instance.spec, None if instance.values is None else instance.values.columns
    if spec is None or columns is None:
        return replace(instance, rows={name: (row,) for name, row in _violations_as_rows(instance.violated)})
    rows: dict[str, tuple[Row, ...]] = {}
    for name, rule in rules_of(spec).items():
        bit = bits_of(spec)[name]
        if not np.any(instance.violated & bit) or bit > EVERY_REQUIREMENT:
            continue
        limit = rule.limit(spec)
        of_pool = Row((columns.layouts.serving.violated & bit != 0).astype(np.int64), 0, 0)
        if rule.figure is None or rule.violated is not None or limit is None:
            rows[name] = (Row((instance.violated & bit != 0).astype(np.int64), 0, 0),)
            continue
        distinct, place = np.unique(np.asarray(rule.figure(spec, columns), dtype=np.float64), return_inverse=True)
        meets = np.flatnonzero((is_at_least if rule.at_least else is_at_most)(distinct, limit))
        ends = (int(meets[0]), int(meets[-1])) if len(meets) else (-1, -1)
        rows[name] = (Row(place.reshape(-1), *ends), of_pool)
    return replace(instance, rows=rows)


def _violations_as_rows(violated: Ints) -> list[tuple[str, Row]]:
    """Each bit of violation masks as a row that must be 0."""
    bits = [1 << position for position in range(int(violated.max(initial=0)).bit_length())]
    return [(str(bit), Row((violated & bit != 0).astype(np.int64), 0, 0)) for bit in bits if np.any(violated & bit)]


def _logarithms(values: Floats) -> Ints:
    """Natural logarithms in units of LOG_RESOLUTION."""
    return np.rint(np.log(values) / LOG_RESOLUTION).astype(np.int64)
