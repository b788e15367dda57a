"""Whether a plan keeps its limits for the share of requests asked for: replays until that is certain, or given up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt

import numpy as np

from servesat.core.tolerances import is_at_most, round_up
from servesat.replay.least_times import least_times
from servesat.replay.percentiles import Estimate, RequestTimes, estimate, percentile, t_95, times_of
from servesat.replay.pools import Servers
from servesat.replay.replayed import WARM_UP, Limit, Replay, Run, requests_of, within
from servesat.replay.requests import Requests
from servesat.spec.workload import Workload

GOODPUT = "goodput"
"""Stands for the share of requests within all limits, in place of a requirement."""

REQUESTS = 2500
"""Requests of a replay; more where fewer than BEYOND would be beyond a percentile in the first SEEDS replays."""

BEYOND = 100
"""Requests beyond each percentile in the first SEEDS replays together: with fewer it is set by the slowest few."""

SEEDS_TO_FALL, SEEDS, MOST_SEEDS = 3, 8, 64
"""The number of replays after which a limit may be found broken, after which it may be found kept, and the most run."""

SEEDS_OF_TRACE = 3
"""Replays of a trace after which a limit may be found kept: in each, requests find other replicas."""

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
    """A limit, the percentile [s] and the share of requests within it, and whether it `holds`; None: undecided.

    For goodput, `value` is that share.
    """

    limit: Limit
    value: float
    share: Estimate
    holds: bool | None

    @property
    def is_likely(self) -> bool:
        """Whether the estimated share is enough, certain or not."""
        return bool(is_at_most(self.limit.share, self.share.value))


@dataclass(frozen=True)
class Verdict:
    """The limits of a plan after its replays, one for each seed from 0 on, of `asked` requests each but a warm-up.

    `settled` says whether the warm-up was long enough for queues to settle. `within_all` is the share of requests
    within every limit, `most_sequences` what a replica ran at once at most.
    """

    kept: tuple[Kept, ...]
    within_all: Estimate
    seeds: int
    asked: int
    settled: bool
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
    alike, trace = workload.is_alike, workload.arrivals.trace
    count = 1 if alike else 10**9 if trace else REQUESTS
    requests = requests_of(workload, count, 0, longest_tokens=servers.longest_tokens)
    whole = trace is not None and len(requests) <= REQUESTS
    some = requests if whole else requests.take(np.arange(0, len(requests), max(1, len(requests) // ALONE)))
    apart = replace(some, arrival_s=APART_S * np.arange(len(some), dtype=np.float64))
    one = replace(servers, pool=replace(servers.pool, replicas=1))
    one = one if one.prefill is None else replace(one, prefill=replace(one.prefill, replicas=1))
    times = times_of(apart, one.serve(apart))
    if alike:
        return tuple(dict.fromkeys(one.requirement for one in limits if not np.all(one.met_by(times))))
    return broken_for_certain(limits, times, requests) if whole else _late(limits, times, 1)


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
        longest = servers.longest_tokens
        requests = requests_of(workload, REQUESTS, seed, one_of=pool.replicas, longest_tokens=longest)
        return least_times(servers, requests).take(slice(int(WARM_UP * REQUESTS), None))

    first = of_seed(0)
    broken = _late(limits, first, DEPENDENT)
    if broken or all(one.share_met(first) >= one.share for one in limits):
        return broken
    every = [first, *map(of_seed, range(1, SEEDS))]
    kept = [kept_in(limit, every) for limit in limits]
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
        return broken_for_certain(limits, times, replay.requests) if of_trace else _late(limits, times, DEPENDENT)

    for count in FIRST_OF_TRACE if of_trace else FIRST_LOOKS:
        found = broken(replay.first(count)) if count < whole else ()
        if found:
            return found
    return broken(replay.run.times)


def _requests_for(limits: Sequence[Limit]) -> int:
    """The random requests of a replay that tell whether limits are kept."""
    beyond = min((1 - limit.share for limit in limits), default=1.0)
    return max(REQUESTS, int(round_up(BEYOND / beyond / SEEDS)))


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


def broken_for_certain(limits: Sequence[Limit], times: RequestTimes, whole: Requests) -> tuple[str, ...]:
    """The requirements that so many of some requests break that the whole trace cannot keep them."""
    late = {limit: int(np.sum(~limit.met_by(times))) for limit in limits}
    counts = {limit: limit.concerns(whole) for limit in limits}
    may_be = {limit: count - int(round_up(limit.share * count)) for limit, count in counts.items()}
    return tuple(dict.fromkeys(limit.requirement for limit in limits if late[limit] > may_be[limit]))


def _late(limits: Sequence[Limit], times: RequestTimes, dependent: int) -> tuple[str, ...]:
    """The requirements of which fewer requests are within limits than four standard errors allow."""
    broken = []
    for limit in limits:
        met = limit.met_by(times)
        error = sqrt(limit.share * (1 - limit.share) / max(1.0, len(met) / dependent))
        if len(met) and float(np.mean(met)) < limit.share - 4 * error:
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

    Longer replays, for rare percentiles or a trace, are fewer: about 160,000 requests in all, warm-ups not counted. A
    plan that passes before its queues have settled is replayed again with longer warm-ups. A plan is given up once the
    chance that all seeds would find its limits kept is at most 2.5 %.
    """
    trace = workload.arrivals.recorded
    asked, enough = (_requests_for(limits), SEEDS) if trace is None else (len(trace.arrival_s), SEEDS_OF_TRACE)
    replay = _first_replay(workload, servers, asked)
    most_seeds = min(most_seeds, max(enough, MOST_SEEDS * REQUESTS // asked))
    runs, seeds, settled = [replay.run], SEEDS_TO_FALL, replay.has_settled
    while True:
        runs += [Replay(workload, servers, asked, seed, settled=settled).run for seed in range(len(runs), seeds)]
        found = _verdict_of(limits, goodput, runs, asked, settled=settled)
        hopeless = seeds >= SEEDS and any(_is_hopeless(one, seeds, most_seeds) for one in found.kept)
        if found.holds and seeds >= enough and not settled:
            runs, seeds, settled = [], SEEDS_TO_FALL, True
            continue
        if found.holds is False or (found.holds and seeds >= enough) or seeds >= most_seeds or hopeless:
            return found
        seeds = min(most_seeds, max(SEEDS, 2 * seeds))


def _verdict_of(
    limits: Sequence[Limit], goodput: float | None, runs: Sequence[Run], asked: int, *, settled: bool
) -> Verdict:
    every = [one.times for one in runs]
    kept, share = [kept_in(limit, every) for limit in limits], within_all(limits, every)
    if goodput is not None:
        kept.append(kept_goodput(goodput, share))
    most_sequences = max(one.served.most_sequences for one in runs)
    return Verdict(tuple(kept), share, len(runs), asked, settled, most_sequences)


def _is_hopeless(kept: Kept, seeds: int, most_seeds: int) -> bool:
    """Whether a limit that is missed after n of N seeds has a chance of at most 2.5 % to be kept after all of them.

    In units of the standard deviation between runs: to be kept, the mean over N must exceed the share asked for by
    1.96 / √N, and with 95 % confidence it moves by at most 1.96 · (1 - n/N) · √(1/n + 1/(N - n)) from the mean over n.
    From n = N / 2 on, any shortfall is hopeless.
    """
    left = most_seeds - seeds
    if left <= 0:
        return False
    differs = 1.96 * left / most_seeds * sqrt(1 / seeds + 1 / left)
    deviation = kept.share.within * sqrt(seeds) / t_95(seeds)
    return kept.limit.share - kept.share.value > max(0.0, differs - 1.96 / sqrt(most_seeds)) * deviation


def within_all(limits: Sequence[Limit], runs: Sequence[RequestTimes]) -> Estimate:
    """The share of requests within all limits."""
    return estimate([float(np.mean(within(limits, times))) for times in runs])


def kept_in(limit: Limit, runs: Sequence[RequestTimes]) -> Kept:
    """Whether a limit is kept, by the share of the requests of each replay that are within it.

    The percentile is that of all replays together: the mean of their own would be too low where a queue swings more
    slowly than they last.
    """
    share, values = estimate([limit.share_met(times) for times in runs]), [limit.of(times) for times in runs]
    value = percentile(np.concatenate(values), limit.share) if any(map(len, values)) else 0.0
    return Kept(limit, value, share, _is_enough(share, limit))


def kept_goodput(goodput: float, share: Estimate) -> Kept:
    """Whether the share of requests within all limits is enough."""
    limit = Limit(GOODPUT, goodput, 0.0)
    return Kept(limit, share.value, share, _is_enough(share, limit))


def _is_enough(share: Estimate, limit: Limit) -> bool | None:
    """Whether an estimated share is the one asked for, at 95 % confidence."""
    if is_at_most(limit.share, share.lowest):
        return True
    return None if is_at_most(limit.share, share.highest) else False
