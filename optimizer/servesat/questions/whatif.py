"""What if: a spec solved in many scenarios, compared with the spec as it stands."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from servesat.core.errors import SpecError
from servesat.core.parallel.runs import LARGEST_CHUNK, THIS_PROCESS, Workers, in_chunks
from servesat.core.plan import Plan
from servesat.core.result import Result
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.scenarios import Scenarios, as_written
from servesat.questions.shared_evaluation import can_share, solve_together
from servesat.questions.solved_alike import SolvedAlike
from servesat.spec.spec import Spec

ERROR = "error"
"""The status of a scenario whose values the schema refuses; all others are those of `Status`."""

CHUNK_TOGETHER = 256
"""Scenarios that share an evaluation."""

FLAT_PLAN: dict[str, type] = {
    "chip": str,
    "topology": str,
    "chips": int,
    "tp": int,
    "ep": int,
    "pp": int,
    "kv_layout": str,
    "replicas": int,
    "weights": str,
    "kv_cache": str,
    "compute": str,
    "engine": str,
    "draft": str,
    "draft_tokens": int,
    "batch": int,
    "mode": str,
    "chunk_tokens": int,
    "slices": int,
    "prefill_chip": str,
    "prefill_topology": str,
    "prefill_slices": int,
    "cloud": str,
    "region": str,
    "purchase": str,
    "instance": str,
    "instances": int,
    "chips_used": int,
    "adapter_bytes": float,
    "host_bytes": float,
    "host_load_ms": float,
    "tpot_ms": float,
    "ttft_ms": float,
    "e2e_ms": float,
    "stall_ms": float,
    "tokens_per_s": float,
    "tokens_per_s_per_chip": float,
    "usd_per_hour": float,
    "usd_per_million_output_tokens": float,
    "usd_per_request": float,
    "requests_per_s": float,
    "load_fraction": float,
    "hbm_used_fraction": float,
}
"""The columns of a plan in a table, with their types."""

FLAT_REST: dict[str, type] = {"change": float, "plan_changed": bool, "binding": str, "conflict": str, "error": str}


@dataclass(frozen=True)
class Question:
    """A spec and its scenarios."""

    base: Spec
    scenarios: Scenarios
    settings: Settings = field(default_factory=Settings)

    @cached_property
    def answer(self) -> Result:
        """The answer to the spec as it stands, the reference of the scenarios."""
        return solve(self.base, self.settings)

    @property
    def identity(self) -> str:
        """A text that changes with the question, the catalogue, and the files that the spec names."""
        varied = [
            _resolved(self.base, factor.key, value)
            for factor in self.scenarios.factors
            for value in factor.values
            if not isinstance(value, int | float | None)  # which name no file
        ]
        parts = [version("servesat"), _resolved(self.base), repr(self.scenarios), *varied]
        return "\n".join(parts)

    def rows(self, numbers: range, workers: Workers = THIS_PROCESS) -> Iterator[list[dict[str, Any]]]:
        """Solve the scenarios with these numbers; yield their rows in chunks, in order.

        A row holds the scenario's number, the varied keys, the status, the plan with all figures, cost and tpot, the
        change of the cost against the base, whether the layout differs, what binds, the
        minimal conflicts, and the error of a scenario whose values the schema refuses.
        """
        together = can_share(self.base, self.scenarios) and self.settings == Settings()
        task = partial(_rows, self, self.answer.plan, together=together)
        largest, a_worker = (CHUNK_TOGETHER, 1) if together else (LARGEST_CHUNK, 4)
        return in_chunks(task, numbers, workers, named="scenarios", largest_chunk=largest, chunks_a_worker=a_worker)


def _resolved(base: Spec, key: str | None = None, value: Any = None) -> str:
    """The text of a spec with everything it refers to, after the change of a key if given."""
    try:
        spec = base if key is None else base.changed({key: as_written(key, value)})
    except SpecError as fault:
        return str(fault)
    offers = [f"{offer.chip.id} {offer.place} {offer.usd_per_chip_hour}" for offer in spec.offers]
    chips = [chip.model_dump_json() for chip in spec.chips]
    trace = spec.workload.arrivals.file
    requests = [] if trace is None else [sha256(trace.read_bytes()).hexdigest()]
    return "\n".join([spec.model_dump_json(), *chips, *offers, *requests])


def flat_types(scenarios: Scenarios) -> dict[str, type]:
    """The columns of a table of scenarios, with their types; varied keys are text unless they are numbers."""
    varied = {factor.key: _type_of(factor.values) for factor in scenarios.factors}
    return {"scenario": int, **varied, "status": str, **FLAT_PLAN, **FLAT_REST}


def flat(row: Mapping[str, Any], types: Mapping[str, type]) -> dict[str, Any]:
    """Flatten a row into a record of a table with these columns: figures of the plan as columns, lists as text."""
    record = {**flat_plan(row["plan"] or {}), **row}  # a varied cloud stands as varied, without a plan too
    record["binding"] = "+".join(row["binding"])
    record["conflict"] = "; ".join("+".join(members) for members in row["conflict"] or ())
    return {
        name: None if record[name] is None else value_text(record[name]) if kind is str else kind(record[name])
        for name, kind in types.items()
    }


def flat_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a plan into a record of a table, with its prefill pool."""
    pool = {f"prefill_{name}": value for name, value in (plan.get("prefill") or {}).items()}
    return {name: pool.get(name, plan.get(name)) for name in FLAT_PLAN}


def value_text(value: Any) -> str:
    """A varied value as text: list entries joined with `+`, records by name."""
    if isinstance(value, list):
        return "+".join(map(value_text, value))
    return str(value.get("name", value)) if isinstance(value, Mapping) else str(value)


def _type_of(values: Iterable[Any]) -> type:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        return int
    return float if kinds and kinds <= {int, float} else str


def _rows(question: Question, reference: Plan | None, numbers: range, *, together: bool) -> list[dict[str, Any]]:
    alike = SolvedAlike(question.settings)
    found = solve_together(question.base, question.scenarios, numbers) if together else {}
    return [
        _as_row(question, number, _outcome(str(found[number].status), found[number], reference))
        if number in found
        else _solved_alone(question, reference, number, alike)
        for number in numbers
    ]


def _solved_alone(question: Question, reference: Plan | None, number: int, alike: SolvedAlike) -> dict[str, Any]:
    """The row of a scenario that shares no evaluation."""
    try:
        spec = question.scenarios.applied(question.base, number)
    except SpecError as fault:
        return _as_row(question, number, _outcome(ERROR, error=str(fault)))
    result = alike.answer(spec)
    return _as_row(question, number, _outcome(str(result.status), result, reference))


def _as_row(question: Question, number: int, outcome: dict[str, Any]) -> dict[str, Any]:
    """The row of a scenario: its number, its values, and its outcome."""
    scenarios = question.scenarios
    return {"scenario": number, **{factor.key: None for factor in scenarios.factors}, **scenarios[number], **outcome}


def _outcome(
    status: str, result: Result | None = None, reference: Plan | None = None, error: str | None = None
) -> dict[str, Any]:
    plan = None if result is None else result.plan
    comparable = plan is not None and reference is not None
    return {
        "status": status,
        "plan": None if plan is None else asdict(plan),
        "usd_per_million_output_tokens": None if plan is None else plan.usd_per_million_output_tokens,
        "tpot_ms": None if plan is None else plan.tpot_ms,
        "change": _change(plan, reference) if plan is not None and reference is not None else None,
        "plan_changed": layout_of(plan) != layout_of(reference) if comparable else None,
        "binding": [] if result is None else [str(requirement) for requirement in result.binding],
        "conflict": None if result is None or result.conflict is None else [[*map(str, m)] for m in result.conflict],
        "error": error,
    }


def _change(plan: Plan, reference: Plan) -> float:
    """The relative change of the cost per token against the reference."""
    return plan.usd_per_million_output_tokens / reference.usd_per_million_output_tokens - 1


def layout_of(plan: Plan | None) -> tuple[Any, ...]:
    """What plans of one layout share: chip, slice, sharding, dtypes, draft, engine, mode and prefill pool.

    Not the batch, the chunk, the numbers of slices, and where they are rented; empty without a plan.
    """
    if plan is None:
        return ()
    pool = plan.prefill
    prefill = () if pool is None else (pool.chip, pool.topology, pool.sharding, pool.weights, pool.compute)
    dtypes, draft = (plan.weights, plan.kv_cache, plan.compute), (plan.draft, plan.draft_tokens)
    return (plan.chip, plan.topology, plan.sharding, *dtypes, *draft, plan.engine, plan.mode, prefill)


@dataclass(frozen=True, kw_only=True)
class Swing:
    """The range of the relative change of the cost over the values of a single factor, and the values at its ends.

    `without_plan` lists the values without a plan.
    """

    key: str
    lowest: float
    lowest_at: Any
    highest: float
    highest_at: Any
    without_plan: tuple[Any, ...]

    @property
    def width(self) -> float:
        """The highest change minus the lowest; the base counts as a change of 0."""
        return max(self.highest, 0.0) - min(self.lowest, 0.0)


def swings(rows: Iterable[Mapping[str, Any]], scenarios: Scenarios) -> tuple[Swing, ...]:
    """The swings of one-at-a-time scenarios, the widest first; factors without any plan are left out."""
    all_rows = list(rows)
    by_factor = []
    for factor in scenarios.factors:
        of_factor = [row for row in all_rows if set(scenarios[row["scenario"]]) == {factor.key}]
        ordered = sorted((row for row in of_factor if row["change"] is not None), key=lambda row: row["change"])
        if ordered:
            by_factor.append(
                Swing(
                    key=factor.key,
                    lowest=ordered[0]["change"],
                    lowest_at=ordered[0][factor.key],
                    highest=ordered[-1]["change"],
                    highest_at=ordered[-1][factor.key],
                    without_plan=tuple(row[factor.key] for row in of_factor if row["change"] is None),
                )
            )
    return tuple(sorted(by_factor, key=lambda swing: -swing.width))
