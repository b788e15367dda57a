"""Where the best plan changes along one key: the values, closed in on from both sides."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from servesat.candidates.serving_modes import SharedLayouts
from servesat.core.errors import SpecError
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.scenarios import Factor, check_key, takes_whole_number
from servesat.questions.whatif import layout_of
from servesat.spec.spec import Spec

BRACKET_RTOL = 1e-9
"""How near the values on both sides of a change lie, relative to the upper one; whole numbers are neighbours."""


@dataclass(frozen=True, kw_only=True)
class Breakpoint:
    """A change of the best plan: the last value before it and the first after it, each with its proved answer."""

    below: float
    above: float
    before: Result
    after: Result


def find_breakpoints(
    spec: Spec | Mapping[str, Any] | str | Path, key: str, values: Iterable[float], settings: Settings | None = None
) -> tuple[Breakpoint, ...]:
    """Find where the layout of the best plan (chip, slice, axes or dtypes), or the status, changes along a key.

    The values are where it is looked at first: between two neighbours with different answers every change that
    bisection meets is closed in on to a relative TOLERANCE. A plan that comes and goes again between two neighbours
    with the same answer is not seen; more values see more. Raises SpecError for keys that are not numbers, and for
    values that the schema refuses.
    """
    base = Spec.load(spec)
    check_key(base, key)
    along = _Along(base, key, settings or Settings())
    looked_at = list(Factor(key, tuple(dict.fromkeys(values))).values)
    if len(looked_at) < 2 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in looked_at):
        raise SpecError(f"{key}: expected two numbers at least to look for changes between")
    found: list[Breakpoint] = []
    for below, above in pairwise(sorted(looked_at)):
        found += along.changes(below, above)
    return tuple(found)


class _Along:
    """The answers along one key."""

    def __init__(self, base: Spec, key: str, settings: Settings) -> None:
        self._base, self._key, self._settings = base, key, settings
        self._whole = takes_whole_number(key)
        self._shared = SharedLayouts()
        self._known: dict[float, Result] = {}

    def changes(self, below: float, above: float) -> Iterator[Breakpoint]:
        before, after = self._at(below), self._at(above)
        if _same(before, after):
            return
        middle = (below + above) // 2 if self._whole else (below + above) / 2
        if above - below <= (1 if self._whole else BRACKET_RTOL * max(abs(below), abs(above))) or middle in {
            below,
            above,
        }:
            yield Breakpoint(below=below, above=above, before=before, after=after)
            return
        yield from self.changes(below, middle)
        yield from self.changes(middle, above)

    def _at(self, value: float) -> Result:
        if value not in self._known:
            spec = self._changed(value)
            self._known[value] = solve(spec, self._settings, layouts=self._shared.of(spec))
        return self._known[value]

    def _changed(self, value: float) -> Spec:
        try:
            return self._base.changed({self._key: value})
        except SpecError as fault:
            raise SpecError(
                f"{self._key} has no answer at {value:g}, so changes cannot be closed in on: {fault}; vary it over the "
                "values that it can have instead"
            ) from None


def _same(one: Result, other: Result) -> bool:
    return one.status == other.status and layout_of(one.plan) == layout_of(other.plan)
