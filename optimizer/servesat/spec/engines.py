"""Engines of a spec: which are named, and what they let a search try unless the spec lists it."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationInfo

from servesat.catalogue.engine import Engine
from servesat.catalogue.load import engine_ids, load_engine
from servesat.catalogue.model import ModelSpec
from servesat.core.errors import SpecError
from servesat.core.plan import KvLayout
from servesat.core.validation import Dtype, refuse_duplicates, shorten
from servesat.spec.references import origin_of, resolved_at

ANY = "any"
"""Stands for every engine of the catalogue."""

NONE = "none"
"""Stands for no engine."""

LOSSLESS_ENOUGH = ("bf16", "fp8", "int8")
"""Dtypes of weights and of KV caches that are searched by default under engines."""


def resolve_engines(value: Any, info: ValidationInfo) -> tuple[Engine, ...]:
    """Resolve `engine`: an id, a program, a path, a mapping, a list of them, `any` or `none`. Raises SpecError."""
    return engines_at(value, origin_of(info))


def engines_at(value: Any, origin: tuple[str, Path]) -> tuple[Engine, ...]:
    """Resolve engines as `resolve_engines` does, with the origin (name of the file, its folder) given."""
    if value is None or value == NONE:
        return ()
    if value == ANY:
        return tuple(map(load_engine, engine_ids()))
    listed = [value] if isinstance(value, str | PathLike | Mapping | Engine) else value
    if not isinstance(listed, list | tuple) or len(listed) > 100:
        raise SpecError(
            f"{origin[0]}: engine = {shorten(value)}: expected an engine, a list of them, `{ANY}` or `{NONE}`"
        )
    keys = ["engine"] if listed and listed[0] is value else [f"engine.{at}" for at in range(len(listed))]
    found = tuple(resolved_at(one, origin, Engine, load_engine, key) for one, key in zip(listed, keys, strict=True))
    refuse_duplicates([engine.id for engine in found])
    return found


def weights_by_default(engines: Iterable[Engine], model: ModelSpec) -> tuple[str, ...]:
    """The dtype in which a model is published, and those that an engine makes of it or a known checkpoint has."""
    native = "bf16" if model.native is None else model.native.dtype
    made = {str(dtype) for dtype in model.checkpoints}
    made |= {str(dtype) for engine in engines for dtype in engine.own_checkpoints.get(model.id, {})}
    if native == "bf16":
        supports = [support for engine in engines for support in engine.runs]
        made |= {str(dtype) for support in supports for dtype, one in support.weights.items() if one.quantises}
    return (native, *(dtype for dtype in LOSSLESS_ENOUGH if dtype in made and dtype != native))


def kv_caches_by_default(engines: Iterable[Engine], model: ModelSpec) -> tuple[str, ...]:
    """The dtypes of a KV cache that some engine stores on some chip."""
    stored = {
        str(dtype)
        for engine in engines
        for support in engine.runs
        for dtype in engine.kv_dtypes(model, support.chips[0])
    }
    return tuple(dtype for dtype in LOSSLESS_ENOUGH if dtype in stored) or ("bf16",)


def computes_by_default(engines: Iterable[Engine], weights: Sequence[str]) -> tuple[str, ...]:
    """The dtypes that some engine's matmuls compute in with weights of these dtypes."""
    found = {
        str(compute)
        for engine in engines
        for support in engine.runs
        for dtype, one in support.weights.items()
        if dtype in weights
        for compute in one.compute
    }
    return tuple(dtype for dtype in get_args(Dtype) if dtype in found) or ("bf16",)


def kv_layouts_by_default(engines: Iterable[Engine], model: ModelSpec) -> tuple[KvLayout, ...]:
    """The KV layouts that some engine has for a model."""
    had = {layout for engine in engines for layout in engine.layouts_of(model)}
    return tuple(layout for layout in KvLayout if layout in had)
