import os
import signal
import time

import pytest

from servesat.core.parallel.processes import Processes

pytestmark = pytest.mark.slow


def pid(_: int) -> int:
    """A task that answers with its process."""
    return os.getpid()


def answer_of(pool: Processes[int, int], item: int) -> int:
    """The answer of an item that is run alone."""
    ticket = pool.submit(item)
    assert pool.wait() == [ticket]
    return pool.answer(ticket)


def test_a_process_that_dies_while_it_is_idle_is_replaced() -> None:
    pool = Processes(pid, 1)
    try:
        first = answer_of(pool, 0)
        assert answer_of(pool, 1) == first
        os.kill(first, signal.SIGKILL)
        (idle,) = pool._idle
        deadline = time.monotonic() + 20
        while idle._flags.broken is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert answer_of(pool, 2) != first
    finally:
        pool.cancel()
