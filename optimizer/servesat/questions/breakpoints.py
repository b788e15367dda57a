"""Breakpoints of a key: values at which the layout of the best plan changes, bracketed by bisection."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from servesat.core.errors import SpecError
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.questions.scenarios import Factor, check_key, takes_whole_number
from servesat.questions.solved_alike import SolvedAlike
from servesat.questions.whatif import layout_of
from servesat.spec.spec import Spec

BRACKET_RTOL = 1e-9
"""Width of a bracket relative to its upper end; for whole numbers the ends are neighbours."""


@dataclass(frozen=True, kw_only=True)
class Breakpoint:
    """A change of the best layout, between the values `below` and `above`, each with its proved answer."""

    below: float
    above: float
    before: Result
    after: Result


def find_breakpoints(
    spec: Spec | Mapping[str, Any] | str | Path, key: str, values: Iterable[float], settings: Settings | None = None
) -> tuple[Breakpoint, ...]:
    """Find where the layout of the best plan (see `layout_of`), or the status, changes along a key.

    The spec is solved at all `values`; between neighbours with different answers, bisection brackets the changes to
    within BRACKET_RTOL. A layout that appears and disappears between neighbours with the same answer is missed; more
    values find more. Raises SpecError for a key that is not a number, and for values that the schema refuses.
    """
    base = Spec.load(spec).in_means()
    check_key(base, key)
    sweep = _Sweep(base, key, settings or Settings())
    given = tuple(values)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in given) or len(set(given)) < 2:
        raise SpecError(f"{key}: expected two numbers at least to look for changes between")
    grid = Factor(key, tuple(dict.fromkeys(given))).values
    return tuple(change for below, above in pairwise(sorted(grid)) for change in sweep.changes(below, above))


class _Sweep:
    """Answers along a key, solved when needed."""

    def __init__(self, base: Spec, key: str, settings: Settings) -> None:
        self._base, self._key = base, key
        self._is_whole = takes_whole_number(key)
        self._alike = SolvedAlike(settings)
        self._answers: dict[float, Result] = {}

    def changes(self, below: float, above: float) -> Iterator[Breakpoint]:
        before, after = self._answer(below), self._answer(above)
        if _same_layout(before, after):
            return
        middle = (below + above) // 2 if self._is_whole else (below + above) / 2
        resolution = 1 if self._is_whole else BRACKET_RTOL * max(abs(below), abs(above))
        if above - below <= resolution or middle in {below, above}:
            yield Breakpoint(below=below, above=above, before=before, after=after)
            return
        yield from self.changes(below, middle)
        yield from self.changes(middle, above)

    def _answer(self, value: float) -> Result:
        if value not in self._answers:
            self._answers[value] = self._alike.answer(self._spec(value))
        return self._answers[value]

    def _spec(self, value: float) -> Spec:
        try:
            return self._base.changed({self._key: value}).in_means()  # a demand that is added comes with percentiles
        except SpecError as fault:
            raise SpecError(
                f"{self._key} has no answer at {value:g}, so changes cannot be bracketed: {fault}; "
                "vary it over its possible values instead"
            ) from None


def _same_layout(first: Result, second: Result) -> bool:
    return first.status == second.status and layout_of(first.plan) == layout_of(second.plan)
