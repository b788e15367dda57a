from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servesat import ServesatError
from servesat.core.journal import Journal, Memory, collect


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every journal that a test opens is closed when it ends."""
    opened: list[Journal] = []
    start = Journal.__init__

    def noted(self: Journal, *arguments: Any, **named: Any) -> None:
        opened.append(self)
        start(self, *arguments, **named)

    monkeypatch.setattr(Journal, "__init__", noted)
    yield
    for journal in opened:
        if hasattr(journal, "_file"):
            journal.close()


def test_rows_are_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.csv", "question", resume=False)
    journal.append([{"a": 1}, {"a": 2}])
    journal.append([{"a": None}])
    assert (journal.done, list(journal.rows())) == (3, [{"a": 1}, {"a": 2}, {"a": None}])
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_goes_on_after_the_last_whole_row(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    journal = Journal(out, "question", resume=False)
    journal.append([{"a": 1}, {"a": 2}])
    path = journal.path
    journal.close()
    path.write_bytes(path.read_bytes()[:-4])  # cut off while the second row was written
    journal = Journal(out, "question", resume=True)
    assert journal.done == 1
    journal.append([{"a": 3}])
    assert list(journal.rows()) == [{"a": 1}, {"a": 3}]


def test_even_a_cut_off_first_line_is_recovered(tmp_path: Path) -> None:
    (tmp_path / "out.csv.partial").write_bytes(b'{"quest')
    journal = Journal(tmp_path / "out.csv", "question", resume=True)
    assert journal.done == 0
    journal.append([{"a": 1}])
    assert list(journal.rows()) == [{"a": 1}]


def test_an_earlier_run_is_never_overwritten(tmp_path: Path) -> None:
    Journal(tmp_path / "out.csv", "question", resume=False).close()
    with pytest.raises(ServesatError, match="an earlier run was cut off here; go on with it with --resume"):
        Journal(tmp_path / "out.csv", "question", resume=False)
    with pytest.raises(ServesatError, match="belongs to another question"):
        Journal(tmp_path / "out.csv", "another", resume=True)


def test_there_may_be_nothing_to_resume(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.csv", "question", resume=True)
    assert journal.done == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServesatError, match="cannot be written"):
        Journal(tmp_path / "none" / "out.csv", "question", resume=False)


def test_ctrl_c_keeps_what_is_done() -> None:
    def chunks() -> Iterator[list[dict[str, int]]]:
        yield [{"a": 1}, {"a": 2, "error": "why"}]
        raise KeyboardInterrupt

    memory, counted = Memory(), []
    assert collect(chunks(), memory, lambda *told: counted.append(told)) is False
    assert list(memory.rows()) == [{"a": 1}, {"a": 2, "error": "why"}]
    assert counted == [(2, 1)]
    assert collect([[{"a": 3}]], memory, lambda *_: None) is True
    assert memory.done == 3


def test_ctrl_c_in_the_middle_of_an_append_loses_no_row_that_is_on_disk(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.csv", "question", resume=False)

    def cut_short(rows: list[dict[str, int]]) -> None:
        Journal.append(journal, rows)
        journal.done -= len(rows)  # as if the count had not been reached
        with journal.path.open("ab") as file:
            file.write(b'{"a": 2')
        raise KeyboardInterrupt

    journal.append = cut_short  # type: ignore[method-assign,assignment]
    assert collect([[{"a": 1}]], journal, lambda *_: None) is False
    assert (journal.done, list(journal.rows())) == (1, [{"a": 1}])


@pytest.mark.parametrize("content", [b"not json\n", b"\xff\xfe\n", b'{"question": 1}\n', b"a line cut"])
def test_what_is_no_journal_of_this_question_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "out.csv.partial").write_bytes(content)
    with pytest.raises(ServesatError, match="belongs to another question"):
        Journal(tmp_path / "out.csv", "question", resume=True)


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "out.csv.partial").mkdir()
    with pytest.raises(ServesatError, match="is a folder"):
        Journal(tmp_path / "out.csv", "question", resume=True)


def test_no_two_runs_write_to_one_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.csv", "question", resume=False)
    for resume in (False, True):
        with pytest.raises(ServesatError, match=r"out\.csv\.partial: another run is writing here"):
            Journal(tmp_path / "out.csv", "question", resume=resume)
    journal.append([{"a": 1}])
    journal.close()
    journal = Journal(tmp_path / "out.csv", "question", resume=True)
    assert list(journal.rows()) == [{"a": 1}]


def test_a_damaged_row_is_told_with_its_place(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out.csv", "question", resume=False)
    at = journal.path.stat().st_size
    journal.append([{"a": 1}, {"a": 2}])
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:at] + b"\0" * 8 + content[at + 8 :])
    with pytest.raises(ServesatError, match=f"is damaged at byte {at}; delete it"):
        list(journal.rows())


@pytest.mark.parametrize("kept", ["memory", "disk"])
def test_the_last_row_of_a_place_counts(tmp_path: Path, kept: str) -> None:
    store = Memory() if kept == "memory" else Journal(tmp_path / "out.csv", "question", resume=False)
    store.append([{"at": 2, "a": 1}, {"at": 0, "a": 2}, {"at": None, "a": 3}, {"at": 2, "a": 4}])
    assert [row["a"] for row in store.rows_by(lambda row: row["at"])] == [2, 4]
