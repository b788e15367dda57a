"""The cheapest plan that keeps its limits for a share of the requests: proposed in order of cost, tested by replays."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from servesat.core.arrays import Floats
from servesat.core.plan import Plan
from servesat.core.result import KeptLimit, Margin, Percentiles, Replayed, Result, Status
from servesat.deployment.proposals import Search
from servesat.deployment.settings import Settings
from servesat.replay.percentiles import known, percentile
from servesat.replay.pools import Router
from servesat.replay.replayed import Replay, Run, servers_of
from servesat.replay.verdict import GOODPUT, SEEDS, Kept, Verdict
from servesat.spec.spec import Spec

FALLEN_SHOWN = 5
"""The number of rejected proposals that a result lists."""


def solve_by_replay(spec: Spec, settings: Settings, on_progress: Callable[[str], None] = lambda _: None) -> Result:
    """Find the cheapest plan whose replay keeps the limits of a spec with percentiles.

    The bound is the least cost among all proposals. Infeasible where no number of slices passes; unknown where replays
    decide on none.
    """
    start = time.perf_counter()
    search = Search(spec, start, settings, on_progress)
    found = search.run()
    if found is None:
        status = Status.UNKNOWN if search.undecided or search.deadline.is_over else Status.INFEASIBLE
        conflict = None if status is Status.UNKNOWN else search.conflicts()
        return Result(status=status, plan=None, conflict=conflict, solve_s=time.perf_counter() - start)
    plan, tested = found.plan, found.verdict
    return Result(
        status=Status.FEASIBLE if search.deadline.is_over else Status.OPTIMAL,
        plan=plan,
        bound_usd_per_million_output_tokens=search.bound_usd_per_million,
        binding=tuple(dict.fromkeys(name for one in reversed(search.fallen) for name in one.broken)),
        margins=(*found.margins, *_margins(tested)),
        replayed=_replayed(spec, plan, tested, search),
        solve_s=time.perf_counter() - start,
    )


def _margins(tested: Verdict) -> Iterator[Margin]:
    """The margins of the limits that replays verified: of several on one figure the one nearest to its limit."""
    nearest: dict[str, KeptLimit] = {}
    for limit in map(kept_limit, tested.kept):
        known = nearest.get(limit.requirement)
        if known is None or limit.value / limit.limit > known.value / known.limit:
            nearest[limit.requirement] = limit
    for name, limit in nearest.items():
        is_share = name == GOODPUT
        slack = limit.value - limit.limit if is_share else limit.limit - limit.value
        unit = "" if is_share else "ms"
        yield Margin(
            requirement=name, holds=limit.holds is True, value=limit.value, limit=limit.limit, slack=slack, unit=unit
        )


def kept_limit(kept: Kept) -> KeptLimit:
    """A limit as a result tells of it."""
    scale = 1.0 if kept.limit.requirement == GOODPUT else 1e3
    return KeptLimit(
        requirement=kept.limit.requirement,
        share=kept.limit.share,
        value=kept.value * scale,
        limit=kept.limit.share if kept.limit.requirement == GOODPUT else kept.limit.limit_s * scale,
        met=kept.share.value,
        confidence=kept.share.within,
        holds=kept.holds,
    )


def _replayed(spec: Spec, plan: Plan, tested: Verdict, search: Search) -> Replayed:
    """The verdict on a plan, beside replays of its first seeds with the steps as predicted."""
    servers = servers_of(spec, plan)
    seeds = range(min(tested.seeds, SEEDS))
    runs = [Replay(spec.workload, servers, tested.asked, seed, settled=tested.settled).run for seed in seeds]
    return replace(
        replayed(spec, runs, tested.kept, tested.within_all.value),
        seeds=tested.seeds,
        requests=tested.seeds * len(runs[0].times.ttft_s),
        margin=spec.margins_of(plan.chip, plan.engine).tpot,
        most_sequences=tested.most_sequences,
        proposals=len(search.looks.outcomes),
        fallen=tuple(search.fallen[-FALLEN_SHOWN:]),
    )


def replayed(
    spec: Spec, runs: Sequence[Run], kept: Iterable[Kept], within_all: float, router: Router = "random"
) -> Replayed:
    """Some replays as a result tells of them."""
    return Replayed(
        arrivals=arrivals_name(spec),
        router=router,
        seeds=len(runs),
        requests=sum(len(one.times.ttft_s) for one in runs),
        margin=0.0,
        ttft_ms=percentiles_ms(np.concatenate([one.times.ttft_s for one in runs])),
        tpot_ms=percentiles_ms(np.concatenate([one.times.tpot_s for one in runs])),
        e2e_ms=percentiles_ms(np.concatenate([one.times.e2e_s for one in runs])),
        limits=tuple(map(kept_limit, kept)),
        within_all=within_all,
        busy=float(np.mean([one.busy_share for one in runs])),
        most_sequences=max(one.served.most_sequences for one in runs),
        preempted=sum(one.served.preempted for one in runs),
    )


def arrivals_name(spec: Spec) -> str:
    """How requests arrive, in words."""
    arrivals = spec.workload.arrivals
    if arrivals.recorded is not None:
        return f"trace {arrivals.recorded.name}"
    return "poisson" if arrivals.gamma_cv == 1 else f"gamma, cv {arrivals.gamma_cv:g}"


def percentiles_ms(values_s: Floats) -> Percentiles:
    """The percentiles of some times [ms], of those that are known; 0 where none is."""
    values_s = known(values_s) if not np.all(np.isnan(values_s)) else np.zeros(1)
    return Percentiles(**{f"p{share}": percentile(values_s, share / 100) * 1e3 for share in (50, 90, 95, 99)})
