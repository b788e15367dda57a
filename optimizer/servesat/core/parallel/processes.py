"""Processes of this machine, by loky."""

import os
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from signal import SIG_IGN, SIGINT, signal
from threading import Thread
from time import sleep
from typing import Any, Generic

from loky import ProcessPoolExecutor

from servesat.core.parallel.pool import Answer, Item, Ticket, WorkerLostError

QUIET_CLEANUP = "ignore:resource_tracker:UserWarning"
"""Option `-W` of the processes that are started."""

ORPHAN_S = 1.0
"""Seconds between two checks of a process that its parent is alive."""

_task: list[Callable[[Any], Any]] = []
"""The task of this process, if it is one of a pool."""


class Processes(Generic[Item, Answer]):
    """Processes with a single item each; a new one replaces one that dies.

    They end with this process, even if it is killed. `task` must be picklable.
    """

    def __init__(self, task: Callable[[Item], Answer], workers: int) -> None:
        self.workers = workers
        self._task = task
        self._idle: list[ProcessPoolExecutor] = []
        self._running: dict[Future[Answer], ProcessPoolExecutor] = {}
        # loky replaces a process whose memory has grown, and warns about its next item, which is run all the same.
        warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
        # The process that cleans up after this one, if it is killed, would list every semaphore that it removes.
        if QUIET_CLEANUP not in sys.warnoptions:
            sys.warnoptions.append(QUIET_CLEANUP)

    def submit(self, item: Item) -> Ticket:
        """Hand an item to an idle process, or to a new one."""
        process = self._idle.pop() if self._idle else self._new_process()
        try:
            future = process.submit(_run, item)
        except BrokenProcessPool:  # it died while it was idle
            process = self._new_process()
            future = process.submit(_run, item)
        self._running[future] = process
        return future

    def wait(self) -> list[Ticket]:
        """Wait until at least one item has finished."""
        return list(wait(self._running, return_when=FIRST_COMPLETED).done)

    def answer(self, ticket: Ticket) -> Answer:
        """Return the answer of a finished item, or raise what the task raised, or WorkerLostError."""
        process, future = self._running.pop(ticket), ticket
        try:
            answer: Answer = future.result()
        except BrokenProcessPool:
            raise WorkerLostError from None
        except BaseException:
            self._idle.append(process)
            raise
        self._idle.append(process)
        return answer

    def cancel(self) -> None:
        """End all processes."""
        for process in (*self._idle, *self._running.values()):
            process.shutdown(wait=True, kill_workers=True)

    def _new_process(self) -> ProcessPoolExecutor:
        """A process that starts with its first item and lives until it is shut down."""
        return ProcessPoolExecutor(1, timeout=None, initializer=_prepare, initargs=(os.getpid(), self._task))


def _prepare(parent: int, task: Callable[[Any], Any]) -> None:
    """Keep the task, ignore Ctrl-C, which the parent handles, and end when the parent ends."""
    _task[:] = [task]
    signal(SIGINT, SIG_IGN)
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        sleep(ORPHAN_S)
    os._exit(1)


def _run(item: Any) -> Any:
    return _task[0](item)
