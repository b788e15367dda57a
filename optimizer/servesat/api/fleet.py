"""A fleet: many workloads on one inventory."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.api.answer import Answer
from servesat.api.tables import fields_of, frame, settings_of
from servesat.core.errors import SpecError
from servesat.core.parallel.runs import Workers
from servesat.fleet.plan import plan_fleet
from servesat.fleet.policies import Comparison, compared
from servesat.fleet.result import FleetResult
from servesat.fleet.spec import FleetSpec
from servesat.report.fleet_document import bill_rows, columns, fleet_document

if TYPE_CHECKING:
    import pandas as pd

    from servesat.report.terminal import Terminal


@dataclass(frozen=True, kw_only=True, repr=False)
class FleetPlan(Answer, FleetResult):
    """A fleet's plan with its proof, or the limits in conflict; with `compare` what it is compared with."""

    spec: FleetSpec
    comparison: Comparison | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What planning went on without, as ways to buy that have no price."""
        return self.spec.notes

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each allocation and reservation, and for idle chips; their `usd` sum to the bill."""
        return frame(bill_rows(self) if self.total_usd is not None else (), columns(self))

    def show(self, terminal: "Terminal") -> None:
        """Print the bill, the replicas by period, and what is proved, or what is in conflict."""
        from servesat.report.fleet import print_fleet

        print_fleet(terminal, self, self.comparison)

    def draw(self, path: str | Path) -> None:
        """Write the report as a page (.html), or the allocations as a table (.csv, .parquet). Raises ServesatError."""
        if self.total_usd is None:
            raise SpecError(f"nothing to write: the result is {self.status}")
        from servesat.report.fleet_files import write_fleet

        write_fleet(self, self.comparison, Path(path))

    def _document(self) -> dict[str, Any]:
        return fleet_document(self, self.comparison)


def fleet(
    spec: FleetSpec | Mapping[str, Any] | str | Path,
    *,
    degrade: bool = False,
    compare: bool = False,
    earlier: str | Path | None = None,
    max_changes: int | None = None,
    usd_per_change: float | None = None,
    time_limit_s: float | None = None,
    workers: int | None = 1,
    on: str | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> FleetPlan:
    """Plan a fleet: the cheapest replicas for every workload, region, purchase and period, proved.

    With `degrade` it serves by priority what capacity allows; with `compare` it says what simpler policies cost.
    `earlier` is the JSON of an earlier plan, from which changes are limited or cost something. Without a time limit it
    ends after five minutes. `workers` are processes, None one per core for many workloads; `on` a Ray cluster, `ray` or
    `ray://HOST:PORT`. `on_progress` is called with what is done next. Raises SpecError for a malformed fleet.
    """
    if earlier is None and (max_changes is not None or usd_per_change is not None):
        raise SpecError("max_changes and usd_per_change count against an earlier plan: give earlier")
    settings_of(time_limit_s)
    loaded = spec if isinstance(spec, FleetSpec) else FleetSpec.load(spec)
    result = plan_fleet(
        loaded,
        time_limit_s=time_limit_s,
        degrade=degrade,
        earlier=earlier,
        max_changes=max_changes,
        usd_per_change=usd_per_change or 0.0,
        on_progress=on_progress,
        workers=Workers(workers, on),
    )
    comparison = compared(result, time_limit_s=time_limit_s) if compare else None
    return FleetPlan(spec=loaded, comparison=comparison, **fields_of(result))
