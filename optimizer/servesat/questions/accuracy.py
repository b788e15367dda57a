"""How far predictions are from measurements: both cost models beside rows of measured deployments."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor
from pathlib import Path

import numpy as np

from servesat.catalogue.calibration import Calibration
from servesat.catalogue.drafts import drafts_of
from servesat.catalogue.load import load_calibration
from servesat.catalogue.measurements import FIGURES, Measurement, Unread, read_measurements
from servesat.cost_model.calibrated import (
    Constants,
    Request,
    Work,
    closed_loop_s,
    step_curve,
    work_of,
)
from servesat.cost_model.collectives import all_to_all_bytes_per_s
from servesat.cost_model.decode import Replica
from servesat.cost_model.memory import kv_cache_bytes
from servesat.cost_model.speculation import eagle_drafting, eagle_parameters
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.questions.open_loop import open_loop_figures

GROUPS: dict[str, Callable[[Measurement], str]] = {
    "chip": lambda row: row.chip.id,
    "engine": lambda row: row.engine,
    "engine_version": lambda row: f"{row.engine} {row.engine_version}".strip(),
    "model": lambda row: row.model.id,
    "harness": lambda row: row.harness,
    "weights": lambda row: row.weights,
}
"""What rows may be grouped by."""

USED_MEMORY = 0.9
"""The share of a chip's memory that engines use, where a row does not say."""

FILLED_MEMORY = 0.95
"""The share that weights may fill where a row on speculation does not say how many chips it took."""


@dataclass(frozen=True)
class Predicted:
    """A row with what is predicted of it, and whether its chip and its engine's version are calibrated."""

    row: Measurement
    figures: dict[str, float]
    calibrated: bool


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
    for row in rows:
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
    if room < 1:
        return f"{row.model.id} in {row.weights} leaves no room for a sequence on {row.tp * row.dp} × {row.chip.id}"
    asked = row.concurrency
    if asked is None:
        of_rate = open_loop_figures(row, _replica(row), work_of_row(row), constants, room)
        found = {name: of_rate[name] for name in row.measured if name in of_rate}
        return Predicted(row, found, known_chip and known_stack)
    batch = min(asked, room)
    ttft, tpot = (float(value) for value in closed_loop_s(work_of_row(row), constants, batch, row.output_tokens))
    figures = {
        "tpot_ms": tpot * 1e3,
        "tpot_p50_ms": tpot * 1e3,
        "tokens_per_s": batch * row.output_tokens / (ttft + (row.output_tokens - 1) * tpot),
    }
    if batch == asked:  # otherwise requests wait for room, and the time to the first token is that of a queue
        figures |= {"ttft_ms": ttft * 1e3, "ttft_p50_ms": ttft * 1e3}
    found = {name: figures[name] for name in row.measured if name in figures}
    if not found:
        return f"{asked:g} requests under way, of which the KV cache holds {room:,.0f}: the others queue"
    return Predicted(row, found, known_chip and known_stack)


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
    bare = _replica(found)
    weights = next(
        (one.parameters for one in drafts_of(row.model.id) if one.repository == row.draft), eagle_parameters(row.model)
    )
    drafting = eagle_drafting(row.model, weights or 0.0, row.drafted, row.accepted)
    alone, drafted = (
        step_curve(work_of(row.model, one, request), constants).at(batch)
        for one in (bare, replace(bare, drafting=drafting))
    )
    return Predicted(found, {"speedup": float(row.accepted * alone / drafted)}, calibrated)


def sequences_in_memory(row: Measurement) -> float:
    """Sequences whose KV cache fits beside the weights at their end, in nine tenths of the memory of the chips."""
    storage, chips = Storage(row.model), row.tp * row.dp
    stored = storage.weights(row.weights)
    weights = float(stored.resident + stored.idle) * row.dp + float(stored.experts)
    copies = max(1.0, row.tp / max(1, row.model.kv_heads))
    held = kv_cache_bytes(
        row.model,
        row.prompt_tokens + row.output_tokens,
        storage.kv_token_bytes(row.kv_cache),
        BYTES_PER_VALUE[row.kv_cache],
        copies,
    )
    memory = USED_MEMORY * (row.chip.usable_hbm_bytes or row.chip.hbm_bytes)
    return floor((chips * memory - weights) / float(held))


def work_of_row(row: Measurement) -> Work:
    """The work of the replica of a row, at its mean context."""
    request = Request(0.0, row.prompt_tokens, row.prompt_tokens + row.output_tokens / 2)
    return work_of(row.model, _replica(row), request)


def _replica(row: Measurement) -> Replica:
    """The replica of a row: over its fastest link, with copies of KV heads where tp is more than they are."""
    storage, peaks = Storage(row.model), row.chip.flop_per_s.by_dtype()
    axis = max(row.chip.axes, key=lambda axis: axis.bytes_per_s, default=None)
    spread = [] if axis is None or row.dp == 1 else [axis]
    return Replica(
        tp=float(row.tp),
        ep=float(row.dp),
        hbm_bytes_per_s=row.chip.hbm_bytes_per_s,
        flop_per_s=peaks[row.compute],
        head_flop_per_s=peaks["bf16"],
        tp_bytes_per_s=float("inf") if axis is None else axis.bytes_per_s,
        ep_bytes_per_s=all_to_all_bytes_per_s(spread, [row.dp for _ in spread], [axis.bytes_per_s for axis in spread]),
        weights=storage.weights(row.weights),
        kv_token_bytes=storage.kv_token_bytes(row.kv_cache),
        kv_value_bytes=BYTES_PER_VALUE[row.kv_cache],
        kv_copied_over=float(row.tp),
    )


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
