"""Runs of a task over many items, in this process or in several."""

import os
import sys
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

MIN_ITEMS_FOR_PROCESSES = 500
"""Number of items below which starting processes takes longer than it saves."""

LARGEST_CHUNK = 64
"""Items handed to a process at a time: few enough to lose, many enough to amortise the hand-over."""

QUIET_CLEANUP = "ignore:resource_tracker:UserWarning"
"""Option `-W` of the processes that are started."""

ORPHAN_S = 1.0
"""Seconds between two checks of a process that its parent is alive."""


def workers_for(items: int) -> int:
    """Processes for a run of `items` items: 1 for a short run, else one per core."""
    return 1 if items < MIN_ITEMS_FOR_PROCESSES else os.cpu_count() or 1


def in_chunks(
    task: Callable[[range], Answer],
    items: range,
    workers: int,
    largest_chunk: int = LARGEST_CHUNK,
    *,
    chunks_a_worker: int = 4,
) -> Iterator[Answer]:
    """Yield `task` of successive chunks of items, in order; with a single worker, in this process.

    Each worker gets `chunks_a_worker` of them at least, where there are so many items.

    With several workers `task` must be picklable. The answers do not depend on the number of workers if `task` depends
    on nothing but its chunk. Raises ServesatError if a process dies.
    """
    size = max(1, min(largest_chunk, len(items) // (chunks_a_worker * max(workers, 1))))
    chunks = (items[first : first + size] for first in range(0, len(items), size))
    if workers == 1:
        yield from map(task, chunks)
        return
    finished: dict[int, Answer] = {}
    next_chunk = 0
    for number, answer in as_finished(partial(_numbered, task), enumerate(chunks), workers, _give_up):
        finished[number] = answer
        while next_chunk in finished:
            yield finished.pop(next_chunk)
            next_chunk += 1


def _numbered(task: Callable[[Item], Answer], numbered_item: tuple[int, Item]) -> tuple[int, Answer]:
    number, item = numbered_item
    return number, task(item)


def _give_up(_: object) -> NoReturn:
    raise ServesatError(
        "a process died, out of memory or killed; what was finished is kept where the run writes a file: "
        "go on with --resume, and fewer --workers"
    )


def as_finished(
    task: Callable[[Item], Answer], items: Iterable[Item], workers: int, lost: Callable[[Item], Answer]
) -> Iterator[Answer]:
    """Yield the answer of each item as it finishes, in any order, from processes with a single item each.

    If a process dies, `lost` provides the answer of its item, and a new process replaces it. The processes end with
    this process, even if it is killed. `task` must be picklable. Raises ServesatError for less than 1 worker.
    """
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    if workers < 1:
        raise ServesatError(f"workers = {workers}: expected at least 1")
    # loky replaces a process whose memory has grown, and warns about its next item, which is run all the same.
    warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
    # The process that cleans up after this one, if it is killed, would list every semaphore that it removes.
    if QUIET_CLEANUP not in sys.warnoptions:
        sys.warnoptions.append(QUIET_CLEANUP)
    idle = [_new_process() for _ in range(workers)]
    running: dict[Future[Answer], tuple[Item, ProcessPoolExecutor]] = {}
    pending, answers = iter(items), list[Answer]()
    try:
        while True:
            for item in islice(pending, len(idle)):
                process = idle.pop()
                running[process.submit(task, item)] = item, process
            yield from answers
            if not running:
                return
            answers = []
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item, process = running.pop(future)
                try:
                    answers.append(future.result())
                except BrokenProcessPool:
                    process = _new_process()
                    answers.append(lost(item))
                idle.append(process)
    finally:
        for process in (*idle, *(process for _, process in running.values())):
            process.shutdown(wait=True, kill_workers=True)


def _new_process() -> "ProcessPoolExecutor":
    """A process that starts with its first item and lives until it is shut down."""
    from loky import ProcessPoolExecutor

    return ProcessPoolExecutor(1, timeout=None, initializer=_prepare_process, initargs=(os.getpid(),))


def _prepare_process(parent: int) -> None:
    """Ignore Ctrl-C, which the parent handles, and end when the parent ends."""
    signal(SIGINT, SIG_IGN)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(ORPHAN_S)
    os._exit(1)
