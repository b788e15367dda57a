"""What a measurement ran on: its board, where its name leaves that open, its replica, and what that had room for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from servesat.catalogue.load import load_chip
from servesat.catalogue.measured_names import UNNAMED
from servesat.catalogue.measurements import Measurement
from servesat.core.tolerances import round_down
from servesat.cost_model.calibrated import Request, Work, work_of
from servesat.cost_model.collectives import all_to_all_bytes_per_s
from servesat.cost_model.decode import Replica
from servesat.cost_model.memory import kv_cache_bytes
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage

USED_MEMORY = 0.9
"""The share of a chip's memory that engines use, where a row does not say."""

LARGER = {"h100": "h100-nvl", "a100": "a100-80gb"}
"""The board of a name with the largest memory."""

SURELY = 1.25
"""How many times what fits a row must have had decoding before it is of another board."""


@dataclass(frozen=True, kw_only=True)
class PlannedMeasurement(Measurement):
    """A measurement of a plan: its replica, as the plan shards it, and the sequences that it has room for."""

    replica: Replica
    room: float


def settled(rows: Sequence[Measurement]) -> list[Measurement]:
    """The rows of a file, on the largest board of a name where some row had more sequences than the usual one holds.

    By Little's law tokens/s · TPOT sequences decode at once, on all workers together.
    """
    larger = {row.board for row in rows if row.board in UNNAMED and _decoding(row) > SURELY * sequences_in_memory(row)}
    return [replace(row, chip=load_chip(LARGER[row.board])) if row.board in larger else row for row in rows]


def _decoding(row: Measurement) -> float:
    tpot_ms = row.measured.get("tpot_p50_ms", row.measured.get("tpot_ms", 0.0))
    return row.measured.get("tokens_per_s", 0.0) * tpot_ms / 1e3 / row.workers


def sequences_in_memory(row: Measurement) -> float:
    """Sequences whose KV cache fits beside the weights at their end, in nine tenths of the memory of the chips.

    0 where not even the weights fit. A plan says how many it has room for.
    """
    if isinstance(row, PlannedMeasurement):
        return row.room
    storage, chips = Storage(row.model), row.tp * row.dp
    stored = storage.weights_over(row.weights, row.tp)
    weights = float(stored.resident + stored.idle) * row.dp + float(stored.experts)
    held = kv_cache_bytes(
        row.model,
        row.prompt_tokens + row.output_tokens,
        storage.kv_token_bytes(row.kv_cache),
        BYTES_PER_VALUE[row.kv_cache],
        float(row.tp),
    )
    memory = USED_MEMORY * (row.chip.usable_hbm_bytes or row.chip.hbm_bytes)
    return max(0.0, float(round_down((chips * memory - weights) / float(held))))


def work_of_row(row: Measurement) -> Work:
    """The work of the replica of a row, at its mean context."""
    request = Request(0.0, row.prompt_tokens, row.prompt_tokens + row.output_tokens / 2)
    return work_of(row.model, replica_of_row(row), request)


def replica_of_row(row: Measurement) -> Replica:
    """The replica of a row: over its fastest link, with copies of KV heads where tp is more than they are.

    That of a plan is as it shards it.
    """
    if isinstance(row, PlannedMeasurement):
        return row.replica
    storage, peaks = Storage(row.model), row.chip.flop_per_s.by_dtype()
    axis = max(row.chip.axes, key=lambda axis: axis.bytes_per_s, default=None)
    spread = [] if axis is None or row.dp == 1 else [axis]
    return Replica(
        tp=float(row.tp),
        ep=float(row.dp),
        hbm_bytes_per_s=row.chip.hbm_bytes_per_s,
        flop_per_s=storage.flop_per_s(peaks, row.weights, row.compute),
        head_flop_per_s=peaks["bf16"],
        tp_bytes_per_s=float("inf") if axis is None else axis.bytes_per_s,
        ep_bytes_per_s=all_to_all_bytes_per_s(spread, [row.dp for _ in spread], [axis.bytes_per_s for axis in spread]),
        weights=storage.weights_over(row.weights, row.tp),
        kv_token_bytes=storage.kv_token_bytes(row.kv_cache),
        kv_value_bytes=BYTES_PER_VALUE[row.kv_cache],
        kv_copied_over=float(row.tp),
    )
