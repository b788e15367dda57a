"""Predictions beside measurements."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.api.answer import Drawn
from servesat.api.tables import fields_of, frame
from servesat.catalogue.load import load_calibration
from servesat.catalogue.measured_columns import misnamed_columns
from servesat.core.errors import ServesatError
from servesat.core.validation import nearest
from servesat.questions.accuracy import GROUPS
from servesat.questions.accuracy import Accuracy as Found
from servesat.questions.accuracy import accuracy as predicted
from servesat.report.accuracy import accuracy_chart, accuracy_document, print_accuracy
from servesat.report.charts import Chart
from servesat.report.terminal import Terminal

if TYPE_CHECKING:
    import pandas as pd

ERRORS: dict[str, type] = {
    "figure": str,
    "rows": int,
    "mean_pct": float,
    "median_pct": float,
    "p90_pct": float,
    "bias": float,
}
"""The columns of the errors: of which figure, of how many rows, and how large they are."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Accuracy(Drawn, Found):
    """How far predictions are from what was measured, in all and by group; `to_dict` has those of every row."""

    file: Path
    by: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """The columns that are nearly named as others, and how many rows are not predicted."""
        every = len(self.unread) + len(self.predicted)
        left = [f"{len(self.unread)} of {every} rows are not predicted"] if self.unread else []
        return (*misnamed_columns(self.file), *left)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for the errors of each figure, those of each group first."""
        return frame(self._errors(), {**dict.fromkeys(self.by, str), **ERRORS})

    def _errors(self) -> Iterator[dict[str, Any]]:
        for names, errors in (*self.groups, (dict.fromkeys(self.by, "all"), self.errors)):
            for figure, one in errors.items():
                yield {**names, "figure": figure, **asdict(one)}

    def show(self, terminal: Terminal) -> None:
        """Print the errors of each figure, and why rows are not predicted."""
        print_accuracy(terminal, self)

    def _document(self) -> dict[str, Any]:
        return accuracy_document(self)

    def _picture(self) -> Chart:
        return accuracy_chart(self, self.file.name)


def accuracy(file: str | Path, *, by: Sequence[str] = (), calibration: str = "calibration") -> Accuracy:
    """Predict the measured deployments of a CSV file, and say how far the predictions are from what was measured.

    Errors are also told `by` chip, engine, engine_version, model, harness or weights. The `calibration` is the
    catalogue's, or the path of one that `servesat calibrate` wrote. Raises CatalogueError for no such file.
    """
    names = tuple(by.split(",")) if isinstance(by, str) else tuple(by)
    for name in names:
        if name not in GROUPS:
            raise ServesatError(f"by = {name!r}: no such group; {nearest(name, GROUPS)}")
    found = predicted(Path(file), names, load_calibration(calibration))
    return Accuracy(file=Path(file), by=names, **fields_of(found))
