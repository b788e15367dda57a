"""Runs of a task over many items, in this process or by the workers of a pool."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, NoReturn

from servesat.core.errors import ServesatError
from servesat.core.parallel.pool import Answer, Item, Pool, Ticket, WorkerLostError

MIN_ITEMS_FOR_PROCESSES = 500
"""Below this number of items, of a few milliseconds each, starting processes takes longer than it saves."""

LARGEST_CHUNK = 64
"""Most items handed to a worker at a time: losing them costs little, and handing them over pays."""

DIED_TWICE = "the process that ran it died, and so did the next; out of memory, or killed"
"""The error message for an item whose workers died."""


@dataclass(frozen=True)
class Workers:
    """Who computes: `count` processes on this machine, or as many workers of the cluster `on`.

    One process is the current one. Without a `count`, a long run gets a process per core, a short one the current
    process; a cluster, a worker per CPU. Raises ServesatError for less than 1.
    """

    count: int | None = 1
    on: str | None = None

    def __post_init__(self) -> None:
        if self.count is not None and not (type(self.count) is int and self.count >= 1):
            raise ServesatError(f"workers = {self.count!r}: expected a whole number of at least 1")

    @property
    def are_this_process(self) -> bool:
        """Whether the current process does all the work."""
        return self.on is None and self.count == 1

    def of_run(self, *, is_long: bool) -> "Workers":
        """These workers with a number of processes, chosen by the length of the run if none was given."""
        if self.on is not None or self.count is not None:
            return self
        return replace(self, count=_cores() if is_long else 1)


THIS_PROCESS = Workers()


def _cores() -> int:
    """The cores available to this process, within the limits of its container and CPU affinity."""
    from loky import cpu_count

    return int(cpu_count())


class Crew(Generic[Item, Answer]):
    """Workers that receive a task once and then apply it to any number of items.

    If the task depends only on its item, so do the answers, whoever computes them. An item whose worker dies is retried
    once; if that worker dies too, `lost` provides the answer or raises an error that names the item. With several
    workers `task` must be picklable.
    """

    def __init__(self, task: Callable[[Item], Answer], workers: Workers, lost: Callable[[Item], Answer]) -> None:
        self._task, self._lost = task, lost
        self._pool = None if workers.are_this_process else _pool(task, workers)

    @property
    def size(self) -> int:
        """The number of items that run at once."""
        return 1 if self._pool is None else self._pool.workers

    def in_order(self, items: Iterable[Item]) -> Iterator[Answer]:
        """Yield the answers in the order of the items, which are taken from the iterable as workers become free.

        Exhaust the iterator before the next call.
        """
        if self._pool is None:
            yield from map(self._task, items)
            return
        ended: dict[int, Answer] = {}
        first = 0
        for number, answer in _finished(self._pool, items, self._lost):
            ended[number] = answer
            while first in ended:
                yield ended.pop(first)
                first += 1

    def __enter__(self) -> "Crew[Item, Answer]":
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()

    def end(self) -> None:
        """Cancel what is running and stop the workers."""
        if self._pool is not None:
            self._pool.cancel()


def in_chunks(
    task: Callable[[range], Answer],
    items: range,
    workers: Workers,
    *,
    named: str = "items",
    is_long: bool | None = None,
    largest_chunk: int = LARGEST_CHUNK,
    chunks_a_worker: int = 4,
) -> Iterator[Answer]:
    """Yield `task` of successive chunks of items, in order.

    Each worker gets at least `chunks_a_worker` chunks if there are enough items. A run of at least
    MIN_ITEMS_FOR_PROCESSES items is long, unless `is_long` says otherwise. A chunk whose worker dies twice raises
    ServesatError; `named` is what its message calls the items.
    """

    def give_up(chunk: range) -> NoReturn:
        numbers = f"{chunk[0]:,}" if len(chunk) == 1 else f"{chunk[0]:,} to {chunk[-1]:,}"
        raise ServesatError(f"{named} {numbers}: {DIED_TWICE}")

    found = workers.of_run(is_long=len(items) >= MIN_ITEMS_FOR_PROCESSES if is_long is None else is_long)
    with Crew(task, found, give_up) as crew:
        yield from crew.in_order(_chunks(items, chunks_a_worker * crew.size, largest_chunk))


def _chunks(items: range, count: int, largest: int) -> Iterator[range]:
    size = max(1, min(largest, len(items) // count))
    return (items[first : first + size] for first in range(0, len(items), size))


def as_finished(
    task: Callable[[Item], Answer], items: Iterable[Item], workers: Workers, lost: Callable[[Item], Answer]
) -> Iterator[Answer]:
    """Yield the answer of each item as it finishes, in any order; even a single worker is a separate process.

    `task` and `lost` are as for a Crew. Without a count of workers, every core is used.
    """
    pool = _pool(task, workers.of_run(is_long=True))

    def answers() -> Iterator[Answer]:
        try:
            for _, answer in _finished(pool, items, lost):
                yield answer
        finally:
            pool.cancel()

    return answers()


def _pool(task: Callable[[Item], Answer], workers: Workers) -> Pool[Item, Answer]:
    if workers.on is not None:
        from servesat.core.parallel.cluster import RayCluster

        return RayCluster(task, workers.count, workers.on)
    from servesat.core.parallel.processes import Processes

    return Processes(task, workers.count or _cores())


def _finished(
    pool: Pool[Item, Answer], items: Iterable[Item], lost: Callable[[Item], Answer]
) -> Iterator[tuple[int, Answer]]:
    """The number of each item with its answer, once, as it finishes."""
    running: dict[Ticket, tuple[int, Item, bool]] = {}
    pending, answers = enumerate(items), list[tuple[int, Answer]]()
    while True:
        for number, item in islice(pending, pool.workers - len(running)):
            running[pool.submit(item)] = number, item, False
        yield from answers
        if not running:
            return
        answers = []
        for ticket in pool.wait():
            number, item, is_retry = running.pop(ticket)
            try:
                answers.append((number, pool.answer(ticket)))
            except WorkerLostError:
                if is_retry:
                    answers.append((number, lost(item)))
                else:
                    running[pool.submit(item)] = number, item, True
