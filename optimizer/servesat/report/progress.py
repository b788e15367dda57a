"""Progress of a long run on standard error."""

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
    """Show a bar with the number done of `total`, the number failed, and the remaining time.

    Yields a function of the number newly done and the number of those that failed. Shows nothing if standard error is
    not a terminal.
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
        total_failed = 0

        def advance(count: int, failed: int = 0) -> None:
            nonlocal total_failed
            total_failed += failed
            bar.update(task, advance=count, failed=f"{total_failed:,} failed" if total_failed else "")

        yield advance


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Show the current activity and the time elapsed; yields a function of the next activity.

    Shows nothing if standard error is not a terminal.
    """
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as spinner:
        task = spinner.add_task("", total=None)
        yield lambda activity: spinner.update(task, description=activity)
