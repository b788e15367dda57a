"""Progress of a long run on standard error; nothing is shown, and no library loaded, if that is not a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Show a bar with the number done of `total`, the number failed, and the remaining time.

    Yields a function of the number newly done and the number of those that failed.
    """
    if not sys.stderr.isatty():
        yield lambda count, failed=0: None
        return

    from rich import progress as rich_progress
    from rich.console import Console

    with rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[failed]}"),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
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
    """Show the current activity and the time elapsed; yields a function of the next activity."""
    if not sys.stderr.isatty():
        yield lambda activity: None
        return

    from rich import progress as rich_progress
    from rich.console import Console

    with rich_progress.Progress(
        rich_progress.SpinnerColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TextColumn("{task.description}", markup=False),
        console=Console(stderr=True),
        transient=True,
    ) as spinner:
        task = spinner.add_task("", total=None)
        yield lambda activity: spinner.update(task, description=activity)
