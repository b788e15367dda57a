"""The rows of a long run, appended as they finish, so that a run that was cut off can be resumed."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from os.path import isdir
from pathlib import Path
from typing import Any, BinaryIO

from servesat.core.errors import ServesatError

Row = dict[str, Any]
RowPosition = Callable[[Row], int | None]
"""The position of a row in the output; None leaves the row out."""


class Memory:
    """The rows of a run, in memory only."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self.done = 0

    def append(self, rows: Iterable[Row]) -> None:
        """Add finished rows."""
        self._rows += rows
        self.settle()

    def settle(self) -> None:
        """Recount the rows after an append that was cut short."""
        self.done = len(self._rows)

    def rows(self) -> Iterator[Row]:
        """Every finished row, in order."""
        return iter(self._rows)

    def rows_by(self, position: RowPosition) -> Iterator[Row]:
        """The last finished row of each position, sorted by position."""
        latest = {number: row for row in self._rows if (number := position(row)) is not None}
        return (latest[number] for number in sorted(latest))

    def close(self) -> None:
        """Do nothing: no file is open."""


class Journal:
    """The rows of a run on disk: a header line that identifies the run, then a JSON line per row.

    The journal lies next to the run's output file until that is complete, locked against other processes. An incomplete
    last line is dropped. Raises ServesatError if the journal exists and `resume` is False, belongs to another question,
    or is open in another process.
    """

    def __init__(self, out: Path, question: str, *, resume: bool) -> None:
        self.path = out.with_name(out.name + ".partial")
        self._header = {"question": hashlib.sha256(question.encode()).hexdigest()}
        self.done = 0
        """Number of finished rows."""
        if isdir(self.path):
            raise ServesatError(f"{self.path}: is a folder; expected the journal of a run")
        self._file = _open_locked(self.path)
        if self._size and not resume:
            self.close()
            raise ServesatError(
                f"{self.path}: an earlier run was cut off here; go on with it with --resume, or delete the file"
            )
        self.settle()
        if not self._size:
            self._write([self._header])

    def append(self, rows: Iterable[Row]) -> None:
        """Append finished rows and sync them to disk."""
        written = list(rows)
        self._write(written)
        self.done += len(written)

    def rows(self) -> Iterator[Row]:
        """Every finished row, in order, read from disk. Raises ServesatError for a damaged row."""
        return (row for _, row in self._rows_with_offset())

    def rows_by(self, position: RowPosition) -> Iterator[Row]:
        """The last finished row of each position, sorted by position; memory holds only offsets.

        Raises ServesatError for a damaged row.
        """
        latest = {number: offset for offset, row in self._rows_with_offset() if (number := position(row)) is not None}
        return (self._read(latest[number]) for number in sorted(latest))

    def close(self) -> None:
        """Close and unlock the journal; it stays on disk for a later run."""
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: its rows are in the output."""
        self.close()
        self.path.unlink(missing_ok=True)

    def settle(self) -> None:
        """Count the complete lines, and truncate what an append that was cut short left after them."""
        end, self.done = 0, 0
        for number, (offset, line) in enumerate(self._lines()):
            if number == 0 and line != _json_line(self._header)[: len(line)]:
                self.close()
                raise ServesatError(f"{self.path}: belongs to another question; delete it, or write to another file")
            if not line.endswith(b"\n"):
                break
            end = offset + len(line)
            self.done = number
        self._file.truncate(end)

    @property
    def _size(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line with its offset; other reads may move the file position in between."""
        offset = 0
        while line := self._line_at(offset):
            yield offset, line
            offset += len(line)

    def _line_at(self, offset: int) -> bytes:
        self._file.seek(offset)
        return self._file.readline()

    def _rows_with_offset(self) -> Iterator[tuple[int, Row]]:
        lines = self._lines()
        next(lines)
        return ((offset, self._read(offset)) for offset, _ in lines)

    def _read(self, offset: int) -> Row:
        try:
            row = json.loads(self._line_at(offset))
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ServesatError(f"{self.path}: is damaged at byte {offset:,}; delete it, and start the run anew")
        return row

    def _write(self, records: list[Row]) -> None:
        try:
            self._file.write(b"".join(map(_json_line, records)))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as fault:
            raise ServesatError(f"{self.path}: cannot be written: {fault.strerror}") from None


def _open_locked(path: Path) -> BinaryIO:
    """Open a file for reading and appending, locked against other processes. Raises ServesatError."""
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


def _json_line(record: Row) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def collect(chunks: Iterable[list[Row]], store: Journal | Memory, on_progress: Callable[[int, int], None]) -> bool:
    """Append the rows of a run as they finish; False if Ctrl-C stopped the run, with the finished rows stored.

    `on_progress` receives the number of rows added and the number of them with an `error`. What ends the run otherwise
    says where the finished rows are.
    """
    try:
        for chunk in chunks:
            store.append(chunk)
            on_progress(len(chunk), sum(row.get("error") is not None for row in chunk))
    except KeyboardInterrupt:
        store.settle()
        return False
    except ServesatError as fault:
        if isinstance(store, Journal) and store.done:
            raise ServesatError(f"{fault}; {store.path} keeps the {store.done:,} rows so far for --resume") from None
        raise
    return True
