"""Solve many deployments, fleets and portfolios, one row per spec; one that fails does not affect the others."""

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from os.path import exists, isdir, isfile, islink, realpath
from pathlib import Path
from typing import Any

from servesat.core.errors import ServesatError, SpecError
from servesat.core.journal import Journal, Memory, collect
from servesat.core.parallel.runs import DIED_TWICE, Workers, as_finished
from servesat.core.plan import Plan
from servesat.core.reading import read_yaml
from servesat.core.validation import shorten
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.fleet.plan import plan_fleet
from servesat.questions.portfolio import solve_portfolio
from servesat.questions.whatif import ERROR, FLAT_PLAN, flat_plan
from servesat.runs.provenance import YAML, digest, files_behind
from servesat.spec.spec import Spec

COLUMNS: dict[str, type] = {
    "spec": str,
    "kind": str,
    "status": str,
    "total_usd": float,
    "bound_usd": float,
    "gap": float,
    "chip_types": str,
    **FLAT_PLAN,
    "bound_usd_per_million_output_tokens": float,
    "binding": str,
    "conflict": str,
    "error": str,
}
"""The columns of the table: the plan of a deployment, the bill of a fleet over all periods, of a portfolio for an hour.

`gap` is the relative distance of the cost, or the bill, from its bound: 0 where the answer is proved optimal.
"""

QUESTION = "a batch"
"""Identifies the journal of a batch."""

RESUME_FIELDS = ("asked", "files")
"""Fields of a row that only --resume reads."""

ANSWERED = ("optimal", "feasible", "infeasible")
"""The statuses that count as an answer."""


def spec_files(targets: Iterable[str]) -> list[Path]:
    """List the specs that folders, patterns and files name, each once; a broken link is listed, and its row says so.

    Raises ServesatError for a target that names no spec.
    """
    by_real_path: dict[Path, Path] = {}
    for target in targets:
        path = Path(target)
        if target and isdir(path):
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in YAML and _is_file_or_link(file))
        else:
            matches = sorted(map(Path, glob.glob(target, recursive=True)))
            files = [path] if isfile(path) else [file for file in matches if _is_file_or_link(file)]
        if not files:
            raise ServesatError(f"{target!r} names no spec; expected a folder with .yaml files, a pattern, or a file")
        for file in files:
            by_real_path.setdefault(Path(realpath(file)), file)
    return list(by_real_path.values())


def _is_file_or_link(path: Path) -> bool:
    return isfile(path) or (islink(path) and not exists(path))


@dataclass(frozen=True)
class Batch:
    """Specs to solve, each within the time limit."""

    paths: tuple[Path, ...]
    time_limit_s: float | None = None

    def pending(self, store: Journal | Memory) -> list[int]:
        """The numbers of the specs without a valid answer in the store.

        An answer is valid until the spec, a file it names, the time limit or the version of servesat changes; an error
        is never valid. Raises ServesatError for rows of something else.
        """
        valid = {row["spec"]: self._is_valid(row) for row in map(_of_a_batch, store.rows())}
        return [number for number, name in enumerate(self._names) if not valid.get(name)]

    def run(
        self,
        store: Journal | Memory,
        pending: Sequence[int],
        workers: Workers,
        on_progress: Callable[[int, int], None],
    ) -> bool:
        """Solve the specs with these numbers and append each row as it finishes; False if Ctrl-C stopped the run.

        A row holds the path, the kind, the status (`error` where the spec is malformed, solving failed or the process
        died), the plan of a deployment, the bill of a fleet or portfolio, what binds, the conflicts and the error. The
        machines of a cluster must have the files that this one has.
        """
        tasks = [(self.paths[number], self._names[number], self._settings) for number in pending]
        rows = as_finished(_solved, tasks, workers, _lost)
        return collect(rows if workers.on is None else map(_of_the_same_files, rows), store, on_progress)

    def rows(self, store: Journal | Memory, *, up_to_date: bool = False) -> Iterator[dict[str, Any]]:
        """The finished rows, in the order of the specs; if `up_to_date`, only those of specs as they are now."""
        numbers = {name: number for number, name in enumerate(self._names)}
        for row in store.rows_by(lambda row: numbers.get(row["spec"])):
            if not up_to_date or self._is_up_to_date(row):
                yield {name: value for name, value in row.items() if name not in RESUME_FIELDS}

    def _is_valid(self, row: Mapping[str, Any]) -> bool:
        return row["status"] != ERROR and self._is_up_to_date(row)

    def _is_up_to_date(self, row: Mapping[str, Any]) -> bool:
        """Whether a row answers its spec under the settings of this run, with the files as they are now."""
        same = all(digest(path) == recorded for path, recorded in row["files"].items())
        return same and bool(row["asked"] == self._settings)

    @property
    def _settings(self) -> list[Any]:
        """The version and the time limit, which a row records under `asked`."""
        return [version("servesat"), self.time_limit_s]

    @cached_property
    def _names(self) -> list[str]:
        return [_printable(str(path)) for path in self.paths]


def _printable(text: str) -> str:
    """Escape the bytes of a path that are not characters, so that any file can hold the text."""
    return text.encode("utf-8", "backslashreplace").decode()


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a row into a record of the table."""
    record = {**row, **flat_plan(row["plan"] or {})}
    record["chip_types"] = "+".join(row["chip_types"])
    record["binding"] = "+".join(row["binding"])
    record["conflict"] = "; ".join("+".join(members) for members in row["conflict"] or ())
    return {name: None if record[name] is None else kind(record[name]) for name, kind in COLUMNS.items()}


_Task = tuple[Path, str, list[Any]]
"""The path of a spec, its name in the table, and the settings of the run."""


def _solved(task: _Task) -> list[dict[str, Any]]:
    path, _, (_, time_limit_s) = task
    row = _unanswered(task)
    try:
        row["files"] = files_behind(path)
        data = read_yaml(path, SpecError)
        row["kind"] = _kind_of(data)
        row |= _ANSWERS[row["kind"]](path, time_limit_s)
    except ServesatError as fault:
        row["error"] = _printable(str(fault))
    except Exception as fault:
        row["error"] = _printable(f"{path}: {type(fault).__name__}: {fault}")
    return [row]


def _kind_of(data: object) -> str:
    if not isinstance(data, Mapping):
        return "deployment"
    if not {"workloads", "regions"}.isdisjoint(data):
        return "fleet"
    return "portfolio" if "deployments" in data else "deployment"


def _lost(task: _Task) -> list[dict[str, Any]]:
    name = task[1]
    error = f"{name}: {DIED_TWICE}; try --resume, and --workers 1"
    return [{**_unanswered(task), "error": error}]


def _of_the_same_files(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The row of a worker on another machine, or an error if it read other files than this machine has."""
    (row,) = rows
    if not row["files"]:
        return rows
    path = Path(next(iter(row["files"])))
    if row["files"] == files_behind(path):
        return rows
    error = f"{row['spec']}: the worker has another file, or none: the same must be at this path on every machine"
    return [{**_unanswered((path, row["spec"], row["asked"])), "error": error}]


def _unanswered(task: _Task) -> dict[str, Any]:
    """The row of a spec without an answer."""
    _, name, settings = task
    return {
        "spec": name, "kind": None, "status": ERROR, "plan": None, "bound_usd_per_million_output_tokens": None,
        "total_usd": None, "bound_usd": None, "gap": None, "chip_types": [], "binding": [], "conflict": None,
        "error": None, "asked": settings, "files": {},
    }  # fmt: skip


def _of_a_batch(row: dict[str, Any]) -> dict[str, Any]:
    """The row of a store, if a batch has written it. Raises ServesatError."""
    known = {"spec": str, "status": str, "asked": list, "files": dict}
    if not all(isinstance(row.get(name), kind) for name, kind in known.items()) or "plan" not in row:
        raise ServesatError(
            f"the earlier run holds {shorten(row)}, expected the answer of a spec; delete its .partial file, and start "
            "the run anew"
        )
    return row


def _deployment(path: Path, time_limit_s: float | None) -> dict[str, Any]:
    result = solve(Spec.load(path), Settings(time_limit_s=time_limit_s))
    return {
        "status": str(result.status),
        "plan": None if result.plan is None else asdict(result.plan),
        "bound_usd_per_million_output_tokens": result.bound_usd_per_million_output_tokens,
        "gap": result.gap,
        "chip_types": [] if result.plan is None else sorted(_chips_of(result.plan)),
        "binding": [str(requirement) for requirement in result.binding],
        "conflict": None if result.conflict is None else [[*map(str, members)] for members in result.conflict],
    }


def _chips_of(plan: Plan) -> set[str]:
    return {plan.chip} if plan.prefill is None else {plan.chip, plan.prefill.chip}


def _fleet(path: Path, time_limit_s: float | None) -> dict[str, Any]:
    result = plan_fleet(path, time_limit_s=time_limit_s)
    conflict = None if result.conflict is None else [[" ".join((limit.kind, *limit.of)) for limit in result.conflict]]
    return {
        "status": str(result.status),
        "total_usd": result.total_usd,
        "chip_types": sorted({chip for (_, chip), taken in result.chips_taken.items() if any(taken)}),
        "bound_usd": result.bound_usd,
        "gap": result.gap,
        "conflict": conflict,
    }


def _portfolio(path: Path, time_limit_s: float | None) -> dict[str, Any]:
    answer = solve_portfolio(path, Settings(time_limit_s=time_limit_s))
    return {
        "status": str(answer.status),
        "total_usd": answer.usd_per_hour,
        "chip_types": sorted({plan.chip for plan in answer.plans.values()}),
        "bound_usd": answer.bound_usd_per_hour,
        "gap": answer.gap,
        "conflict": None if answer.conflict is None else [[*answer.conflict]],
    }


_ANSWERS = {"deployment": _deployment, "fleet": _fleet, "portfolio": _portfolio}
