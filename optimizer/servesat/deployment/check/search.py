"""Whether the decisions of a plan are those of the spec's search."""

from dataclasses import fields

from servesat.catalogue.chip import Chip, axis_sizes
from servesat.core.errors import SolverError
from servesat.core.plan import Assignment, KvLayout, Mode, PrefillPool
from servesat.deployment.check.purchase import offer_of
from servesat.spec.offers import Offer
from servesat.spec.spec import Spec


def sides_of(assignment: Assignment) -> tuple[Assignment | PrefillPool, ...]:
    """The slices that decode, and those of the prefill pool where there is one."""
    return (assignment,) if assignment.prefill is None else (assignment, assignment.prefill)


def offer_in_search(spec: Spec, assignment: Assignment) -> Offer:
    """What the chips that decode are rented as. Raises SolverError unless all decisions are those of the search."""
    search, pool = spec.search, assignment.prefill
    sides = sides_of(assignment)
    offers = [offer_of(spec, side) for side in sides]
    chunks = search.chunk_tokens if assignment.mode is Mode.CHUNKED else (None,)
    on_offer = (
        all(_is_searched(spec, offer.chip, side) for offer, side in zip(offers, sides, strict=True))
        and assignment.kv_cache in spec.kv_cache
        and 1 <= assignment.batch <= search.max_batch
        and assignment.mode in spec.modes
        and assignment.chunk_tokens in chunks
        and (assignment.draft is None) == (assignment.draft_tokens == 0)
        and (pool is not None) == (assignment.mode is Mode.DISAGGREGATED)
        and all(side.slices >= 1 for side in sides)
        and (spec.mixes_pools or len({offer.chip.id for offer in offers}) == 1)
    )
    if not on_offer:
        raise SolverError(f"{_said(assignment)} is not on offer in this spec")
    return offers[0]


def _said(side: Assignment | PrefillPool, prefix: str = "") -> str:
    """The decisions of an assignment: `chip = h200, topology = 1x1, … batch = 33`."""
    decided = {field.name: getattr(side, field.name) for field in fields(Assignment if not prefix else PrefillPool)}
    pool = decided.pop("prefill", None)
    said = [f"{prefix}{name} = {value}" for name, value in decided.items() if value is not None]
    return ", ".join(said if pool is None else [*said, _said(pool, "prefill.")])


def _has_a_head_for_each_chip(spec: Spec, side: Assignment | PrefillPool) -> bool:
    """Whether no kind of layer has fewer KV heads than there are tensor-parallel chips."""
    model, sizes, tp = spec.model, axis_sizes(side.topology), 1
    for axis in side.tp_axes:
        tp *= sizes[axis]
    apart = sum(0 if other.beside else other.layers for other in model.other_layers)
    heads = [model.kv_heads] if model.layers > apart else []
    heads += [other.kv_heads for other in model.other_layers if other.kv_heads]
    return tp <= min(heads, default=tp)


def _is_searched(spec: Spec, chip: Chip, side: Assignment | PrefillPool) -> bool:
    """Whether the search has this slice of a chip, these axes and these dtypes."""
    moe, axes = spec.model.moe, side.tp_axes + side.ep_axes + side.pp_axes
    sizes = axis_sizes(side.topology)
    if side.topology not in spec.topologies_of(chip) or any(not 0 <= axis < len(sizes) for axis in axes):
        return False
    groups = 1
    for axis in side.ep_axes:
        groups *= sizes[axis]
    stages = 1
    for axis in side.pp_axes:
        stages *= sizes[axis]
    searched = spec.stages_of(chip.id)
    return (
        (stages <= spec.model.layers if searched is None else stages in searched)
        and all(axis < stage for stage in side.pp_axes for axis in side.tp_axes + side.ep_axes)
        and all(sizes[axis] > 1 for axis in axes)
        and len(set(axes)) == len(axes)
        and (not side.ep_axes or (moe is not None and moe.experts % groups == 0))
        and side.kv_layout in spec.kv_layouts
        and (side.kv_layout is KvLayout.HEADS) == _has_a_head_for_each_chip(spec, side)
        and side.weights in spec.weights
        and side.compute in spec.compute
        and side.compute in chip.flop_per_s.by_dtype()
    )
