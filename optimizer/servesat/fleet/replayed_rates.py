"""What a replica serves where requests arrive at random: the rate at which its replays keep the limits."""

from collections.abc import Callable
from dataclasses import replace

from servesat.core.plan import Plan
from servesat.core.tolerances import round_down
from servesat.deployment.first_looks import servers_slower
from servesat.fleet.spec import AtRandom
from servesat.replay.replayed import TooLongError, limits_of
from servesat.replay.verdict import alone_too_late, first_look, verdict
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload

SHARES = 256
"""Rates tried, at equal distances up to the largest."""

MOST_SEEDS = 16
"""Replays of a rate, at most: what is not certain then is taken to be too much."""


def replayed_rate(spec: Spec, plan: Plan, at_random: AtRandom, most: float, *, more_than: float = 0.0) -> float:
    """The largest rate of a replica, up to `most`, at which a share of its requests is within each limit [requests/s].

    One of `SHARES` rates, by bisection: of those whose first look breaks no limit, the largest whose full replays keep
    all for certain. Steps are slower by the margin that limits are kept with; 0 where no rate above `more_than` passes.
    Requests find the replicas of one pool at random, so that one of them alone, at its part of the rate, says it all.
    """
    if most <= more_than:
        return 0.0
    changes = {"workload.requests_per_s": most, "workload.lengths": at_random.lengths.model_dump()}
    loaded = spec.changed({**changes, "slo.percentile": at_random.percentile})
    limits = limits_of(loaded)
    try:
        servers = servers_slower(loaded, plan)
    except TooLongError:  # no replica of it starts at that context
        return 0.0
    alike = 1 if servers.prefill is not None else servers.pool.replicas
    servers = replace(servers, pool=replace(servers.pool, replicas=servers.pool.replicas // alike))
    most, more_than = most / alike, more_than / alike
    workload = loaded.workload.model_copy(update={"requests_per_s": most})

    def loads(step: int) -> Workload:
        return workload.model_copy(update={"requests_per_s": most * step / SHARES})

    def keeps_limits(step: int) -> bool:
        return verdict(loads(step), servers, limits, None, MOST_SEEDS).holds is True

    least = int(round_down(SHARES * more_than / most))
    if alone_too_late(workload, servers, limits) or (least and first_look(loads(least + 1), servers, limits)):
        return 0.0
    step = _last(lambda step: not first_look(loads(step), servers, limits), least, SHARES + 1, SHARES)
    fails, less = step + 1, 0
    while step > least and not keeps_limits(step):  # nearly all of what passed a first look is kept
        fails, less = step, 2 * less + 1
        step = max(least, step - less)
    return alike * most * _last(keeps_limits, step, fails, (step + fails) // 2) / SHARES if step > least else 0.0


def _last(passes: Callable[[int], bool], low: int, high: int, step: int) -> int:
    """The last that passes from `low`, which does, to below `high`, which does not, by bisection from a step on."""
    while high - low > 1:
        low, high = (step, high) if passes(step) else (low, step)
        step = (low + high) // 2
    return low
