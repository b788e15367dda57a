"""What a spec names by an id or the path of a file, or writes out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from servesat.core.errors import CatalogueError, SpecError
from servesat.core.validation import Strict, shorten, validate

INLINE = "spec"
"""Where a spec that was not read from a file is said to be."""


def resolved(value: Any, info: ValidationInfo, record: type[Strict], load: Callable[..., Any], key: str) -> Any:
    """The record that a spec names by id, by the path of a file, or writes out as a mapping. Raises SpecError."""
    return resolved_at(value, origin_of(info), record, load, key)


def resolved_at(value: Any, origin: tuple[str, Path], record: type[Strict], load: Callable[..., Any], key: str) -> Any:
    """The same for what stands in a file, or in a mapping that a folder goes with. Raises SpecError."""
    where, folder = origin
    if isinstance(value, str):
        try:
            return load(value, folder)
        except CatalogueError as fault:
            raise SpecError(f"{where}: {key} = {shorten(value)}: {fault}") from None
    if isinstance(value, Mapping):
        return validate(record, value, where=where, error=SpecError, prefix=key)
    if not isinstance(value, record):
        raise SpecError(f"{where}: {key} = {shorten(value)}: expected an id, the path of a file, or a mapping")
    return value


def origin_of(info: ValidationInfo) -> tuple[str, Path]:
    """Where what is validated stands, in words, and the folder that its paths are relative to."""
    context = info.context or {}
    return context.get("where", INLINE), context.get("folder", Path())
