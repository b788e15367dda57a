"""How a layout serves prompts beside decoding: the layouts of a spec in each of its serving modes."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from servesat.candidates.disaggregated import Excluded, disaggregated
from servesat.candidates.engines import leaves_out_what_cannot_run
from servesat.candidates.enumeration import decode_layouts, repriced
from servesat.candidates.layouts import MODES, Layouts
from servesat.candidates.requirements import prefill_violations
from servesat.candidates.screening import undominated_layouts
from servesat.candidates.step_times import prompt_times
from servesat.candidates.undominated_offers import held_slices
from servesat.core.arrays import Ints
from servesat.core.plan import Mode
from servesat.core.tolerances import round_up
from servesat.spec.expressions import counts_slices
from servesat.spec.spec import Spec

BLOCK_ROWS = 50_000
"""Layouts that are evaluated together, by default: some 250 MB with their columns."""


def enumerate_layouts(
    spec: Spec, relaxed: int = 0, *, undominated: bool = False, named: Collection[str] = ()
) -> Layouts:
    """List every layout of the search in every serving mode; a disaggregated one has a prefill pool beside it.

    `relaxed` is a bit mask of requirements taken to hold, as in `evaluate`. With `undominated`, only those that a best
    plan could be among, see `undominated_layouts`; the others may say why there is none. `named` tells offers apart, as
    in `held_slices`.
    """
    return in_modes(spec, searched_layouts(spec, relaxed, undominated=undominated, named=named), relaxed)


def searched_layouts(
    spec: Spec, relaxed: int = 0, *, undominated: bool = False, named: Collection[str] = ()
) -> Layouts:
    """The decode layouts of `enumerate_layouts`, before they have a serving mode."""
    return undominated_layouts(spec, relaxed, named) if undominated else decode_layouts(spec, named)


def in_modes(spec: Spec, layouts: Layouts, relaxed: int = 0, excluded: Excluded | None = None) -> Layouts:
    """The decode layouts of a spec in each of its serving modes, but for those that are `excluded`."""
    first, *others = in_modes_by_block(spec, layouts, relaxed, excluded)
    return first.join(*others)


def in_modes_by_block(
    spec: Spec, layouts: Layouts, relaxed: int = 0, excluded: Excluded | None = None, *, rows: int = BLOCK_ROWS
) -> Iterator[Layouts]:
    """The layouts of `in_modes` in blocks of at most so many rows, numbered throughout; at least one, even if empty."""
    pending: list[Layouts] = []
    held, number = 0, 0
    for part in _modes(spec, layouts, relaxed, excluded):
        kept = part if excluded is None else part.take(np.flatnonzero(~excluded(part)))
        for first in range(0, len(kept), rows):
            block = kept if len(kept) <= rows else kept.take(np.arange(first, min(first + rows, len(kept))))
            if held + len(block) > rows:
                yield pending[0].join(*pending[1:])
                pending, held = [], 0
            pending.append(replace(block, number=np.arange(number, number + len(block))))
            held, number = held + len(block), number + len(block)
    yield pending[0].join(*pending[1:]) if pending else layouts.take(np.zeros(0, dtype=np.int64))


def _modes(spec: Spec, layouts: Layouts, relaxed: int, excluded: Excluded | None) -> Iterator[Layouts]:
    """The decode layouts in one serving mode, and with one chunk, after another."""
    alone = _in_one_pool(spec, layouts)
    for mode in spec.modes:
        match mode:
            case Mode.DECODE_ONLY:
                yield alone
            case Mode.INTERLEAVED:
                yield _interleaved(spec, alone, mode)
            case Mode.CHUNKED:
                yield from (_chunked(spec, alone, chunk) for chunk in _chunks(spec))
            case Mode.DISAGGREGATED:
                yield disaggregated(spec, layouts, relaxed, excluded)


def _in_one_pool(spec: Spec, layouts: Layouts) -> Layouts:
    """The layouts of plans with one pool: without a demand their units are full, or hold what a limit leaves."""
    of_place = np.array([place.alone for place in layouts.places], dtype=np.bool_)
    alone = layouts if of_place.all() else layouts.take(np.flatnonzero(of_place[layouts.place]))
    full = alone.units.slices
    if spec.workload.requests_per_s is not None or not np.any(full > 1):
        return alone
    if counts_slices(spec.expressions):  # then any number may be what it takes
        row, slices = np.repeat(np.arange(len(alone)), full), np.concatenate([np.arange(1, n + 1) for n in full])
    elif spec.search.max_slices is not None:
        fewer = np.flatnonzero(full > spec.search.max_slices)
        row = np.concatenate([np.arange(len(alone)), fewer])
        slices = np.concatenate([full, np.full(len(fewer), spec.search.max_slices)])
    else:
        row, slices = np.arange(len(alone)), full
    filled = alone.take(row)
    return replace(filled, serving=replace(filled.serving, slices=slices))


class SharedLayouts:
    """The layouts of one spec after another, enumerated anew only when chips, slices or dtypes of the search change."""

    def __init__(self, *, undominated: bool = False) -> None:
        """Of all layouts, or of those that a best plan could be among."""
        self._undominated = undominated
        self._searched: tuple[Any, ...] = ()
        self._layouts: Layouts | None = None

    def of(self, spec: Spec) -> Layouts:
        """The layouts of a spec, at its prices and in its modes."""
        held = list(held_slices(spec))
        slices = [(one.offer.chip, one.topology, one.offer.place, one.unit[:3]) for one in held]
        dtypes = (spec.weights, spec.kv_cache, spec.compute, spec.int4_group, spec.drafts, spec.lora)
        engines = (spec.engine, spec.headroom, spec.search.weights is None, leaves_out_what_cannot_run(spec))
        times = (spec.cost_model, spec.slo.margin, spec.exact_wraparound)
        splits = (spec.kv_layouts, spec.search.pp, spec.workload.host_cache is not None)
        searched: tuple[Any, ...] = (slices, spec.model, times, dtypes, engines, splits, spec.spot_capacity)
        if self._undominated:
            chosen = spec.search.max_quality_loss is not None, bool(spec.expressions)
            searched = (*searched, chosen, spec.mixes_pools, Mode.DISAGGREGATED in spec.modes)
        if self._layouts is None or searched != self._searched:
            self._layouts, self._searched = searched_layouts(spec, undominated=self._undominated), searched
        else:
            self._layouts = repriced(self._layouts, held)
        return in_modes(spec, self._layouts)


def _interleaved(spec: Spec, layouts: Layouts, mode: Mode, chunk: int = 0) -> Layouts:
    """Whole prefills between decode steps: each output token pays for 1 / G of a prompt."""
    prompt = prompt_times(spec, layouts)
    return replace(
        layouts,
        serving=replace(
            layouts.serving,
            mode=_coded(mode, len(layouts)),
            chunk=np.full(len(layouts), chunk),
            prefill_s=prompt.prefill_s,
            first_token_s=prompt.request_s + prompt.host_load_s + prompt.prefill_s,
            host_load_s=prompt.host_load_s,
            first_token_steps=np.full(len(layouts), 0.0 if spec.calibration is None else 1.0),
            prefill_s_per_output_token=prompt.prefill_s / layouts.replica.pp / (spec.workload.output_tokens or 1),
            prompt_work_s=prompt.work_s,
            violated=prefill_violations(spec, layouts),
        ),
    )


def _chunked(spec: Spec, layouts: Layouts, chunk: int) -> Layouts:
    """A prefill chunk scheduled with each micro-batch of a step; one that holds a whole prompt is interleaved."""
    new = spec.workload.new_prompt_tokens
    if chunk >= new:
        return _interleaved(spec, layouts, Mode.CHUNKED, chunk)
    prompt, stages = prompt_times(spec, layouts), np.asarray(layouts.replica.pp)
    return replace(
        layouts,
        serving=replace(
            layouts.serving,
            mode=_coded(Mode.CHUNKED, len(layouts)),
            chunk=np.full(len(layouts), chunk),
            chunk_tokens_per_step=stages * float(chunk),
            chunk_s_per_step=prompt.chunked_s * stages * (chunk / new),
            first_token_s=prompt.request_s + prompt.host_load_s + prompt.work_s * stages,
            host_load_s=prompt.host_load_s,
            prompt_work_s=prompt.work_s,
            first_token_steps=np.full(len(layouts), float(round_up(new / chunk))),
        ),
    )


def _chunks(spec: Spec) -> list[int]:
    """The chunks worth trying: one that holds a whole prompt only where it does not stand as interleaved already.

    Under constraints on the mode or the chunk it is another plan.
    """
    new = spec.workload.new_prompt_tokens
    named = any(name.id in {"mode", "chunk_tokens"} for expression in spec.expressions for name in expression.names)
    stands = Mode.INTERLEAVED in spec.modes and not named
    return [chunk for chunk in spec.search.chunk_tokens if chunk < new or not stands]


def _coded(mode: Mode, count: int) -> Ints:
    return np.full(count, MODES.index(mode))
