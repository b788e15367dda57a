"""How far predictions are from measurements: both cost models beside rows of measured deployments."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from servesat.catalogue.calibration import Calibration
from servesat.catalogue.drafts import drafts_of
from servesat.catalogue.load import load_calibration
from servesat.catalogue.measurements import FIGURES, Measurement, Unread, read_measurements
from servesat.cost_model.calibrated import (
    Constants,
    Request,
    closed_loop_s,
    step_curve,
    work_of,
)
from servesat.cost_model.speculation import eagle_drafting, eagle_parameters
from servesat.cost_model.storage import Storage
from servesat.questions.measured_rows import replica_of_row, sequences_in_memory, settled, work_of_row
from servesat.questions.open_loop import open_loop_figures
from servesat.questions.two_pools import two_pools_figures

GROUPS: dict[str, Callable[[Measurement], str]] = {
    "chip": lambda row: row.chip.id,
    "engine": lambda row: row.engine,
    "engine_version": lambda row: f"{row.engine} {row.engine_version}".strip(),
    "model": lambda row: row.model.id,
    "harness": lambda row: row.harness,
    "weights": lambda row: row.weights,
}
"""What rows may be grouped by."""

FILLED_MEMORY = 0.95
"""The share that weights may fill where a row on speculation does not say how many chips it took."""


@dataclass(frozen=True)
class Predicted:
    """A row with what is predicted of it, and whether its chip and its engine's version are calibrated.

    `unpredicted` are figures that were measured and are not predicted, with why.
    """

    row: Measurement
    figures: dict[str, float]
    calibrated: bool
    unpredicted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Errors:
    """The errors of a figure, as shares of what was measured [%]; `bias` is their mean with its sign."""

    rows: int
    mean_pct: float
    median_pct: float
    p90_pct: float
    bias: float


@dataclass(frozen=True)
class Accuracy:
    """The predictions of a file, the errors of each figure, and those by group; and the rows without a prediction."""

    predicted: tuple[Predicted, ...]
    unread: tuple[Unread, ...]
    errors: Mapping[str, Errors]
    groups: Sequence[tuple[Mapping[str, str], Mapping[str, Errors]]]
    calibration: str


def accuracy(path: Path, by: Sequence[str] = (), calibration: Calibration | None = None) -> Accuracy:
    """Predict every row of a file, with its errors. Raises CatalogueError for no file of measurements."""
    constants = calibration or load_calibration()
    rows, unread = read_measurements(path)
    predicted, left = [], list(unread)
    for row in settled(rows):
        found = predict(row, constants)
        if isinstance(found, str):
            left.append(Unread(row.number, found))
        else:
            predicted.append(found)
    keys = {id(one): tuple(GROUPS[name](one.row) for name in by) for one in predicted}
    groups = []
    for key in sorted(set(keys.values())) if by else ():
        members = [one for one in predicted if keys[id(one)] == key]
        groups.append((dict(zip(by, key, strict=True)), errors_of(members)))
    return Accuracy(
        predicted=tuple(predicted),
        unread=tuple(sorted(left, key=lambda one: one.number)),
        errors=errors_of(predicted),
        groups=groups,
        calibration=constants.name,
    )


def predict(row: Measurement, calibration: Calibration) -> Predicted | str:
    """What is predicted of a row, or why nothing is."""
    _, known_chip = calibration.chip(row.chip.id)
    of_stack, known_stack = calibration.stack(row.engine, row.engine_version, row.harness)
    constants = Constants(*calibration.reach_of(row.chip.id, row.compute), *of_stack.constants)
    if row.drafted:
        drafting = replace(constants, draft_s=calibration.draft_s)
        return _speedup(row, drafting, calibrated=known_chip and known_stack)
    if not row.chip.axes and row.tp > 1:
        return f"{row.chip.id} has no links in the catalogue"
    room = sequences_in_memory(row)
    if row.prefill is not None:
        room = min(room, sequences_in_memory(replace(row, tp=row.prefill.tp, dp=row.prefill.dp)))
    if room < 1:
        return f"{row.model.id} in {row.weights} leaves no room for a sequence on {row.tp * row.dp} × {row.chip.id}"
    if row.prefill is not None:
        figures = two_pools_figures(row, constants)
    else:
        figures = {} if row.concurrency is None else _closed_loop_figures(row, constants, row.concurrency, room)
        if _comes_at_a_rate(row, figures.get("tokens_per_s")):
            figures = open_loop_figures(row, replica_of_row(row), work_of_row(row), constants, room)
    found = {name: figures[name] for name in row.measured if name in figures}
    waits = row.concurrency is not None and row.concurrency > room
    if not found and waits:
        return f"{row.concurrency:g} requests under way are more than the {room:,.0f} that the KV cache holds"
    if not found:
        return f"{', '.join(row.measured)}: predicted only where requests arrive at a rate, not at a fixed concurrency"
    reason = "requests wait for room in the KV cache" if waits else "not predicted for this kind of row"
    return Predicted(
        row, found, known_chip and known_stack, {name: reason for name in row.measured if name not in found}
    )


def _comes_at_a_rate(row: Measurement, most_tokens_per_s: float | None) -> bool:
    """Whether requests come as they are sent, not as others end: at a rate that a cap on those under way allows."""
    if most_tokens_per_s is None or row.requests_per_s is None:
        return most_tokens_per_s is None
    return row.requests_per_s * row.output_tokens < most_tokens_per_s


def _closed_loop_figures(row: Measurement, constants: Constants, asked: float, room: float) -> dict[str, float]:
    """The figures at a fixed concurrency, where the KV cache has `room` for so many sequences.

    Where some wait for it, the time to the first token is that of a queue, and not predicted; all of a request is, by
    Little's law, the requests under way over those that leave in a second.
    """
    batch = min(asked, room)
    ttft, tpot = (float(value) for value in closed_loop_s(work_of_row(row), constants, batch, row.output_tokens))
    requests_per_s = batch / (ttft + (row.output_tokens - 1) * tpot)
    e2e_ms = asked / requests_per_s * 1e3
    figures = {
        "tpot_ms": tpot * 1e3,
        "tpot_p50_ms": tpot * 1e3,
        "e2e_ms": e2e_ms,
        "e2e_p50_ms": e2e_ms,
        "tokens_per_s": requests_per_s * row.output_tokens,
    }
    return figures | ({"ttft_ms": ttft * 1e3, "ttft_p50_ms": ttft * 1e3} if batch == asked else {})


def _speedup(row: Measurement, constants: Constants, *, calibrated: bool) -> Predicted | str:
    """What drafting brings: A · step / step with a draft, at as many requests under way.

    On the fewest chips that hold the model, where the row does not say.
    """
    ways, batch = [row.tp] if row.tp else [1, 2, 4, 8, 16], row.concurrency or 1.0
    each = FILLED_MEMORY * (row.chip.usable_hbm_bytes or row.chip.hbm_bytes)
    fitting = [tp for tp in ways if Storage(row.model).weights_bytes(row.weights) <= tp * each]
    if not fitting:
        return f"{row.model.id} in {row.weights} does not fit on {ways[-1]} × {row.chip.id}"
    found = replace(row, tp=fitting[0])
    request = Request(0.0, found.prompt_tokens, found.prompt_tokens + found.output_tokens / 2)
    bare = replica_of_row(found)
    weights = next(
        (one.parameters for one in drafts_of(row.model.id) if one.repository == row.draft), eagle_parameters(row.model)
    )
    drafting = eagle_drafting(row.model, weights or 0.0, row.drafted, row.accepted)
    alone, drafted = (
        step_curve(work_of(row.model, one, request), constants).at(batch)
        for one in (bare, replace(bare, drafting=drafting))
    )
    return Predicted(found, {"speedup": float(row.accepted * alone / drafted)}, calibrated)


def errors_of(predicted: Iterable[Predicted]) -> dict[str, Errors]:
    """The errors of each figure that some row has measured."""
    found: dict[str, Errors] = {}
    rows = list(predicted)
    for name in FIGURES:
        pairs = [(one.figures[name], one.row.measured[name]) for one in rows if name in one.figures]
        if pairs:
            made, measured = np.array(pairs).T
            signed = 100 * (made / measured - 1)
            size = np.abs(signed)
            found[name] = Errors(
                rows=len(pairs),
                mean_pct=float(size.mean()),
                median_pct=float(np.median(size)),
                p90_pct=float(np.quantile(size, 0.9)),
                bias=float(signed.mean()),
            )
    return found
