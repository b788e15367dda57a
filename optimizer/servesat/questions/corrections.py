"""Corrections that make an infeasible spec feasible: the smallest single change of each kind, or else pairs of them.

The search is widened to every priced chip, slice and dtype, with the interconnect forbidden to bind and paid for. Each
column then has a bit for every requirement that it violates and for every part of the search that it lies outside of.
A single change allows a column with a single bit; the nearest such column gives the size of the change. Of the columns
with two bits, the cheapest gives a pair, and the one whose limits move least another.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.constrained_batches import need_every_batch
from servesat.candidates.evaluation import TooManyPlansError, evaluate
from servesat.candidates.layouts import quality_losses
from servesat.candidates.requirements import bits_of, rules_of
from servesat.candidates.rule import REQUIREMENT_BIT, Kind, Requirement
from servesat.candidates.screening import valid_layouts
from servesat.candidates.serving_modes import enumerate_layouts, in_modes_by_block
from servesat.catalogue.chip import Chip
from servesat.catalogue.load import engine_ids, load_engine
from servesat.core.arrays import Floats, Ints
from servesat.core.plan import KvLayout, Mode
from servesat.core.result import Change, Correction, Result
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL, is_at_most
from servesat.cost_model.storage import BYTES_PER_VALUE
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.search_relaxations import (
    RELAXATION_BIT,
    SearchRelaxation,
    changed,
    relaxation_masks,
    relaxed_by,
)
from servesat.spec.search_space import MAX_BATCH
from servesat.spec.spec import Spec

_SUGGESTED_DTYPES = ("bf16", "fp8", "int8", "int4")
"""The dtypes that a correction may add to those of the search and of the published weights."""


SLICES_AT_A_TIME = 1000
"""Slices whose layouts, in every dtype, are evaluated together; the catalogue has 200."""


def _adjustable(spec: Spec) -> list[str]:
    """The requirements whose limit a correction may move: those with a limit in the spec, then the headroom."""
    rules = rules_of(spec)
    return [name for name, rule in rules.items() if rule.correction and not rule.usable_share] + [Requirement.HBM]


def _fixed(spec: Spec) -> int:
    """The bits of requirements that no correction moves: rules, quotas, which other chips avoid, and conditions."""
    return sum(bit for name, bit in bits_of(spec).items() if not rules_of(spec)[name].correction)


def _bits(spec: Spec) -> dict[str, int]:
    """The bit of each kind of change."""
    return {**{name: bits_of(spec)[name] for name in _adjustable(spec)}, **RELAXATION_BIT}


@dataclass(frozen=True)
class _Widened:
    """The columns of a widened search that one or two changes would allow."""

    spec: Spec
    columns: Columns
    bits: Ints  # of the changes that a column needs; shape [columns]


def corrections(spec: Spec, settings: Settings) -> tuple[Correction, ...]:
    """Find the smallest change of each kind that alone makes a plan exist, else the cheapest pair and the smallest.

    Each correction comes with the proved optimum under it. Empty when no two changes suffice.
    """
    return planned(spec, smallest_changes(spec), settings)


def planned(spec: Spec, found: Iterable[tuple[Change, ...]], settings: Settings) -> tuple[Correction, ...]:
    """Changes that each allow a plan, with the proved optimum under them.

    One that allows none is left out: the widened search lists dtypes of weights, and so takes checkpoints in them to be
    at hand, where the spec lists none and another engine may know none.
    """
    each = (_planned(spec, changes, settings) for changes in found)
    return tuple(correction for correction in each if correction is not None)


def smallest_changes(spec: Spec) -> list[tuple[Change, ...]]:
    """The changes of `corrections`, each alone or in a pair, by the means of requests.

    A limit moves to the first value that allows a plan; of the dtypes that allow a plan the widest is suggested, of the
    slices the smallest, of the chips the cheapest.
    """
    searches = _widen(spec)
    single_changes: list[tuple[Change, ...]] = []
    for kind, bit in _bits(spec).items():
        nearest = [
            _candidate(widened, kind, int(row)) for widened in searches for row in np.flatnonzero(widened.bits == bit)
        ]
        if nearest:
            single_changes.append((min(nearest, key=lambda candidate: candidate.distance).change,))
    if single_changes:
        return single_changes
    pairs = (_cheapest_pair(searches), _smallest_pair(searches))
    return list(dict.fromkeys(pair for pair in pairs if pair))


def _pair_of(widened: _Widened, row: int) -> tuple[Change, ...]:
    """The two changes that a column needs."""
    return tuple(_change(widened, kind, row) for kind, bit in _bits(widened.spec).items() if widened.bits[row] & bit)


def _smallest_pair(searches: list[_Widened]) -> tuple[Change, ...]:
    """The two changes of the column whose limits move least, the cheapest such; none where every column needs more."""
    nearest = [
        (float(_moves(widened)[row]), float(widened.columns.usd_per_million[row]), _pair_of(widened, row))
        for widened in searches
        if len(rows := np.flatnonzero(np.bitwise_count(widened.bits) == 2))
        for row in [_least_moved(widened, rows)]
    ]
    return min(nearest, key=lambda found: found[:2])[2] if nearest else ()


def _least_moved(widened: _Widened, rows: Ints) -> int:
    """The column of `rows` whose limits move least; of those that tie, the cheapest."""
    return int(rows[np.lexsort((widened.columns.usd_per_million[rows], _moves(widened)[rows]))[0]])


def _moves(widened: _Widened) -> Floats:
    """How far the limits that each column needs moved have to, as the logarithm of the largest factor; shape [columns].

    A wider search moves no limit, and a limit of zero would have to move beyond every factor.
    """
    moves = np.zeros(len(widened.columns))
    for name in _adjustable(widened.spec):
        needs_it = widened.bits & _bits(widened.spec)[name] != 0
        limit = rules_of(widened.spec)[name].limit(widened.spec)
        if limit is None or not needs_it.any():
            continue
        ratio = _figure(widened, name)[needs_it] / limit if limit else np.zeros(int(needs_it.sum()))
        factor = np.where(ratio > 0, np.abs(np.log(np.where(ratio > 0, ratio, 1.0))), np.inf)
        moves[needs_it] = np.maximum(moves[needs_it], factor)
    return moves


def _cheapest_pair(searches: list[_Widened]) -> tuple[Change, ...]:
    """The two changes of the cheapest column that needs two; none where every column needs more."""
    rows_of = [np.flatnonzero(np.bitwise_count(widened.bits) == 2) for widened in searches]
    pairs = [(widened, rows) for widened, rows in zip(searches, rows_of, strict=True) if len(rows)]
    if not pairs:
        return ()
    lowest_cost = min(float(widened.columns.usd_per_million[rows].min()) for widened, rows in pairs)
    fastest: tuple[float, _Widened, int] | None = None
    for widened, rows in pairs:
        tied = rows[widened.columns.usd_per_million[rows] <= lowest_cost * (1 + COST_TIE_RTOL)]
        if len(tied):
            row = int(tied[np.argmin(widened.columns.tpot_s[tied])])
            step_s = float(widened.columns.tpot_s[row])
            fastest = (step_s, widened, row) if fastest is None or step_s < fastest[0] else fastest
    if fastest is None:
        return ()
    _, widened, row = fastest
    return _pair_of(widened, row)


def _planned(spec: Spec, changes: tuple[Change, ...], settings: Settings) -> Correction | None:
    result = solve(changed(spec, changes), settings)
    if result.plan is None:
        return None
    if len(changes) > 1:  # the limits of a pair need only allow its plan, the fastest of those that tie
        changes = tuple(_as_used(spec, result, change) for change in changes)
    return Correction(changes=changes, plan=result.plan)


def _as_used(spec: Spec, result: Result, change: Change) -> Change:
    """A change with the value that the plan needs of it; the change itself where it widens the search."""
    plan, name = result.plan, change.requirement
    if plan is None or name not in _adjustable(spec):
        return replace(change, value=plan.batch) if plan and name == SearchRelaxation.MAX_BATCH else change
    if name == Requirement.HBM:
        return _moved(spec, name, plan.hbm_used_fraction)
    used = next(margin.value for margin in result.margins if margin.requirement in {name, change.value})
    return change if used is None else _moved(spec, name, used)


def _moved(spec: Spec, name: str, figure: float) -> Change:
    """The change of a limit that allows a figure; of a constraint the new text."""
    rule = rules_of(spec)[name]
    value: float | int | str = rule.adjusted(figure)
    if rule.kind is Kind.CONSTRAINT:
        value = rule.correction.format(value=value)
    return Change(requirement=name, key=rule.key, value=value, unit=rule.unit)


def _widen(spec: Spec) -> list[_Widened]:
    """Evaluate the widest search, with the interconnect forbidden to bind and paid for.

    The batches at which memory without headroom, or a batch beyond search.max_batch, would bind are included, the
    latter unless constraints need every batch to be tried. For disaggregated plans only limits move: a wider search
    would have too many pairs of pools. Searches with too many plans to tabulate are left out.
    """
    searches = []
    if Mode.DISAGGREGATED in spec.modes and spec.has_network:
        pooled = spec.changed({"search.modes": [Mode.DISAGGREGATED]})
        searches.append(_correctable(spec, evaluate(pooled, enumerate_layouts(pooled, undominated=True)), 0))
    if spec.modes == (Mode.DISAGGREGATED,):
        return searches
    spec = spec.in_one_pool()
    native = () if spec.model.native is None else (spec.model.native.dtype,)
    widest: dict[str, Any] = {
        "search.topologies": {},
        "search.weights": tuple(dict.fromkeys((*spec.weights, *native, *_SUGGESTED_DTYPES))),
        "search.kv_cache": tuple(dict.fromkeys((*spec.kv_cache, *_SUGGESTED_DTYPES))),
        "search.compute": tuple(dict.fromkeys((*spec.compute, *_SUGGESTED_DTYPES))),
    }
    if spec.engine:
        others = [load_engine(name) for name in engine_ids() if name not in spec.engine_ids]
        widest["engine"] = (*spec.engine, *others)
    if spec.engine or spec.search.kv_layouts is not None:
        widest["search.kv_layouts"] = tuple(dict.fromkeys((*spec.kv_layouts, *KvLayout)))
    for ici in (spec.ici, "pay") if spec.forbids_ici else (spec.ici,):
        pay_bit = RELAXATION_BIT[SearchRelaxation.PAY] if ici != spec.ici else 0
        without_headroom: list[dict[str, Any]] = [{"headroom": 0.0}] if spec.kept_free else []
        larger_batches: list[dict[str, Any]] = [{"search.max_batch": MAX_BATCH}] if not need_every_batch(spec) else []
        for breakpoints in ({}, *without_headroom, *larger_batches):
            for chips in _by_slices(spec):
                wider = spec.changed({**widest, **breakpoints, "ici": ici, "search.chips": chips})
                blocks = in_modes_by_block(wider, valid_layouts(wider))
                for block in blocks:
                    with suppress(TooManyPlansError):
                        searches.append(_correctable(spec, evaluate(wider, block), pay_bit))
    return searches


def _by_slices(spec: Spec) -> list[list[Chip]]:
    """The chips of the search, and every other one with a price, in groups that offer SLICES_AT_A_TIME at most."""
    chips = {chip.id: chip for chip in spec.chips}
    chips |= {chip.id: chip for chip in spec.priced_catalogue_chips if chip.id not in chips}
    groups: list[list[Chip]] = [[]]
    slices = 0
    for chip in chips.values():
        if groups[-1] and slices + len(chip.topologies) > SLICES_AT_A_TIME:
            groups.append([])
            slices = 0
        groups[-1].append(chip)
        slices += len(chip.topologies)
    return groups


def _correctable(spec: Spec, columns: Columns, pay_bit: int) -> _Widened:
    """The columns that one or two changes would allow, and that could be chosen; all need the change of `pay_bit`."""
    layouts, hbm = columns.layouts, REQUIREMENT_BIT[Requirement.HBM]
    violates_hbm = ~is_at_most(columns.hbm_used_fraction, 1 - spec.kept_free)  # the columns may have less headroom
    violated = np.where(violates_hbm, columns.violated | hbm, columns.violated & ~hbm)
    fixed = _fixed(spec)
    fixed_in_pool = layouts.serving.violated & (fixed | hbm) != 0
    unknown_quality = (violated & REQUIREMENT_BIT[Requirement.QUALITY] != 0) & ~np.isfinite(
        quality_losses(spec, layouts)
    )
    does_not_fit = columns.hbm_used_fraction > 1 + LIMIT_RTOL
    not_correctable = (violated & fixed != 0) | does_not_fit | fixed_in_pool | unknown_quality
    bits = violated | relaxation_masks(spec, columns) | pay_bit
    correctable = np.flatnonzero(~not_correctable & (np.bitwise_count(bits) <= 2))
    return _choosable(_Widened(spec, columns.take(correctable), bits[correctable]))


def _choosable(widened: _Widened) -> _Widened:
    """The nearest column of each single change; of those with two, all that tie with the cheapest, and the nearest."""
    singles = [
        _nearest_row(widened, kind, rows)
        for kind, bit in _bits(widened.spec).items()
        if len(rows := np.flatnonzero(widened.bits == bit))
    ]
    pairs = np.flatnonzero(np.bitwise_count(widened.bits) == 2)
    usd = widened.columns.usd_per_million[pairs]
    cheapest = pairs[usd <= usd.min(initial=np.inf) * (1 + COST_TIE_RTOL)]
    nearest = [_least_moved(widened, pairs)] if len(pairs) else []
    rows = np.array([*singles, *cheapest, *nearest], dtype=np.int64)
    return _Widened(widened.spec, widened.columns.take(rows), widened.bits[rows])


class _Candidate(NamedTuple):
    """A change, and its distance from the spec: of the limit, then cost and step time."""

    distance: tuple[float, float, float]
    change: Change


def _nearest_row(widened: _Widened, kind: str, rows: Ints) -> int:
    """The column of `rows` that the smallest change of a kind allows; of those that need an equal one, the cheapest."""
    columns, distances = widened.columns, _distances(widened, kind)
    return int(rows[np.lexsort((columns.tpot_s[rows], columns.usd_per_million[rows], distances[rows]))[0]])


def _candidate(widened: _Widened, kind: str, row: int) -> _Candidate:
    """The change of a kind that allows a column, and what it is compared by."""
    columns = widened.columns
    distance = float(_distances(widened, kind)[row])
    order = (distance, float(columns.usd_per_million[row]), float(columns.tpot_s[row]))
    return _Candidate(order, _change(widened, kind, row))


def _distances(widened: _Widened, kind: str) -> Floats:
    """An order of the columns by the size of the change that each needs, smallest first; shape [columns]."""
    columns, layouts = widened.columns, widened.columns.layouts
    if kind in _adjustable(widened.spec):
        figure = _figure(widened, kind)
        return -figure if rules_of(widened.spec)[kind].at_least else figure
    if kind in (SearchRelaxation.WEIGHTS, SearchRelaxation.KV_CACHE, SearchRelaxation.COMPUTE):
        return np.array([-BYTES_PER_VALUE[getattr(choice, kind)] for choice in layouts.dtypes])[layouts.dtype]
    sizes = {SearchRelaxation.TOPOLOGY: columns.chips, SearchRelaxation.MAX_BATCH: columns.batch}
    return np.asarray(sizes.get(SearchRelaxation(kind), np.zeros(len(columns))), dtype=np.float64)


def _figure(widened: _Widened, name: str) -> Floats:
    """The figure of each column that a requirement limits; shape [columns]."""
    figure = rules_of(widened.spec)[name].figure
    if figure is None:
        raise TypeError(f"{name} limits no figure")
    return np.asarray(figure(widened.spec, widened.columns), dtype=np.float64)


def _change(widened: _Widened, kind: str, row: int) -> Change:
    """The change of a kind that allows a column."""
    if kind in _adjustable(widened.spec):
        return _moved(widened.spec, kind, float(_figure(widened, kind)[row]))
    return relaxed_by(kind, widened.columns.assignment(row))
