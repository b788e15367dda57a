"""The order of machines and dtypes, which decides between plans that tie in cost, speed and chips."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from servesat.candidates.layouts import Layouts
from servesat.core.arrays import Ints


def tie_order(layouts: Layouts) -> tuple[Ints, Ints]:
    """The rank of each of the places of some layouts, by chip, topology, sharding and offer; and of each of the dtypes.

    The shapes are [places] and [dtypes]. Of KV caches the narrowest is preferred, which leaves most memory free, and of
    engines those that the spec lists first.
    """
    kv_bytes = np.zeros(len(layouts.dtypes))
    kv_bytes[layouts.dtype] = layouts.replica.kv_token_bytes
    engines = list(dict.fromkeys(choice.engine for choice in layouts.dtypes))
    of_places = [(place.offer.chip.id, place.topology, place.sharding, place.offer.place) for place in layouts.places]
    of_dtypes = [
        (choice.weights, kv, *choice[1:3], engines.index(choice.engine), *choice[4:])
        for choice, kv in zip(layouts.dtypes, kv_bytes.tolist(), strict=True)
    ]
    return _ranks(of_places), _ranks(of_dtypes)


def _ranks(values: Sequence[Any]) -> Ints:
    """The position of each value among the distinct ones, sorted."""
    rank = {value: position for position, value in enumerate(sorted(set(values)))}
    return np.array([rank[value] for value in values], dtype=np.int64)
