"""The previous plan of a fleet, and how many replicas a new plan starts or stops relative to it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from servesat.catalogue.chip import axis_sizes
from servesat.core.errors import ServesatError, SpecError
from servesat.core.plan import Assignment
from servesat.core.reading import read_json
from servesat.core.validation import shorten
from servesat.deployment.decisions import assignment_of

MAX_PLAN_BYTES = 1_000_000_000
"""The largest file of a plan."""

MAX_REPLICAS = 10**9
"""Maximum number of replicas of one allocation."""

ReplicaKey = tuple[str, str, str]
"""Workload, configuration name and region. How a replica is paid for is not part of it, and may change freely."""

Decisions = Mapping[str, Mapping[str, Mapping[str, Assignment]]]
"""What a plan decided, by workload, name of the configuration, and size of request, empty where there is one."""


@dataclass(frozen=True)
class PreviousPlan:
    """The replicas of the previous plan by key and period; the limit on changes, and the cost of a change."""

    replicas: Mapping[ReplicaKey, tuple[int, ...]]
    max_changes: int | None = None
    usd_per_change: float = 0.0

    def of(self, workloads: Collection[str]) -> "PreviousPlan":
        """The previous plan restricted to some workloads."""
        return replace(self, replicas={key: counts for key, counts in self.replicas.items() if key[0] in workloads})

    def after(self, changes: int) -> "PreviousPlan":
        """The previous plan with this many of the allowed changes used up."""
        return self if self.max_changes is None else replace(self, max_changes=self.max_changes - changes)

    def changes(self, replicas: Mapping[ReplicaKey, Iterable[int]], periods: int) -> int:
        """Replicas that a new plan starts or stops, over all periods."""
        none = (0,) * periods
        return sum(
            abs(after - before)
            for key in {*self.replicas, *replicas}
            for before, after in zip(self.replicas.get(key, none), replicas.get(key, none), strict=True)
        )


@dataclass(frozen=True)
class Running:
    """What a fleet's plan runs: replicas by key and period, and what was decided of them."""

    replicas: Mapping[ReplicaKey, tuple[int, ...]]
    decisions: Decisions


def read_running(path: str | Path, periods: int) -> Running:
    """What a plan runs that `servesat fleet --json` printed. Raises SpecError."""
    document = read_json(Path(path), SpecError, max_bytes=MAX_PLAN_BYTES)
    allocations = document.get("allocations") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(allocations, list):
        raise SpecError(f"{path}: expected the JSON of a fleet's plan, with the key allocations")
    if document.get("periods") != periods:
        raise SpecError(f"{path}: periods = {document.get('periods')}: expected {periods}, as the fleet has")
    replicas: dict[ReplicaKey, list[int]] = defaultdict(lambda: [0] * periods)
    decisions: dict[str, dict[str, dict[str, Assignment]]] = defaultdict(dict)
    for number, allocation in enumerate(allocations):
        try:
            key = (str(allocation["workload"]), str(allocation["configuration"]), str(allocation["region"]))
            period, count = allocation["period"], allocation["replicas"]
        except (KeyError, TypeError):
            raise SpecError(
                f"{path}: allocations[{number}]: expected workload, configuration, region, period and replicas"
            ) from None
        for name, value, most in (("period", period, periods - 1), ("replicas", count, MAX_REPLICAS)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                raise SpecError(f"{path}: allocations[{number}].{name} = {value}: expected a whole number, 0 to {most}")
        replicas[key][period] += count
        try:
            decisions[key[0]][key[1]] = _decisions(allocation)
        except ServesatError as fault:
            raise SpecError(f"{path}: allocations[{number}].{fault}") from None
    return Running({key: tuple(counts) for key, counts in replicas.items()}, decisions)


def _decisions(allocation: Mapping[str, Any]) -> dict[str, Assignment]:
    """The decisions of an allocation for each size of request; none where it tells of no plan. Raises ServesatError."""
    alone, of_sizes = allocation.get("plan"), allocation.get("plans") or {}
    if not isinstance(of_sizes, Mapping):
        raise ServesatError(f"plans = {shorten(of_sizes)}: expected a plan for each size")
    plans = of_sizes if alone is None else {"": alone}
    return {size: _decided(plan, f"plans.{size}" if size else "plan") for size, plan in plans.items()}


def _decided(plan: object, where: str) -> Assignment:
    """The decisions of a plan. Raises ServesatError, which names where it stands."""
    if not isinstance(plan, Mapping):
        raise ServesatError(f"{where} = {shorten(plan)}: expected a plan")
    try:
        decided = assignment_of(plan)
        axis_sizes(decided.topology)
    except (ServesatError, ValueError) as fault:
        raise ServesatError(f"{where}: {str(fault).removeprefix('plan: ')}") from None
    return decided
