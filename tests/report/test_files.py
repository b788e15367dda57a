import csv
from pathlib import Path
from typing import Any

from servesat.report.files import write_table


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "plain", "a=b"]
    rows: list[dict[str, Any]] = [{"name": name, "usd": -1.5} for name in names]
    path = tmp_path / "out.csv"
    write_table(path, rows, columns={"name": str, "usd": float}, flatten=lambda row: row, head={}, under="rows")
    with path.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["name"] for row in written] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "plain", "a=b"]
    assert {row["usd"] for row in written} == {"-1.5"}
