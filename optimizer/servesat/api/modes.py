"""The serving modes side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from servesat.api.answer import Drawn
from servesat.api.tables import PLAN, SpecLike, frame, plan_row
from servesat.core.plan import Mode
from servesat.core.result import Result
from servesat.questions.mode_comparison import compare_modes, crossover
from servesat.report.charts import Chart
from servesat.report.modes import crossover_chart, modes_document, print_modes
from servesat.report.terminal import Terminal
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, repr=False)
class Modes(Drawn):
    """The best plan of each serving mode; the figure has them over the ratio of prompt to output."""

    spec: Spec
    results: Mapping[Mode, Result]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed."""
        return (*self.spec.notes, *self.spec.notes_on_times)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each mode."""
        rows = []
        for mode, result in self.results.items():
            rows.append({**plan_row(result.plan), "status": str(result.status), "mode": str(mode)})
        return frame(rows, PLAN)

    def show(self, terminal: Terminal) -> None:
        """Print the best plan of each mode, and what it costs more than the cheapest mode."""
        print_modes(terminal, self.spec, self.results)

    def _document(self) -> dict[str, Any]:
        return modes_document(self.results)

    @cached_property
    def _chart(self) -> Chart:
        return crossover_chart(self.spec, crossover(self.spec))

    def _picture(self) -> Chart:
        return self._chart


def modes(spec: SpecLike) -> Modes:
    """Solve a spec in each serving mode alone, whatever its search.modes. Raises SpecError for one without prompts."""
    loaded = Spec.load(spec)
    return Modes(spec=loaded, results=compare_modes(loaded))
