"""The load that a spec without a plan could serve."""

import time
from collections.abc import Callable
from dataclasses import replace

from servesat.deployment.settings import Settings
from servesat.deployment.solve import cheapest_plan
from servesat.replay.verdict import SEEDS
from servesat.spec.spec import Spec

HALVINGS, BISECTIONS = 16, 4
"""Loads tried by means: a 65,536th of the demand, and if that has a plan those up to it, by bisection of the power."""

NEXT_SHARE, LEAST_SHARE = 0.75, 0.01
"""The share of a load that replays reject which they try next, and the share of the first that ends it."""

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

    by_means = serves(spec.in_means())
    if spec.percentile is None or not by_means(asked):
        most = _by_means(asked, by_means)
        if spec.percentile is None or most is None:
            return most
    else:
        most = NEXT_SHARE * asked  # as replays reject the demand itself
    by_replay, load, refused = serves(spec), most, asked
    while load > LEAST_SHARE * most and time.perf_counter() < deadline:
        if by_replay(load):
            return _between(load, refused, by_replay)
        load, refused = NEXT_SHARE * load, load
    return None


def _by_means(asked: float, is_served: Callable[[float], bool]) -> float | None:
    """The largest load found that has a plan by means, below a demand that has none; None for none at all."""
    if not is_served(asked / 2**HALVINGS):
        return None
    served, refused = HALVINGS, 0
    while served - refused > 1:
        middle = (served + refused) // 2
        served, refused = (middle, refused) if is_served(asked / 2**middle) else (served, middle)
    return _between(asked / 2**served, asked / 2**refused, is_served)


def _between(served: float, refused: float, is_served: Callable[[float], bool]) -> float:
    """The largest load found between one that is served and one that is not, by bisection."""
    for _ in range(BISECTIONS):
        if refused <= served * (1 + 2**-BISECTIONS):
            break
        middle = (served + refused) / 2
        served, refused = (middle, refused) if is_served(middle) else (served, middle)
    return served
