"""Which requirements conflict, and which of them hold a plan back, read from the columns' violation masks."""

from itertools import combinations

import numpy as np

from servesat.candidates.columns import Columns
from servesat.core.result import Requirement
from servesat.core.tolerances import BIT, TIE

LIMITS = (
    Requirement.HBM,
    Requirement.TPOT,
    Requirement.ICI,
    Requirement.CHIPS,
    Requirement.BUDGET,
    Requirement.THROUGHPUT,
    Requirement.TTFT,
    Requirement.E2E,
    Requirement.STALL,
    Requirement.CHUNK,
    Requirement.MIN_BATCH,
    Requirement.QUOTA,
    Requirement.QUALITY,
)
"""The requirements with a limit that could be moved; the others are rules of the model's shape."""


_SERVICE_LEVELS = (
    Requirement.TPOT,
    Requirement.THROUGHPUT,
    Requirement.TTFT,
    Requirement.E2E,
    Requirement.STALL,
    Requirement.MIN_BATCH,
)


def minimal_conflicts(columns: Columns) -> tuple[tuple[Requirement, ...], ...]:
    """Every minimal set of requirements that no column satisfies together; empty when a column satisfies them all.

    A set conflicts when every column violates one of its members. The columns hold every breakpoint of every
    requirement, so this is exact.
    """
    masks = np.unique(columns.violated)
    if len(masks) == 0 or masks[0] == 0:
        return ()
    violated = [requirement for requirement in Requirement if np.any(masks & BIT[requirement])]
    conflicts: list[set[Requirement]] = []
    for size in range(1, len(violated) + 1):
        for members in combinations(violated, size):
            if any(smaller <= set(members) for smaller in conflicts):
                continue
            if np.all(masks & np.uint16(sum(BIT[member] for member in members))):
                conflicts.append(set(members))
    return tuple(tuple(requirement for requirement in Requirement if requirement in found) for found in conflicts)


def binding(columns: Columns, chosen: int) -> tuple[Requirement, ...]:
    """The limits that keep the chosen column from something cheaper.

    Those that keep it from the larger batches of its own layout (where only several together do, the fewest), and those
    on all slices and dtypes, `chips`, `budget`, `quota` and `quality`, whose removal alone would allow a cheaper plan.
    Where there are none, the service levels whose removal alone would allow a cheaper plan anywhere.
    """
    layouts, violated = columns.layouts, columns.violated
    cheaper = columns.usd_per_million * (1 + TIE) < columns.usd_per_million[chosen]

    def alone(limits: tuple[Requirement, ...]) -> set[Requirement]:
        return {limit for limit in limits if np.any(cheaper & (violated == BIT[limit]))}

    same = layouts.number == layouts.number[chosen]
    movable = np.uint16(sum(BIT[limit] for limit in LIMITS))
    masks = np.unique(violated[cheaper & same & (violated & ~movable == 0)])
    found = alone((Requirement.CHIPS, Requirement.BUDGET, Requirement.QUOTA, Requirement.QUALITY))
    if len(masks):
        fewest = masks[np.bitwise_count(masks) == np.bitwise_count(masks).min()]
        found |= {limit for limit in LIMITS if np.bitwise_or.reduce(fewest) & BIT[limit]}
    found = found or alone(_SERVICE_LEVELS)
    return tuple(limit for limit in LIMITS if limit in found)
