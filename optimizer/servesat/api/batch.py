"""Any number of specs at once."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.api.answer import Answer
from servesat.api.tables import frame, settings_of
from servesat.core.errors import ServesatError
from servesat.core.journal import Memory
from servesat.core.parallel.runs import Workers
from servesat.report.batch import print_batch, status_words
from servesat.report.terminal import Terminal
from servesat.runs.batch import COLUMNS, Batch, flat, spec_files

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, repr=False)
class Answers(Answer):
    """The answers to many deployments, fleets and portfolios; a row of `rows` for each spec."""

    rows: tuple[dict[str, Any], ...]

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each spec: the plan of a deployment, the bill of a fleet or a portfolio, or the error."""
        return frame(map(flat, self.rows), COLUMNS)

    def show(self, terminal: Terminal) -> None:
        """Print an answer for each spec, and how many ended how."""
        print_batch(terminal, self.rows, Counter(map(status_words, self.rows)))

    def _document(self) -> dict[str, Any]:
        return {"rows": self.rows}


def batch(
    specs: str | Path | Iterable[str | Path],
    *,
    time_limit_s: float | None = None,
    workers: int | None = None,
    on: str | None = None,
) -> Answers:
    """Solve the specs that folders, patterns and files name, over all cores; one that fails does not affect the others.

    >>> batch("examples/llama-*.yaml")

    `on` shares them out over a Ray cluster, `ray` or `ray://HOST:PORT`. Raises ServesatError for a name that stands for
    no spec.
    """
    settings_of(time_limit_s)
    crew = Workers(workers, on)
    named = [specs] if isinstance(specs, str | Path) else specs
    if not isinstance(named, Iterable):
        raise ServesatError(f"specs = {specs!r}: expected the path of a spec, a folder or a pattern, or several")
    job, store = Batch(tuple(spec_files(map(str, named))), time_limit_s), Memory()
    if not job.run(store, job.pending(store), crew, lambda *_: None):
        raise KeyboardInterrupt
    return Answers(rows=tuple(job.rows(store)))
