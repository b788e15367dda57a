"""Records that a spec refers to by id or path, or contains inline."""

from collections.abc import Callable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from servesat.core.errors import CatalogueError, SpecError
from servesat.core.validation import Strict, shorten, validate

INLINE = "spec"
"""Stands for the file in errors of a spec that was not read from a file."""


def resolved(value: Any, info: ValidationInfo, record: type[Strict], load: Callable[..., Any], key: str) -> Any:
    """Resolve an id, the path of a file or an inline mapping to a record. Raises SpecError."""
    return resolved_at(value, origin_of(info), record, load, key)


def resolved_at(value: Any, origin: tuple[str, Path], record: type[Strict], load: Callable[..., Any], key: str) -> Any:
    """Resolve as `resolved` does, with the origin (name of the file, its folder) given. Raises SpecError."""
    where, folder = origin
    value = fspath(value) if isinstance(value, PathLike) else value
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
    """The name of the file under validation, and the folder that its paths are relative to."""
    context = info.context or {}
    return context.get("where", INLINE), context.get("folder", Path())
