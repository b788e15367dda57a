"""Writing files that are replaced whole or not at all."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import exists, isdir, isfile
from pathlib import Path
from secrets import token_hex

from servesat.core.errors import ServesatError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft beside a file, which replaces it once the draft is complete and on disk; on any failure it is removed.

    A link stays, and the file that it points to is replaced. A device or a pipe is written to directly. Raises
    ServesatError naming `path` if anything cannot be written.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError, ValueError) as fault:  # a loop of links, or a zero byte
        raise ServesatError(f"{path}: cannot be written: {fault}") from None
    try:
        if isdir(target):
            raise ServesatError(f"{path}: is a folder, expected a file")
        if exists(target) and not isfile(target):
            yield target
            return
        draft = target.with_name(f".servesat-{token_hex(4)}{target.suffix}")
        try:
            yield draft
            _copy_mode(target, draft)
            _sync(draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as fault:
        raise ServesatError(f"{path}: cannot be written: {fault.strerror or fault}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file. Raises ServesatError."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there. Raises ServesatError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise ServesatError(f"{path}: no folder can be made: {reason}") from None


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file. Raises ServesatError."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def _copy_mode(target: Path, draft: Path) -> None:
    """Give a draft the permissions of the file that it replaces, if there is one."""
    if exists(target):
        draft.chmod(stat.S_IMODE(target.stat().st_mode))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
