"""Which requirements conflict, read from violation masks."""

from collections.abc import Iterable, Mapping

from servesat.candidates.rule import REQUIREMENT_BIT


def minimal_conflicts(
    violated: Iterable[int], bits: Mapping[str, int] = REQUIREMENT_BIT
) -> tuple[tuple[str, ...], ...]:
    """Every minimal set of requirements that no column satisfies together; empty when a column satisfies them all.

    A set conflicts when every column violates one of its members: it hits every violation mask. The columns hold every
    breakpoint of every requirement and constraint, so this is exact. `violated` are their masks, `bits` the bit of each
    requirement.
    """
    masks = _least(set(violated))
    if not masks or masks[0] == 0:
        return ()
    conflicts = [0]
    for mask in masks:  # Berge's algorithm: each mask extends the sets that it escapes
        hit = [members for members in conflicts if members & mask]
        escaped = [members for members in conflicts if not members & mask]
        extended = {members | bit for members in escaped for bit in bits.values() if mask & bit}
        conflicts = _least([*hit, *extended])
    named = [tuple(name for name, bit in bits.items() if members & bit) for members in conflicts]
    places = {name: place for place, name in enumerate(bits)}
    return tuple(sorted(named, key=lambda members: (len(members), [places[name] for name in members])))


def _least(masks: Iterable[int]) -> list[int]:
    """The masks that have no other one within them, the smallest first."""
    kept: list[int] = []
    for mask in sorted(set(masks), key=lambda mask: (mask.bit_count(), mask)):
        if not any(other & mask == other for other in kept):
            kept.append(mask)
    return kept
