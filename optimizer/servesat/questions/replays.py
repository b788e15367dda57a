"""A plan under requests that arrive at random, or as in a trace: what they take, and at which load limits break."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from servesat.catalogue.traces import read_trace
from servesat.core.arrays import Floats
from servesat.core.errors import CatalogueError, SpecError
from servesat.core.plan import Plan
from servesat.core.result import Replayed
from servesat.deployment.by_replay import arrivals_name, kept_limit, percentiles_ms
from servesat.replay.percentiles import RequestTimes, estimate, percentile, times_of
from servesat.replay.pools import Router, Servers
from servesat.replay.replayed import Limit, limits_of, refuse_what_never_fits, requests_of, servers_of, within
from servesat.replay.requests import Requests
from servesat.replay.scheduler import Served
from servesat.replay.verdict import GOODPUT, Kept
from servesat.spec.spec import Spec

MOMENTS = 60
"""Moments at which a replay is looked at."""

LOADS_TRIED = 14
"""Loads that are replayed to find where limits break."""

WARM_UP = 0.1
"""The share of random requests that find a server still filling up."""


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
    """A plan's replay: its percentiles and limits, its course, and where it breaks if that was asked."""

    plan: Plan
    requests_per_s: float
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
) -> ReplayOfPlan:
    """Replay a plan under the arrivals of a spec, steps as they are predicted.

    Random requests are shared out over the seeds. Raises SpecError without a demand.
    """
    if spec.workload.requests_per_s is None:
        raise SpecError("nothing arrives: give workload.requests_per_s, a rate, or a trace")
    servers, limits = servers_of(spec, plan), limits_of(spec)
    trace = spec.workload.arrivals.recorded
    count = max(2, requests // seeds) if trace is None else len(trace.arrival_s)
    runs = [_run(spec, servers, count, seed, router) for seed in range(seeds)]
    of_requests = [one.kept for one in runs]
    kept = [
        Kept(limit, found, found.value <= limit.limit_s)
        for limit in limits
        for found in [estimate([percentile(limit.of(times), limit.share) for times in of_requests])]
    ]
    share = estimate([float(np.mean(within(limits, times))) for times in of_requests])
    if spec.slo.goodput is not None:
        kept.append(Kept(Limit(GOODPUT, spec.slo.goodput, 0.0), share, share.value >= spec.slo.goodput))
    replayed = Replayed(
        arrivals=arrivals_name(spec),
        router=router,
        seeds=seeds,
        requests=sum(len(times.ttft_s) for times in of_requests),
        margin=0.0,
        ttft_ms=percentiles_ms(np.concatenate([times.ttft_s for times in of_requests])),
        tpot_ms=percentiles_ms(np.concatenate([times.tpot_s for times in of_requests])),
        e2e_ms=percentiles_ms(np.concatenate([times.e2e_s for times in of_requests])),
        limits=tuple(map(kept_limit, kept)),
        within_all=share.value,
        busy=float(np.mean([one.busy_share for one in runs])),
        most_sequences=max(one.served.most_sequences for one in runs),
        preempted=sum(one.served.preempted for one in runs),
    )
    return ReplayOfPlan(
        plan=plan,
        requests_per_s=spec.workload.requests_per_s,
        replayed=replayed,
        moments=tuple(_moments(spec, servers, runs[0])),
        breaks=_breaks(spec, servers, router, requests if trace is None else count) if until_breaks else None,
    )


@dataclass(frozen=True)
class _Run:
    requests: Requests
    served: Served
    times: RequestTimes
    kept: RequestTimes  # without those while servers fill up
    busy_share: float


def _run(spec: Spec, servers: Servers, count: int, seed: int, router: Router) -> _Run:
    requests = requests_of(spec, count, seed)
    refuse_what_never_fits(servers, requests)
    served = servers.serve(requests, router, seed)
    times = times_of(requests, served)
    is_random = spec.workload.arrivals.trace is None
    kept = times.take(slice(int(WARM_UP * len(requests)), None)) if is_random else times
    span = float(np.max(served.last_s)) - float(requests.arrival_s[0])
    return _Run(requests, served, times, kept, served.busy_s / (span * servers.pool.replicas))


def _moments(spec: Spec, servers: Servers, one: _Run) -> list[Moment]:
    requests, served, limits = one.requests, one.served, limits_of(spec)
    ends = np.linspace(0.0, float(requests.arrival_s[-1]), MOMENTS + 1)[1:]
    decoded_s = np.maximum(served.last_s - served.first_s, 1e-12)
    good, found, start = within(limits, one.times), [], -1.0
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
                ttft_p95_ms=_p95_ms(one.times.ttft_s[came]),
                tpot_p95_ms=_p95_ms(one.times.tpot_s[came]),
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
    loaded = spec.changed({"workload.requests_per_s": rate})
    one = _run(loaded, servers, requests, 0, router)
    for limit in limits_of(spec):
        if percentile(limit.of(one.kept), limit.share) > limit.limit_s:
            return limit.requirement
    goodput = spec.slo.goodput
    if goodput is not None and float(np.mean(within(limits_of(spec), one.kept))) < goodput:
        return GOODPUT
    half = len(one.kept.ttft_s) // 2
    grows = np.mean(one.kept.ttft_s[half:]) > 3 * np.mean(one.kept.ttft_s[:half]) + 1.0
    return "load" if grows and not limits_of(spec) else None


def under(spec: Spec, trace: Path | None, requests_per_s: float | None) -> Spec:
    """The spec under other arrivals: those of a trace, at its own rate unless one is given. Raises SpecError."""
    changes: dict[str, Any] = {}
    if trace is not None:
        try:
            own = read_trace(trace.resolve()).requests_per_s
        except CatalogueError as fault:
            raise SpecError(f"--trace {fault}") from None
        changes = {"workload.arrivals": {"trace": str(trace.resolve())}, "workload.requests_per_s": own}
    if requests_per_s is not None:
        changes["workload.requests_per_s"] = requests_per_s
    return spec.changed(changes) if changes else spec


def with_slices(plan: Plan, slices: int | None) -> Plan:
    """The plan with other slices that decode."""
    return plan if slices is None else replace(plan, slices=slices)
