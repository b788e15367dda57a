import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servesat.core.errors import ServesatError
from servesat.core.parallel.runs import Crew, Workers, as_finished, in_chunks
from tests.core.parallel.kills import children, no_row_is_lost_or_doubled

pytestmark = pytest.mark.slow


def dies_at_three(item: int) -> int:
    """A task whose process is gone before it answers for 3."""
    if item == 3:
        os._exit(9)
    return item


def test_a_process_that_dies_takes_one_item_with_it() -> None:
    answers = list(as_finished(dies_at_three, range(7), Workers(2), lambda item: -item))
    assert sorted(answers) == [-3, 0, 1, 2, 4, 5, 6]


def dies_once(note: Path) -> str:
    """A task whose process is gone the first time, which it notes, before it answers."""
    if not note.exists():
        note.touch()
        os._exit(9)
    return note.name


@pytest.mark.soak
def test_an_item_whose_process_dies_once_is_tried_again(tmp_path: Path) -> None:
    items = [tmp_path / str(number) for number in range(6)]
    assert sorted(as_finished(dies_once, items, Workers(2), lambda _: "lost")) == list("012345")


def chunk_with_three(items: range) -> list[int]:
    """A chunk of tasks, of which that of 3 ends its process."""
    return [dies_at_three(item) for item in items]


@pytest.mark.soak
def test_chunks_end_with_a_process_that_dies_twice_which_names_them() -> None:
    died = "the process that ran it died, and so did the next; out of memory, or killed"
    for largest, numbers in ((1, "3"), (2, "2 to 3")):
        with pytest.raises(ServesatError, match=f"^scenarios {numbers}: {died}$"):
            list(in_chunks(chunk_with_three, range(8 * largest), Workers(2), named="scenarios", largest_chunk=largest))
    chunks = in_chunks(chunk_with_three, range(4, 30), Workers(2), largest_chunk=2)
    assert list(chunks) == [[n, n + 1] for n in range(4, 30, 2)]


def pid_after(wait_s: float) -> tuple[float, int]:
    """A task that takes a while, and tells its process."""
    time.sleep(wait_s)
    return wait_s, os.getpid()


def test_a_crew_keeps_its_processes_and_answers_in_order() -> None:
    waits = [0.2, 0.0, 0.1, 0.0]
    with Crew(pid_after, Workers(2), lambda wait_s: (wait_s, 0)) as crew:
        rounds = [list(crew.in_order(waits)) for _ in range(3)]
    assert [[wait_s for wait_s, _ in answers] for answers in rounds] == [waits] * 3
    assert len({pid for answers in rounds for _, pid in answers}) == crew.size == 2
    with Crew(pid_after, Workers(), lambda wait_s: (wait_s, 0)) as alone:
        assert list(alone.in_order(waits[1:2])) == [(0.0, os.getpid())]


def test_workers_are_at_least_one() -> None:
    with pytest.raises(ServesatError, match=r"^workers = 0: expected a whole number of at least 1$"):
        Workers(0)


@pytest.mark.soak
def test_no_row_is_lost_or_doubled_at_whatever_moment_a_process_is_killed(tmp_path: Path) -> None:
    no_row_is_lost_or_doubled(Workers(2), lambda: children({os.getpid()}, b"popen_loky"), tmp_path)


def test_processes_end_with_the_run_that_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    starter = (
        "import os, sys, time\n"
        "from servesat.core.parallel.runs import Workers, as_finished\n"
        "def note(item):\n"
        f"    open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        "    time.sleep(100)\n"
        "list(as_finished(note, range(2), Workers(2), print))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", starter], stderr=subprocess.PIPE, text=True)
    while not pids.exists() or pids.read_text().count("\n") < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, map(int, pids.read_text().split()))):
        assert time.monotonic() < deadline, "processes outlive the run that started them"
        time.sleep(0.05)
    assert process.communicate()[1] == ""


def alive(pid: int) -> bool:
    """Whether a process runs: one that has ended may not be collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
