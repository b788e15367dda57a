"""What a replay found, in words."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import isfinite, log10
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from servesat.core.quantities import dollars, number
from servesat.core.result import Fallen, KeptLimit, Percentiles, Replayed
from servesat.core.tolerances import round_up
from servesat.questions.replays import Breaks, ReplayOfPlan
from servesat.replay.verdict import GOODPUT
from servesat.report.charts import Chart, Frame, Series
from servesat.report.tables import Fitted, columns
from servesat.report.words import duration

LOWEST = 0.1
"""The lower end of a figure's logarithmic axis, where what is 0 is drawn."""

SHOWN = 12
"""Moments of a replay that a table shows."""


def replay_rows(replayed: Replayed, warm_up_requests: int = 0) -> Iterator[tuple[str, str]]:
    """What requests take, the limits that this keeps, and how busy the replicas are; each with a label."""
    for name, times in (("ttft", replayed.ttft_ms), ("tpot", replayed.tpot_ms), ("e2e", replayed.e2e_ms)):
        yield name, percentiles(times) if times.p99 else "none: answers have one token"
    for limit in replayed.limits:
        yield "limit", kept(limit, replayed.margin)
    yield "replay", of_requests(replayed, warm_up_requests)


def percentiles(times: Percentiles) -> str:
    """Half of the requests, and nearly all: `p50 123 ms, p90 224 ms, p95 263 ms, p99 348 ms`."""
    return ", ".join(f"{name} {duration(value)}" for name, value in vars(times).items())


def kept(limit: KeptLimit, margin: float) -> str:
    """A limit with what was found: `ttft p95 at most 500 ms: 390.0 ms, met by 97.2% ± 0.3% of requests`."""
    verdict = {True: "", False: ", broken", None: ", undecided"}[limit.holds]
    slower = f", with steps {margin:.1%} slower" if margin else ""
    digits = max(1, int(round_up(-log10(1 - limit.share))) - 1) if limit.share < 1 else 1  # p99.9 is told to 0.01 %
    met = f"{limit.met:.{digits}%}"
    met += f" ± {limit.confidence:.{digits}%}" if isfinite(limit.confidence) else ""
    if limit.requirement == GOODPUT:
        return f"at least {limit.limit:.1%} of requests within all: {met}{slower}{verdict}"
    asked = f"{limit.requirement} p{100 * limit.share:g} at most {limit.limit:g} ms"
    return f"{asked}: {duration(limit.value)}, met by {met} of requests{slower}{verdict}"


def of_requests(replayed: Replayed, warm_up_requests: int = 0) -> str:
    """What was replayed: `18,000 requests, poisson, 8 seeds; replicas busy 82% of the time, at most 121 at once`."""
    warm_up = f" after {warm_up_requests:,} to warm up" if warm_up_requests else ""
    made_way = f", {replayed.preempted:,} made way for others" if replayed.preempted else ""
    within = f"{replayed.within_all:.1%} within all limits; " if replayed.limits else ""
    return (
        f"{replayed.requests:,} requests{warm_up}, {replayed.arrivals}, {replayed.seeds} seeds: {within}"
        f"replicas busy {replayed.busy:.0%} of the time, at most {replayed.most_sequences:,} at once{made_way}"
    )


def verified(replayed: Replayed, bound_usd: float, cost_usd: float, solve_s: float) -> str:
    """What stands for the proof: that no cheaper proposal passes, and what is proved of all."""
    tried = "the first proposal" if replayed.proposals == 1 else f"of {replayed.proposals:,} proposals the cheapest"
    is_bound = cost_usd <= bound_usd * (1 + 1e-9)
    below = "" if is_bound else f"; no plan that serves the load costs less than {dollars(bound_usd)}"
    return f"verified by replay: {tried} that keeps its limits{below} ({solve_s:.2f} s)"


def fell(fallen: Fallen) -> str:
    """A cheaper proposal: `5 slices of h100-sxm 1x1, interleaved by vllm-0.32, at $11.45 an hour break ttft`."""
    slices, breaks = (f"{fallen.slices} slices", "break") if fallen.slices > 1 else ("1 slice", "breaks")
    if not fallen.broken:
        breaks = "stay undecided" if fallen.slices > 1 else "stays undecided"
    outcome = " ".join([breaks, " and ".join(fallen.broken)]).rstrip()
    how = fallen.mode + (f" by {fallen.engine}" if fallen.engine else "")
    what = f"{slices} of {fallen.chip} {fallen.topology}, {how},"
    return f"{what} at {dollars(fallen.usd_per_hour)} an hour {outcome}"


def print_replay(console: Console, found: ReplayOfPlan) -> None:
    """Print a plan's replay: what requests took, the limits, the course of it, and where it breaks."""
    plan = found.plan
    slices = f"{plan.slices} slices of " if plan.slices > 1 else ""
    console.print(
        Text(f"{slices}{plan.chip} {plan.topology} at {number(found.requests_per_s)} requests/s\n", style="bold")
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for label, text in replay_rows(found.replayed, found.warm_up_requests):
        table.add_row(label, text)
    if found.breaks is not None:
        table.add_row("breaks", breaks(found.breaks))
    console.print(table)
    course = Fitted([*columns("time", "waiting", "decoding", "KV cache", "ttft p95", "tpot p95", "within", right=True)])
    for moment in found.moments[:: max(1, len(found.moments) // SHOWN)]:
        times = [moment.ttft_p95_ms, moment.tpot_p95_ms]
        within = "" if moment.within_all is None else f"{moment.within_all:.0%}"
        course.add_row(
            [
                f"{moment.time_s:,.0f} s",
                f"{moment.waiting:,}",
                f"{moment.decoding:,}",
                f"{moment.kv_share:.0%}",
                *("" if value is None else duration(value) for value in times),
                within,
            ]
        )
    console.print(Text(""))
    console.print(course)


def breaks(found: Breaks) -> str:
    """Where limits break: `ttft above 31.2 requests/s`."""
    if found.requirement is None:
        return f"nothing, up to {number(found.requests_per_s)} requests/s"
    what = "replicas fall behind" if found.requirement == "load" else f"{found.requirement} is what breaks first,"
    if not found.requests_per_s:
        return f"{what} at any load"
    return f"{what} above {number(found.requests_per_s)} requests/s"


def replay_document(found: ReplayOfPlan) -> dict[str, Any]:
    """The JSON of `servesat replay`."""
    return asdict(found)


def replay_chart(found: ReplayOfPlan) -> Chart:
    """The course of a replay: requests under way, their times, and shares."""
    within = [None if moment.within_all is None else 100 * moment.within_all for moment in found.moments]
    panels: dict[str, dict[str, list[float | None]]] = {
        "requests": {
            "waiting": [float(moment.waiting) for moment in found.moments],
            "decoding": [float(moment.decoding) for moment in found.moments],
        },
        "ms": {
            "first token, p95": [moment.ttft_p95_ms for moment in found.moments],
            "each after it, p95": [moment.tpot_p95_ms for moment in found.moments],
        },
        "%": {
            "KV cache in use": [100 * moment.kv_share for moment in found.moments],
            "within all limits": within,
        },
    }
    frames = tuple(
        Frame(label=label, series=tuple(_course(found, name, values, label) for name, values in series.items()))
        for label, series in panels.items()
    )
    largest = max(value for frame in frames for series in frame.series for value in series.y)
    plan = found.plan
    return Chart(
        title=f"{plan.slices} × {plan.chip} {plan.topology} at {number(found.requests_per_s)} requests/s",
        x_title="time [s]",
        y_title=f"requests, ms, or % (0 is drawn at {LOWEST:g})",
        x_range=(0.0, found.moments[-1].time_s),
        y_range=(LOWEST, 2 * max(largest, 1.0)),
        log_x=False,
        log_y=True,
        slider="",
        frames=frames,
    )


def _course(found: ReplayOfPlan, name: str, values: Sequence[float | None], unit: str) -> Series:
    shown = [(moment.time_s, value) for moment, value in zip(found.moments, values, strict=True) if value is not None]
    return Series(
        name=name,
        x=[at for at, _ in shown],
        y=[max(value, LOWEST) for _, value in shown],
        hover=[f"{name}: {value:,.4g} {unit} at {at:,.0f} s" for at, value in shown],
        labels=["" for _ in shown[1:]] + [name for _ in shown[:1]],
    )
