"""Which layouts can be left out before any batch is evaluated, because they have no plan or never the best one."""

from typing import Any

import numpy as np

from servesat.candidates.layouts import Dtypes, Layouts, decode_layouts
from servesat.candidates.requirements import structural_violations
from servesat.catalogue.chip import Chip
from servesat.core.arrays import Bools
from servesat.cost_model.storage import Storage
from servesat.spec.spec import Spec


def valid_layouts(spec: Spec) -> Layouts:
    """The decode layouts that violate no structural requirement: the others have no plan, whatever is relaxed."""
    layouts = decode_layouts(spec)
    return layouts.take(np.flatnonzero(structural_violations(spec, layouts) == 0))


def undominated_layouts(spec: Spec, layouts: Layouts, relaxed: int) -> Bools:
    """Which layouts a best plan could be among (dominance filter); shape [layouts].

    Left out are layouts that violate a structural requirement which is not `relaxed`; of the dtypes that give the same
    figures on a machine all but the first by id; and of those that differ in the KV cache alone all but the narrowest.
    A narrower cache holds more sequences and is read faster, so the others cost more, or tie and are slower. Where
    accuracy has a limit, or constraints choose, all dtypes stay.
    """
    valid: Bools = structural_violations(spec, layouts) & ~relaxed == 0
    if spec.search.max_quality_loss is not None or spec.expressions:
        return valid
    storage = Storage(spec.model, spec.int4_group)
    chips = {place.offer.chip.id: place.offer.chip for place in layouts.places}
    first = {name: _first_of_equivalent_dtypes(storage, chip, layouts.dtypes) for name, chip in chips.items()}
    first_of_place = np.array([first[place.offer.chip.id] for place in layouts.places])
    first_here: Bools = first_of_place[layouts.place, layouts.dtype]
    return valid & first_here


def _first_of_equivalent_dtypes(storage: Storage, chip: Chip, dtypes: tuple[Dtypes, ...]) -> list[bool]:
    """Which dtypes come first, by KV cache, then id, of those that give a chip the same weights and peak."""
    peaks = chip.flop_per_s.by_dtype()
    known = {name: (storage.weights(name), storage.is_published_in(name)) for name in {d.weights for d in dtypes}}
    figures = [
        (
            known[choice.weights],
            peaks.get(choice.compute),
            storage.fits_compute(choice.weights, choice.compute),
        )
        for choice in dtypes
    ]
    first: dict[Any, tuple[float, Dtypes]] = {}
    for key, choice in zip(figures, dtypes, strict=True):
        order = (storage.kv_token_bytes(choice.kv_cache), choice)
        first[key] = min(first.get(key, order), order)
    return [first[key][1] == choice for key, choice in zip(figures, dtypes, strict=True)]
