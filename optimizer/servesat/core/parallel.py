"""Long runs: a task over many items, on one process or on several, each of which may die without harm to the others."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from signal import SIG_IGN, SIGINT, signal
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, NoReturn, TypeVar

from servesat.core.errors import ServesatError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from loky import ProcessPoolExecutor

Answer = TypeVar("Answer")
Item = TypeVar("Item")

WORTH_A_PROCESS = 500
"""Items below which starting another process takes longer than it saves."""

LARGEST_CHUNK = 64
"""Items handed to a process at a time: little enough to lose, enough to be worth the hand-over."""

ORPHAN_S = 1.0
"""Seconds between two looks of a process at whether the one that started it still lives."""


def workers_for(items: int) -> int:
    """How many processes a run of so many items is worth: one for a short run, else one a core."""
    return 1 if items < WORTH_A_PROCESS else os.cpu_count() or 1


def in_chunks(
    task: Callable[[range], Answer], items: range, workers: int, largest_chunk: int = LARGEST_CHUNK
) -> Iterator[Answer]:
    """Yield `task` of one chunk of items after another, in order; one worker is this process itself.

    `task` must be picklable when there are several workers, and must depend on nothing but its chunk for the answers to
    be the same with any number of them. Raises ServesatError where a process dies.
    """
    size = max(1, min(largest_chunk, len(items) // (4 * max(workers, 1))))
    chunks = (items[first : first + size] for first in range(0, len(items), size))
    if workers == 1:
        yield from map(task, chunks)
        return
    early: dict[int, Answer] = {}
    awaited = 0
    for number, answer in as_finished(partial(_numbered, task), enumerate(chunks), workers, _give_up):
        early[number] = answer
        while awaited in early:
            yield early.pop(awaited)
            awaited += 1


def _numbered(task: Callable[[Item], Answer], numbered: tuple[int, Item]) -> tuple[int, Answer]:
    number, item = numbered
    return number, task(item)


def _give_up(_: object) -> NoReturn:
    raise ServesatError(
        "a process died, out of memory or killed; what was finished is kept where the run writes a file: "
        "go on with --resume, and fewer --workers"
    )


def as_finished(
    task: Callable[[Item], Answer], items: Iterable[Item], workers: int, lost: Callable[[Item], Answer]
) -> Iterator[Answer]:
    """Yield the answer of each item as it finishes, in any order, from processes that have one item at a time.

    A process that dies takes no more than its item with it: `lost` answers for that, and another process takes its
    place. All of them end when this one does, however it does. `task` must be picklable.
    """
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    if workers < 1:
        raise ServesatError(f"workers = {workers}: expected at least 1")
    # loky replaces a process that has grown, and warns of the item that it was about to get, and gets later.
    warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
    idle = [_process() for _ in range(workers)]
    at_work: dict[Future[Answer], tuple[Item, ProcessPoolExecutor]] = {}
    left, answers = iter(items), list[Answer]()
    try:
        while True:
            for item in islice(left, len(idle)):
                process = idle.pop()
                at_work[process.submit(task, item)] = item, process
            yield from answers
            if not at_work:
                return
            answers = []
            for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                item, process = at_work.pop(future)
                try:
                    answers.append(future.result())
                except BrokenProcessPool:
                    process = _process()
                    answers.append(lost(item))
                idle.append(process)
    finally:
        for process in (*idle, *(process for _, process in at_work.values())):
            process.shutdown(wait=True, kill_workers=True)


def _process() -> "ProcessPoolExecutor":
    """One process, started with its first item; it lives until it is shut down."""
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(1, timeout=None, initializer=_serve, initargs=(os.getpid(),))


def _serve(parent: int) -> None:
    """Leave Ctrl-C, which reaches every process, to the one that started this, and end when that one has ended."""
    signal(SIGINT, SIG_IGN)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(ORPHAN_S)
    os._exit(1)
