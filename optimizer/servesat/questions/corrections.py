"""What would make an infeasible spec feasible: the smallest single change of each kind, or the cheapest pair.

The search is widened to every priced chip, slice and dtype, with the interconnect forbidden to bind and paid for. Each
column then has a bit for every requirement that it violates and for every part of the search that it lies outside of.
A column with one bit is a plan that one change allows; the best such column tells how far that change must go.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, isfinite
from typing import Any, NamedTuple

import numpy as np

from servesat.candidates.columns import Columns, evaluate
from servesat.candidates.layouts import Layouts, lawful_layouts
from servesat.candidates.serving_modes import in_modes
from servesat.core.arrays import Floats, Ints
from servesat.core.errors import SolverError
from servesat.core.result import Change, Correction, Mode, Plan, Requirement
from servesat.core.tolerances import BIT, TIE, TOLERANCE
from servesat.cost_model.decode import replica_kv_bytes, replica_weights_bytes
from servesat.cost_model.memory import BYTES_PER_VALUE
from servesat.cost_model.quantisation_loss import quality_loss
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.spec.search_space import MAX_BATCH
from servesat.spec.spec import Spec


class Opening(StrEnum):
    """A part of the search that could be opened."""

    CHIP = "chip"
    TOPOLOGY = "topology"
    WEIGHTS = "weights"
    KV_CACHE = "kv_cache"
    COMPUTE = "compute"
    MAX_BATCH = "max_batch"
    PAY = "pay"


_OPENING_BIT = {opening: 1 << (len(Requirement) + position) for position, opening in enumerate(Opening)}
_MOVABLE = (
    Requirement.TPOT,
    Requirement.CHIPS,
    Requirement.BUDGET,
    Requirement.THROUGHPUT,
    Requirement.HBM,
    Requirement.TTFT,
    Requirement.E2E,
    Requirement.STALL,
    Requirement.MIN_BATCH,
    Requirement.QUALITY,
)
_FIXED = (
    Requirement.HEADS,
    Requirement.KV_HEADS,
    Requirement.DTYPES,
    Requirement.ICI,
    Requirement.CHUNK,
    Requirement.QUOTA,
)
"""The requirements that no single change moves: rules, and quotas, which other chips get round."""

_SUGGESTED = ("bf16", "fp8", "int8", "int4")
"""The dtypes that a correction may open, beside those of the search and that of the model's own weights."""

_BITS: dict[Requirement | Opening, int] = {
    requirement: int(BIT[requirement]) for requirement in _MOVABLE
} | _OPENING_BIT


@dataclass(frozen=True)
class _Widened:
    """The columns of one widened search that one change or two would allow; arrays of shape [columns]."""

    columns: Columns
    bits: Ints  # of the changes that a column takes
    tokens_per_s: Floats
    headroom: Floats  # the largest that a column allows; negative when it does not fit at all
    loss: Floats  # of quality; infinite where it is not known


def corrections(spec: Spec, settings: Settings) -> tuple[Correction, ...]:
    """Find the smallest change of each kind that alone makes a plan exist, else the cheapest pair of them.

    A limit moves to the first value that allows a plan; a dtype is the widest that does, a slice the smallest, a chip
    the cheapest. Each comes with the best plan under it, proved. Empty when no two changes suffice.
    """
    searches = _widen(spec)
    found = []
    for kind, bit in _BITS.items():
        nearest = [
            _nearest(widened, kind, rows) for widened in searches if len(rows := np.flatnonzero(widened.bits == bit))
        ]
        if nearest:
            found.append((min(nearest, key=lambda one: one.asked).change,))
    return tuple(_planned(spec, changes, settings) for changes in found or _cheapest_pair(searches))


def _cheapest_pair(searches: list[_Widened]) -> list[tuple[Change, ...]]:
    """The two changes that allow the cheapest column that needs two; none where each needs more."""
    rows_of = [np.flatnonzero(np.bitwise_count(widened.bits) == 2) for widened in searches]
    pairs = [(widened, rows) for widened, rows in zip(searches, rows_of, strict=True) if len(rows)]
    if not pairs:
        return []
    least = min(float(widened.columns.usd_per_million[rows].min()) for widened, rows in pairs)
    fastest: tuple[float, _Widened, int] | None = None
    for widened, rows in pairs:
        tied = rows[widened.columns.usd_per_million[rows] <= least * (1 + TIE)]
        if len(tied):
            row = int(tied[np.argmin(widened.columns.step_s[tied])])
            step_s = float(widened.columns.step_s[row])
            fastest = (step_s, widened, row) if fastest is None or step_s < fastest[0] else fastest
    if fastest is None:
        return []
    _, widened, row = fastest
    return [tuple(_change(widened, kind, row) for kind, bit in _BITS.items() if widened.bits[row] & bit)]


def _planned(spec: Spec, changes: tuple[Change, ...], settings: Settings) -> Correction:
    plan = solve(spec.changed(_as_keys(spec, changes)), settings).plan
    if plan is None:
        raise SolverError(f"no plan under the corrections {changes}, though they were taken from one")
    if len(changes) > 1:  # limits of a pair need not go further than its plan, the fastest of those that tie, does
        changes = tuple(replace(change, value=_used(spec, plan, change)) for change in changes)
    return Correction(changes=changes, plan=plan)


def _used(spec: Spec, plan: Plan, change: Change) -> float | int | str:
    """What a plan uses of the limit that a change moves; the change's own value where it opens the search."""
    used: dict[str, float | int | str] = {
        Requirement.TPOT: plan.tpot_ms,
        Requirement.CHIPS: plan.chips,
        Requirement.BUDGET: plan.usd_per_hour,
        Requirement.THROUGHPUT: plan.tokens_per_s,
        Requirement.HBM: max(0.0, 1 - plan.hbm_used_fraction),
        Requirement.TTFT: plan.ttft_ms or 0.0,
        Requirement.E2E: plan.e2e_ms or 0.0,
        Requirement.STALL: plan.stall_ms or 0.0,
        Requirement.MIN_BATCH: plan.batch,
        Requirement.QUALITY: max(
            quality_loss(spec.model, side.weights, plan.kv_cache, side.compute) or 0.0
            for side in (plan, plan.prefill)
            if side is not None
        ),
        Opening.MAX_BATCH: plan.batch,
    }
    return used.get(change.requirement, change.value)


def _widen(spec: Spec) -> list[_Widened]:
    """Evaluate everything that could be searched, under both treatments of the interconnect.

    The breakpoints of the memory without its headroom, and of a larger batch than the search's, are there too. Of
    disaggregated plans only limits may move: their pairs are too many to widen.
    """
    searches = []
    linked = any(offer.chip.network_bytes_per_s for offer in spec.offers)
    if Mode.DISAGGREGATED in spec.modes and linked:
        searches.append(_with_bits(spec, evaluate(spec.changed({"search.modes": [Mode.DISAGGREGATED]})), 0))
    if spec.modes == (Mode.DISAGGREGATED,):
        return searches
    spec = spec.in_one_pool()
    searched = {offer.chip.id for offer in spec.offers}
    others = [chip for chip in spec.priced_catalogue_chips if chip.id not in searched]
    native = () if spec.model.native is None else (spec.model.native.dtype,)
    everything: dict[str, Any] = {
        "search.chips": [*(offer.chip for offer in spec.offers), *others],
        "search.topologies": {},
        "search.weights": tuple(dict.fromkeys((*spec.weights, *native, *_SUGGESTED))),
        "search.kv_cache": tuple(dict.fromkeys((*spec.search.kv_cache, *_SUGGESTED))),
        "search.compute": tuple(dict.fromkeys((*spec.search.compute, *_SUGGESTED))),
    }
    for ici in ("forbid", "pay") if spec.ici == "forbid" else ("pay",):
        paid = _OPENING_BIT[Opening.PAY] if ici != spec.ici else 0
        without_headroom: list[dict[str, Any]] = [{"headroom": 0.0}] if spec.headroom else []
        for breakpoints in ({}, *without_headroom, {"search.max_batch": MAX_BATCH}):
            wide = spec.changed({**everything, **breakpoints, "ici": ici})
            searches.append(_with_bits(spec, evaluate(wide, in_modes(wide, lawful_layouts(wide))), paid))
    return searches


def _with_bits(spec: Spec, columns: Columns, extra: int) -> _Widened:
    """The columns that one change or two would allow, with the bits of those."""
    layouts, search = columns.layouts, spec.search
    searched = {offer.chip.id: set(spec.topologies_of(offer.chip)) for offer in spec.offers}
    outside_place = [
        _OPENING_BIT[Opening.CHIP]
        if place.offer.chip.id not in searched
        else _OPENING_BIT[Opening.TOPOLOGY] * (place.topology not in searched[place.offer.chip.id])
        for place in layouts.places
    ]
    outside_dtypes = [
        _OPENING_BIT[Opening.WEIGHTS] * (dtypes.weights not in spec.weights)
        + _OPENING_BIT[Opening.KV_CACHE] * (dtypes.kv_cache not in search.kv_cache)
        + _OPENING_BIT[Opening.COMPUTE] * (dtypes.compute not in search.compute)
        for dtypes in layouts.dtypes
    ]
    sequence = replica_kv_bytes(spec.model, spec.workload.held_tokens, layouts.replica)
    used = replica_weights_bytes(spec.model, layouts.replica) + columns.batch * sequence
    headroom = np.asarray(1 - used / layouts.replica_hbm_bytes)

    hbm = int(BIT[Requirement.HBM])
    short = (1 - headroom) > (1 - spec.headroom) * (1 + TOLERANCE)  # of the spec's headroom, whichever was evaluated
    violated = np.where(short, columns.violated.astype(np.int64) | hbm, columns.violated & ~np.uint16(hbm))
    fixed = sum(int(BIT[rule]) for rule in _FIXED)
    pool = layouts.serving.violated & (fixed | hbm) != 0  # a prefill pool that no change of a limit would help
    loss = _losses(spec, layouts)
    unknown = (violated & int(BIT[Requirement.QUALITY]) != 0) & ~np.isfinite(loss)
    hopeless = (violated & fixed != 0) | (headroom < -TOLERANCE) | pool | unknown
    bits = violated | np.array(outside_place)[layouts.place] | np.array(outside_dtypes)[layouts.dtype] | extra
    bits |= np.where(columns.batch > search.max_batch, _OPENING_BIT[Opening.MAX_BATCH], 0)
    near = np.flatnonzero(~hopeless & (np.bitwise_count(bits) <= 2))
    return _Widened(
        columns=columns.take(near),
        bits=bits[near],
        tokens_per_s=columns.tokens_per_s[near],
        headroom=np.maximum(headroom[near], 0.0),
        loss=loss[near],
    )


def _losses(spec: Spec, layouts: Layouts) -> Floats:
    """What the dtypes of each layout lose of the model's score; infinite where it is not known."""
    losses = [quality_loss(spec.model, *choice) for choice in layouts.dtypes]
    of_dtype = np.array([np.inf if loss is None else loss for loss in losses])
    pool = layouts.serving.pool_dtype
    return np.where(pool < 0, of_dtype[layouts.dtype], np.maximum(of_dtype[layouts.dtype], of_dtype[pool]))


class _Nearest(NamedTuple):
    """The change that asks least, with how much it asks: of the limit, then of money and time."""

    asked: tuple[float, float, float]
    change: Change


def _nearest(widened: _Widened, kind: Requirement | Opening, rows: Ints) -> _Nearest:
    """Of the columns that one change allows, the one that asks least of it; the cheapest of those."""
    columns = widened.columns
    asked = _asked(widened, kind)
    row = int(rows[np.lexsort((columns.step_s[rows], columns.usd_per_million[rows], asked[rows]))[0]])
    asks = (float(asked[row]), float(columns.usd_per_million[row]), float(columns.step_s[row]))
    return _Nearest(asks, _change(widened, kind, row))


def _asked(widened: _Widened, kind: Requirement | Opening) -> Floats:
    """How much each column asks of a change; the more, the further from the spec; shape [columns]."""
    columns, layouts = widened.columns, widened.columns.layouts
    figures: dict[Requirement | Opening, Floats | Ints] = {
        Requirement.TPOT: columns.step_s,
        Requirement.TTFT: columns.ttft_s,
        Requirement.E2E: columns.e2e_s,
        Requirement.STALL: columns.stall_s,
        Requirement.MIN_BATCH: -columns.batch,
        Requirement.CHIPS: columns.chips,
        Requirement.BUDGET: columns.usd_per_hour,
        Requirement.THROUGHPUT: -widened.tokens_per_s,
        Requirement.HBM: -widened.headroom,
        Requirement.QUALITY: widened.loss,
        Opening.TOPOLOGY: columns.chips,
        Opening.MAX_BATCH: columns.batch,
    }
    if kind in (Opening.WEIGHTS, Opening.KV_CACHE, Opening.COMPUTE):
        return np.array([-BYTES_PER_VALUE[getattr(choice, kind)] for choice in layouts.dtypes])[layouts.dtype]
    return np.asarray(figures.get(kind, np.zeros(len(columns))), dtype=np.float64)


def _change(widened: _Widened, kind: Requirement | Opening, row: int) -> Change:
    """The change of one kind that allows a column."""
    columns = widened.columns
    assignment = columns.assignment(row)
    moved: dict[Requirement | Opening, tuple[str, float | int | str, str]] = {
        Requirement.TPOT: ("slo.tpot_ms", float(columns.step_s[row]) * 1e3, "ms"),
        Requirement.CHIPS: ("search.max_chips", int(columns.chips[row]), "chips"),
        Requirement.BUDGET: ("search.max_usd_per_hour", float(columns.usd_per_hour[row]), "$/h"),
        Requirement.THROUGHPUT: ("slo.min_tokens_per_s", float(widened.tokens_per_s[row]), "tokens/s"),
        Requirement.HBM: ("headroom", float(widened.headroom[row]), ""),
        Requirement.TTFT: ("slo.ttft_ms", float(columns.ttft_s[row]) * 1e3, "ms"),
        Requirement.E2E: ("slo.e2e_ms", float(columns.e2e_s[row]) * 1e3, "ms"),
        Requirement.STALL: ("slo.stall_ms", float(columns.stall_s[row]) * 1e3, "ms"),
        Requirement.MIN_BATCH: ("search.min_batch", int(columns.batch[row]), "sequences"),
        Requirement.QUALITY: ("search.max_quality_loss", _rounded_up(float(widened.loss[row])), ""),
        Opening.CHIP: ("search.chips", assignment.chip, ""),
        Opening.TOPOLOGY: (f"search.topologies.{assignment.chip}", assignment.topology, ""),
        Opening.WEIGHTS: ("search.weights", assignment.weights, ""),
        Opening.KV_CACHE: ("search.kv_cache", assignment.kv_cache, ""),
        Opening.COMPUTE: ("search.compute", assignment.compute, ""),
        Opening.MAX_BATCH: ("search.max_batch", assignment.batch, "sequences"),
        Opening.PAY: ("ici", "pay", ""),
    }
    key, value, unit = moved[kind]
    name = Requirement.ICI if kind is Opening.PAY else kind
    return Change(requirement=str(name), key=key, value=value, unit=unit)


def _rounded_up(loss: float) -> float:
    """A loss with no more digits than it was published with, still large enough; infinite where it is not known."""
    return ceil(loss * 1e6 * (1 - TOLERANCE)) / 1e6 if isfinite(loss) else loss


def _as_keys(spec: Spec, changes: tuple[Change, ...]) -> Mapping[str, Any]:
    """The changes as keys of a spec: limits replaced, entries of the search added."""
    keys: dict[str, Any] = {}
    for change in changes:
        match change.requirement:
            case Opening.CHIP:
                keys[change.key] = [*(offer.chip for offer in spec.offers), change.value]
            case Opening.TOPOLOGY:
                chip = change.key.removeprefix("search.topologies.")
                keys["search.topologies"] = {
                    **spec.search.topologies,
                    chip: (*spec.search.topologies[chip], str(change.value)),
                }
            case Opening.WEIGHTS | Opening.KV_CACHE | Opening.COMPUTE:
                searched = (
                    spec.weights if change.requirement == Opening.WEIGHTS else getattr(spec.search, change.requirement)
                )
                keys[change.key] = (*searched, change.value)
            case _:
                keys[change.key] = change.value
    return keys
