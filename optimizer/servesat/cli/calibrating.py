"""The command `servesat calibrate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servesat.cli.common import AsJson, EngineName, Overrides, console, load, print_json, tell
from servesat.cli.completion import complete_spec
from servesat.cli.outputs import require_toml

if TYPE_CHECKING:
    from servesat.catalogue.measurements import Measurement
    from servesat.core.plan import Plan
    from servesat.spec.spec import Spec


def calibrate(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Results of vllm bench serve, sglang.bench_serving, aiperf, GuideLLM or inference-perf (.json, "
            ".jsonl), or measurements (.csv)."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Write the constants: my-stack.toml.")],
    spec: Annotated[
        Path | None,
        typer.Option(
            metavar="SPEC", help="The spec whose plan was started, for results in JSON.", autocompletion=complete_spec
        ),
    ] = None,
    as_json: AsJson = False,
    engine: EngineName = None,
    overrides: Overrides = None,
) -> None:
    """Fit the calibrated cost model to your own benchmarks: the constants of your chip and your engine.

    They stay near the catalogue's where the results say little. `servesat accuracy --calibration FILE` predicts with
    them.
    """
    from servesat.catalogue.load import load_calibration
    from servesat.core.writing import write_text
    from servesat.questions.calibrate import calibration_text, fit, left_out_errors
    from servesat.questions.observations import observed
    from servesat.report.accuracy import fit_document, print_fit

    require_toml(out, "a calibration")
    started = None if spec is None else _planned(spec, overrides, engine)
    files = {path: _rows(path, started) for path in results}
    known = load_calibration()
    seen = observed([row for rows in files.values() for row in rows])
    found = fit(seen, known)
    apart = left_out_errors(list(files.values()), known) if len(files) > 1 else None
    write_text(out, calibration_text(seen, found, name=out.stem, files=[path.name for path in results]))
    tell(f"wrote {out}")
    if as_json:
        print_json(fit_document(seen, found, apart))
    else:
        print_fit(console(), seen, found, apart)


def _rows(path: Path, started: "tuple[Spec, Plan] | None") -> "list[Measurement]":
    """The measurements of a file that can be used; the others are told. Raises ServesatError where none can."""
    from servesat.core.errors import ServesatError
    from servesat.questions.observations import unusable

    rows, left_out = _read(path, started)
    left_out |= {row.number: reason for row in rows if (reason := unusable(row)) is not None}
    kind = "row" if _is_table(path) else "run"
    for number, reason in sorted(left_out.items()):
        tell(f"note: {path}: {kind} {number} is left out: {reason}")
    usable = [row for row in rows if row.number not in left_out]
    if not usable:
        raise ServesatError(f"{path}: no {kind} can be used")
    return usable


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _read(path: Path, started: "tuple[Spec, Plan] | None") -> "tuple[Sequence[Measurement], dict[int, str]]":
    """The rows of a table, or the runs of a benchmark's result, and why some of them are not among these, by number."""
    if _is_table(path):
        from servesat.catalogue.measured_columns import misnamed_columns
        from servesat.catalogue.measurements import read_measurements
        from servesat.questions.measured_rows import settled

        rows, unread = read_measurements(path)
        for note in misnamed_columns(path):
            tell(f"note: {path}: {note}")
        return settled(rows), {one.number: one.reason for one in unread}
    if started is None:
        raise typer.BadParameter(f"{path} does not say what was started: give --spec SPEC, whose plan it was")
    from servesat.questions.benchmark_results import read_results

    return read_results(path, *started)


def _planned(spec: Path, overrides: list[str] | None, engine: str | None) -> "tuple[Spec, Plan]":
    """A spec with the plan that was started. Raises ServesatError where it has none of an engine."""
    from servesat.core.errors import ServesatError
    from servesat.deployment.solve import solve

    loaded = load(spec, overrides, engine=engine)
    plan = solve(loaded).plan
    if plan is None or plan.engine is None:
        raise ServesatError(f"{spec}: has no plan of an engine: state engine: vllm, and what was started")
    return loaded, plan
