from pathlib import Path

from servesat.runs.provenance import digest


def test_a_change_far_down_a_long_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "demand.csv"
    path.write_text("chat\n" + "1.0\n" * 600_000)
    before = digest(path)
    with path.open("a") as file:
        file.write("2.0\n")
    assert digest(path) != before
    assert digest(tmp_path / "none") is None
