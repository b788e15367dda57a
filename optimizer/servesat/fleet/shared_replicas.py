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
from servesat.fleet.configurations import Configuration, on_chip, slices_of
from servesat.fleet.pods.slices import Box
from servesat.spec.spec import Spec

ALIKE = 1e-9
"""Rates within this relative difference are the same."""

NOTHING = -1e15
"""The logarithm of no rate, in such units: less than of any other."""


class Scheduler(NamedTuple):
    """How an engine was started to serve prompts: the same for requests of any size."""

    mode: Mode
    chunk: int  # tokens, 0 without chunks


class Best(NamedTuple):
    """The best batch of each program for one size of requests; arrays of shape [places, dtypes, schedulers]."""

    requests_per_s: Floats  # 0 where no batch meets the limits
    column: Ints


def shared_configurations(
    specs: Mapping[str, Spec],
    chips: Iterable[str],
    *,
    pods: Mapping[str, Collection[Box]],
) -> tuple[Configuration, ...]:
    """What one replica can be that serves requests of several sizes, each a spec of its own, on each of the chips.

    A replica is a program: a slice, how the model is split over it, dtypes, and how prompts are scheduled, in one pool.
    It serves each size at the batch that is best for it, and shares its time among them. A program that serves no
    more of any size than another on no fewer of the same chips is left out; of chips in pods only where both have the
    same slice.
    """
    found: list[Configuration] = []
    for chip in sorted(chips):
        own = {size: on_chip(spec, chip).in_one_pool() for size, spec in specs.items()}
        found += _on_chip(own, chip in pods)
    return _distinct(found)


def _on_chip(specs: Mapping[str, Spec], in_pods: bool) -> list[Configuration]:
    first = next(iter(specs.values()))
    chip = first.offers[0].chip
    if not set(first.search.compute) & set(chip.flop_per_s.by_dtype()):
        return []
    schedulers = _schedulers(first)
    columns = {size: evaluate(spec, enumerate_layouts(spec, undominated=True)) for size, spec in specs.items()}
    best = {size: _best(specs[size], columns[size], schedulers) for size in specs}
    rates = np.stack([one.requests_per_s for one in best.values()], axis=-1)
    topologies = [place.topology for place in next(iter(columns.values())).layouts.places]
    found = []
    for place, dtype, scheduler in _undominated(rates, topologies, in_pods):
        plans = {
            size: _plan(specs[size], columns[size], int(one.column[place, dtype, scheduler]), schedulers[scheduler])
            for size, one in best.items()
            if one.requests_per_s[place, dtype, scheduler]
        }
        of_size = tuple(
            specs[size].utilisation * (plans[size].requests_per_s or 0.0) if size in plans else 0.0 for size in specs
        )
        plan = next(iter(plans.values()))
        found.append(
            Configuration(
                name=_name(plan, plans),
                chip=chip.id,
                chips=plan.chips,
                requests_per_s=0.0,
                slices=slices_of(first, chip, plan),
                of_size=of_size,
                plans=plans,
            )
        )
    return found


def _schedulers(spec: Spec) -> list[Scheduler]:
    whole = [Scheduler(mode, 0) for mode in spec.modes if mode is not Mode.CHUNKED]
    return whole + [Scheduler(Mode.CHUNKED, chunk) for chunk in spec.search.chunk_tokens if Mode.CHUNKED in spec.modes]


def _best(spec: Spec, columns: Columns, schedulers: list[Scheduler]) -> Best:
    """The batch that serves the most within the limits, for each program."""
    layouts, serving = columns.layouts, columns.layouts.serving
    shape = (len(layouts.places), len(layouts.dtypes), len(schedulers))
    best = Best(np.zeros(shape), np.full(shape, -1))
    meets = np.flatnonzero(columns.violated == 0)
    order = meets[np.lexsort((columns.step_s[meets], columns.usd_per_million[meets]))]
    for number, scheduler in enumerate(schedulers):
        mode, chunk = _as_listed(spec, scheduler)
        own = order[(serving.mode[order] == MODES.index(mode)) & (serving.chunk[order] == chunk)]
        _, first = np.unique(layouts.place[own] * shape[1] + layouts.dtype[own], return_index=True)
        chosen = own[first]
        best.requests_per_s[layouts.place[chosen], layouts.dtype[chosen], number] = columns.tokens_per_s[chosen]
        best.column[layouts.place[chosen], layouts.dtype[chosen], number] = chosen
    return best._replace(requests_per_s=best.requests_per_s / (spec.workload.output_tokens or 1))


def _as_listed(spec: Spec, scheduler: Scheduler) -> Scheduler:
    """How the layouts of a spec name what a scheduler does: a chunk that holds a whole prompt stands as interleaved."""
    whole = scheduler.mode is Mode.CHUNKED and scheduler.chunk >= spec.workload.new_prompt_tokens
    return Scheduler(Mode.INTERLEAVED, 0) if whole and Mode.INTERLEAVED in spec.modes else scheduler


def _undominated(rates: Floats, topologies: list[str], in_pods: bool) -> Iterator[tuple[int, int, int]]:
    """The place, dtypes and scheduler of the programs that no other makes up for; rates have a last axis of sizes.

    The fewest chips first, and of as many the fastest in all.
    """
    serves = np.argwhere(rates.any(axis=-1))
    with np.errstate(divide="ignore"):
        codes = np.maximum(np.rint(np.log(rates[tuple(serves.T)]) / ALIKE), NOTHING)
    topology = np.array(topologies)[serves[:, 0]]
    chips = np.array([chips_in(name) for name in topologies])[serves[:, 0]]
    figures = np.column_stack([chips, -codes])
    groups = [np.flatnonzero(topology == name) for name in np.unique(topology)] if in_pods else [np.arange(len(serves))]
    kept = np.concatenate([rows[undominated(figures[rows])] for rows in groups])
    for row in kept[np.lexsort((kept, -codes[kept].sum(axis=1), chips[kept]))]:
        yield tuple(serves[row].tolist())


def _plan(spec: Spec, columns: Columns, column: int, scheduler: Scheduler) -> Plan:
    assigned = columns.assignment(column)
    return rederive(spec, replace(assigned, mode=scheduler.mode, chunk_tokens=scheduler.chunk or None))[0]


def _name(plan: Plan, plans: Mapping[str, Plan]) -> str:
    chunk = f" by {plan.chunk_tokens}" if plan.chunk_tokens else ""
    batches = ", ".join(f"{own.batch} of {size}" for size, own in plans.items())
    return f"{plan.chip} {plan.topology}, {plan.mode}{chunk}, batch {batches}"


def _distinct(found: list[Configuration]) -> tuple[Configuration, ...]:
    """Configurations with names of their own: those that differ in dtypes or axes alone are numbered."""
    times: Counter[str] = Counter()
    named = []
    for one in found:
        times[one.name] += 1
        named.append(replace(one, name=f"{one.name}, no. {times[one.name]}") if times[one.name] > 1 else one)
    return tuple(named)
