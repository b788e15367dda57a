"""Swaps of single covers that bring what a period uses within its limits, in a moment."""

import numpy as np

from servesat.core.arrays import Floats, Ints


def swapped(used_by: Ints, usd: Floats, block: Ints, chosen: Ints, available: Ints) -> Ints:
    """The covers chosen for the blocks after swaps for others of the same block, as long as they reduce the excess.

    `used_by` has the shape [covers, limits], what each cover uses of each limit; `usd` and `block`, [covers], what it
    costs and the block that it is of; `chosen`, [blocks], the cover of each block; `available`, [limits]. The excess is
    what all chosen covers use beyond the limits. Of the swaps that reduce it, the one that costs least for each unit
    comes first.
    """
    chosen = chosen.copy()
    used = used_by[chosen].sum(axis=0)
    change, more_usd = used_by - used_by[chosen[block]], usd - usd[chosen[block]]
    while (excess := np.maximum(used - available, 0).sum()) > 0:
        less = excess - np.maximum(used + change - available, 0).sum(axis=1)
        if less.max() <= 0:
            break
        with np.errstate(divide="ignore"):
            best = int(np.argmin(np.where(less > 0, more_usd / np.maximum(less, 1), np.inf)))
        of_block = block == block[best]
        used = used + change[best]
        chosen[block[best]] = best
        change[of_block] = used_by[of_block] - used_by[best]
        more_usd[of_block] = usd[of_block] - usd[best]
    return chosen
