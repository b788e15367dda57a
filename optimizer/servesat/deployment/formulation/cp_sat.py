"""OR-Tools' `cp_model`, imported without pandas: a third of a second's start, and 60 MB, for two names in annotations.

`cp_model` evaluates `pandas.Index` and `pandas.Series` in the annotations of its methods on series, which nothing here
calls. A stand-in gives it these two names while it is imported, and is pandas itself to whatever looks at it later.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from ortools.sat.python import cp_model_helper  # noqa: F401  # nearly all of the time, before the stand-in stands

__all__ = ["cp_model"]


class _StandIn(ModuleType):
    """Empty classes for the two names while it stands in for pandas; afterwards what pandas has under a name."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get("pandas") is not self:
            return getattr(import_module("pandas"), name)
        if name not in {"Index", "Series"}:
            raise AttributeError(name)
        return type(name, (), {})


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Let imports of pandas find a stand-in, unless pandas is imported already."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = _StandIn("pandas")
    try:
        yield
    finally:
        del sys.modules["pandas"]


with _without_pandas():
    from ortools.sat.python import cp_model
