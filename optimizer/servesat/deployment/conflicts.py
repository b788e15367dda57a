"""Which requirements conflict, read from the columns' violation masks."""

from itertools import combinations

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.requirements import REQUIREMENT_BIT, RULES, mask_of


def minimal_conflicts(columns: Columns) -> tuple[tuple[str, ...], ...]:
    """Every minimal set of requirements that no column satisfies together; empty when a column satisfies them all.

    A set conflicts when every column violates one of its members. The columns hold every breakpoint of every
    requirement, so this is exact.
    """
    masks = np.unique(columns.violated)
    if len(masks) == 0 or masks[0] == 0:
        return ()
    violated = [requirement for requirement, bit in REQUIREMENT_BIT.items() if np.any(masks & bit)]
    conflicts: list[set[str]] = []
    for size in range(1, len(violated) + 1):
        for members in combinations(violated, size):
            if any(smaller <= set(members) for smaller in conflicts):
                continue
            if np.all(masks & mask_of(*members)):
                conflicts.append(set(members))
    return tuple(tuple(name for name in RULES if name in members) for members in conflicts)
