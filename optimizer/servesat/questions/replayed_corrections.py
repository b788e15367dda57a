"""Corrections of a spec with percentiles: changes that suffice on average, loosened until a plan passes its replays."""

import time
from collections.abc import Callable
from dataclasses import replace

import yaml

from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Kind, Requirement
from servesat.core.result import Change, Correction, Result
from servesat.core.tolerances import round_down, round_up
from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan, solve
from servesat.questions.corrections import planned, smallest_changes
from servesat.questions.search_relaxations import changed
from servesat.spec.spec import Spec

LOOSENED = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
"""How far a limit is moved beyond what suffices on average, one factor after another."""

LOOKING_S = 30.0
"""The time after which no more changes are tried [s]."""


def replayed_corrections(
    spec: Spec, result: Result, settings: Settings, on_progress: Callable[[str], None] = lambda _: None
) -> Result:
    """The result of an infeasible spec with percentiles, with changes under which a plan passes its replays.

    The smallest change of each kind that suffices on average is tried, then the same limit moved further, by the
    factors of `LOOSENED`; where means hold already, each limit that is in every conflict. Each comes with the plan
    found, proved as far as the time left allows. Where none passes within LOOKING_S, or the time limit, the corrections
    by means, if means do not hold.
    """
    start, by_means, unlimited = time.perf_counter(), spec.in_means(), replace(settings, time_limit_s=None)
    end = start + (LOOKING_S if settings.time_limit_s is None else min(LOOKING_S, settings.time_limit_s))
    means_hold = cheapest_plan(by_means, unlimited) is not None
    smallest = [] if means_hold else smallest_changes(by_means)
    pending = _in_every_conflict(spec, result) if means_hold else list(smallest)
    found: list[Correction] = []
    tried: set[tuple[Change, ...]] = set()
    for factor in LOOSENED[1:] if means_hold else LOOSENED:
        for changes in tuple(pending):
            left_s, moved = end - time.perf_counter(), tuple(_loosened(spec, change, factor) for change in changes)
            if left_s <= 0 or moved in tried:
                continue
            tried.add(moved)
            on_progress(f"no plan: trying {' and '.join(f'{one.key} {one.value}' for one in moved)}")
            plan = solve(_changed(spec, moved), replace(settings, time_limit_s=left_s)).plan
            if plan is not None:
                found.append(Correction(changes=moved, plan=plan, replayed=True))
                pending.remove(changes)
    if not found and not means_hold:
        found = list(planned(by_means, smallest, unlimited))
    return replace(result, corrections=tuple(found), means_hold=means_hold)


def _in_every_conflict(spec: Spec, result: Result) -> list[tuple[Change, ...]]:
    """Each limit that is part of every conflict, as it stands: no other one suffices alone."""
    found: list[tuple[Change, ...]] = []
    for name, rule in RULES.items():
        limit = rule.limit(spec) if rule.correction and name != Requirement.HBM else None
        if limit is not None and result.conflict and all(name in members for members in result.conflict):
            found.append((Change(requirement=name, key=rule.key, value=rule.adjusted(limit), unit=rule.unit),))
    return found


def _loosened(spec: Spec, change: Change, factor: float) -> Change:
    """A change whose limit allows `factor` times as much, or a `factor`-th where it is a lower one.

    Of a limit on several percentiles each moves, by as much as the lowest.
    """
    rule, name = RULES.get(change.requirement), change.key.removeprefix("slo.")
    if rule is None or rule.kind not in {Kind.SERVICE_LEVEL, Kind.RESOURCE}:
        return change
    if name in spec.slo.percentiles:
        limits = spec.slo.percentiles[name]
        by = factor * max(1.0, float(change.value) / min(limits.values()))
        return replace(change, value=f"{{{', '.join(f'{share}: {limit * by:g}' for share, limit in limits.items())}}}")
    if factor == 1:
        return change
    figure = float(change.value) / factor if rule.at_least else float(change.value) * factor
    if isinstance(change.value, int):
        return replace(change, value=max(1, int(round_down(figure))) if rule.at_least else int(round_up(figure)))
    return replace(change, value=rule.adjusted(figure))


def _changed(spec: Spec, changes: tuple[Change, ...]) -> Spec:
    """The spec with some changes, those of percentiles as mappings."""
    mappings = {one.key: yaml.safe_load(str(one.value)) for one in changes if str(one.value).startswith("{")}
    return changed(spec, tuple(one for one in changes if one.key not in mappings)).changed(mappings)
