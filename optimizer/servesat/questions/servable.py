"""The load that a spec without a plan could serve."""

import time
from dataclasses import replace

from servesat.core.result import Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec

HALVINGS, BISECTIONS = 7, 4
"""Loads tried: first the demand halved repeatedly, down to a hundredth of it, then loads between the last two."""

TIME_LIMIT_S = 15.0


def servable_requests_per_s(spec: Spec, settings: Settings) -> float | None:
    """The largest load tried that has a plan, to within a sixteenth of it [requests/s]; None if none has one."""
    asked, deadline = spec.workload.requests_per_s, time.perf_counter() + TIME_LIMIT_S
    if asked is None:
        return None

    def is_served(load: float) -> bool:
        left_s = deadline - time.perf_counter()
        if left_s <= 0:
            return False
        loaded, timed = spec.changed({"workload.requests_per_s": load}), replace(settings, time_limit_s=left_s)
        return solve(loaded, timed).status is Status.OPTIMAL

    low, high = asked / 2, asked
    for _ in range(HALVINGS):
        if is_served(low):
            break
        low, high = low / 2, low
    else:
        return None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_served(middle) else (low, middle)
    return low
