"""Many specs at once: every deployment and every fleet solved, a row each, whatever happens to the others."""

import glob
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from os import cpu_count
from os.path import realpath
from pathlib import Path
from typing import Any

from servesat.core.errors import ServesatError, SpecError
from servesat.core.journal import Journal, Memory, collect
from servesat.core.parallel import as_finished
from servesat.core.plan import Plan
from servesat.core.validation import read_yaml
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.fleet.plan import plan_fleet
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
"""The columns of a batch as a table: of a deployment its plan, of a fleet its bill over all periods.

`gap` is how far the one or the other may be above the least, relatively: 0 where it is proved, as its bound says.
"""

QUESTION = "a batch"
"""What a journal of a batch says that it is."""

OF_THE_RUN = ("asked", "files")
"""What a row holds for --resume alone."""

ANSWERED = ("optimal", "feasible", "infeasible")
"""The statuses of a spec that had an answer."""


def spec_files(targets: Iterable[str]) -> list[Path]:
    """The specs that folders, patterns and files name, each once. Raises ServesatError where one names none.

    A link that leads nowhere is among them: its row will say so.
    """
    found: dict[Path, Path] = {}
    for target in targets:
        path = Path(target)
        if target and path.is_dir():
            named = sorted(one for one in path.rglob("*") if one.suffix.lower() in YAML and _is_spec(one))
        else:
            matches = sorted(map(Path, glob.glob(target, recursive=True)))
            named = [path] if path.is_file() else [one for one in matches if _is_spec(one)]
        if not named:
            raise ServesatError(f"{target!r} names no spec; expected a folder with .yaml files, a pattern, or a file")
        for one in named:
            found.setdefault(Path(realpath(one)), one)
    return list(found.values())


def _is_spec(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


@dataclass(frozen=True)
class Batch:
    """Specs to solve, each for no longer than a time limit."""

    paths: tuple[Path, ...]
    time_limit_s: float | None = None

    def left(self, store: Journal | Memory) -> list[int]:
        """The numbers of the specs that the store has no answer to.

        An answer counts while the spec, every file it names, the time limit and servesat's version are what they were;
        an error never does.
        """
        latest = {row["spec"]: self._still_stands(row) for row in store.rows()}
        return [number for number, name in enumerate(self._names) if not latest.get(name)]

    def run(
        self, store: Journal | Memory, left: Sequence[int], workers: int | None, on_progress: Callable[[int, int], None]
    ) -> bool:
        """Solve specs by their numbers, each row appended as it is finished; False where Ctrl-C cut it off.

        A row holds the spec's path, its kind, its status (`error` where it is malformed or failed, or its process
        died), the plan of a deployment, the bill of a fleet, what binds, the minimal conflicts, and the error.
        `workers` are one a core if left out.
        """
        workers = min(workers or cpu_count() or 1, max(1, len(left)))
        tasks = [(self.paths[number], self._names[number], self._asked) for number in left]
        return collect(as_finished(_solved, tasks, workers, _lost), store, on_progress)

    def rows(self, store: Journal | Memory) -> Iterator[dict[str, Any]]:
        """The finished rows of the store, in the order of the specs."""
        numbers = {name: number for number, name in enumerate(self._names)}
        for row in store.rows_by(lambda row: numbers.get(row["spec"])):
            yield {name: value for name, value in row.items() if name not in OF_THE_RUN}

    def _still_stands(self, row: Mapping[str, Any]) -> bool:
        files = row["files"]
        same = row["asked"] == self._asked and all(digest(path) == before for path, before in files.items())
        return same and row["status"] != ERROR

    @property
    def _asked(self) -> list[Any]:
        return [version("servesat"), self.time_limit_s]

    @cached_property
    def _names(self) -> list[str]:
        return [_text(str(path)) for path in self.paths]


def _text(text: str) -> str:
    """Text that any file can hold: a path may have bytes in it that are no characters."""
    return text.encode("utf-8", "backslashreplace").decode()


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as one record of a table."""
    record = {**row, **flat_plan(row["plan"] or {})}
    record["chip_types"] = "+".join(row["chip_types"])
    record["binding"] = "+".join(row["binding"])
    record["conflict"] = "; ".join("+".join(members) for members in row["conflict"] or ())
    return {name: None if record[name] is None else kind(record[name]) for name, kind in COLUMNS.items()}


_Task = tuple[Path, str, list[Any]]
"""The path of a spec, its name in the table, and how it is asked."""


def _solved(task: _Task) -> list[dict[str, Any]]:
    path, _, (_, time_limit_s) = task
    row = _row(task)
    try:
        row["files"] = files_behind(path)
        data = read_yaml(path, SpecError)
        is_fleet = isinstance(data, Mapping) and not {"workloads", "regions"}.isdisjoint(data)
        row["kind"] = "fleet" if is_fleet else "deployment"
        row |= _fleet(path, time_limit_s) if is_fleet else _deployment(path, time_limit_s)
    except ServesatError as fault:
        row["error"] = _text(str(fault))
    except Exception as fault:
        row["error"] = _text(f"{path}: {type(fault).__name__}: {fault}")
    return [row]


def _lost(task: _Task) -> list[dict[str, Any]]:
    name = task[1]
    return [
        {**_row(task), "error": f"{name}: its process died, out of memory or killed; try --resume, and --workers 1"}
    ]


def _row(task: _Task) -> dict[str, Any]:
    """A row without an answer."""
    _, name, asked = task
    return {
        "spec": name, "kind": None, "status": ERROR, "plan": None, "bound_usd_per_million_output_tokens": None,
        "total_usd": None, "bound_usd": None, "gap": None, "chip_types": [], "binding": [], "conflict": None,
        "error": None, "asked": asked, "files": {},
    }  # fmt: skip


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
    conflict = None if result.conflict is None else [[" ".join((one.kind, *one.of)) for one in result.conflict]]
    return {
        "status": str(result.status),
        "total_usd": result.total_usd,
        "chip_types": sorted({chip for (_, chip), taken in result.chips_taken.items() if any(taken)}),
        "bound_usd": result.bound_usd,
        "gap": result.gap,
        "conflict": conflict,
    }
