"""The columns as the solver sees them: integers, and codes for the decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.layouts import MODES
from servesat.core.arrays import Floats, Ints
from servesat.core.tolerances import COST_TIE_RTOL

LOG_RESOLUTION = 1e-12
"""Unit of the solver's costs and steps, which are natural logarithms: a millionth of the tie band."""

STEP_TIE_RTOL = 1e-9
"""Steps within this of the fastest are as fast: the same machine computed in another order."""


@dataclass(frozen=True)
class Instance:
    """What the solver sees of the columns: integers only; arrays of shape [columns].

    The decisions are codes: equal codes, equal choice. `layout` numbers all of them but the batch. `cost` is the
    natural logarithm of the cost per token in units of LOG_RESOLUTION, so that its relative resolution is the same
    whatever the prices, and `step` that of the time per output token. `order` is a place for each column: by fewest
    chips, then by id.
    """

    decisions: dict[str, Ints]
    layout: Ints
    cost: Ints
    step: Ints
    order: Ints
    violated: Ints
    tie: int = int(np.log1p(COST_TIE_RTOL) / LOG_RESOLUTION)

    def __len__(self) -> int:
        return len(self.cost)

    def take(self, columns: Ints) -> "Instance":
        """The instance with only these columns, in that order."""
        return Instance(
            decisions={name: codes[columns] for name, codes in self.decisions.items()},
            layout=self.layout[columns],
            cost=self.cost[columns],
            step=self.step[columns],
            order=self.order[columns],
            violated=self.violated[columns],
            tie=self.tie,
        )

    def cheapest_of_each_layout(self) -> Ints:
        """One column of least cost for each layout, as positions."""
        order = np.lexsort((self.cost, self.layout))
        _, first = np.unique(self.layout[order], return_index=True)
        return order[first]

    def tie_rank(self, columns: Ints) -> Ints:
        """The place of each of some columns among them: the fastest first, then by `order`; shape [columns].

        Those within STEP_TIE_RTOL of the fastest of them are as fast.
        """
        behind = self.step[columns] - self.step[columns].min(initial=np.iinfo(np.int64).max)
        behind[behind <= round(STEP_TIE_RTOL / LOG_RESOLUTION)] = 0
        rank = np.empty(len(columns), dtype=np.int64)
        rank[np.lexsort((self.order[columns], behind))] = np.arange(len(columns))
        return rank

    def one_of_each_violation(self) -> Ints:
        """One column for each set of violated requirements, as positions."""
        return np.unique(self.violated, return_index=True)[1]

    def tied(self, cost: int) -> Ints:
        """The columns whose cost ties with `cost`, as positions."""
        return np.flatnonzero(self.cost <= cost + self.tie)


def round_columns(columns: Columns) -> Instance:
    """Round the columns to the solver's integers."""
    layouts = columns.layouts
    places, dtypes = layouts.places, layouts.dtypes
    serving = layouts.serving
    place_id = _codes([(p.offer.chip.id, p.topology, p.sharding) for p in places])
    dtype_id = _codes(list(dtypes))
    mode_id = _codes(list(MODES))[serving.mode]
    pool = np.where(
        serving.pool_place < 0, -1, place_id[serving.pool_place] * len(dtypes) + dtype_id[serving.pool_dtype]
    )
    ids = (place_id[layouts.place], dtype_id[layouts.dtype], columns.batch, mode_id, serving.chunk, pool)
    order = np.empty(len(columns), dtype=np.int64)
    order[np.lexsort((serving.pool_slices, columns.slices, *ids[::-1], columns.chips))] = np.arange(len(columns))
    return Instance(
        decisions={
            "chip": _codes([p.offer.chip.id for p in places])[layouts.place],
            "topology": _codes([p.topology for p in places])[layouts.place],
            "tp_axes": _codes([p.sharding.tp_axes for p in places])[layouts.place],
            "ep_axes": _codes([p.sharding.ep_axes for p in places])[layouts.place],
            "kv_replicated": _codes([p.sharding.kv_replicated for p in places])[layouts.place],
            "weights": _codes([d.weights for d in dtypes])[layouts.dtype],
            "kv_cache": _codes([d.kv_cache for d in dtypes])[layouts.dtype],
            "compute": _codes([d.compute for d in dtypes])[layouts.dtype],
            "mode": mode_id,
            "chunk_tokens": serving.chunk,
            "prefill": pool,
            "batch": columns.batch,
        },
        layout=layouts.number,
        cost=_logarithms(columns.usd_per_million),
        step=_logarithms(columns.step_s),
        order=order,
        violated=columns.violated,
    )


def _logarithms(values: Floats) -> Ints:
    """Natural logarithms in units of LOG_RESOLUTION."""
    return np.rint(np.log(values) / LOG_RESOLUTION).astype(np.int64)


def _codes(values: Sequence[Any]) -> Ints:
    """The position of each value among the distinct ones, sorted."""
    code = {value: position for position, value in enumerate(sorted(set(values)))}
    return np.array([code[value] for value in values], dtype=np.int64)
