"""How a layout serves prompts beside decoding: the layouts of a spec in each of its serving modes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from servesat.candidates.disaggregated import disaggregated, prefill_waits
from servesat.candidates.layouts import MODES, Layouts, contends, plain_layouts, repriced
from servesat.core.arrays import Bools, Ints
from servesat.core.result import Mode
from servesat.cost_model.prefill import prompt_flops_s, prompt_s
from servesat.spec.spec import Spec

Excluded = Callable[[Layouts], Bools]
"""Tells which of some layouts are not to be searched."""


def enumerate_layouts(spec: Spec, relaxed: int = 0, *, contenders: bool = False) -> Layouts:
    """List every layout of the search in every serving mode; a disaggregated one has a prefill pool beside it.

    `relaxed` is a bit mask of requirements taken to hold, as in `candidates.evaluate`. The `contenders` are those that
    a best plan could be among, see `layouts.contends`; the others may say why there is none.
    """
    plain = plain_layouts(spec)
    if contenders:
        plain = plain.take(np.flatnonzero(contends(spec, plain, relaxed)))
    return in_modes(spec, plain, relaxed)


def in_modes(spec: Spec, plain: Layouts, relaxed: int = 0, excluded: Excluded | None = None) -> Layouts:
    """The plain layouts of a spec in each of its serving modes, but for those that are `excluded`."""
    parts: list[Layouts] = []
    for mode in spec.modes:
        match mode:
            case Mode.DECODE_ONLY:
                parts.append(plain)
            case Mode.INTERLEAVED:
                parts.append(_interleaved(spec, plain, mode))
            case Mode.CHUNKED:
                parts += [_chunked(spec, plain, chunk) for chunk in _chunks(spec)]
            case Mode.DISAGGREGATED:
                parts.append(disaggregated(spec, plain, relaxed, excluded))
    if excluded is not None:
        parts = [part.take(np.flatnonzero(~excluded(part))) for part in parts]
    first, *others = [part for part in parts if len(part)] or [plain.take(np.zeros(0, dtype=np.int64))]
    joined = first.join(*others)
    return replace(joined, number=np.arange(len(joined)))


class SharedLayouts:
    """The layouts of one spec after another, enumerated anew only when chips, slices or dtypes of the search change."""

    def __init__(self) -> None:
        self._searched: tuple[Any, ...] = ()
        self._plain: Layouts | None = None

    def of(self, spec: Spec) -> Layouts:
        """The layouts of a spec, at its prices and in its modes."""
        chips = tuple((offer.chip, spec.topologies_of(offer.chip)) for offer in spec.offers)
        dtypes = (spec.weights, spec.search.kv_cache, spec.search.compute, spec.int4_group)
        searched = (chips, spec.model, dtypes, spec.wraparound)
        if self._plain is None or searched != self._searched:
            self._plain, self._searched = plain_layouts(spec), searched
        else:
            self._plain = repriced(self._plain, spec)
        return in_modes(spec, self._plain)


def _interleaved(spec: Spec, plain: Layouts, mode: Mode, chunk: int = 0) -> Layouts:
    """Whole prefills between decode steps: each output token pays for 1 / G of a prompt."""
    workload = spec.workload
    prefill_s = np.asarray(
        prompt_s(
            spec.model,
            workload.cached_prompt_tokens,
            workload.new_prompt_tokens,
            plain.replica,
            mfu=spec.prefill_mfu,
            pay_ici=spec.ici == "pay",
        )
    )
    return replace(
        plain,
        serving=replace(
            plain.serving,
            mode=_coded(mode, len(plain)),
            chunk=np.full(len(plain), chunk),
            prefill_s=prefill_s,
            first_token_s=prefill_s,
            share_s=prefill_s / (workload.output_tokens or 1),
            violated=prefill_waits(spec, plain),
        ),
    )


def _chunked(spec: Spec, plain: Layouts, chunk: int) -> Layouts:
    """Prompt tokens that ride on each decode step, up to a chunk; one that holds a whole prompt is interleaved."""
    workload = spec.workload
    cached, new = workload.cached_prompt_tokens, workload.new_prompt_tokens
    if chunk >= new:
        return _interleaved(spec, plain, Mode.CHUNKED, chunk)
    whole_s = np.asarray(prompt_flops_s(spec.model, cached, new, plain.replica, spec.prefill_mfu))
    return replace(
        plain,
        serving=replace(
            plain.serving,
            mode=_coded(Mode.CHUNKED, len(plain)),
            chunk=np.full(len(plain), chunk),
            riding_tokens=np.full(len(plain), float(chunk)),
            riding_s=whole_s * (chunk / new),
            first_token_steps=np.full(len(plain), float(np.ceil(new / chunk))),
        ),
    )


def _chunks(spec: Spec) -> list[int]:
    """The chunks worth trying: one that holds a whole prompt only where it does not stand as interleaved already."""
    new = spec.workload.new_prompt_tokens
    smaller = [chunk for chunk in spec.search.chunk_tokens if chunk < new]
    whole = [] if Mode.INTERLEAVED in spec.modes else [chunk for chunk in spec.search.chunk_tokens if chunk >= new]
    return smaller + whole


def _coded(mode: Mode, count: int) -> Ints:
    return np.full(count, MODES.index(mode))
