"""The load that a spec without a plan could serve."""

import time
from collections.abc import Callable
from dataclasses import replace

from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.replay.verdict import SEEDS
from servesat.spec.spec import Spec

HALVINGS, BISECTIONS = 20, 4
"""Loads tried by means: down to a millionth of the demand, and then between the last two."""

LESS, SMALLEST = 0.75, 0.01
"""The part of a load that replays reject which they try next, and the part of the first that is not worth trying."""

TIME_LIMIT_S = 15.0


def servable_requests_per_s(spec: Spec, settings: Settings) -> float | None:
    """The largest load found that has a plan [requests/s], to within a sixteenth unless time is up; None if none.

    Under percentiles it is looked for below what the means allow, from there down.
    """
    asked, deadline = spec.workload.requests_per_s, time.perf_counter() + TIME_LIMIT_S
    if asked is None:
        return None

    def serves(limits: Spec) -> Callable[[float], bool]:
        def is_served(load: float) -> bool:
            left_s = deadline - time.perf_counter()
            loaded = limits.changed({"workload.requests_per_s": load})
            found = left_s > 0 and cheapest_plan(loaded, replace(settings, time_limit_s=left_s, most_seeds=SEEDS))
            return bool(found)

        return is_served

    by_means, high = serves(spec.in_means()), asked
    low = asked if spec.percentile is not None and by_means(asked) else 0.0
    for _ in range(HALVINGS if not low else 0):
        if by_means(high / 2):
            low = high / 2
            break
        high /= 2
    low = _between(low, high, by_means) if low < high else low
    if spec.percentile is None or not low:
        return low or None
    by_replay, first, high = serves(spec), low, asked
    while low > SMALLEST * first and time.perf_counter() < deadline:
        if by_replay(low):
            return _between(low, high, by_replay)
        low, high = LESS * low, low
    return None


def _between(served: float, refused: float, is_served: Callable[[float], bool]) -> float:
    """The largest load found between one that is served and one that is not, by bisection."""
    for _ in range(BISECTIONS):
        if refused <= served * (1 + 2**-BISECTIONS):
            break
        middle = (served + refused) / 2
        served, refused = (middle, refused) if is_served(middle) else (served, middle)
    return served
