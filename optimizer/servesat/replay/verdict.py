"""Whether a plan keeps its limits for the share of requests asked for: replays until that is certain, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt

import numpy as np

from servesat.core.tolerances import is_at_most, round_up
from servesat.replay.least_times import least_times
from servesat.replay.percentiles import Estimate, RequestTimes, estimate, percentile, times_of
from servesat.replay.pools import Servers
from servesat.replay.replayed import WARM_UP, Limit, Replay, Run, requests_of, run, within
from servesat.spec.workload import Workload

GOODPUT = "goodput"
"""Stands for the share of requests within all limits, in place of a requirement."""

REQUESTS = 2500
"""Requests of a replay; more where fewer than BEYOND of them would be beyond a percentile."""

BEYOND = 25
"""Requests of a replay that are beyond each percentile: of fewer, it is about the slowest, and so too low."""

SEEDS_TO_FALL, SEEDS, MOST_SEEDS = 3, 8, 64
"""The number of replays after which a limit may be found broken, after which it may be found kept, and the most run."""

SEEDS_OF_TRACE = 3
"""Replays of a trace, in each of which requests find other replicas."""

FIRST_LOOKS = (60, 100, 150, 250, 400, 600, 900, 1300, 1800, 2500, 3500, 5000, 7000, 10_000)
"""Requests after which the replay of a first look is ended if it shows a limit to be broken."""

FIRST_OF_TRACE = (1000, 2000, 4000, 8000)
"""The same for a trace."""

ALONE, APART_S = 1000, 1e6
"""Requests that are replayed with a replica to themselves, and the time between them."""

DEPENDENT = 30
"""Requests that count as one in a first look, as neighbours wait for the same prompts and share their steps.

Of plans whose p95 is 10 % within its limit, first looks with other seeds reject 0 to 9 %, the most near saturation.
"""


@dataclass(frozen=True)
class Kept:
    """A limit, what its percentile is [s], and whether it is kept: None where replays do not tell."""

    limit: Limit
    value: Estimate
    holds: bool | None

    @property
    def is_beyond(self) -> bool:
        """Whether the estimate is on the wrong side of the limit, certain or not."""
        value, is_share = self.value.value, self.limit.requirement == GOODPUT
        return value < self.limit.share if is_share else value > self.limit.limit_s


@dataclass(frozen=True)
class Verdict:
    """The limits of a plan after its replays, one for each seed from 0 on, of `asked` requests each but a warm-up.

    `within_all` is the share of requests within every limit, `most_sequences` what a replica ran at once at most.
    """

    kept: tuple[Kept, ...]
    within_all: Estimate
    seeds: int
    asked: int
    most_sequences: int

    @property
    def holds(self) -> bool | None:
        """Whether all are kept: False where one is not, None where that is not certain."""
        held = [one.holds for one in self.kept]
        return False if False in held else None if None in held else True


def alone_too_late(workload: Workload, servers: Servers, limits: Sequence[Limit]) -> tuple[str, ...]:
    """The requirements that too many requests break even with a replica to themselves.

    Of a short trace for certain, of others beyond four standard errors.
    """
    lengths, trace = workload.lengths, workload.arrivals.trace
    alike = trace is None and not lengths.prompt_cv and not lengths.output_cv
    requests = requests_of(workload, 1 if alike else 10**9 if trace else REQUESTS, 0)
    whole = trace is not None and len(requests) <= REQUESTS
    some = requests if whole else requests.take(np.arange(0, len(requests), max(1, len(requests) // ALONE)))
    apart = replace(some, arrival_s=APART_S * np.arange(len(some), dtype=np.float64))
    one = replace(servers, pool=replace(servers.pool, replicas=1))
    one = one if one.prefill is None else replace(one, prefill=replace(one.prefill, replicas=1))
    times = times_of(apart, one.serve(apart))
    if alike:
        return tuple(dict.fromkeys(one.requirement for one in limits if not is_at_most(one.of(times)[0], one.limit_s)))
    return broken_for_certain(limits, times, len(requests)) if whole else _late(limits, times, 1)


@lru_cache(maxsize=1 << 16)
def surely_late(workload: Workload, servers: Servers, limits: tuple[Limit, ...]) -> tuple[str, ...]:
    """The requirements that the least times of random requests break, beyond four standard errors or at 95 %.

    One replica stands for all that prompts find at random; of a prefill pool only under Poisson arrivals, which stay
    such when they are divided.
    """
    arrivals, pool = workload.arrivals, servers.prefill or servers.pool
    if arrivals.trace is not None or (servers.prefill is not None and arrivals.gamma_cv != 1):
        return ()

    def of_seed(seed: int) -> RequestTimes:
        requests = requests_of(workload, REQUESTS, seed, one_of=pool.replicas)
        return least_times(servers, requests).take(slice(int(WARM_UP * REQUESTS), None))

    first = of_seed(0)
    broken = _late(limits, first, DEPENDENT)
    if broken or all(float(np.mean(one.of(first) <= one.limit_s)) >= one.share for one in limits):
        return broken
    every = [first, *map(of_seed, range(1, SEEDS))]
    kept = [_kept(limit, [percentile(limit.of(times), limit.share) for times in every]) for limit in limits]
    return tuple(dict.fromkeys(one.limit.requirement for one in kept if one.holds is False))


@lru_cache(maxsize=1 << 16)
def first_look(workload: Workload, servers: Servers, limits: tuple[Limit, ...]) -> tuple[str, ...]:
    """The requirements that a replay shows to be broken, beyond four standard errors; of a trace for certain.

    What comes later changes nothing for those that came before: the first requests of a trace alone may be too many
    beyond a limit. Layouts of several engines or dtypes may be the same servers, which are replayed once.
    """
    replay, of_trace = _first_replay(workload, servers, _requests_for(limits)), workload.arrivals.trace is not None
    whole = len(replay.requests)

    def broken(times: RequestTimes) -> tuple[str, ...]:
        return broken_for_certain(limits, times, whole) if of_trace else _late(limits, times, DEPENDENT)

    for count in FIRST_OF_TRACE if of_trace else FIRST_LOOKS:
        found = broken(replay.first(count)) if count < whole else ()
        if found:
            return found
    return broken(replay.run.times)


def _requests_for(limits: Sequence[Limit]) -> int:
    """The random requests of a replay that tell whether limits are kept."""
    beyond = min((1 - limit.share for limit in limits), default=1.0)
    return max(REQUESTS, int(round_up(BEYOND / beyond)))


def _first_replay(workload: Workload, servers: Servers, requests: int) -> Replay:
    """The replay of a first look, with which a verdict begins: of a trace, or of so many random requests."""
    trace = workload.arrivals.recorded
    if trace is None and requests == REQUESTS:
        return _of_few(workload, servers)
    return _of_many(workload, servers, requests if trace is None else len(trace.arrival_s))


@lru_cache(maxsize=64)
def _of_few(workload: Workload, servers: Servers) -> Replay:
    return Replay(workload, servers, REQUESTS, 0)


@lru_cache(maxsize=2)  # which may be of millions of requests
def _of_many(workload: Workload, servers: Servers, requests: int) -> Replay:
    return Replay(workload, servers, requests, 0)


def broken_for_certain(limits: Sequence[Limit], times: RequestTimes, whole: int) -> tuple[str, ...]:
    """The requirements that so many of some requests break that the whole trace cannot keep them."""
    late = {limit: int(np.sum(limit.of(times) > limit.limit_s)) for limit in limits}
    may_be = {limit: whole - int(round_up(limit.share * whole)) for limit in limits}
    return tuple(dict.fromkeys(limit.requirement for limit in limits if late[limit] > may_be[limit]))


def _late(limits: Sequence[Limit], times: RequestTimes, dependent: int) -> tuple[str, ...]:
    """The requirements of which fewer requests are within limits than four standard errors allow."""
    broken = []
    for limit in limits:
        values = limit.of(times)
        error = sqrt(limit.share * (1 - limit.share) / max(1.0, len(values) / dependent))
        if float(np.mean(values <= limit.limit_s)) < limit.share - 4 * error:
            broken.append(limit.requirement)
    return tuple(dict.fromkeys(broken))


@lru_cache(maxsize=1 << 16)
def verdict(
    workload: Workload,
    servers: Servers,
    limits: tuple[Limit, ...],
    goodput: float | None,
    most_seeds: int = MOST_SEEDS,
) -> Verdict:
    """Replay until each limit is kept or broken at 95 % confidence, with twice the seeds each time.

    Where rare percentiles take longer replays, there are fewer of them: some 160,000 requests in all.

    With half of the most seeds, an estimate beyond its limit ends it: as many again would find the limit kept in at
    most 2.5 % of cases (for that their mean has to be 0.245 standard deviations of a run lower, 1.96 / √64, and it
    varies by 0.125, √(1/32 + 1/32) / 2).
    """
    asked, trace = _requests_for(limits), workload.arrivals.recorded
    first = _first_replay(workload, servers, asked).run
    most_seeds = min(most_seeds, max(SEEDS, MOST_SEEDS * REQUESTS // asked))
    if trace is not None:
        others = [run(workload, servers, len(trace.arrival_s), seed) for seed in range(1, SEEDS_OF_TRACE)]
        return _verdict_of(limits, goodput, [first, *others], len(trace.arrival_s))
    runs, seeds = [first], SEEDS_TO_FALL
    while True:
        runs += [run(workload, servers, asked, seed) for seed in range(len(runs), seeds)]
        found = _verdict_of(limits, goodput, runs, asked)
        hopeless = 2 * seeds >= most_seeds and any(one.is_beyond for one in found.kept)
        if found.holds is False or (found.holds and seeds >= SEEDS) or seeds >= most_seeds or hopeless:
            return found
        seeds = min(most_seeds, max(SEEDS, 2 * seeds))


def _verdict_of(limits: Sequence[Limit], goodput: float | None, runs: Sequence[Run], asked: int) -> Verdict:
    kept = [_kept(limit, [percentile(limit.of(one.times), limit.share) for one in runs]) for limit in limits]
    share = estimate([float(np.mean(within(limits, one.times))) for one in runs])
    if goodput is not None:
        holds = True if share.lowest >= goodput else False if share.highest < goodput else None
        kept.append(Kept(Limit(GOODPUT, goodput, 0.0), share, holds))
    most_sequences = max(one.served.most_sequences for one in runs)
    return Verdict(tuple(kept), share, len(runs), asked, most_sequences)


def _kept(limit: Limit, values: Sequence[float]) -> Kept:
    found = estimate(values)
    holds = True if found.highest <= limit.limit_s else False if found.lowest > limit.limit_s else None
    return Kept(limit, found, holds)
