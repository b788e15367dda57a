"""Long runs: a task over many chunks, on one process or several, in order whatever the number of processes."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import cpu_count
from signal import SIG_IGN, SIGINT, signal
from threading import current_thread, main_thread
from typing import TypeVar

from servesat.errors import ServesatError

Answer = TypeVar("Answer")
Item = TypeVar("Item")

WORTH_A_PROCESS = 500
"""Items below which starting another process takes longer than it saves."""

LARGEST_CHUNK = 64
"""Items handed to a process at a time: little enough to lose, enough to be worth the hand-over."""


def workers_for(items: int) -> int:
    """How many processes a run of so many items is worth: one for a short run, else one a core."""
    return 1 if items < WORTH_A_PROCESS else cpu_count() or 1


def in_chunks(
    task: Callable[[range], Answer], items: range, workers: int, largest_chunk: int = LARGEST_CHUNK
) -> Iterator[Answer]:
    """Yield `task` of one chunk of items after another, in order.

    `task` must be picklable when there are several workers, and must depend on nothing but its chunk for the answers to
    be the same with any number of them.
    """
    size = max(1, min(largest_chunk, len(items) // (4 * max(workers, 1))))
    chunks = (items[first : first + size] for first in range(0, len(items), size))
    return _on_processes(task, chunks, workers, "generator")


def as_finished(task: Callable[[int], Answer], items: Sequence[int], workers: int) -> Iterator[Answer]:
    """Yield `task` of each item as it finishes, in any order; `task` must be picklable when there are several workers.

    No item waits for another: one that takes long holds back none of the answers.
    """
    return _on_processes(task, items, workers, "generator_unordered")


def _on_processes(
    task: Callable[[Item], Answer], items: Iterable[Item], workers: int, return_as: str
) -> Iterator[Answer]:
    if workers < 1:
        raise ServesatError(f"workers = {workers}: expected at least 1")
    if workers == 1:
        yield from map(task, items)
        return
    from concurrent.futures.process import BrokenProcessPool

    from joblib import Parallel, delayed

    # A run that is cut off gives up what its other processes are at: there is nothing to warn of.
    warnings.filterwarnings("ignore", r"\d+ tasks (have been|which were)", UserWarning, "joblib")
    with _ctrl_c_ignored():
        answers = Parallel(n_jobs=workers, return_as=return_as)(delayed(task)(item) for item in items)
    try:
        yield from answers
    except BrokenProcessPool:
        raise ServesatError(
            "a process died, out of memory or killed; what was finished is kept where the run writes a file: "
            "go on with --resume, and fewer --workers"
        ) from None


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes started meanwhile leave Ctrl-C, which reaches all of them, to the one that started them."""
    if current_thread() is not main_thread():
        yield
        return
    handler = signal(SIGINT, SIG_IGN)
    try:
        yield
    finally:
        signal(SIGINT, handler)
