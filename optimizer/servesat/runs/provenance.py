"""Digests of a spec and of the files it names, by which a resumed batch sees what has changed."""

import hashlib
from collections.abc import Iterator, Mapping
from os.path import isfile
from pathlib import Path

from servesat.core.errors import ServesatError
from servesat.core.reading import read_yaml

YAML = {".yaml", ".yml"}


def files_behind(spec: Path) -> dict[str, str | None]:
    """Digest a spec and each file it names, directly or through another spec; keys are paths.

    Any text in a spec that is the path of a file, relative to the spec, counts as a name of that file.
    """
    digests: dict[str, str | None] = {}
    pending = [spec]
    while pending:
        path = pending.pop()
        if str(path) not in digests:
            digests[str(path)] = digest(path)
            if path.suffix.lower() in YAML:
                pending += _files_named_in(path)
    return digests


def digest(path: str | Path) -> str | None:
    """The SHA-256 of a file's content; None where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _files_named_in(path: Path) -> list[Path]:
    try:
        data = read_yaml(path, ServesatError)
    except ServesatError:  # solving the spec reports the error
        return []
    candidates = [path.parent / text for text in _texts(data)]
    return [file for candidate in candidates for file in (candidate, candidate / "config.json") if isfile(file)]


def _texts(data: object) -> Iterator[str]:
    """Every text in a document except its keys."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)
