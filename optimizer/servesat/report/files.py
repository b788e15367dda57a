"""Tables streamed to CSV, Parquet or JSON files, which appear only when they are complete."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from servesat.core.errors import ServesatError
from servesat.core.writing import replacing

TABLES = (".csv", ".parquet", ".json")
"""Extensions of table files."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the start of a formula, or skips before one."""

Row = Mapping[str, Any]

ROWS_PER_GROUP = 1000


def write_table(
    path: Path,
    rows: Iterable[Row],
    *,
    columns: Mapping[str, type],
    flatten: Callable[[Row], Row],
    head: Row,
    under: str,
) -> None:
    """Write rows in the format of the file's extension; memory does not grow with their number.

    CSV and Parquet hold flattened rows under `columns`; JSON is the output of `json_lines`. The file appears when it is
    complete. Raises ServesatError.
    """
    with replacing(path) as draft:
        match path.suffix:
            case ".csv":
                _write_csv(draft, map(flatten, rows), columns)
            case ".parquet":
                _write_parquet(draft, map(flatten, rows), columns)
            case ".json":
                _write_json(draft, json_lines(rows, head, under))
            case other:
                raise ServesatError(f"{path}: cannot write a '{other}' file; expected {', '.join(TABLES)}")


def _write_csv(path: Path, records: Iterable[Row], columns: Mapping[str, type]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows({name: _no_formula(value) for name, value in record.items()} for record in records)


def _no_formula(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _write_parquet(path: Path, records: Iterable[Row], columns: Mapping[str, type]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with ParquetWriter(path, schema) as writer:
        remaining = iter(records)
        while group := list(islice(remaining, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def _write_json(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def json_lines(rows: Iterable[Row], head: Row, under: str) -> Iterator[str]:
    """A JSON document with a line per row: the keys of `head`, and the rows under the key `under`."""
    opening = json.dumps({**head, under: []}, allow_nan=False)
    yield opening.removesuffix("]}")
    previous = None
    for row in rows:
        if previous is not None:
            yield previous + ","
        previous = json.dumps(row, allow_nan=False)
    yield (previous or "") + "]}"
