"""What questions share: the specs that they take, how they are solved, and the tables of their plans."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.core.errors import SpecError
from servesat.core.plan import Plan
from servesat.deployment.settings import Settings
from servesat.questions.whatif import FLAT_PLAN, flat_plan
from servesat.report.documents import plan_document
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

SpecLike = Spec | Mapping[str, Any] | str | Path
"""A spec, a mapping with its keys, or the path of a file."""

PLAN: Mapping[str, type] = {"status": str, **FLAT_PLAN}
"""The columns of answers that may have a plan."""

_PANDAS = {int: "Int64", bool: "boolean", float: "float64", str: "object"}
"""Types of columns that may lack values."""


def plan_row(plan: Plan | None) -> dict[str, Any]:
    """The columns of a plan in a table; None in each without one."""
    return flat_plan({} if plan is None else plan_document(plan))


def fields_of(result: Any) -> dict[str, Any]:
    """The fields of a result by name, for an answer that has them too."""
    return {field.name: getattr(result, field.name) for field in fields(result)}


def frame(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type]) -> "pd.DataFrame":
    """Rows as a table with these columns, of types that may lack values."""
    import pandas as pd

    table = pd.DataFrame.from_records([dict(row) for row in rows], columns=list(columns))
    return table.astype({name: _PANDAS[kind] for name, kind in columns.items()})


def settings_of(time_limit_s: float | None) -> Settings:
    """How to solve within a time limit. Raises SpecError for one that is not positive."""
    if time_limit_s is not None and not (isinstance(time_limit_s, int | float) and time_limit_s > 0):
        raise SpecError(f"time_limit_s = {time_limit_s!r}: expected a number of seconds, more than 0")
    return Settings(time_limit_s=time_limit_s)
