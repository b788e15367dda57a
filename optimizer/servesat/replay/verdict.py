"""Whether a plan keeps its limits for the share of requests asked for: replays until that is certain, or given up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from servesat.replay.percentiles import Estimate, RequestTimes, estimate, percentile, times_of
from servesat.replay.pools import Servers
from servesat.replay.replayed import Limit, Run, limits_of, requests_of, run, within
from servesat.spec.spec import Spec

GOODPUT = "goodput"
"""Stands for the share of requests within all limits, in place of a requirement."""

REQUESTS, SEEDS = 2500, 8
"""Requests of a replay, and replays of different seeds, at first."""

MOST_REQUESTS = 160_000
"""Of all seeds together: what is not certain then is undecided."""

SEEDS_OF_TRACE = 3
"""Replays of a trace, in each of which requests find other replicas."""

FIRST_OF_TRACE = (1000, 4000)
"""The requests of a trace that are replayed before all of them."""

ALONE, APART_S = 1000, 1e6
"""Requests that are replayed with a replica to themselves, and the time between them."""

DEPENDENT = 10
"""Requests that count as one in a first look, as neighbours wait for the same prompts."""


@dataclass(frozen=True)
class Kept:
    """A limit, what its percentile is [s], and whether it is kept: None where replays do not tell."""

    limit: Limit
    value: Estimate
    holds: bool | None


@dataclass(frozen=True)
class Verdict:
    """The limits of a plan after its replays; `within_all` is the share of requests within every limit."""

    kept: tuple[Kept, ...]
    within_all: Estimate
    runs: tuple[Run, ...]

    @property
    def holds(self) -> bool | None:
        """Whether all are kept: False where one is not, None where that is not certain."""
        held = [one.holds for one in self.kept]
        return False if False in held else None if None in held else True


def alone_too_late(spec: Spec, servers: Servers, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The requirements that too many requests break with a replica to themselves, beyond four standard errors."""
    lengths = spec.workload.lengths
    alike = spec.workload.arrivals.trace is None and not lengths.prompt_cv and not lengths.output_cv
    requests = requests_of(spec, 1 if alike else 10**9 if spec.workload.arrivals.trace else REQUESTS, 0)
    some = requests.take(np.arange(0, len(requests), max(1, len(requests) // ALONE)))
    apart = replace(some, arrival_s=APART_S * np.arange(len(some), dtype=np.float64))
    one = replace(servers, pool=replace(servers.pool, replicas=1))
    one = one if one.prefill is None else replace(one, prefill=replace(one.prefill, replicas=1))
    times = times_of(apart, one.serve(apart))
    if alike:
        return tuple(dict.fromkeys(one.requirement for one in limits if one.of(times)[0] > one.limit_s))
    return _late(limits, times, 1)


def first_look(spec: Spec, servers: Servers, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The requirements that one replay shows to be broken, beyond four standard errors; of a trace for certain.

    What comes later changes nothing for those that came before: the first requests of a trace alone may be too many
    beyond a limit.
    """
    trace = spec.workload.arrivals.recorded
    if trace is not None:
        whole = len(trace.arrival_s)
        for first in (*(length for length in FIRST_OF_TRACE if length < whole), whole):
            broken = _surely_broken_of(limits, run(spec, servers, first, 0), whole)
            if broken:
                return broken
        return ()
    short = run(spec, servers, REQUESTS // 5, 0)
    broken = _surely_broken(limits, short)
    return broken or _surely_broken(limits, run(spec, servers, REQUESTS, 0))


def _surely_broken_of(limits: Sequence[Limit], replay: Run, whole: int) -> tuple[str, ...]:
    """The requirements that more of some requests break than may of the whole trace."""
    late = {limit: int(np.sum(limit.of(replay.times) > limit.limit_s)) for limit in limits}
    return tuple(dict.fromkeys(limit.requirement for limit in limits if late[limit] > (1 - limit.share) * whole))


def _surely_broken(limits: Sequence[Limit], replay: Run) -> tuple[str, ...]:
    return _late(limits, replay.times, DEPENDENT)


def _late(limits: Sequence[Limit], times: RequestTimes, dependent: int) -> tuple[str, ...]:
    """The requirements of which fewer requests are within limits than four standard errors allow."""
    broken = []
    for limit in limits:
        values = limit.of(times)
        error = sqrt(limit.share * (1 - limit.share) / max(1.0, len(values) / dependent))
        if float(np.mean(values <= limit.limit_s)) < limit.share - 4 * error:
            broken.append(limit.requirement)
    return tuple(dict.fromkeys(broken))


def verdict(spec: Spec, servers: Servers) -> Verdict:
    """Replay until each limit is kept or broken at 95 % confidence, with twice the requests each time."""
    found = None
    for found in _verdicts(spec, servers):
        if found.holds is not None:
            break
    assert found is not None
    return found


def _verdicts(spec: Spec, servers: Servers) -> Iterator[Verdict]:
    limits, goodput, trace = limits_of(spec), spec.slo.goodput, spec.workload.arrivals.recorded
    seeds = SEEDS if trace is None else SEEDS_OF_TRACE
    count = REQUESTS
    while seeds * count <= MOST_REQUESTS:
        runs = tuple(run(spec, servers, count if trace is None else len(trace.arrival_s), s) for s in range(seeds))
        kept = [_kept(limit, [percentile(limit.of(one.times), limit.share) for one in runs]) for limit in limits]
        share = estimate([float(np.mean(within(limits, one.times))) for one in runs])
        if goodput is not None:
            holds = True if share.lowest >= goodput else False if share.highest < goodput else None
            kept.append(Kept(Limit(GOODPUT, goodput, 0.0), share, holds))
        yield Verdict(tuple(kept), share, runs)
        if trace is not None:
            return
        count *= 2


def _kept(limit: Limit, values: Sequence[float]) -> Kept:
    found = estimate(values)
    holds = True if found.highest <= limit.limit_s else False if found.lowest > limit.limit_s else None
    return Kept(limit, found, holds)
