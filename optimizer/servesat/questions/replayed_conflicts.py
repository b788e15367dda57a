"""Which limits of a spec with percentiles conflict: minimal sets, found by leaving limits out and solving again."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Kind, Requirement
from servesat.core.result import Result, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.replay.verdict import GOODPUT
from servesat.spec.slo import LIMITS
from servesat.spec.spec import Spec

LOOKING_S = 10.0
"""The time after which no more conflicts are looked for."""

_TIMES = frozenset(LIMITS)
"""The requirements on times, of which goodput is the share that keeps them."""

Limits = frozenset[str]
"""Requirements and constraints by name."""


def replayed_conflicts(spec: Spec, result: Result, settings: Settings) -> Result:
    """The result of an infeasible spec with percentiles, with minimal conflicts of its limits.

    What proposals broke in their replays says which limits are in the way, but not whether fewer of them are. So each
    limit of a conflict is left out in turn, and then limits that hit every conflict known, while no plan passes. The
    conflicts of the result stay where nothing that may be left out is to blame, or time is up before any is minimal.
    """
    given = _limits_that_may_go(spec)
    known = [frozenset(members) for members in result.conflict or ()]
    if not known or not all(members <= given.keys() for members in known):
        return result
    search = _Search(spec, given, settings)
    found: list[Limits] = []
    try:
        for held in search.infeasible_sets(known, found):
            found.append(search.minimal(held))
    except TimeoutError:
        pass
    places = {name: place for place, name in enumerate(given)}
    ordered = [tuple(sorted(members, key=places.__getitem__)) for members in found if members]
    ordered.sort(key=lambda members: (len(members), [places[name] for name in members]))
    return replace(result, conflict=tuple(ordered)) if ordered else result


def _limits_that_may_go(spec: Spec) -> dict[str, Any]:
    """The limits that a spec states, with their keys and what those become without them; constraints have neither."""
    given: dict[str, Any] = {
        name: ("search.quota", {}) if name == Requirement.QUOTA else (rule.key, None)
        for name, rule in RULES.items()
        if rule.kind in {Kind.SERVICE_LEVEL, Kind.RESOURCE} and rule.is_stated(spec)
    }
    given |= {GOODPUT: ("slo.goodput", None)} if spec.slo.goodput is not None else {}
    return given | dict.fromkeys(spec.constraints)


class _Search:
    """Which limits of a spec are infeasible together."""

    def __init__(self, spec: Spec, given: dict[str, Any], settings: Settings) -> None:
        self.spec = spec
        self.given = given
        self.settings = settings
        most_s = LOOKING_S if settings.time_limit_s is None else min(LOOKING_S, settings.time_limit_s)
        self.end = time.perf_counter() + most_s
        self.feasible: list[Limits] = []

    def is_infeasible(self, held: Limits) -> bool:
        """Whether no plan passes with some limits alone. Raises TimeoutError when time is up before it is known."""
        if any(held <= known for known in self.feasible):
            return False
        if not held & _TIMES and GOODPUT in held:  # a share of the requests within no limit at all
            return self.is_infeasible(held - {GOODPUT})
        left_s = self.end - time.perf_counter()
        if left_s <= 0:
            raise TimeoutError
        changes = dict(change for name, change in self.given.items() if name not in held and change is not None)
        changes["constraints"] = tuple(text for text in self.spec.constraints if text in held)
        found = solve(self.spec.changed(changes), replace(self.settings, time_limit_s=left_s))
        if found.status is Status.UNKNOWN:
            raise TimeoutError
        if found.status is Status.INFEASIBLE:
            return True
        self.feasible.append(held)
        return False

    def minimal(self, held: Limits) -> Limits:
        """An irreducible infeasible subset of limits that are infeasible together."""
        for name in reversed(list(self.given)):
            if name in held and self.is_infeasible(held - {name}):
                held -= {name}
        return held

    def infeasible_sets(self, known: list[Limits], found: list[Limits]) -> Iterator[Limits]:
        """Sets of limits that no plan satisfies: those known, then others that hold none of those `found`."""
        for held in known:
            if not any(members <= held for members in found) and self.is_infeasible(held):
                yield held
        tried: set[Limits] = set()
        while True:
            dropped = (frozenset(self.given) - set(chosen) for chosen in product(*found))
            held_next = next((held for held in dropped if held not in tried and self.is_infeasible(held)), None)
            if held_next is None:
                return
            tried.add(held_next)
            yield held_next
