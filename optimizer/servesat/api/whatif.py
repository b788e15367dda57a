"""What if: scenarios, the values at which the plan changes, and whether it survives errors."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from servesat.api.answer import Answer, Drawn
from servesat.api.tables import SpecLike, fields_of, frame, plan_row
from servesat.core.errors import SpecError
from servesat.core.parallel.runs import Workers
from servesat.core.result import Result
from servesat.questions.breakpoints import Breakpoint, find_breakpoints
from servesat.questions.robustness import Robustness as Assessed
from servesat.questions.robustness import assess_robustness
from servesat.questions.scenarios import Factor, make_scenarios, parse_factor
from servesat.questions.whatif import FLAT_PLAN, Question, flat, flat_types
from servesat.report.charts import Chart
from servesat.report.terminal import Terminal
from servesat.report.tornado import Tornado
from servesat.report.whatif import (
    base_document,
    breakpoints_document,
    print_breakpoints,
    print_robustness,
    print_scenarios,
    robustness_document,
)
from servesat.report.whatif_figures import cost_chart, tornado_of
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, repr=False)
class WhatIf(Drawn):
    """A spec solved in many scenarios, compared with the spec as it stands; a row of `rows` for each scenario."""

    question: Question
    rows: tuple[dict[str, Any], ...]

    @property
    def base(self) -> Result:
        """The answer to the spec as it stands."""
        return self.question.answer

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed, what the scenarios leave as it is, and the scenarios that were refused."""
        base = self.question.base
        varied = base.notes_on_scenarios([factor.key for factor in self.question.scenarios.factors])
        refused = [f"scenario {row['scenario']}: {row['error']}" for row in self.rows if row["error"] is not None]
        return (*base.notes, *varied, *refused)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each scenario, with the status `error` for values that the schema refuses."""
        types = flat_types(self.question.scenarios)
        return frame((flat(row, types) for row in self.rows), types)

    def show(self, terminal: Terminal) -> None:
        """Print the answer as it stands, the first scenarios, and what moves the cost most."""
        print_scenarios(terminal, self.question, self.rows, len(self.rows))

    def _document(self) -> dict[str, Any]:
        return {**base_document(self.question), "rows": self.rows}

    def _picture(self) -> Chart | Tornado:
        draw = tornado_of if self.question.scenarios.one_at_a_time else cost_chart
        return draw(self.question, self.rows)


def what_if(
    spec: SpecLike,
    vary: Mapping[str, Iterable[Any] | str],
    *,
    one_at_a_time: bool = False,
    workers: int | None = 1,
    on: str | None = None,
) -> WhatIf:
    """Solve a spec for every combination of values of some keys, or with `one_at_a_time` for each key alone.

    >>> what_if("spec.yaml", {"slo.tpot_ms": [10, 20], "price.h100-sxm": "1..4x7"})

    Keys are those of the spec, `price.CHIP`, `model.FIELD` and `chip.ID.FIELD`; values are a list, an array, or a text
    as `--vary` takes it. `workers` are processes, None one per core for a long run; `on` a Ray cluster, `ray` or
    `ray://HOST:PORT`. Raises SpecError for keys that do not exist.
    """
    base = Spec.load(spec)
    factors = [Factor(key, _values(key, values)) for key, values in vary.items()]
    if not factors:
        raise SpecError("nothing varies: give the values of a key, as {'slo.tpot_ms': [10, 20]}")
    question = Question(base, make_scenarios(base, factors, one_at_a_time=one_at_a_time))
    rows = tuple(row for chunk in question.rows(range(len(question.scenarios)), Workers(workers, on)) for row in chunk)
    return WhatIf(question=question, rows=rows)


def _values(key: str, values: Iterable[Any] | str) -> tuple[Any, ...]:
    """The values of a key; those of numpy and pandas as plain numbers."""
    if isinstance(values, str):
        return parse_factor(f"{key}={values}").values
    plain = getattr(values, "tolist", None)
    try:
        return tuple(plain() if plain is not None else values)
    except TypeError:
        raise SpecError(f"{key} = {values!r}: expected a list of values to vary it over") from None


@dataclass(frozen=True, kw_only=True, repr=False)
class Breakpoints(Answer):
    """The values of a key at which the layout of the best plan changes, in order."""

    spec: Spec
    key: str
    values: tuple[float, ...]
    breakpoints: tuple[Breakpoint, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed."""
        return (*self.spec.notes, *self.spec.notes_on_means)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each range of values, from and up to, with the best plan at its end; none without a change."""
        columns: Mapping[str, type] = {"from": float, "up_to": float, "status": str, **FLAT_PLAN}
        return frame(self._ranges(), columns)

    def _ranges(self) -> Iterator[dict[str, Any]]:
        starts = [min(self.values), *(change.above for change in self.breakpoints)]
        ends = [*(change.below for change in self.breakpoints), max(self.values)]
        results = [change.before for change in self.breakpoints[:1]] + [change.after for change in self.breakpoints]
        for start, end, result in zip(starts, ends, results, strict=False):
            yield {"from": start, "up_to": end, "status": str(result.status), **plan_row(result.plan)}

    def show(self, terminal: Terminal) -> None:
        """Print where the best plan changes."""
        print_breakpoints(terminal, self.key, self.values, self.breakpoints)

    def _document(self) -> dict[str, Any]:
        return breakpoints_document(self.key, self.breakpoints)


def breakpoints(spec: SpecLike, key: str, values: Iterable[float] | str) -> Breakpoints:
    """Find the values of a key at which the layout of the best plan changes, bracketed by bisection between `values`.

    >>> breakpoints("spec.yaml", "price.h100-sxm", "1..7x7")

    Raises SpecError for a key that is not a number.
    """
    loaded, tried = Spec.load(spec), _values(key, values)
    return Breakpoints(spec=loaded, key=key, values=tried, breakpoints=find_breakpoints(loaded, key, tried))


@dataclass(frozen=True, kw_only=True, repr=False)
class Robustness(Answer, Assessed):
    """How the best layout and its rivals fare when the model errs in step times and HBM use."""

    spec: Spec

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out or assumed."""
        return (*self.spec.notes, *self.spec.notes_on_means)

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each layout, the best plan's first."""
        shares = ("best_share", "feasible_share", "mean_regret", "worst_sampled_regret", "worst_regret")
        rows = ({**plan_row(one.plan), **asdict(one)} for one in self.survivals)
        return frame(rows, {**FLAT_PLAN, **dict.fromkeys(shares, float)})

    def show(self, terminal: Terminal) -> None:
        """Print the best layout and its rivals under errors."""
        print_robustness(terminal, self)

    def _document(self) -> dict[str, Any]:
        return robustness_document(self)


def robustness(
    spec: SpecLike,
    noise: float | Literal["calibrated"],
    *,
    samples: int = 1000,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Robustness:
    """Ask how often the best layout stays the best when step times and HBM use err by up to `noise`.

    >>> robustness("spec.yaml", 0.1)

    `calibrated` is the error of the plan's own predictions. `on_progress` is called with the number of samples done.
    Raises SpecError for a noise outside (0, 1).
    """
    loaded = Spec.load(spec)
    found = assess_robustness(loaded, noise, samples=samples, seed=seed, on_progress=on_progress)
    return Robustness(spec=loaded, **fields_of(found))
