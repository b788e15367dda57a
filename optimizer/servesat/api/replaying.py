"""A plan replayed step by step."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from servesat.api.answer import Drawn
from servesat.api.launching import plan_of
from servesat.api.solving import Solution
from servesat.api.tables import SpecLike, fields_of, frame
from servesat.core.errors import SpecError
from servesat.core.parallel.runs import Workers
from servesat.core.plan import Plan
from servesat.deployment.solve import solve
from servesat.launch.reading import kind_of, plan_of_result, refuse_document
from servesat.questions.replays import ReplayOfPlan, under, with_decode_slices
from servesat.questions.replays import replay as replayed
from servesat.replay.pools import Router
from servesat.report.charts import Chart
from servesat.report.replays import print_replay, replay_chart, replay_document
from servesat.report.terminal import Terminal
from servesat.spec.searched import PERCENTILE_IN_PRODUCTION
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

MOMENT: dict[str, type] = {
    "time_s": float,
    "waiting": int,
    "decoding": int,
    "kv_share": float,
    "ttft_p95_ms": float,
    "tpot_p95_ms": float,
    "within_all": float,
}
"""The columns of a replay's course."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Replay(Drawn, ReplayOfPlan):
    """A plan's replay: its percentiles and limits, its course, and where it breaks if that was asked.

    The longest request has `longest_tokens`, and servers of the plan are started for `started_for_tokens`. With
    `of_means` the spec's limits are on means.
    """

    longest_tokens: int
    started_for_tokens: int
    of_means: bool

    @property
    def notes(self) -> tuple[str, ...]:
        """That servers of the plan would refuse the longest requests, and that limits on means are held to a share."""
        notes = []
        if self.longest_tokens > self.started_for_tokens:
            started = f"`servesat launch` starts its servers for {self.started_for_tokens:,}"
            notes.append(f"requests have up to {self.longest_tokens:,} tokens, and {started}: they would refuse longer")
        if self.of_means and self.replayed.limits:
            share = f"{PERCENTILE_IN_PRODUCTION:.0%}"
            notes.append(
                f"the spec's limits are on means; here each is to hold for {share} of the requests. Give "
                "slo.percentile to plan for them"
            )
        return tuple(notes)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each moment of the course."""
        return frame(map(asdict, self.moments), MOMENT)

    def show(self, terminal: Terminal) -> None:
        """Print what requests took, the limits, the course, and where it breaks."""
        print_replay(terminal, self)

    def _document(self) -> dict[str, Any]:
        return replay_document(self)

    def _picture(self) -> Chart:
        return replay_chart(self)


def replay(
    source: Solution | SpecLike,
    *,
    trace: str | Path | None = None,
    requests_per_s: float | None = None,
    slices: int | None = None,
    router: Router = "random",
    requests: int = 20_000,
    seeds: int = 8,
    until_breaks: bool = False,
    workers: int | None = 1,
    on: str | None = None,
) -> Replay:
    """Replay a plan under requests that arrive at random, or as in a `trace`.

    >>> replay(solve("spec.yaml"), requests_per_s=30).replayed.ttft_ms.p99

    Of a solution, of a spec once it is solved, or of the file of a result; with other `slices` than the plan's, at
    another rate, or by another `router`. `until_breaks` finds the load at which limits stop holding. `workers` are
    processes that replay a seed each, None one per core for a long run; `on` a Ray cluster, `ray` or `ray://HOST:PORT`.
    Raises NoPlanError without a plan, SpecError without a demand.
    """
    if router not in get_args(Router):
        raise SpecError(f"router = {router!r}: expected {', '.join(get_args(Router))}")
    for name, value, least in (("slices", slices, 1), ("requests", requests, 100), ("seeds", seeds, 2)):
        if value is not None and value < least:
            raise SpecError(f"{name} = {value}: expected at least {least}")
    crew = Workers(workers, on)
    planned, plan = _planned(source)
    spec, plan = (
        under(planned, None if trace is None else Path(trace), requests_per_s),
        with_decode_slices(plan, slices),
    )
    found = replayed(spec, plan, router=router, requests=requests, seeds=seeds, until_breaks=until_breaks, workers=crew)
    longest, started_for = spec.longest_request_tokens, planned.longest_request_tokens
    return Replay(
        longest_tokens=longest,
        started_for_tokens=started_for,
        of_means=planned.percentile is None,
        **fields_of(found),
    )


def _planned(source: Solution | SpecLike) -> tuple[Spec, Plan]:
    """The spec and the plan of a solution, of a result, or of a spec once it is solved."""
    if isinstance(source, Solution):
        return source.spec, plan_of(source, "to replay")
    if isinstance(source, str | Path):
        kind = kind_of(Path(source))
        if kind == "fleet":
            raise SpecError(f"{source}: is a fleet: replay the deployments of its workloads")
        if kind == "result":
            spec, plan, _ = plan_of_result(Path(source))
            return spec, plan
    refuse_document(source)
    spec = Spec.load(source)
    return spec, plan_of(solve(spec), "to replay")
