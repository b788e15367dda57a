"""Runs of which a worker is killed at some moment."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

from servesat.core.journal import Journal, collect
from servesat.core.parallel.runs import Workers, in_chunks
from tests.strategies import MORE

TRIES = max(4, round(67 * MORE))  # 20 by default
ROWS = 240


def rows_after(numbers: range) -> list[dict[str, Any]]:
    """A task that takes 5 ms a row."""
    time.sleep(0.005 * len(numbers))
    return [{"number": number} for number in numbers]


def children(parents: set[int], mark: bytes) -> list[int]:
    """The processes that some processes started, with a mark in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in parents and mark in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def no_row_is_lost_or_doubled(workers: Workers, found: Callable[[], list[int]], folder: Path) -> None:
    """Kill one of the workers that are found at a random moment of each run, and hold every journal."""
    random, struck = Random(0), 0
    for number in range(TRIES):
        over, killed = [False], list[int]()

        def kill(wait_s: float, over: list[bool] = over, killed: list[int] = killed) -> None:
            while not over[0] and not found():
                time.sleep(0.01)
            time.sleep(wait_s)
            victims = [] if over[0] else found()
            if victims:
                killed.append(random.choice(victims))
                os.kill(killed[0], signal.SIGKILL)

        killer = Thread(target=kill, args=(random.uniform(0.0, 0.8),))
        with closing(Journal(folder / f"{number}.csv", "which rows?", resume=False)) as store:
            killer.start()
            chunks = in_chunks(rows_after, range(ROWS), workers, largest_chunk=8)
            assert collect(chunks, store, lambda *_: None)
            over[0] = True
            killer.join()
            assert [row["number"] for row in store.rows()] == list(range(ROWS)), f"try {number}"
        struck += len(killed)
    assert struck >= TRIES // 4, f"only {struck} runs lost a worker"
