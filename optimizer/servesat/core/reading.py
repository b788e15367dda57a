"""Reading YAML, TOML and JSON files that people write."""

import csv
import json
import math
import os
import re
import select
import stat
import sys
import tomllib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import yaml

from servesat.core.errors import ServesatError

MAX_FILE_BYTES = 1_000_000
"""A spec, a model or a chip takes a few kilobytes; anything larger is the wrong file."""

MAX_WAIT_S = 10.0
"""How long a pipe may stay silent."""

STANDARD_INPUT = Path("-")
"""The name by which a command reads standard input."""

MAX_STANDARD_INPUT_BYTES = 20_000_000
"""The largest file that standard input may stand for: a certificate."""


def read_yaml(path: Path, error: type[ServesatError]) -> object:
    """Read a YAML file as `parse_yaml` reads its text. Raises `error`."""
    return parse_yaml(read_text(path, error), shown(path), error)


def read_mapping(
    source: Mapping[str, Any] | str | Path,
    inline: str,
    keys: Iterable[str],
    error: type[ServesatError],
    folder: Path = Path(),
) -> tuple[Mapping[str, Any], str, Path]:
    """A mapping, as given or from a YAML file; its name in errors; and the folder that its paths are relative to.

    A mapping as given is named `inline`, and its folder is `folder`. Raises `error` for anything but a mapping.
    """
    data: object = source
    where = inline
    if not isinstance(source, Mapping):
        if not isinstance(source, str | Path) or not str(source).strip():
            raise error(f"{inline} = {source!r:.60}: expected a mapping, or the path of a file")
        path = Path(source)
        data, where, folder = read_yaml(path, error), shown(path), path.parent
    if not isinstance(data, Mapping):
        what = "is empty; " if data is None else "is TOML, not YAML or JSON; " if where.endswith(".toml") else ""
        raise error(f"{where}: {what}expected a mapping with the keys {', '.join(keys)}")
    return data, where, folder


def parse_yaml(text: str, where: str, error: type[ServesatError]) -> object:
    """Parse a YAML document: numbers as in YAML 1.2, no duplicate keys, no aliases.

    Raises `error` with line and column.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        place = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise error(f"{where}: malformed YAML:{place} {fault.problem or fault.context}") from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as fault:
        # PyYAML's constructors raise any of these when an explicit tag does not fit its value.
        raise error(f"{where}: malformed YAML: {' '.join(str(fault).split())}") from None
    except RecursionError:
        raise error(f"{where}: malformed YAML: nested too deeply") from None


def read_toml(path: Path, error: type[ServesatError], max_bytes: int = MAX_FILE_BYTES) -> dict[str, Any]:
    """Read a TOML file of at most `max_bytes`. Raises `error` with line and column."""
    try:
        return tomllib.loads(read_text(path, error, max_bytes))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as fault:
        raise error(f"{shown(path)}: malformed TOML: {fault}") from None


def read_json(
    path: Path, error: type[ServesatError], *, max_bytes: int = MAX_FILE_BYTES, infinite: bool = False
) -> object:
    """Read a JSON file. Raises `error` for malformed text, duplicate keys, and, unless `infinite`, for such numbers."""
    return _parse_json(read_text(path, error, max_bytes), shown(path), error, infinite=infinite)


def read_json_lines(
    path: Path, error: type[ServesatError], *, max_bytes: int = MAX_FILE_BYTES, infinite: bool = False
) -> list[object]:
    """Read a file of one JSON document, or of one in each line, as `read_json` reads it. Errors name the line."""
    text, where = read_text(path, error, max_bytes), shown(path)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) < 2 or not lines[1][1].startswith("{"):  # a document over several lines indents the second
        return [_parse_json(text, where, error, infinite=infinite)]
    in_place = ("\n" * (number - 1) + line for number, line in lines)  # errors then name the line of the file
    return [_parse_json(one, where, error, infinite=infinite) for one in in_place]


def _parse_json(text: str, where: str, error: type[ServesatError], *, infinite: bool) -> object:
    fields, constant = (_unique_fields, float) if infinite else (_finite_fields, _refuse_constant)
    try:
        return json.loads(text, object_pairs_hook=fields, parse_constant=constant)
    except (json.JSONDecodeError, ValueError, RecursionError) as fault:
        raise error(f"{where}: malformed JSON: {fault}") from None


def require_commas(header: Sequence[str], name: object, error: type[ServesatError]) -> None:
    """Raise `error` for the header of a table whose cells are separated otherwise."""
    if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise error(f"{name}: expected cells separated by commas, not by {other!r}")


def table_rows(
    file: Iterable[str], name: object, error: type[ServesatError]
) -> tuple[list[str], Iterator[tuple[int, dict[str, str | None]]]]:
    """The header of a CSV file, and its rows with their lines; cells that a row lacks at its end are None.

    Raises `error`, with the line, for malformed CSV, a column that is named twice, and more cells than the header has.
    """
    reader = csv.reader(file)

    def lines() -> Iterator[list[str]]:
        try:
            yield from filter(None, reader)
        except csv.Error as fault:
            raise error(f"{name}: line {reader.line_num}: malformed CSV: {fault}") from None

    def rows() -> Iterator[tuple[int, dict[str, str | None]]]:
        for cells in every:
            if any(cell.strip() for cell in cells[len(header) :]):
                raise error(
                    f"{name}: line {reader.line_num}: expected {len(header)} cells as in the header, not {len(cells)}"
                )
            missing = [None] * (len(header) - len(cells))
            yield reader.line_num, dict(zip(header, [*cells, *missing], strict=False))

    every = lines()
    header = [column.strip() for column in next(every, [])]
    require_commas(header, name, error)
    twice = next((column for column in header if column and header.count(column) > 1), None)
    if twice is not None:
        raise error(f"{name}: the column {twice!r} is written twice")
    return header, rows()


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in pairs:
        if key in fields:
            raise ValueError(f"{key!r} is listed twice")
        fields[key] = value
    return fields


def _finite_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key, value in pairs:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} = {value}: expected a finite number")
    return _unique_fields(pairs)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name}: expected a finite number")


def shown(path: Path) -> str:
    """The name of a file in an error."""
    return "<stdin>" if path == STANDARD_INPUT else str(path)


def read_text(path: Path, error: type[ServesatError], max_bytes: int = MAX_FILE_BYTES) -> str:
    """Read a UTF-8 text file, a pipe, or, for `-`, standard input, of at most `max_bytes`.

    A pipe is given MAX_WAIT_S for its next bytes. Raises `error` for any other kind of file, and for what is too large
    or no text.
    """
    try:
        content = _read_bytes(path, error, max_bytes)
        if len(content) > max_bytes:
            raise error(f"{shown(path)}: expected at most {max_bytes:,} bytes")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, ValueError) as fault:
        reason = "is not UTF-8 text" if isinstance(fault, UnicodeDecodeError) else getattr(fault, "strerror", fault)
        raise error(f"{shown(path)}: cannot be read: {reason}") from None


@contextmanager
def opened_text(path: Path, error: type[ServesatError], max_bytes: int) -> Iterator[TextIO]:
    """A UTF-8 text file of at most `max_bytes`, open to be read line by line, its line ends as they are.

    Raises `error` for any other kind of file, a pipe too, and for what is too large or, once read, no text.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise error(f"{path}: is a folder, expected a file")
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: is a pipe or a device, expected a file")
        if status.st_size > max_bytes:
            raise error(f"{path}: expected at most {max_bytes:,} bytes")
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as fault:
        reason = "is not UTF-8 text" if isinstance(fault, UnicodeDecodeError) else fault.strerror
        raise error(f"{path}: cannot be read: {reason}") from None


def _read_bytes(path: Path, error: type[ServesatError], max_bytes: int) -> bytes:
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise error("<stdin>: standard input is closed")
        return _standard_input(sys.stdin)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise error(f"{path}: is a folder, expected a file")
    if stat.S_ISFIFO(mode):
        return _read_pipe(path, error, max_bytes)
    if not stat.S_ISREG(mode):
        raise error(f"{path}: is a device, expected a file")
    with path.open("rb") as file:
        return file.read(max_bytes + 1)


@lru_cache(maxsize=1)
def _standard_input(stream: TextIO) -> bytes:
    """What standard input holds, kept: it can be read only once, and its kind is told before it is parsed."""
    return stream.buffer.read(MAX_STANDARD_INPUT_BYTES + 1)


def _read_pipe(path: Path, error: type[ServesatError], max_bytes: int) -> bytes:
    """What is written to a named pipe until its writer closes it; opening it must not wait for a writer."""
    pipe, content = os.open(path, os.O_RDONLY | os.O_NONBLOCK), b""
    try:
        while len(content) <= max_bytes:
            ready, _, _ = select.select([pipe], [], [], MAX_WAIT_S)
            if not ready:
                raise error(f"{path}: nothing was written to this pipe for {MAX_WAIT_S:g} s")
            written = os.read(pipe, MAX_FILE_BYTES)
            if not written:
                break
            content += written
    finally:
        os.close(pipe)
    if not content:
        raise error(f"{path}: nothing is written to this pipe")
    return content


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads numbers as YAML 1.2 does (`8e9` yes, `1:30` no) and refuses duplicate keys and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not supported; write the value out", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                problem = "merge keys (<<) are not supported; write the keys out"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"{key!r} is written twice", problem_mark=key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))


_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)
