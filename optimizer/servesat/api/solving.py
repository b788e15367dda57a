"""The cheapest plan of a spec, and the best one under decisions of your own beside it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from servesat.api.answer import Answer
from servesat.api.tables import PLAN, SpecLike, fields_of, frame, plan_row, settings_of
from servesat.core.errors import SpecError
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.questions.explain import answer
from servesat.questions.why_not import Comparison, Decisions, why_not
from servesat.report.documents import answer_document
from servesat.spec.constraint_builder import ConstraintBuilder, built
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

    from servesat.report.terminal import Terminal

_PERCENTILES = tuple(product(("ttft", "tpot", "e2e"), ("p50", "p90", "p95", "p99")))

MAX_PLANS = 1000
"""The most plans that a search returns."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Solution(Answer, Result):
    """The answer to a deployment, with the spec that it answers: a plan with its proof, or what is in conflict."""

    spec: Spec
    explained: bool = False
    settings: Settings = field(default_factory=Settings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed, such as chips without a figure that the search needs."""
        return self.spec.notes

    def to_pandas(self) -> "pd.DataFrame":
        """A row with the plan, and with `top` one for each of the best plans; none where there is no plan.

        The percentiles of replays, as `ttft_p95_ms`, are those of the plan that they verified.
        """
        plans = self.alternatives or (() if self.plan is None else (self.plan,))
        rows = [{"status": str(self.status), **plan_row(plan)} for plan in plans]
        for plan, row in zip(plans, rows, strict=True):
            if self.replayed is not None and plan == self.plan:
                times = {"ttft": self.replayed.ttft_ms, "tpot": self.replayed.tpot_ms, "e2e": self.replayed.e2e_ms}
                row |= {f"{time}_{share}_ms": getattr(times[time], share) for time, share in _PERCENTILES}
        return frame(rows, {**PLAN, **{f"{time}_{share}_ms": float for time, share in _PERCENTILES}})

    def show(self, terminal: "Terminal") -> None:
        """Print the plan, where its time goes, why it is best, and what is proved."""
        from servesat.report.result import print_result

        print_result(terminal, self.spec, self, explain=self.explained)

    def certify(self, path: str | Path) -> None:
        """Write a certificate that `servesat verify` checks without a solver. Raises ServesatError without a proof."""
        from servesat.deployment.certificate import certify, write_certificate

        write_certificate(certify(self.spec, self, self.settings), Path(path))

    def _document(self) -> dict[str, Any]:
        return answer_document(self.spec, self)

    def _summarise(self, terminal: "Terminal") -> None:
        from servesat.report.result import print_summary

        print_summary(terminal, self.spec, self)


def solve(
    spec: SpecLike | None = None,
    *,
    explain: bool = False,
    top: int = 1,
    distinct: Literal["chip", "topology", "layout"] = "layout",
    time_limit_s: float | None = None,
    constrain: Callable[[ConstraintBuilder], object] | str | Iterable[str] | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
    **keys: Any,
) -> Solution:
    """Find the cheapest plan for a spec, proved by CP-SAT and re-derived without it.

    >>> solve("spec.yaml")
    >>> solve(model="qwen3-32b", workload={"prompt_tokens": 2000, "output_tokens": 300})

    The spec is a path, a mapping, a Spec, or its keys as keywords. With `explain` it says what each limit costs; `top`
    asks for that many best plans, `distinct` by what. `constrain` adds constraints: texts, or a function that
    builds them (docs/constraints.md). `on_progress` is called with a description of each step.
    Raises SpecError when the spec is malformed, SolverError when an answer fails its own proof.
    """
    if spec is not None and keys:
        raise TypeError(f"solve() takes a spec, or its keys, not {next(iter(keys))!r} beside a spec")
    if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= MAX_PLANS:
        raise SpecError(f"top = {top!r}: expected a whole number from 1 to {MAX_PLANS}")
    if distinct not in {"chip", "topology", "layout"}:
        raise SpecError(f"distinct = {distinct!r}: expected chip, topology or layout")
    settings, loaded = settings_of(time_limit_s), Spec(**keys) if spec is None else Spec.load(spec)
    if constrain is not None:
        stated = [constrain] if isinstance(constrain, str) else built(constrain) if callable(constrain) else constrain
        loaded = loaded.constrained(stated)
    result = answer(loaded, settings, limits=explain, top=top, distinct=distinct, on_progress=on_progress)
    return Solution(spec=loaded, explained=explain, settings=settings, **fields_of(result))


@dataclass(frozen=True, kw_only=True, repr=False)
class WhyNot(Answer, Comparison):
    """The best plan under decisions that are fixed, beside the best plan overall."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the figures are those of, where limits hold for a share of the requests."""
        return self.asked.notes_on_times if self.verified else self.asked.notes_on_means

    asked: Spec

    def to_pandas(self) -> "pd.DataFrame":
        """A row for the best plan, and one for the alternative."""
        rows = [
            {"which": which, "status": str(result.status), **plan_row(result.plan)}
            for which, result in (("best", self.best), ("alternative", self.alternative))
        ]
        return frame(rows, {"which": str, **PLAN})

    def show(self, terminal: "Terminal") -> None:
        """Print both plans term by term, or what excludes the alternative."""
        from servesat.report.why import print_comparison

        print_comparison(terminal, self)

    def _document(self) -> dict[str, Any]:
        from servesat.report.why import comparison_document

        return comparison_document(self)


def why(
    spec: SpecLike,
    *,
    chip: str | None = None,
    topology: str | None = None,
    weights: str | None = None,
    kv_cache: str | None = None,
    compute: str | None = None,
    batch: int | None = None,
    engine: str | None = None,
    pp: int | None = None,
    draft: str | None = None,
) -> WhyNot:
    """Compare the best plan under decisions that you fix with the best plan overall.

    >>> why("spec.yaml", chip="h100-sxm")

    Raises SpecError for decisions that cannot be made, or none.
    """
    decisions = Decisions(
        chip=chip, topology=topology, weights=weights, kv_cache=kv_cache, compute=compute, batch=batch, engine=engine,
        pp=pp, draft=draft,
    )  # fmt: skip
    if decisions == Decisions():
        raise SpecError('fix at least one decision, as in chip="h100-sxm" or pp=1')
    if batch is not None and batch < 1:
        raise SpecError(f"batch = {batch}: expected at least 1")
    loaded = Spec.load(spec)
    return WhyNot(asked=loaded, **fields_of(why_not(loaded, decisions)))
