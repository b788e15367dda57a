"""Which requirements conflict, and which of them hold a plan back, read from the columns' violation masks."""

from itertools import combinations

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.requirements import REQUIREMENT_BIT, RULES, Kind, mask_of
from servesat.core.tolerances import COST_TIE_RTOL


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


def binding(columns: Columns, chosen: int) -> tuple[str, ...]:
    """The limits that keep the chosen column from something cheaper.

    Those that keep it from the larger batches of its own layout (where only several together do, the fewest), and the
    resources whose limit alone excludes a cheaper plan. Where there are none, the service levels whose limit alone
    excludes a cheaper plan anywhere.
    """
    layouts, violated = columns.layouts, columns.violated
    cheaper = columns.usd_per_million * (1 + COST_TIE_RTOL) < columns.usd_per_million[chosen]
    limits = [name for name, rule in RULES.items() if rule.kind is not Kind.STRUCTURE]

    def alone(kind: Kind) -> set[str]:
        of_kind = [name for name in limits if RULES[name].kind is kind]
        return {name for name in of_kind if np.any(cheaper & (violated == REQUIREMENT_BIT[name]))}

    same = layouts.number == layouts.number[chosen]
    masks = np.unique(violated[cheaper & same & (violated & ~mask_of(*limits) == 0)])
    found = alone(Kind.RESOURCE)
    if len(masks):
        fewest = masks[np.bitwise_count(masks) == np.bitwise_count(masks).min()]
        found |= {name for name in limits if np.bitwise_or.reduce(fewest) & REQUIREMENT_BIT[name]}
    found = found or alone(Kind.SERVICE_LEVEL)
    return tuple(name for name in limits if name in found)
