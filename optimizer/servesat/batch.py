"""Many specs at once: every deployment and every fleet solved, a row each, whatever happens to the others."""

import glob
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from os import cpu_count
from os.path import realpath
from pathlib import Path
from typing import Any

from servesat.deployment import solve
from servesat.errors import ServesatError, SpecError
from servesat.fleet.planning import plan_fleet
from servesat.formulation import Settings
from servesat.journal import Journal, Memory, collect
from servesat.parallel import as_finished
from servesat.spec import Spec
from servesat.validation import read_yaml
from servesat.whatif import ERROR, FLAT_PLAN, flat_plan

COLUMNS: dict[str, type] = {
    "spec": str,
    "kind": str,
    "status": str,
    "total_usd": float,
    "bound_usd": float,
    **FLAT_PLAN,
    "binding": str,
    "conflict": str,
    "error": str,
}
"""The columns of a batch as a table: of a deployment its plan, of a fleet its bill and bound over all periods."""

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
            named = sorted(one for one in path.rglob("*") if one.suffix.lower() in {".yaml", ".yml"} and _is_spec(one))
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

    @property
    def identity(self) -> str:
        """A text that no other batch has, nor this one when a file of it has changed."""
        texts = [_hash(path) for path in self.paths]
        return "\n".join([version("servesat"), str(self.time_limit_s), *map(str, self.paths), *texts])

    def run(self, store: Journal | Memory, workers: int | None, advance: Callable[[int], None]) -> bool:
        """Solve the specs that the store lacks, each row appended as it is finished; False where Ctrl-C cut it off.

        A row holds the spec's number and path, its kind, its status (`error` where it is malformed or failed), the plan
        of a deployment, the bill of a fleet, what binds, the minimal conflicts, and the error. `workers` are one a core
        if left out.
        """
        done = {row["number"] for row in store.rows()}
        left = [number for number in range(len(self.paths)) if number not in done]
        workers = min(workers or cpu_count() or 1, max(1, len(left)))
        return collect(as_finished(partial(_rows, self), left, workers), store, advance)


def _hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as fault:  # told in the row of the spec
        return str(fault)


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as one record of a table."""
    record = {**row, **flat_plan(row["plan"] or {})}
    record["binding"] = "+".join(row["binding"])
    record["conflict"] = "; ".join("+".join(members) for members in row["conflict"] or ())
    return {name: None if record[name] is None else kind(record[name]) for name, kind in COLUMNS.items()}


def _rows(batch: Batch, number: int) -> list[dict[str, Any]]:
    path = batch.paths[number]
    row: dict[str, Any] = {
        "number": number, "spec": str(path), "kind": None, "status": ERROR, "plan": None, "total_usd": None,
        "bound_usd": None, "binding": [], "conflict": None, "error": None,
    }  # fmt: skip
    try:
        data = read_yaml(path, SpecError)
        is_fleet = isinstance(data, Mapping) and not {"workloads", "regions"}.isdisjoint(data)
        row["kind"] = "fleet" if is_fleet else "deployment"
        row |= _fleet(path, batch.time_limit_s) if is_fleet else _deployment(path, batch.time_limit_s)
    except ServesatError as fault:
        row["error"] = str(fault)
    except Exception as fault:
        row["error"] = f"{path}: {type(fault).__name__}: {fault}"
    return [row]


def _deployment(path: Path, time_limit_s: float | None) -> dict[str, Any]:
    result = solve(Spec.load(path), Settings(time_limit_s=time_limit_s))
    return {
        "status": str(result.status),
        "plan": None if result.plan is None else asdict(result.plan),
        "binding": [str(requirement) for requirement in result.binding],
        "conflict": None if result.conflict is None else [[*map(str, members)] for members in result.conflict],
    }


def _fleet(path: Path, time_limit_s: float | None) -> dict[str, Any]:
    result = plan_fleet(path, time_limit_s=time_limit_s)
    conflict = None if result.conflict is None else [[" ".join((one.kind, *one.of)) for one in result.conflict]]
    return {
        "status": str(result.status),
        "total_usd": result.total_usd,
        "bound_usd": result.bound_usd,
        "conflict": conflict,
    }
