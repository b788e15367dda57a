"""The load that a spec without a plan could serve."""

import time
from dataclasses import replace

from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.replay.verdict import SEEDS
from servesat.spec.spec import Spec

HALVINGS, BISECTIONS = 7, 4
"""Loads tried: less than a hundredth of the demand, doubled as long as they are served, and then those between."""

TIME_LIMIT_S = 15.0


def servable_requests_per_s(spec: Spec, settings: Settings) -> float | None:
    """The largest load found that has a plan [requests/s], to within a sixteenth unless time is up; None if none."""
    asked, deadline = spec.workload.requests_per_s, time.perf_counter() + TIME_LIMIT_S
    if asked is None:
        return None

    def is_served(load: float) -> bool:
        left_s = deadline - time.perf_counter()
        if left_s <= 0:
            return False
        loaded = spec.changed({"workload.requests_per_s": load})
        return cheapest_plan(loaded, replace(settings, time_limit_s=left_s, most_seeds=SEEDS)) is not None

    low, high = 0.0, asked
    for power in range(HALVINGS, 0, -1):
        if not is_served(asked / 2**power):
            high = asked / 2**power
            break
        low = asked / 2**power
    for _ in range(BISECTIONS if low else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if is_served(middle) else (low, middle)
    return low or None
