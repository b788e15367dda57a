"""A progress bar on standard error, while a long run writes its result elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show how many of `total` are done, how many of them failed, and how long the rest will take.

    Yields what to call with a number that is done, and how many of those failed, if any may.
    Nothing is shown where standard error is no terminal.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(label, total=total, completed=done, failed="")
        so_far = 0

        def advance(count: int, failed: int = 0) -> None:
            nonlocal so_far
            so_far += failed
            bar.update(task, advance=count, failed=f"{so_far:,} failed" if so_far else "")

        yield advance


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Show what is being done, and for how long all of it has taken; yields what to call with each next thing.

    Nothing is shown where standard error is no terminal.
    """
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as shown:
        task = shown.add_task("", total=None)
        yield lambda what: shown.update(task, description=what)
