"""Which requirements conflict, and which of them hold a plan back, read from the columns' violation masks."""

from itertools import combinations

import numpy as np

from servesat.candidates import BIT, TIE, Columns
from servesat.plan import Requirement

LIMITS = (
    Requirement.HBM,
    Requirement.TPOT,
    Requirement.ICI,
    Requirement.CHIPS,
    Requirement.BUDGET,
    Requirement.THROUGHPUT,
)
"""The requirements with a limit that could be moved; the others are rules of the model's shape."""


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
    """The limits that keep the chosen column from the larger, cheaper batches of its layout.

    Those whose removal alone would allow one; where only the removal of several together would, the fewest that do.
    """
    layouts = columns.layouts
    same = (layouts.place == layouts.place[chosen]) & (layouts.dtype == layouts.dtype[chosen])
    cheaper = same & (columns.usd_per_million * (1 + TIE) < columns.usd_per_million[chosen])
    movable = np.uint16(sum(BIT[limit] for limit in LIMITS))
    masks = np.unique(columns.violated[cheaper & (columns.violated & ~movable == 0)])
    if not len(masks):
        return ()
    fewest = masks[np.bitwise_count(masks) == np.bitwise_count(masks).min()]
    union = np.bitwise_or.reduce(fewest)
    return tuple(limit for limit in LIMITS if union & BIT[limit])
