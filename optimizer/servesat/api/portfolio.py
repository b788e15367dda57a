"""Several deployments decided together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.api.answer import Drawn
from servesat.api.tables import fields_of, frame, plan_row, settings_of
from servesat.core.parallel.runs import Workers
from servesat.questions.portfolio import Portfolio, solve_portfolio
from servesat.questions.whatif import FLAT_PLAN
from servesat.report.portfolio import portfolio_chart, portfolio_document, print_portfolio
from servesat.report.terminal import Terminal
from servesat.report.tornado import Tornado
from servesat.spec.portfolio import PortfolioSpec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, repr=False)
class PortfolioPlan(Drawn, Portfolio):
    """A plan of each deployment with the proof that no others together cost less, or the limits in conflict."""

    spec: PortfolioSpec

    @property
    def notes(self) -> tuple[str, ...]:
        """What each deployment went on without, and those of which not everything was compared."""
        of_each = (f"{name}: {note}" for name, spec in self.spec.deployments.items() for note in spec.notes)
        notes = list(dict.fromkeys(of_each))
        if self.left_out:
            notes.append(
                f"disaggregated plans of {', '.join(self.left_out)} are not compared (servesat solve has them)"
            )
        if self.in_means:
            whose = ", ".join(self.in_means)
            notes.append(f"limits of {whose} hold for means here, without goodput; solve each alone for percentiles")
        return tuple(notes)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each deployment, with its plan and what it would cost alone; none without plans."""
        rows = [
            {"deployment": name, **plan_row(plan), "alone_usd_per_hour": self.alone[name].usd_per_hour}
            for name, plan in self.plans.items()
        ]
        return frame(rows, {"deployment": str, **FLAT_PLAN, "alone_usd_per_hour": float})

    def show(self, terminal: Terminal) -> None:
        """Print the plan of each deployment with its bill beside that alone, and what is proved."""
        print_portfolio(terminal, self, self.spec)

    def _document(self) -> dict[str, Any]:
        return portfolio_document(self)

    def _picture(self) -> Tornado:
        return portfolio_chart(self)


def portfolio(
    spec: PortfolioSpec | Mapping[str, Any] | str | Path,
    *,
    time_limit_s: float | None = None,
    workers: int | None = 1,
    on: str | None = None,
) -> PortfolioPlan:
    """Decide several deployments together: the least bill under what they share, proved.

    `workers` are processes that evaluate a deployment each, None one per core for many; `on` a Ray cluster, `ray` or
    `ray://HOST:PORT`. Raises SpecError for a malformed portfolio.
    """
    loaded = PortfolioSpec.load(spec)
    answer = solve_portfolio(loaded, settings_of(time_limit_s), Workers(workers, on))
    return PortfolioPlan(**fields_of(answer), spec=loaded)
