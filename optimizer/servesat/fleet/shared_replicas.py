"""Configurations that requests of several sizes share: one program on one slice, and what it serves of each size."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import MODES
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.catalogue.chip import chips_in
from servesat.core.arrays import Floats, Ints
from servesat.core.dominance import undominated
from servesat.core.plan import Mode, Plan
from servesat.deployment.check.plan import rederive
from servesat.fleet.configurations import (
    Configuration,
    how_served,
    may_keep_prefixes,
    on_chip,
    slice_chips_of,
    slices_of,
)
from servesat.fleet.pods.slices import Box
from servesat.spec.spec import Spec

EQUAL_RATE_RTOL = 1e-9
"""Rates within this relative difference are treated as equal."""

LOG_OF_ZERO = -1e15
"""Stands for the logarithm of a rate of zero, in units of EQUAL_RATE_RTOL: less than that of any positive rate."""


class Scheduler(NamedTuple):
    """How an engine is configured to schedule prompts: the same for requests of every size."""

    mode: Mode
    chunk: int  # tokens, 0 without chunks


class BestBatches(NamedTuple):
    """The best batch of each program for one size of requests; arrays of shape [places, dtypes, schedulers]."""

    requests_per_s: Floats  # 0 if no batch meets the limits
    column: Ints


def shared_configurations(
    specs: Mapping[str, Spec],
    chips: Iterable[str],
    *,
    pods: Mapping[str, Collection[Box]],
) -> tuple[Configuration, ...]:
    """The configurations of a replica that serves requests of several sizes, on each chip; one spec for each size.

    A replica is a program in one pool: a slice, how the model is sharded over it, dtypes, and how prompts are
    scheduled. It serves each size at the best batch for that size, and shares its time among the sizes. A dominated
    program, which serves no more of any size than another on at least as many of the same chips, is dropped: machines
    that hold one slice hold every smaller one. For chips in pods, both programs must have the same slice.
    """
    programs: list[Configuration] = []
    for chip in sorted(chips):
        if not all(may_keep_prefixes(spec, chip) for spec in specs.values()):
            continue
        chip_specs = {size: on_chip(spec, chip).in_one_pool() for size, spec in specs.items()}
        programs += _on_chip(chip_specs, chip in pods)
    return _with_distinct_names(programs)


def _on_chip(specs: Mapping[str, Spec], in_pods: bool) -> list[Configuration]:
    first = next(iter(specs.values()))
    chip = first.chips[0]
    if not set(first.compute) & set(chip.flop_per_s.by_dtype()):
        return []
    schedulers = _schedulers(first)
    columns = {size: evaluate(spec, enumerate_layouts(spec, undominated=True)) for size, spec in specs.items()}
    batches = {size: _best_batches(specs[size], columns[size], schedulers) for size in specs}
    rates = np.stack([best.requests_per_s for best in batches.values()], axis=-1)
    topologies = [place.topology for place in next(iter(columns.values())).layouts.places]
    programs = []
    for place, dtype, scheduler in _undominated(rates, topologies, in_pods):
        plans = {
            size: _plan(specs[size], columns[size], int(best.column[place, dtype, scheduler]), schedulers[scheduler])
            for size, best in batches.items()
            if best.requests_per_s[place, dtype, scheduler]
        }
        size_rates = tuple(
            specs[size].utilisation * (plans[size].requests_per_s or 0.0) if size in plans else 0.0 for size in specs
        )
        plan = next(iter(plans.values()))
        programs.append(
            Configuration(
                name=_name(plan, plans),
                chip=chip.id,
                chips=plan.chips,
                requests_per_s=0.0,
                slices=slices_of(first, chip, plan),
                slice_chips=slice_chips_of(plan),
                size_rates=size_rates,
                plans=plans,
            )
        )
    return programs


def _schedulers(spec: Spec) -> list[Scheduler]:
    unchunked = [Scheduler(mode, 0) for mode in spec.modes if mode is not Mode.CHUNKED]
    chunks = spec.search.chunk_tokens if Mode.CHUNKED in spec.modes else ()
    return unchunked + [Scheduler(Mode.CHUNKED, chunk) for chunk in chunks]


def _best_batches(spec: Spec, columns: Columns, schedulers: list[Scheduler]) -> BestBatches:
    """The batch that serves the most within the limits, for each program."""
    layouts, serving = columns.layouts, columns.layouts.serving
    shape = (len(layouts.places), len(layouts.dtypes), len(schedulers))
    best = BestBatches(np.zeros(shape), np.full(shape, -1))
    feasible = np.flatnonzero(columns.violated == 0)
    order = feasible[np.lexsort((columns.tpot_s[feasible], columns.usd_per_million[feasible]))]
    for number, scheduler in enumerate(schedulers):
        mode, chunk = _as_in_layouts(spec, scheduler)
        scheduled = order[(serving.mode[order] == MODES.index(mode)) & (serving.chunk[order] == chunk)]
        _, first = np.unique(layouts.place[scheduled] * shape[1] + layouts.dtype[scheduled], return_index=True)
        chosen = scheduled[first]
        best.requests_per_s[layouts.place[chosen], layouts.dtype[chosen], number] = columns.tokens_per_s[chosen]
        best.column[layouts.place[chosen], layouts.dtype[chosen], number] = chosen
    return best._replace(requests_per_s=best.requests_per_s / (spec.workload.output_tokens or 1))


def _as_in_layouts(spec: Spec, scheduler: Scheduler) -> Scheduler:
    """The scheduler under which the layouts list this one: a chunk that holds a whole prompt counts as interleaved."""
    unchunked = scheduler.mode is Mode.CHUNKED and scheduler.chunk >= spec.workload.new_prompt_tokens
    return Scheduler(Mode.INTERLEAVED, 0) if unchunked and Mode.INTERLEAVED in spec.modes else scheduler


def _undominated(rates: Floats, topologies: list[str], in_pods: bool) -> Iterator[tuple[int, int, int]]:
    """The place, dtypes and scheduler of every undominated program; the last axis of `rates` is the sizes.

    Programs with the fewest chips come first, then those with the highest rates in total.
    """
    serves = np.argwhere(rates.any(axis=-1))
    with np.errstate(divide="ignore"):
        log_rates = np.maximum(np.rint(np.log(rates[tuple(serves.T)]) / EQUAL_RATE_RTOL), LOG_OF_ZERO)
    topology = np.array(topologies)[serves[:, 0]]
    chips = np.array([chips_in(name) for name in topologies])[serves[:, 0]]
    figures = np.column_stack([chips, -log_rates])
    groups = [np.flatnonzero(topology == name) for name in np.unique(topology)] if in_pods else [np.arange(len(serves))]
    rows = np.concatenate([group[undominated(figures[group])] for group in groups])
    for row in rows[np.lexsort((rows, -log_rates[rows].sum(axis=1), chips[rows]))]:
        yield tuple(serves[row].tolist())


def _plan(spec: Spec, columns: Columns, column: int, scheduler: Scheduler) -> Plan:
    assignment = columns.assignment(column)
    return rederive(spec, replace(assignment, mode=scheduler.mode, chunk_tokens=scheduler.chunk or None))[0]


def _name(plan: Plan, plans: Mapping[str, Plan]) -> str:
    batches = ", ".join(f"{size_plan.batch} of {size}" for size, size_plan in plans.items())
    return f"{plan.chip} {plan.topology}, {how_served(plan)}, batch {batches}"


def _with_distinct_names(programs: list[Configuration]) -> tuple[Configuration, ...]:
    """The configurations with unique names: those that differ in axes or the KV cache's layout alone are numbered."""
    times: Counter[str] = Counter()
    named = []
    for program in programs:
        times[program.name] += 1
        number = times[program.name]
        named.append(replace(program, name=f"{program.name}, no. {number}") if number > 1 else program)
    return tuple(named)
