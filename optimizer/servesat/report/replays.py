"""What a replay found, in words."""

from collections.abc import Iterator

from servesat.core.quantities import dollars
from servesat.core.result import Fallen, KeptLimit, Percentiles, Replayed
from servesat.report.words import duration


def replay_rows(replayed: Replayed) -> Iterator[tuple[str, str]]:
    """What requests take, the limits that this keeps, and how busy the replicas are; each with a label."""
    for name, times in (("ttft", replayed.ttft_ms), ("tpot", replayed.tpot_ms), ("e2e", replayed.e2e_ms)):
        yield name, percentiles(times)
    for limit in replayed.limits:
        yield "limit", kept(limit, replayed.margin)
    yield "replay", of_requests(replayed)


def percentiles(times: Percentiles) -> str:
    """Half of the requests, and nearly all: `p50 123 ms, p90 224 ms, p95 263 ms, p99 348 ms`."""
    return ", ".join(f"{name} {duration(value)}" for name, value in vars(times).items())


def kept(limit: KeptLimit, margin: float) -> str:
    """A limit with what was found: `ttft p95 at most 500 ms: 390.0 ms ± 19.1, with steps 15.7% slower`."""
    verdict = {True: "", False: ", broken", None: ", undecided"}[limit.holds]
    slower = f", with steps {margin:.1%} slower" if margin else ""
    if limit.requirement == "goodput":
        share = f"{limit.value:.1%} ± {limit.within:.1%}"
        return f"at least {limit.limit:.1%} of requests within all: {share}{slower}{verdict}"
    found = f"{duration(limit.value)} ± {limit.within:.1f}"
    return f"{limit.requirement} p{100 * limit.share:g} at most {limit.limit:g} ms: {found}{slower}{verdict}"


def of_requests(replayed: Replayed) -> str:
    """What was replayed: `18,000 requests, poisson, 8 seeds; replicas busy 82% of the time, at most 121 at once`."""
    made_way = f", {replayed.preempted:,} made way for others" if replayed.preempted else ""
    within = f"{replayed.within_all:.1%} within all limits; " if replayed.limits else ""
    return (
        f"{replayed.requests:,} requests, {replayed.arrivals}, {replayed.seeds} seeds: {within}"
        f"replicas busy {replayed.busy:.0%} of the time, at most {replayed.most_sequences:,} at once{made_way}"
    )


def verified(replayed: Replayed, bound_usd: float, cost_usd: float, solve_s: float) -> str:
    """What stands for the proof: that no cheaper proposal passes, and what is proved of all."""
    tried = "the first proposal" if replayed.proposals == 1 else f"of {replayed.proposals:,} proposals the cheapest"
    is_bound = cost_usd <= bound_usd * (1 + 1e-9)
    below = "" if is_bound else f"; no plan that serves the load costs less than {dollars(bound_usd)}"
    return f"verified by replay: {tried} that keeps its limits{below} ({solve_s:.2f} s)"


def fell(fallen: Fallen) -> str:
    """A cheaper proposal: `5 slices of h100-sxm 1x1 at $11.45 an hour break ttft`."""
    slices = f"{fallen.slices} slices" if fallen.slices > 1 else "1 slice"
    broken = " and ".join(fallen.broken) or "a limit, for all that replays tell"
    return f"{slices} of {fallen.chip} {fallen.topology} at {dollars(fallen.usd_per_hour)} an hour break {broken}"
