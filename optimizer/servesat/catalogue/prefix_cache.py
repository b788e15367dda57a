"""What a prefix cache of some size holds of a trace's prompts: LRU stack distances of their blocks.

A cache that evicts the block that was used longest ago holds a block if fewer distinct blocks than it has room for were
used since its last use (Mattson et al., Evaluation techniques for storage hierarchies, 1970). A prompt hits as far as
all its blocks from the first on are held. One pass over the trace answers for every size.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from servesat.catalogue.traces import Trace
from servesat.core.arrays import Floats, Ints
from servesat.core.errors import CatalogueError
from servesat.core.tolerances import round_down

_GROUP = 512
"""Uses of blocks that are counted together."""


def block_tokens(trace: Trace) -> int:
    """Tokens of a block, as the ids of prompts tell; those without ids say nothing. Raises CatalogueError without any.

    Where a prompt of n tokens has an id for the part of a block at its end, its k ids mean n / k ≤ block < n / (k - 1).
    If no block agrees with every prompt, ids are those of full blocks, and block ≤ n / k.
    """
    if trace.blocks is None or not any(trace.blocks):
        raise CatalogueError(f"{trace.name}: has no prefix_ids, or hash_ids, of which a prefix cache could hit")
    counts = np.array([len(blocks) for blocks in trace.blocks])
    tokens, counts = trace.prompt_tokens[counts > 0], counts[counts > 0]
    least, several = int(np.max(-(-tokens // counts))), counts > 1
    beyond = np.min(tokens[several] / (counts[several] - 1), initial=np.inf)
    return least if least < beyond else max(1, int(np.min(tokens // counts)))


@lru_cache(maxsize=4)
def prefix_distances(blocks: tuple[tuple[int, ...], ...]) -> tuple[Ints, ...]:
    """Of each prompt the largest stack distance among its first block, its first two, and so on [blocks].

    A block that was never used is as far as there are uses.
    """
    uses = sum(map(len, blocks))
    is_last = np.zeros(uses, dtype=np.bool_)  # whether a use is the last of its block so far
    in_group = np.zeros(uses // _GROUP + 1, dtype=np.int64)
    last: dict[int, int] = {}
    found, now = [], 0
    for prompt in blocks:
        distances = np.full(len(prompt), uses, dtype=np.int64)
        for at, block in enumerate(prompt):
            before = last.get(block)
            if before is not None:
                first, ends = before // _GROUP + 1, now // _GROUP
                if first > ends:
                    distances[at] = np.count_nonzero(is_last[before + 1 : now])
                else:
                    distances[at] = (
                        np.count_nonzero(is_last[before + 1 : first * _GROUP])
                        + int(in_group[first:ends].sum())
                        + np.count_nonzero(is_last[ends * _GROUP : now])
                    )
                is_last[before] = False
                in_group[before // _GROUP] -= 1
            is_last[now] = True
            in_group[now // _GROUP] += 1
            last[block] = now
            now += 1
        found.append(np.maximum.accumulate(distances))
    return tuple(found)


def hit_shares(trace: Trace, cache_tokens: Sequence[float]) -> Floats:
    """The share of all prompt tokens that caches of some sizes hold; of a prompt at least its last token is computed.

    Raises CatalogueError for a trace without blocks.
    """
    each = block_tokens(trace)
    blocks = trace.blocks or ()
    distances, uses = prefix_distances(blocks), sum(map(len, blocks))
    held = np.zeros(len(cache_tokens))
    for reach, prompt in zip(distances, trace.prompt_tokens.tolist(), strict=True):
        for at, tokens in enumerate(cache_tokens):
            hit = int(np.searchsorted(reach, float(round_down(min(tokens / each, uses))), side="left"))
            held[at] += min(hit * each, prompt - 1)
    return np.asarray(held / float(trace.prompt_tokens.sum()))
