"""The frontier between two or three figures of a plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from servesat.api.answer import Drawn
from servesat.api.tables import SpecLike, fields_of, frame, plan_row
from servesat.core.errors import ServesatError, SpecError
from servesat.core.parallel.runs import Workers
from servesat.questions.pareto import Frontier as Traced
from servesat.questions.pareto import trace_frontier
from servesat.questions.whatif import FLAT_PLAN
from servesat.report.charts import Chart
from servesat.report.frontier import frontier_chart, frontier_document, print_frontier
from servesat.report.terminal import Terminal
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, repr=False)
class Frontier(Drawn, Traced):
    """Every plan that no other beats in two or three figures at once, with the spec that they are of."""

    spec: Spec

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed."""
        return (*self.spec.notes, *self.spec.notes_on_means)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each point, sorted by the first figure."""
        return frame((plan_row(plan) for plan in self.points), FLAT_PLAN)

    def show(self, terminal: Terminal) -> None:
        """Print the points, or what is in conflict."""
        print_frontier(terminal, self.spec, self)

    def _document(self) -> dict[str, Any]:
        return frontier_document(self)

    def _picture(self) -> Chart:
        if not self.points:
            raise ServesatError(f"nothing to draw: the result is {self.status}")
        return frontier_chart(self.spec, self)


def frontier(
    spec: SpecLike,
    axes: Sequence[str] = ("tpot_ms", "usd_per_million_output_tokens"),
    *,
    by: Literal["chip", "topology"] | None = None,
    workers: int | None = 1,
    on: str | None = None,
) -> Frontier:
    """Find every plan that no other beats in two or three figures at once; `by` asks for one of each chip or slice.

    >>> frontier("spec.yaml").to_pandas().plot.line(x="tpot_ms", y="usd_per_million_output_tokens")

    Exhaustive and exact. Disaggregated plans are left out, and told beside it. `workers` are processes, None one per
    core for a long run; `on` a Ray cluster, `ray` or `ray://HOST:PORT`. Raises SpecError for unknown axes.
    """
    if isinstance(axes, str):
        raise SpecError(f"axes = {axes!r}: expected two or three figures, as ('tpot_ms', 'chips')")
    loaded = Spec.load(spec)
    return Frontier(spec=loaded, **fields_of(trace_frontier(loaded, axes, by, workers=Workers(workers, on))))
