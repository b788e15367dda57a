"""What a spec was read from: itself, and every file that it names, so that a change of any of them is seen."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from servesat.core.errors import ServesatError
from servesat.core.validation import read_yaml

YAML = {".yaml", ".yml"}


def files_behind(spec: Path) -> dict[str, str | None]:
    """The digest of a spec and of each file it names, by path, as of now: deployments, models, chips, prices, columns.

    Any text in it that is the path of a file, relative to it, counts as its name; a spec named so is looked into too.
    """
    found: dict[str, str | None] = {}
    unread = [spec]
    while unread:
        path = unread.pop()
        if str(path) not in found:
            found[str(path)] = digest(path)
            if path.suffix.lower() in YAML:
                unread += _named_in(path)
    return found


def digest(path: str | Path) -> str | None:
    """The SHA-256 of a file's content; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _named_in(path: Path) -> list[Path]:
    try:
        data = read_yaml(path, ServesatError)
    except ServesatError:  # whoever solves it will say so
        return []
    named = [path.parent / text for text in _texts(data)]
    return [file for one in named for file in (one, one / "config.json") if _is_file(file)]


def _texts(data: object) -> Iterator[str]:
    """Every text in a document, but its keys."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)


def _is_file(path: Path) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # no path can hold a zero byte
        return False
