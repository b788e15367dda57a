"""A long run on disk: each finished row is appended at once, so that a run that is cut off goes on where it stood."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from servesat.core.errors import ServesatError

Row = dict[str, Any]
RowPosition = Callable[[Row], int | None]
"""Where a row stands among the others; None where it is not wanted."""


class Memory:
    """The rows of a run that is not kept on disk."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self.done = 0

    def append(self, rows: Iterable[Row]) -> None:
        """Add finished rows."""
        self._rows += rows
        self.settle()

    def settle(self) -> None:
        """Count the rows again: an append may have been cut short."""
        self.done = len(self._rows)

    def rows(self) -> Iterator[Row]:
        """Every finished row, in order."""
        return iter(self._rows)

    def rows_by(self, place: RowPosition) -> Iterator[Row]:
        """The finished rows in the order of their places: the last of each place, and none without one."""
        latest = {number: row for row in self._rows if (number := place(row)) is not None}
        return (latest[number] for number in sorted(latest))

    def close(self) -> None:
        """Nothing is held open."""


class Journal:
    """The rows of a run in order, one JSON line each, below a line that names the run.

    It lies beside the file that the run is to write, until that is complete, and belongs to this process alone as long
    as it is open. A line that was cut off is dropped. Raises ServesatError where there is one already and `resume` is
    not asked for, where it is another run's, and where another process has it open.
    """

    def __init__(self, out: Path, question: str, *, resume: bool) -> None:
        self.path = out.with_name(out.name + ".partial")
        self._header = {"question": hashlib.sha256(question.encode()).hexdigest()}
        self.done = 0
        """Rows of it that are finished."""
        if self.path.is_dir():
            raise ServesatError(f"{self.path}: is a folder, where the rows of a run would be kept")
        self._file = _opened(self.path)
        if self._size and not resume:
            self.close()
            raise ServesatError(
                f"{self.path}: an earlier run was cut off here; go on with it with --resume, or delete the file"
            )
        self.settle()
        if not self._size:
            self._write([self._header])

    def append(self, rows: Iterable[Row]) -> None:
        """Add finished rows; they are on disk when this returns."""
        written = list(rows)
        self._write(written)
        self.done += len(written)

    def rows(self) -> Iterator[Row]:
        """Every finished row, in order, read back from disk. Raises ServesatError where one is damaged."""
        return (row for _, row in self._placed())

    def rows_by(self, place: RowPosition) -> Iterator[Row]:
        """The finished rows in the order of their places: the last of each place, and none without one.

        No more than where they are on disk is held at once. Raises ServesatError where one is damaged.
        """
        latest = {number: at for at, row in self._placed() if (number := place(row)) is not None}
        return (self._read(latest[number]) for number in sorted(latest))

    def close(self) -> None:
        """Leave the journal to whoever goes on with it."""
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: its rows are in the output."""
        self.close()
        self.path.unlink(missing_ok=True)

    def settle(self) -> None:
        """Count the whole lines, and cut off what follows the last of them: an append may have been cut short."""
        whole, self.done = 0, 0
        for number, (at, line) in enumerate(self._lines()):
            if not line.endswith(b"\n"):
                break
            if number == 0 and line != _line(self._header):
                self.close()
                raise ServesatError(f"{self.path}: belongs to another question; delete it, or write to another file")
            whole = at + len(line)
            self.done = number
        self._file.truncate(whole)

    @property
    def _size(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line with the place where it begins, whoever else reads between two of them."""
        at = 0
        while line := self._line_at(at):
            yield at, line
            at += len(line)

    def _line_at(self, at: int) -> bytes:
        self._file.seek(at)
        return self._file.readline()

    def _placed(self) -> Iterator[tuple[int, Row]]:
        lines = self._lines()
        next(lines)
        return ((at, self._read(at)) for at, _ in lines)

    def _read(self, at: int) -> Row:
        try:
            row = json.loads(self._line_at(at))
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ServesatError(f"{self.path}: is damaged at byte {at:,}; delete it, and start the run anew")
        return row

    def _write(self, records: list[Row]) -> None:
        try:
            self._file.write(b"".join(map(_line, records)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as fault:
            raise ServesatError(f"{self.path}: cannot be written: {fault.strerror}") from None


def _opened(path: Path) -> BinaryIO:
    """A file to read and to append to, that no other process may open so until this one has ended or closed it."""
    import portalocker

    try:
        file = path.open("a+b")
    except OSError as fault:
        raise ServesatError(f"{path}: cannot be written: {fault.strerror}") from None
    try:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (portalocker.AlreadyLocked, FileNotFoundError):
        pass
    except portalocker.LockException as fault:
        file.close()
        raise ServesatError(f"{path}: cannot be locked against another run: {fault}") from None
    file.close()
    raise ServesatError(f"{path}: another run is writing here; wait until it has ended, or write to another file")


def _line(record: Row) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def collect(chunks: Iterable[list[Row]], store: Journal | Memory, on_progress: Callable[[int, int], None]) -> bool:
    """Append the rows of a run as they finish; False where Ctrl-C cut it off, with what is done in the store.

    `on_progress` is told how many rows are added, and how many of them have an `error`.
    """
    try:
        for chunk in chunks:
            store.append(chunk)
            on_progress(len(chunk), sum(row.get("error") is not None for row in chunk))
    except KeyboardInterrupt:
        store.settle()
        return False
    return True
