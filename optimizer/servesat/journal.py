"""A long run on disk: each finished row is appended at once, so that a run that is cut off goes on where it stood."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from servesat.errors import ServesatError

Row = dict[str, Any]


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

    def rows_by(self, key: str) -> Iterator[Row]:
        """Every finished row, in the order of one of its values."""
        return iter(sorted(self._rows, key=lambda row: row[key]))


class Journal:
    """The rows of a run in order, one JSON line each, below a line that names the run.

    It lies beside the file that the run is to write, until that is complete. A line that was cut off is dropped. Raises
    ServesatError where there is one already and `resume` is not asked for, or where it is another run's.
    """

    def __init__(self, out: Path, question: str, *, resume: bool) -> None:
        self.path = out.with_name(out.name + ".partial")
        self._header = {"question": hashlib.sha256(question.encode()).hexdigest()}
        self.done = 0
        """Rows of it that are finished."""
        if self.path.is_dir():
            raise ServesatError(f"{self.path}: is a folder, where the rows of a run would be kept")
        if self.path.exists():
            if not resume:
                raise ServesatError(
                    f"{self.path}: an earlier run was cut off here; go on with it with --resume, or delete the file"
                )
            self.settle()
        if not self.path.exists() or self.path.stat().st_size == 0:
            self._write([self._header])

    def append(self, rows: Iterable[Row]) -> None:
        """Add finished rows; they are on disk when this returns."""
        written = list(rows)
        self._write(written)
        self.done += len(written)

    def rows(self) -> Iterator[Row]:
        """Every finished row, in order, read back from disk."""
        with self.path.open("rb") as lines:
            next(lines)
            for line in lines:
                yield json.loads(line)

    def rows_by(self, key: str) -> Iterator[Row]:
        """Every finished row, in the order of one of its values; no more than their places are held at once."""
        with self.path.open("rb") as lines:
            lines.readline()
            places = []
            while line := lines.readline():
                places.append((json.loads(line)[key], lines.tell() - len(line)))
            for _, place in sorted(places):
                lines.seek(place)
                yield json.loads(lines.readline())

    def remove(self) -> None:
        """Delete the journal: its rows are in the output."""
        self.path.unlink()

    def _write(self, records: list[Row]) -> None:
        lines = b"".join(map(_line, records))
        try:
            with self.path.open("ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            raise ServesatError(f"{self.path}: cannot be written: {fault.strerror}") from None

    def settle(self) -> None:
        """Count the whole lines, and cut off what follows the last of them: an append may have been cut short."""
        whole, self.done = 0, 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines):
                if not line.endswith(b"\n"):
                    break
                if number == 0 and line != _line(self._header):
                    raise ServesatError(
                        f"{self.path}: belongs to another question; delete it, or write to another file"
                    )
                whole += len(line)
                self.done = number
        os.truncate(self.path, whole)


def _line(record: Row) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


def collect(chunks: Iterable[list[Row]], store: Journal | Memory, advance: Callable[[int], None]) -> bool:
    """Append the rows of a run as they finish; False where Ctrl-C cut it off, with what is done in the store."""
    try:
        for chunk in chunks:
            store.append(chunk)
            advance(len(chunk))
    except KeyboardInterrupt:
        store.settle()
        return False
    return True
