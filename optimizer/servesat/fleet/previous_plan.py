"""An earlier plan of a fleet, and how many replicas a new one starts or stops against it."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from servesat.core.errors import SpecError

MOST = 10**9
"""Replicas of one allocation."""

ReplicaKey = tuple[str, str, str]
"""A workload, a configuration by name, and a region. How a replica is paid for may change without touching it."""


@dataclass(frozen=True)
class Earlier:
    """The replicas that ran, by place, in each period; what a new plan may change, and what a change costs."""

    replicas: Mapping[ReplicaKey, tuple[int, ...]]
    max_changes: int | None = None
    usd_per_change: float = 0.0

    def of(self, keep: Callable[[str], bool]) -> "Earlier":
        """The plan of some workloads alone."""
        return replace(self, replicas={place: counts for place, counts in self.replicas.items() if keep(place[0])})

    def after(self, changes: int) -> "Earlier":
        """The plan, with some of the changes that it allows used up."""
        return self if self.max_changes is None else replace(self, max_changes=self.max_changes - changes)

    def changes(self, now: Mapping[ReplicaKey, Iterable[int]], periods: int) -> int:
        """Replicas started or stopped, over all periods."""
        none = (0,) * periods
        return sum(
            abs(after - before)
            for place in {*self.replicas, *now}
            for before, after in zip(self.replicas.get(place, none), now.get(place, none), strict=True)
        )


def read_earlier(path: str | Path, periods: int) -> dict[ReplicaKey, tuple[int, ...]]:
    """The replicas of a plan that `servesat fleet --json` printed. Raises SpecError."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise SpecError(f"{path}: cannot be read: {getattr(fault, 'strerror', None) or fault}") from None
    allocations = document.get("allocations") if isinstance(document, dict) else None
    if not isinstance(allocations, list):
        raise SpecError(f"{path}: expected the JSON of a fleet's plan, with the key allocations")
    if document.get("periods") != periods:
        raise SpecError(f"{path}: periods = {document.get('periods')}: expected {periods}, as the fleet has")
    found: dict[ReplicaKey, list[int]] = defaultdict(lambda: [0] * periods)
    for number, one in enumerate(allocations):
        try:
            place = (str(one["workload"]), str(one["configuration"]), str(one["region"]))
            period, replicas = one["period"], one["replicas"]
        except (KeyError, TypeError):
            raise SpecError(
                f"{path}: allocations[{number}]: expected workload, configuration, region, period and replicas"
            ) from None
        if not isinstance(period, int) or not 0 <= period < periods:
            raise SpecError(f"{path}: allocations[{number}].period = {period}: expected 0 to {periods - 1}")
        if not isinstance(replicas, int) or isinstance(replicas, bool) or not 0 <= replicas <= MOST:
            raise SpecError(
                f"{path}: allocations[{number}].replicas = {replicas}: expected a whole number, 0 to {MOST}"
            )
        found[place][period] += replicas
    return {place: tuple(counts) for place, counts in found.items()}
