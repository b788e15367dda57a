"""The load that a spec without a plan could serve."""

import time
from dataclasses import replace

from servesat.core.result import Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.spec import Spec

HALVINGS, BISECTIONS = 7, 4
"""Loads tried: less than a hundredth of the demand, the demand halved repeatedly, and loads between the last two."""

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

    least = asked / 2**HALVINGS
    if not is_served(least):
        return None
    low, high = asked / 2, asked
    while low > least and not is_served(low):
        low, high = low / 2, low
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_served(middle) else (low, middle)
    return low
