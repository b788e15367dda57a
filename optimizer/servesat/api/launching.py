"""What starts a plan."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesat.api.answer import Answer
from servesat.api.solving import Solution
from servesat.api.tables import SpecLike, frame
from servesat.core.errors import LaunchError, NoPlanError
from servesat.core.plan import Plan
from servesat.core.result import Result
from servesat.core.validation import nearest
from servesat.core.writing import make_folder, write_text
from servesat.deployment.solve import solve
from servesat.launch.reading import kind_of, proof_of, refuse_document, result_launch
from servesat.launch.servers import Launch, launch_of
from servesat.launch.targets import TARGETS, written
from servesat.spec.spec import Spec

if TYPE_CHECKING:
    import pandas as pd

    from servesat.api.fleet import FleetPlan
    from servesat.report.terminal import Terminal

ANY_ENGINE = "the spec names no engine: any of the catalogue is searched"


@dataclass(frozen=True, kw_only=True, repr=False)
class LaunchFiles(Answer):
    """The files that start a plan, by name: command lines or manifests, and a benchmark of it."""

    to: str
    files: Mapping[str, str]
    said: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the spec left open."""
        return self.said

    def to_pandas(self) -> "pd.DataFrame":
        """A row for each file, with its text."""
        rows = ({"file": name, "text": text} for name, text in self.files.items())
        return frame(rows, {"file": str, "text": str})

    def show(self, terminal: "Terminal") -> None:
        """Print the files one after the other, as they are."""
        for name, text in self.files.items():
            terminal.print(f"# ==> {name} <==\n{text}", soft_wrap=True)

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write the files into a folder, scripts so that they can be run; returns their paths."""
        paths = tuple(Path(folder) / name for name in self.files)
        for path, text in zip(paths, self.files.values(), strict=True):
            make_folder(path.parent)
            write_text(path, text)
            if path.suffix == ".sh":
                path.chmod(0o755)
        return paths

    def _document(self) -> dict[str, Any]:
        return {"to": self.to, "files": self.files}

    def _summarise(self, terminal: "Terminal") -> None:
        for name, text in self.files.items():
            terminal.print(f"{name}: {text.count(chr(10)):,} lines, for {self.to}")


def launch(
    source: "Solution | FleetPlan | SpecLike",
    *,
    to: str = "command",
    checkpoint: str | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> LaunchFiles:
    """Write what starts a plan: of an answer, of a spec once it is solved, or of the file of a result or a fleet.

    >>> launch(solve("spec.yaml"), to="kubernetes").write("manifests")

    `to` is command, compose, kubernetes, lws, llm-d, kserve, dynamo, skypilot or gke-tpu; `checkpoint` the weights to
    load, in the dtype of the plan. Raises NoPlanError without a plan, LaunchError for one that the target cannot start.
    """
    if to not in TARGETS:
        raise LaunchError(f"to = {to!r}: no such target; {nearest(to, TARGETS)}")
    kind = kind_of(Path(source)) if isinstance(source, str | Path) else None
    said: tuple[str, ...] = ()
    if isinstance(source, str | Path) and kind == "result":
        launches: Sequence[Launch] = [result_launch(Path(source), checkpoint)]
    elif isinstance(source, Solution):
        launches = [_of_result(source.spec, source, checkpoint)]
    elif isinstance(source, str | Path) and kind == "fleet":
        from servesat.api.fleet import fleet

        launches = _of_fleet(fleet(source, on_progress=on_progress), checkpoint)
    elif isinstance(source, Answer):
        launches = _of_fleet(_as_fleet(source), checkpoint)
    else:
        refuse_document(source)
        spec = Spec.load(source)
        said = () if spec.engine else (ANY_ENGINE,)
        spec = spec if spec.engine else spec.changed({"engine": "any"})
        solved = solve(spec)
        if solved.plan is None and said:
            where = "under any engine, and the spec names none; servesat solve --set engine=any says why"
            raise NoPlanError(f"{solved.status}: no plan to start {where}", solved.status)
        launches = [_of_result(spec, solved, checkpoint)]
    files: dict[str, str] = {}
    for one in launches:
        folder = f"{one.name}/" if len(launches) > 1 else ""
        files |= {f"{folder}{name}": text for name, text in written(one, to).items()}
    return LaunchFiles(to=to, files=files, said=said)


def _of_result(spec: Spec, result: Result, checkpoint: str | None) -> Launch:
    plan = plan_of(result, "to start; servesat solve says why")
    proof = proof_of(result.status, replayed=result.replayed is not None)
    launch, found = launch_of(spec, plan, proof=proof, checkpoint=checkpoint), result.replayed
    return launch if found is None else replace(launch, replayed=(found.ttft_ms, found.tpot_ms))


def _as_fleet(source: Answer) -> "FleetPlan":
    """The fleet that is to be started. Raises LaunchError for an answer that starts nothing."""
    from servesat.api.fleet import FleetPlan

    if isinstance(source, FleetPlan):
        return source
    raise LaunchError(f"{type(source).__name__} has no servers to start: expected a solution, a fleet or a spec")


def _of_fleet(planned: "FleetPlan", checkpoint: str | None) -> list[Launch]:
    from servesat.launch.fleets import fleet_launches

    if checkpoint is not None:
        raise LaunchError("checkpoint names the weights of one model, and a fleet has several")
    if planned.total_usd is None:
        raise NoPlanError(f"{planned.status}: no fleet to start; servesat fleet says why", planned.status)
    return list(fleet_launches(planned.spec, planned))


def plan_of(result: Result, what_for: str) -> Plan:
    """The plan of a result. Raises NoPlanError where there is none."""
    if result.plan is None:
        raise NoPlanError(f"{result.status}: no plan {what_for}", result.status)
    return result.plan
