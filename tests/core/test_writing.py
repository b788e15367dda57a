import os
from pathlib import Path

import pytest

from servesat.core.errors import ServesatError
from servesat.core.writing import replacing, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_text(path, "good")

    def run_out_of_space() -> None:
        with replacing(path) as draft:
            draft.write_text("half")
            raise OSError(28, os.strerror(28))

    with pytest.raises(ServesatError, match=r"out.csv: cannot be written: No space left on device"):
        run_out_of_space()
    assert path.read_text() == "good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_text(Path(os.devnull), "nothing")
    assert not Path(os.devnull).is_file()
    with pytest.raises(ServesatError, match=r"/dev/full: cannot be written: No space left on device"):
        write_text(Path("/dev/full"), "nothing")


@pytest.mark.parametrize("name", ["a" * 300, "no/such/folder", "x\0y"])
def test_a_name_that_cannot_be_written_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ServesatError, match="cannot be written"):
        write_text(tmp_path / name, "text")
    with pytest.raises(ServesatError, match="is a folder, expected a file"):
        write_text(tmp_path, "text")
