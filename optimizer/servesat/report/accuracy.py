"""Predictions beside measurements: tables, JSON, and a figure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from servesat.core.arrays import Floats
from servesat.core.errors import ServesatError
from servesat.core.quantities import number
from servesat.questions.accuracy import Accuracy, Errors, Predicted
from servesat.questions.calibrate import IDENTIFIED, Fit, Parameters
from servesat.questions.observations import Observed
from servesat.report.charts import Chart, Frame, Series
from servesat.report.colours import chip_colour
from servesat.report.tables import Column, Fitted, columns

_NAMES = {
    "tpot_ms": "TPOT",
    "ttft_ms": "TTFT",
    "tpot_p50_ms": "median TPOT",
    "ttft_p50_ms": "median TTFT",
    "tpot_p90_ms": "p90 TPOT",
    "tpot_p99_ms": "p99 TPOT",
    "ttft_p90_ms": "p90 TTFT",
    "ttft_p99_ms": "p99 TTFT",
    "e2e_ms": "E2E",
    "e2e_p50_ms": "median E2E",
    "e2e_p90_ms": "p90 E2E",
    "e2e_p99_ms": "p99 E2E",
    "tokens_per_s": "tokens/s",
    "speedup": "speed-up",
}


ROWS_TOLD = 3
"""Rows named beside a reason."""


def accuracy_document(found: Accuracy) -> dict[str, Any]:
    """The JSON of `servesat accuracy`."""
    return {
        "rows": len(found.predicted) + len(found.unread),
        "predicted": len(found.predicted),
        "calibration": found.calibration,
        "errors": _errors(found.errors),
        "groups": [{**names, "errors": _errors(errors)} for names, errors in found.groups],
        "predictions": [
            {
                "row": one.row.number,
                "calibrated": one.calibrated,
                "predicted": one.figures,
                "measured": one.row.measured,
                "unpredicted": dict(one.unpredicted),
            }
            for one in found.predicted
        ],
        "unpredicted": [{"row": one.number, "reason": one.reason} for one in found.unread],
    }


def _errors(errors: Mapping[str, Errors]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in errors.items()}


def print_accuracy(console: Console, found: Accuracy) -> None:
    """Print the errors of each figure, those by group, and why rows are not predicted."""
    grouped = list(found.groups[0][0]) if found.groups else []
    table = Fitted(
        [*columns(*grouped), Column("figure"), *columns("rows", "mean", "median", "p90", "bias", right=True)],
        f"Errors of predictions: {found.calibration.lower()}",
    )
    for names, errors in [*found.groups, (dict.fromkeys(grouped, "all"), found.errors)]:
        for name, one in errors.items():
            sizes = [f"{value:.1f} %" for value in (one.mean_pct, one.median_pct, one.p90_pct)]
            table.add_row([*names.values(), _NAMES[name], str(one.rows), *sizes, f"{one.bias:+.1f} %"])
    console.print(table)
    guessed = sum(not one.calibrated for one in found.predicted)
    if guessed:
        text = f"{guessed} of {len(found.predicted)} rows are of a chip or an engine's version that is not calibrated"
        console.print(Text(f"\n{text}"))
    left = [(one.reason, one.number) for one in found.unread]
    left += [(f"{name}: {why}", one.row.number) for one in found.predicted for name, why in one.unpredicted.items()]
    if left:
        console.print(Text("\nNot predicted", style="bold"))
        for reason, count in Counter(reason for reason, _ in left).most_common(10):
            rows = [str(number) for told, number in left if told == reason][:ROWS_TOLD]
            more = ", …" if count > len(rows) else ""
            console.print(Text(f"{count} × {reason} (row{'s' if count > 1 else ''} {', '.join(rows)}{more})"))


def accuracy_chart(found: Accuracy, name: str) -> Chart:
    """What was measured across, what is predicted up: on the diagonal where they agree, and a line 20 % to each side.

    Raises ServesatError where nothing is predicted.
    """
    frames = [_frame(found, figure) for figure in found.errors]
    if not frames:
        raise ServesatError(f"{name}: no row is predicted, so there is nothing to draw")
    values = [value for frame in frames for series in frame.series if series.points for value in (*series.x, *series.y)]
    ends = (min(values) * 0.7, max(values) * 1.4)
    return Chart(
        title=f"Predicted and measured: {name}",
        x_title="measured [ms, or tokens/s]",
        y_title="predicted [ms, or tokens/s]",
        x_range=ends,
        y_range=ends,
        log_x=True,
        log_y=True,
        slider="",
        frames=tuple(_with_diagonals(frame, ends) for frame in frames),
    )


def _frame(found: Accuracy, figure: str) -> Frame:
    rows = [one for one in found.predicted if figure in one.figures]
    chips = sorted({one.row.chip.id for one in rows})
    series = [_points([one for one in rows if one.row.chip.id == chip], figure, chip) for chip in chips]
    return Frame(label=f"{_NAMES[figure]}: {found.errors[figure].mean_pct:.1f} % on average", series=tuple(series))


def _points(rows: list[Predicted], figure: str, chip: str) -> Series:
    return Series(
        name=chip,
        x=[one.row.measured[figure] for one in rows],
        y=[one.figures[figure] for one in rows],
        hover=[
            f"row {one.row.number}: {one.row.model.name}, {one.row.engine} {one.row.engine_version}" for one in rows
        ],
        points=True,
        colour=chip_colour(chip),
    )


def _with_diagonals(frame: Frame, ends: tuple[float, float]) -> Frame:
    low, high = ends
    lines = [
        Series(
            name=name, x=[low, high], y=[low * by, high * by], hover=[name] * 2, dashed=True, colour="#7f7f7f", width=1
        )
        for name, by in (("as measured", 1.0), ("20 % more", 1.2), ("20 % less", 0.8))
    ]
    return Frame(label=frame.label, series=(*lines, *frame.series))


def fit_document(seen: Observed, found: Fit, apart: tuple[Floats, Floats] | None) -> dict[str, Any]:
    """The JSON of `servesat calibrate`."""
    chips, stacks, dtypes, experts = found.parameters.split(found.vector)
    return {
        "rows": len(seen.rows),
        "chips": chips,
        "stacks": [{"program": stack[0], "version": stack[1], **values} for stack, values in stacks.items()],
        "dtypes": dtypes,
        "experts": experts,
        "errors": _means(*found.errors(seen)),
        "errors_leave_one_file_out": None if apart is None else _means(*apart),
        "not_identified": list(found.unidentified),
    }


def _means(ttft: Floats, tpot: Floats) -> dict[str, float | None]:
    return {
        "ttft_mean_pct": 100 * float(ttft.mean()) if len(ttft) else None,
        "tpot_mean_pct": 100 * float(tpot.mean()) if len(tpot) else None,
    }


def print_fit(console: Console, seen: Observed, found: Fit, apart: tuple[Floats, Floats] | None) -> None:
    """Print each constant with what was known of it, the errors, and what the measurements leave open."""
    parameters = found.parameters
    table = Fitted([Column("constant"), *columns("fitted", "known", right=True), Column("")], "Constants")
    fitted, known = (_listed(parameters, vector) for vector in (found.vector, parameters.prior))
    for name, value, before, share in zip(parameters.names, fitted, known, found.narrowed, strict=True):
        table.add_row([name, number(value), number(before), "" if share <= IDENTIFIED else "not identified"])
    console.print(table)
    for where, errors in (("these rows", found.errors(seen)), ("each file, fitted without it", apart)):
        if errors is not None:
            pairs = ((name, _means(*errors)[f"{name}_mean_pct"]) for name in ("tpot", "ttft"))
            means = [f"{name.upper()} {mean:.1f} %" for name, mean in pairs if mean is not None]
            off = f"{', '.join(means)} off on average" if means else "no mean times to compare with"
            console.print(Text(f"\n{where}: {off}"))


def _listed(parameters: Parameters, vector: Floats) -> list[float]:
    chips, stacks, dtypes, experts = parameters.split(vector)
    values = [value for constants in (*chips.values(), *stacks.values()) for value in constants.values()]
    return [*values, *dtypes.values(), *([experts] if parameters.with_experts else [])]
