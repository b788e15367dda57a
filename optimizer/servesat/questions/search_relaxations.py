"""Parts of a search that a correction may widen: which columns lie outside of them, and specs that are widened."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.core.arrays import Ints
from servesat.core.plan import Assignment
from servesat.core.result import Change
from servesat.spec.spec import Spec


class SearchRelaxation(StrEnum):
    """A part of the search that a correction may widen."""

    CHIP = "chip"
    TOPOLOGY = "topology"
    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"
    COMPUTE = "compute"
    MAX_BATCH = "max_batch"
    PAY = "pay"
    ENGINE = "engine"
    KV_LAYOUTS = "kv_layouts"


RELAXATION_BIT: dict[str, int] = {
    part: 1 << (len(REQUIREMENT_BIT) + position) for position, part in enumerate(SearchRelaxation)
}
"""The bit of each part in a mask, beyond those of requirements."""


def relaxation_masks(spec: Spec, columns: Columns) -> Ints:
    """The bits of the parts of the search that each column lies outside of; shape [columns]."""
    layouts, search = columns.layouts, spec.search
    searched = {chip.id: set(spec.topologies_of(chip)) for chip in spec.chips}
    kv_layouts, engines = set(spec.kv_layouts), set(spec.engine_ids)
    weights, kv_cache, compute = set(spec.weights), set(spec.kv_cache), set(spec.compute)
    outside_place = [
        (
            RELAXATION_BIT[SearchRelaxation.CHIP]
            if place.offer.chip.id not in searched
            else RELAXATION_BIT[SearchRelaxation.TOPOLOGY] * (place.topology not in searched[place.offer.chip.id])
        )
        + RELAXATION_BIT[SearchRelaxation.KV_LAYOUTS] * (place.sharding.kv_layout not in kv_layouts)
        for place in layouts.places
    ]
    outside_dtypes = [
        RELAXATION_BIT[SearchRelaxation.WEIGHTS] * (dtypes.weights not in weights)
        + RELAXATION_BIT[SearchRelaxation.KV_CACHE] * (dtypes.kv_cache not in kv_cache)
        + RELAXATION_BIT[SearchRelaxation.COMPUTE] * (dtypes.compute not in compute)
        + RELAXATION_BIT[SearchRelaxation.ENGINE] * (dtypes.engine not in engines)
        for dtypes in layouts.dtypes
    ]
    outside_batch = np.where(columns.batch > search.max_batch, RELAXATION_BIT[SearchRelaxation.MAX_BATCH], 0)
    masks: Ints = np.array(outside_place)[layouts.place] | np.array(outside_dtypes)[layouts.dtype] | outside_batch
    return masks


def relaxed_by(kind: str, assignment: Assignment) -> Change:
    """The change that widens a part of the search so that it holds the decisions of a plan."""
    widened_keys: dict[str, tuple[str, float | int | str, str]] = {
        SearchRelaxation.CHIP: ("search.chips", assignment.chip, ""),
        SearchRelaxation.TOPOLOGY: (f"search.topologies.{assignment.chip}", assignment.topology, ""),
        SearchRelaxation.WEIGHTS: ("search.weights", assignment.weights, ""),
        SearchRelaxation.KV_CACHE: ("search.kv_cache", assignment.kv_cache, ""),
        SearchRelaxation.COMPUTE: ("search.compute", assignment.compute, ""),
        SearchRelaxation.MAX_BATCH: ("search.max_batch", assignment.batch, "sequences"),
        SearchRelaxation.PAY: ("ici", "pay", ""),
        SearchRelaxation.ENGINE: ("engine", assignment.engine or "", ""),
        SearchRelaxation.KV_LAYOUTS: ("search.kv_layouts", str(assignment.kv_layout), ""),
    }
    key, new_value, unit = widened_keys[kind]
    name = str(Requirement.ICI if kind == SearchRelaxation.PAY else kind)
    return Change(requirement=name, key=key, value=new_value, unit=unit)


def changed(spec: Spec, changes: tuple[Change, ...]) -> Spec:
    """The spec with some changes."""
    return spec.changed(_as_keys(spec, changes))


def _as_keys(spec: Spec, changes: tuple[Change, ...]) -> Mapping[str, Any]:
    """The changes as keys of the spec: limits replaced, entries added to the search."""
    keys: dict[str, Any] = {}
    for change in changes:
        if change.requirement in spec.constraints:
            texts = keys.get("constraints", spec.constraints)
            moved = {change.requirement: str(change.value)}
            keys["constraints"] = tuple(moved.get(text, text) for text in texts)
            continue
        match change.requirement:
            case SearchRelaxation.CHIP:
                keys[change.key] = [*spec.chips, change.value]
            case SearchRelaxation.TOPOLOGY:
                chip = change.key.removeprefix("search.topologies.")
                slices = (*spec.search.topologies[chip], str(change.value))
                keys["search.topologies"] = {**spec.search.topologies, chip: slices}
            case SearchRelaxation.WEIGHTS:
                keys[change.key] = (*spec.weights, change.value)
            case SearchRelaxation.ENGINE:
                keys[change.key] = [*spec.engine, change.value]
            case SearchRelaxation.KV_LAYOUTS:
                keys[change.key] = (*spec.kv_layouts, change.value)
            case SearchRelaxation.KV_CACHE | SearchRelaxation.COMPUTE:
                keys[change.key] = (*getattr(spec, change.requirement), change.value)
            case _:
                keys[change.key] = change.value
    return keys
