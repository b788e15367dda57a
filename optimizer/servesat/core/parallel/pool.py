"""What a run asks of its workers, wherever they are."""

from typing import Any, Protocol, TypeVar

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)

Ticket = Any
"""Stands for an item that was submitted."""


class WorkerLostError(Exception):
    """The worker of an item died before it answered."""


class Pool(Protocol[Item_contra, Answer_co]):
    """Workers that were given a task once, and run it on an item at a time."""

    workers: int
    """The number of items that run at once."""

    def submit(self, item: Item_contra) -> Ticket:
        """Hand an item to a worker that has none."""

    def wait(self) -> list[Ticket]:
        """Wait until at least one item has finished."""

    def answer(self, ticket: Ticket) -> Answer_co:
        """Return the answer of a finished item, or raise what the task raised, or WorkerLostError."""

    def cancel(self) -> None:
        """End what runs, and the workers that were started for this pool."""
