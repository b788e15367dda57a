"""Whether a plan keeps its limits for the share of requests asked for: replays until that is certain, or given up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from servesat.replay.percentiles import Estimate, estimate, percentile
from servesat.replay.pools import Servers
from servesat.replay.replayed import Limit, Run, limits_of, run, within
from servesat.spec.spec import Spec

GOODPUT = "goodput"
"""Stands for the share of requests within all limits, in place of a requirement."""

REQUESTS, SEEDS = 2500, 8
"""Requests of a replay, and replays of different seeds, at first."""

MOST_REQUESTS = 160_000
"""Of all seeds together: what is not certain then is undecided."""

SEEDS_OF_TRACE = 3
"""Replays of a trace, in each of which requests find other replicas."""

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
    requests: int

    @property
    def holds(self) -> bool | None:
        """Whether all are kept: False where one is not, None where that is not certain."""
        held = [one.holds for one in self.kept]
        return False if False in held else None if None in held else True

    @property
    def broken(self) -> tuple[str, ...]:
        """The requirements that are not kept."""
        return tuple(dict.fromkeys(one.limit.requirement for one in self.kept if one.holds is False))


def first_look(spec: Spec, servers: Servers, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The requirements that one replay shows to be broken, beyond four standard errors."""
    short = run(spec, servers, REQUESTS // 5, 0)
    broken = _surely_broken(limits, short)
    return broken or _surely_broken(limits, run(spec, servers, REQUESTS, 0))


def _surely_broken(limits: Sequence[Limit], replay: Run) -> tuple[str, ...]:
    broken = []
    for limit in limits:
        values = limit.of(replay.times)
        error = sqrt(limit.share * (1 - limit.share) / max(1.0, len(values) / DEPENDENT))
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
    limits, goodput = limits_of(spec), spec.slo.goodput
    seeds = SEEDS if spec.workload.arrivals.trace is None else SEEDS_OF_TRACE
    count = REQUESTS
    while seeds * count <= MOST_REQUESTS:
        runs = tuple(run(spec, servers, count, seed) for seed in range(seeds))
        kept = [_kept(limit, [percentile(limit.of(one.times), limit.share) for one in runs]) for limit in limits]
        share = estimate([float(np.mean(within(limits, one.times))) for one in runs])
        if goodput is not None:
            holds = True if share.lowest >= goodput else False if share.highest < goodput else None
            kept.append(Kept(Limit(GOODPUT, goodput, 0.0), share, holds))
        yield Verdict(tuple(kept), share, runs, sum(len(one.times.ttft_s) for one in runs))
        if spec.workload.arrivals.trace is not None:
            return
        count *= 2


def _kept(limit: Limit, values: Sequence[float]) -> Kept:
    found = estimate(values)
    holds = True if found.highest <= limit.limit_s else False if found.lowest > limit.limit_s else None
    return Kept(limit, found, holds)
