"""Measurements as a fit of constants sees them: as work at the peaks, or as requests to replay."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf
from typing import get_args

import numpy as np

from servesat.catalogue.engine import Program
from servesat.catalogue.measurements import Measurement
from servesat.core.arrays import Bools, Floats
from servesat.cost_model.calibrated import Constants, Work
from servesat.cost_model.decode import Replica
from servesat.questions.measured_rows import replica_of_row, sequences_in_memory, work_of_row
from servesat.questions.open_loop import open_loop_figures

OPEN_SPREADS = {"tpot_p50_ms": 0.08, "ttft_p50_ms": 0.25, "tokens_per_s": 0.05}
"""The deviation of a logarithm that counts as one, of each figure of a replay."""

FULL = 0.9
"""A replica that puts out less than this share of what it was asked for was full."""


@dataclass(frozen=True)
class Observed:
    """Measurements with their work at the peaks; arrays of shape [rows] [s]."""

    rows: Sequence[Measurement]
    work: Work
    batch: Floats
    output_tokens: Floats
    ttft_s: Floats  # NaN where it was not measured, as of the others
    tpot_s: Floats
    tokens_per_s: Floats

    @property
    def times(self) -> tuple[Floats, Floats]:
        """Those to the first token and per output token."""
        return self.ttft_s, self.tpot_s


@dataclass(frozen=True)
class Arriving:
    """Measurements of requests that arrived at a rate; `measured` has shape [rows, figures], NaN where one is missing.

    They are replayed with one seed.
    """

    rows: Sequence[Measurement] = ()

    @cached_property
    def measured(self) -> Floats:
        """The figures of OPEN_SPREADS that say something of a replica."""
        values = [[_telling(row).get(name, np.nan) for name in OPEN_SPREADS] for row in self.rows]
        return np.array(values).reshape(-1, len(OPEN_SPREADS))

    @cached_property
    def _replayed(self) -> list[tuple[Replica, Work, float]]:
        return [(replica_of_row(row), work_of_row(row), sequences_in_memory(row)) for row in self.rows]

    def figures(self, constants: Constants, which: Bools) -> Floats:
        """What is predicted of some rows, by constants of shape [rows]."""
        made = np.full(self.measured.shape, np.nan)
        for place in np.flatnonzero(which).tolist():
            own = Constants(**{name: value[place] for name, value in vars(constants).items() if np.ndim(value)})
            replica, work, room = self._replayed[place]
            found = open_loop_figures(self.rows[place], replica, work, own, room, seeds=[0])
            made[place] = [found.get(name, np.nan) for name in OPEN_SPREADS]
        return made


def _telling(row: Measurement) -> dict[str, float]:
    """What was measured of a row: its throughput where more arrived than was served, and else what was waited for."""
    made, measured = row.measured.get("tokens_per_s", 0.0), dict(row.measured)
    is_full = 0 < made < FULL * (row.requests_per_s or 0.0) * row.output_tokens
    for name in ("ttft_p50_ms",) if is_full else ("tokens_per_s",):
        measured.pop(name, None)
    return measured


STRETCHED = 8
"""How many times its context a model is believed to have been started for, as by YaRN."""

BELIEVED = 0.5
"""The part of the time that loading the weights takes at full bandwidth below which a measured step is not believed."""


def unusable(row: Measurement) -> str | None:
    """Why a row cannot be calibrated with; None where it can."""
    telling = {"tpot_ms", "tokens_per_s"} | ({"ttft_ms"} if row.output_tokens == 1 else set())
    if not row.concurrency or not telling & set(row.measured):
        return "expected a concurrency, and tpot_ms or tokens_per_s"
    if (reason := _of_another_kind(row)) is not None:
        return reason
    room = sequences_in_memory(row)
    tokens, context = row.prompt_tokens + row.output_tokens, row.model.max_context_tokens or inf
    if tokens > STRETCHED * context:
        return f"{tokens:,.0f} tokens a request: expected at most {STRETCHED} times {context:,}, the model's context"
    if row.concurrency > room:
        return f"{row.concurrency:g} sequences, of which {room:,.0f} fit in the memory: the others queued"
    return _too_fast(row)


def _of_another_kind(row: Measurement) -> str | None:
    """Why a row with a concurrency says nothing of a batch that is as large at all times; None where it does."""
    if row.requests_per_s is not None:
        return (
            f"requests_per_s = {row.requests_per_s:g} beside a concurrency: at a rate that is a cap, expected one alone"
        )
    if row.prefill is not None:
        return "prefill and decode workers: expected one pool"
    if row.engine not in get_args(Program):
        return f"engine = {row.engine}: expected one of {', '.join(get_args(Program))}"
    return None


def _too_fast(row: Measurement) -> str | None:
    """Which mean time of a row is shorter than any that its weights can be loaded in; None where none is."""
    loaded_ms = float(work_of_row(row).resident_s) * 1e3
    for name in ("tpot_ms", "ttft_ms"):
        if row.measured.get(name, loaded_ms) < BELIEVED * loaded_ms:
            value = row.measured[name]
            return f"{name} = {value:g}: to load the weights alone takes {loaded_ms:.3g} ms; is it in ms?"
    return None


def observed(rows: Sequence[Measurement]) -> Observed:
    """Rows that can be calibrated with, as arrays."""
    works = [work_of_row(row) for row in rows]
    work = Work(**{part.name: np.array([getattr(one, part.name) for one in works]) for part in fields(Work)})
    names = ("ttft_ms", "tpot_ms", "tokens_per_s")
    ttft_ms, tpot_ms, made = (np.array([row.measured.get(name, np.nan) for row in rows]) for name in names)
    batch, output = (np.array([getattr(row, name) for row in rows]) for name in ("concurrency", "output_tokens"))
    return Observed(rows, work, batch, output, ttft_ms / 1e3, tpot_ms / 1e3, made)
