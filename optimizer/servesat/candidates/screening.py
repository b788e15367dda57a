"""Which layouts can be left out before any batch is evaluated, because they have no plan or never the best one."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from servesat.candidates.engines import Dtypes, runs
from servesat.candidates.enumeration import decode_layouts
from servesat.candidates.layouts import Layouts, ShardedSlice
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


def undominated_layouts(spec: Spec, relaxed: int, named: Collection[str] = ()) -> Layouts:
    """The decode layouts that a best plan could be among (dominance filter).

    Left out are layouts that violate a structural requirement which is not `relaxed`; of the dtypes that give the same
    figures on a machine, under one engine, all but the first by id; and of those that differ in the KV cache alone all
    but the narrowest.
    A narrower cache holds more sequences and is read faster, so the others cost more, or come later among ties. Where
    accuracy has a limit, or constraints choose, all dtypes stay.
    """
    all_dtypes = spec.search.max_quality_loss is not None or spec.expressions
    layouts = decode_layouts(spec, named, None if all_dtypes else partial(_first_of_alike, spec))
    return layouts.take(np.flatnonzero(structural_violations(spec, layouts) & ~relaxed == 0))


def _first_of_alike(spec: Spec, places: Sequence[ShardedSlice], dtypes: Sequence[Dtypes]) -> Bools:
    """Which dtypes come first of those that give the same figures at each place; shape [places, dtypes]."""
    stored, kv_bytes = _stored(Storage(spec.model, spec.int4_group), dtypes)
    chips = {place.offer.chip.id: place.offer.chip for place in places}
    of_engine = _under_engine(spec, list(chips), dtypes)
    first = {
        name: _first_alike(_reach(spec, chip), dtypes, list(zip(stored, engine, strict=True)), kv_bytes)
        for (name, chip), engine in zip(chips.items(), of_engine, strict=True)
    }
    return np.array([first[place.offer.chip.id] for place in places], dtype=np.bool_)


def _stored(storage: Storage, dtypes: Sequence[Dtypes]) -> tuple[list[tuple[int, bool]], list[float]]:
    """A number for what the weights of each choice of dtypes take, whether they fit its matmuls; and its KV cache.

    The latter is that of a token [bytes].
    """
    weights = {
        name: (
            storage.weights(name),
            storage.is_published_in(name),
            *(storage.scale_group(group, name) for group in TensorGroup),
        )
        for name in {choice.weights for choice in dtypes}
    }
    distinct = list(dict.fromkeys(weights.values()))
    number = {name: distinct.index(stored) for name, stored in weights.items()}
    kv_bytes = {name: storage.kv_token_bytes(name) for name in {d.kv_cache for d in dtypes}}
    stored = [(number[d.weights], storage.fits_compute(d.weights, d.compute)) for d in dtypes]
    return stored, [kv_bytes[choice.kv_cache] for choice in dtypes]


def _under_engine(spec: Spec, chips: Sequence[str], dtypes: Sequence[Dtypes]) -> list[list[Any]]:
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
    reach: Mapping[str, Any], dtypes: Sequence[Dtypes], alike: Sequence[Any], kv_bytes: Sequence[float]
) -> list[bool]:
    """Which dtypes come first, by KV cache, then id, of those that give a chip the same weights and peak."""
    keys = [(one, reach.get(choice.compute)) for one, choice in zip(alike, dtypes, strict=True)]
    first: dict[Any, tuple[float, Dtypes]] = {}
    for key, choice, kv in zip(keys, dtypes, kv_bytes, strict=True):
        if key not in first or (kv, choice) < first[key]:
            first[key] = kv, choice
    return [first[key][1] is choice for key, choice in zip(keys, dtypes, strict=True)]
