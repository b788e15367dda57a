"""Runs of a task over many items, in this process or by the workers of a pool."""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NoReturn

from servesat.core.errors import ServesatError
from servesat.core.parallel.pool import Answer, Item, Pool, Ticket, WorkerLostError

MIN_ITEMS_FOR_PROCESSES = 500
"""Number of items below which starting processes takes longer than it saves."""

LARGEST_CHUNK = 64
"""Items handed to a worker at a time: few enough to lose, many enough to amortise the hand-over."""


def in_chunks(
    task: Callable[[range], Answer],
    items: range,
    workers: int | None = None,
    *,
    on: str | None = None,
    largest_chunk: int = LARGEST_CHUNK,
    chunks_a_worker: int = 4,
) -> Iterator[Answer]:
    """Yield `task` of successive chunks of items, in order; with a single worker here, in this process.

    Each worker gets `chunks_a_worker` of them at least, where there are so many items. `workers` defaults to 1 for a
    short run, else one per core; on a cluster to as many as it has CPUs. With several `task` must be picklable. The
    answers do not depend on where they are computed if `task` depends on nothing but its chunk. A chunk whose worker
    dies is tried once more; if that dies too, raises ServesatError.
    """
    if on is None and workers is None:
        workers = 1 if len(items) < MIN_ITEMS_FOR_PROCESSES else os.cpu_count() or 1
    if on is None and workers == 1:
        yield from map(task, _chunks(items, chunks_a_worker, largest_chunk))
        return
    pool = _pool(task, workers, on)
    chunks = _chunks(items, chunks_a_worker * pool.workers, largest_chunk)
    ended: dict[int, tuple[Answer, int]] = {}
    first = items.start
    for chunk, answer in _finished(pool, chunks, _give_up):
        ended[chunk.start] = answer, chunk.stop
        while first in ended:
            earliest, first = ended.pop(first)
            yield earliest


def _chunks(items: range, count: int, largest: int) -> Iterator[range]:
    size = max(1, min(largest, len(items) // count))
    return (items[first : first + size] for first in range(0, len(items), size))


def _give_up(chunk: range) -> NoReturn:
    raise ServesatError(
        f"items {chunk[0]:,} to {chunk[-1]:,}: their process died twice, out of memory or killed; what was finished "
        "is kept where the run writes a file: go on with --resume, and fewer --workers"
    )


def as_finished(
    task: Callable[[Item], Answer],
    items: Iterable[Item],
    workers: int | None,
    lost: Callable[[Item], Answer],
    *,
    on: str | None = None,
) -> Iterator[Answer]:
    """Yield the answer of each item as it finishes, in any order, from workers with a single item each.

    An item whose worker dies is tried once more; if that dies too, `lost` provides its answer. `workers` defaults to
    one per core, on a cluster to as many as it has CPUs. `task` must be picklable. Raises ServesatError for less than 1
    worker.
    """
    return (answer for _, answer in _finished(_pool(task, workers, on), items, lost))


def _pool(task: Callable[[Item], Answer], workers: int | None, on: str | None) -> Pool[Item, Answer]:
    if workers is not None and workers < 1:
        raise ServesatError(f"workers = {workers}: expected at least 1")
    if on is not None:
        from servesat.core.parallel.cluster import RayCluster

        return RayCluster(task, workers, on)
    from servesat.core.parallel.processes import Processes

    return Processes(task, workers or os.cpu_count() or 1)


def _finished(
    pool: Pool[Item, Answer], items: Iterable[Item], lost: Callable[[Item], Answer]
) -> Iterator[tuple[Item, Answer]]:
    """Each item with its answer, once, as it finishes."""
    running: dict[Ticket, tuple[Item, bool]] = {}
    pending, answers = iter(items), list[tuple[Item, Answer]]()
    try:
        while True:
            for item in islice(pending, pool.workers - len(running)):
                running[pool.submit(item)] = item, False
            yield from answers
            if not running:
                return
            answers = []
            for ticket in pool.wait():
                item, is_retry = running.pop(ticket)
                try:
                    answers.append((item, pool.answer(ticket)))
                except WorkerLostError:
                    if is_retry:
                        answers.append((item, lost(item)))
                    else:
                        running[pool.submit(item)] = item, True
    finally:
        pool.cancel()
