"""Which layouts can be left out before any batch is evaluated, because they have no plan or never the best one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from servesat.candidates.engines import Dtypes, runs
from servesat.candidates.layouts import Layouts, decode_layouts
from servesat.candidates.requirements import structural_violations
from servesat.catalogue.chip import Chip
from servesat.catalogue.model import TensorGroup
from servesat.core.arrays import Bools
from servesat.core.plan import Mode
from servesat.cost_model.storage import Storage
from servesat.spec.spec import Spec


def valid_layouts(spec: Spec) -> Layouts:
    """The decode layouts that violate no structural requirement: the others have no plan, whatever is relaxed."""
    layouts = decode_layouts(spec)
    return layouts.take(np.flatnonzero(structural_violations(spec, layouts) == 0))


def undominated_layouts(spec: Spec, layouts: Layouts, relaxed: int) -> Bools:
    """Which layouts a best plan could be among (dominance filter); shape [layouts].

    Left out are layouts that violate a structural requirement which is not `relaxed`; of the dtypes that give the same
    figures on a machine, under one engine, all but the first by id; and of those that differ in the KV cache alone all
    but the narrowest.
    A narrower cache holds more sequences and is read faster, so the others cost more, or tie and are slower. Where
    accuracy has a limit, or constraints choose, all dtypes stay.
    """
    valid: Bools = structural_violations(spec, layouts) & ~relaxed == 0
    if spec.search.max_quality_loss is not None or spec.expressions:
        return valid
    stored, kv_bytes = _stored(Storage(spec.model, spec.int4_group), layouts.dtypes)
    chips = {place.offer.chip.id: place.offer.chip for place in layouts.places}
    of_engine = _under_engine(spec, list(chips), layouts.dtypes)
    first = {
        name: _first_alike(_reach(spec, chip), layouts.dtypes, list(zip(stored, engine, strict=True)), kv_bytes)
        for (name, chip), engine in zip(chips.items(), of_engine, strict=True)
    }
    first_of_place = np.array([first[place.offer.chip.id] for place in layouts.places])
    first_here: Bools = first_of_place[layouts.place, layouts.dtype]
    return valid & first_here


def _stored(storage: Storage, dtypes: tuple[Dtypes, ...]) -> tuple[list[Any], list[float]]:
    """What the weights of each choice of dtypes take and whether they fit its matmuls; and the KV cache of a token."""
    weights = {
        name: (
            storage.weights(name),
            storage.is_published_in(name),
            *(storage.scale_group(group, name) for group in TensorGroup),
        )
        for name in {choice.weights for choice in dtypes}
    }
    kv_bytes = {name: storage.kv_token_bytes(name) for name in {d.kv_cache for d in dtypes}}
    stored = [(weights[d.weights], storage.fits_compute(d.weights, d.compute)) for d in dtypes]
    return stored, [kv_bytes[choice.kv_cache] for choice in dtypes]


def _under_engine(spec: Spec, chips: Sequence[str], dtypes: tuple[Dtypes, ...]) -> list[list[Any]]:
    """What keeps dtypes apart on each chip: the engine, whether it runs them, and a KV cache that it may not split."""
    run = runs(spec, chips, dtypes)
    splits = {engine.id: engine.split_kv_cache for engine in spec.engine}
    # pools on chips of two types share one dtype of the cache, which may not be the narrowest of either
    shared = bool(spec.engine) and spec.mixes_pools and Mode.DISAGGREGATED in spec.modes
    unsplit = [d.kv_cache if shared or d.kv_cache not in splits.get(d.engine, (d.kv_cache,)) else None for d in dtypes]
    return [
        [
            (choice.engine, choice.draft, choice.draft_tokens, bool(able), kept)
            for choice, able, kept in zip(dtypes, row, unsplit, strict=True)
        ]
        for row in run
    ]


def _reach(spec: Spec, chip: Chip) -> dict[str, Any]:
    """What matmuls reach on a chip by their dtype: its peak, and under the calibrated cost model its share of it."""
    peaks, calibration = chip.flop_per_s.by_dtype(), spec.calibration
    if calibration is None:
        return dict(peaks)
    return {dtype: (peak, calibration.reach_of(chip.id, dtype)) for dtype, peak in peaks.items()}


def _first_alike(
    reach: Mapping[str, Any], dtypes: tuple[Dtypes, ...], stored: Sequence[Any], kv_bytes: Sequence[float]
) -> list[bool]:
    """Which dtypes come first, by KV cache, then id, of those that give a chip the same weights and peak."""
    figures = [(alike, reach.get(choice.compute)) for alike, choice in zip(stored, dtypes, strict=True)]
    first: dict[Any, tuple[float, Dtypes]] = {}
    for key, choice, kv in zip(figures, dtypes, kv_bytes, strict=True):
        first[key] = min(first.get(key, (kv, choice)), (kv, choice))
    return [first[key][1] == choice for key, choice in zip(figures, dtypes, strict=True)]
