"""A plan under requests that arrive at random, or as in a trace: what they take, and at which load limits break."""

from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from servesat.catalogue.traces import read_trace
from servesat.core.arrays import Floats
from servesat.core.errors import CatalogueError, SpecError
from servesat.core.parallel.runs import THIS_PROCESS, Workers, in_chunks
from servesat.core.plan import Plan
from servesat.core.result import Replayed
from servesat.core.tolerances import is_at_most
from servesat.deployment.by_replay import replayed
from servesat.replay.percentiles import known, percentile
from servesat.replay.pools import Router, Servers
from servesat.replay.replayed import Replay, Run, limits_of, servers_of, within
from servesat.replay.verdict import GOODPUT, Kept, kept_goodput, kept_in, within_all
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload

MOMENTS = 60
"""Moments at which a replay is looked at."""

LOADS_TRIED = 14
"""Loads that are replayed to find where limits break."""

MIN_REQUESTS_FOR_PROCESSES = 50_000
"""Requests of all seeds below which starting processes takes longer than it saves."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What goes on at a time: requests that wait for their first token, that decode, and their share of the KV cache.

    Of the requests that arrived since the last moment the percentiles, and the share within all limits; None where none
    arrived.
    """

    time_s: float
    waiting: int
    decoding: int
    kv_share: float
    ttft_p95_ms: float | None
    tpot_p95_ms: float | None
    within_all: float | None


@dataclass(frozen=True, kw_only=True)
class Breaks:
    """The load up to which all limits are kept [requests/s], and what breaks just above it; None: nothing did."""

    requests_per_s: float
    requirement: str | None


@dataclass(frozen=True, kw_only=True)
class ReplayOfPlan:
    """A plan's replay: its percentiles and limits, its course, and where it breaks if that was asked.

    The requests of the warm-up find servers that still fill up, and are not among those of `replayed`.
    """

    plan: Plan
    requests_per_s: float
    warm_up_requests: int
    replayed: Replayed
    moments: tuple[Moment, ...]
    breaks: Breaks | None = None


def replay(
    spec: Spec,
    plan: Plan,
    *,
    router: Router = "random",
    requests: int = 20_000,
    seeds: int = 8,
    until_breaks: bool = False,
    workers: Workers = THIS_PROCESS,
) -> ReplayOfPlan:
    """Replay a plan under the arrivals of a spec, steps as they are predicted.

    Random requests are shared out over the seeds, and the seeds over the workers. Raises SpecError without a demand,
    and where a trace whose requests come at once is to be loaded more.
    """
    if spec.workload.requests_per_s is None:
        raise SpecError("nothing arrives: give workload.requests_per_s, a rate, or a trace")
    servers, limits = servers_of(spec, plan), limits_of(spec)
    trace = spec.workload.arrivals.recorded
    count = max(2, requests // seeds) if trace is None else len(trace.arrival_s)
    if until_breaks and trace is not None and trace.requests_per_s is None:
        raise SpecError(f"trace {trace.name}: its requests all come at once, so that no load is more than another")
    chunks = in_chunks(
        partial(_runs, spec.workload, servers, count, router),
        range(seeds),
        workers,
        named="seed",
        is_long=count * seeds >= MIN_REQUESTS_FOR_PROCESSES,
        largest_chunk=1,
    )
    runs = [one for chunk in chunks for one in chunk]
    every = [one.times for one in runs]
    kept, share = [kept_in(limit, every) for limit in limits], within_all(limits, every)
    if spec.slo.goodput is not None:
        kept.append(kept_goodput(spec.slo.goodput, share))
    return ReplayOfPlan(
        plan=plan,
        requests_per_s=spec.workload.requests_per_s,
        warm_up_requests=sum(len(one.requests) - len(one.times.ttft_s) for one in runs),
        replayed=replayed(spec, runs, [_told(one, seeds) for one in kept], share.value, router),
        moments=tuple(_moments(spec, servers, runs[0])),
        breaks=_breaks(spec, servers, router, requests if trace is None else count) if until_breaks else None,
    )


def _told(kept: Kept, seeds: int) -> Kept:
    """A limit as kept where its estimate is; undecided where that is not, and several seeds leave it uncertain."""
    if kept.is_likely:
        return replace(kept, holds=True)
    return kept if seeds > 1 else replace(kept, holds=False)


def _runs(workload: Workload, servers: Servers, count: int, router: Router, seeds: range) -> list[Run]:
    return [Replay(workload, servers, count, seed, router=router, whole=True).run for seed in seeds]


def _moments(spec: Spec, servers: Servers, one: Run) -> list[Moment]:
    requests, served, limits = one.requests, one.served, limits_of(spec)
    ends = np.linspace(0.0, float(requests.arrival_s[-1]), MOMENTS + 1)[1:]
    decoded_s = np.maximum(served.last_s - served.first_s, 1e-12)
    good, found, start = within(limits, one.every), [], -1.0
    room = servers.pool.scheduling.kv_tokens * servers.pool.replicas
    for end in ends:
        here = (served.first_s <= end) & (served.last_s > end)
        made = (end - served.first_s[here]) / decoded_s[here] * requests.output_tokens[here]
        came = (requests.arrival_s > start) & (requests.arrival_s <= end)
        found.append(
            Moment(
                time_s=float(end),
                waiting=int(np.sum((requests.arrival_s <= end) & (served.first_s > end))),
                decoding=int(np.sum(here)),
                kv_share=float(np.sum(requests.prompt_tokens[here] + made) / room),
                ttft_p95_ms=_p95_ms(one.every.ttft_s[came]),
                tpot_p95_ms=_p95_ms(known(one.every.tpot_s[came])),
                within_all=float(np.mean(good[came])) if np.any(came) else None,
            )
        )
        start = float(end)
    return found


def _p95_ms(values_s: Floats) -> float | None:
    return percentile(values_s, 0.95) * 1e3 if len(values_s) else None


def _breaks(spec: Spec, servers: Servers, router: Router, requests: int) -> Breaks:
    """The load at which limits stop holding: doubled until they do, then by bisection."""
    rate = spec.workload.requests_per_s or 1.0
    low, high, name = 0.0, rate, None
    for _ in range(LOADS_TRIED):
        tried = high if name is None else (low + high) / 2
        broken = _broken(spec, servers, router, requests, tried)
        if broken is None:
            low = tried
            high = high * 2 if name is None else high
        else:
            high, name = tried, broken
    return Breaks(requests_per_s=low, requirement=name)


def _broken(spec: Spec, servers: Servers, router: Router, requests: int, rate: float) -> str | None:
    """The first limit that is broken at a load, or `load` where requests come faster than they are served."""
    workload = spec.changed({"workload.requests_per_s": rate}).workload
    one = Replay(workload, servers, requests, 0, router=router, whole=True).run
    limits, goodput = limits_of(spec), spec.slo.goodput
    for limit in limits:
        values = limit.of(one.times)
        if len(values) and not is_at_most(percentile(values, limit.share), limit.limit_s):
            return limit.requirement
    if goodput is not None and float(np.mean(within(limits, one.times))) < goodput:
        return GOODPUT
    if workload.arrivals.trace is not None and limits:  # whose own course may end at its busiest
        return None
    return "load" if _grows(one) else None


def _grows(one: Run) -> bool:
    """Whether half as many again are under way at the end of a replay as half-way, beyond what chance explains."""
    count, done_s = len(one.requests), np.sort(one.served.last_s)
    halfway, end = (
        float(at + 1 - np.searchsorted(done_s, one.requests.arrival_s[at], side="right"))
        for at in (count - len(one.times.ttft_s) // 2 - 1, count - 1)
    )
    return end > 1.5 * halfway + 4 * sqrt(halfway) + 10


def under(spec: Spec, trace: Path | None, requests_per_s: float | None) -> Spec:
    """The spec under other arrivals: those of a trace, at its own rate unless one is given. Raises SpecError."""
    changes: dict[str, Any] = {}
    if trace is not None:
        try:
            own = read_trace(trace.resolve()).requests_per_s
        except CatalogueError as fault:
            raise SpecError(f"--trace {fault}") from None
        if own is None and requests_per_s is None:
            raise SpecError(f"--trace {trace}: has no rate, as its requests all come at once; give --rate")
        arrivals = {"trace": str(trace.resolve())}
        changes = {"workload.arrivals": arrivals, "workload.lengths": {}, "workload.requests_per_s": own}
    if requests_per_s is not None:
        changes["workload.requests_per_s"] = requests_per_s
    return spec.changed(changes) if changes else spec


def with_decode_slices(plan: Plan, slices: int | None) -> Plan:
    """The plan with other slices that decode."""
    return plan if slices is None else replace(plan, slices=slices)
