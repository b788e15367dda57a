"""The formulas behind the table of requirements: which columns violate one, and how it bounds batches and slices."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import ceil, isfinite

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.engine_memory import activation_terms_bytes, runtime_bytes, step_prompt_tokens
from servesat.candidates.engines import cuts_checkpoint, draft_kind, makes_weights
from servesat.candidates.layouts import KV_LAYOUTS, MODES, Layouts, on_chip, quality_losses
from servesat.candidates.purchases import SharedLimit
from servesat.candidates.step_times import ReplicaTimes
from servesat.catalogue.chip import Chip
from servesat.catalogue.engine import LOADED_SHARE, Engine
from servesat.catalogue.model import TensorGroup
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.plan import KvLayout, Mode
from servesat.core.tolerances import LIMIT_RTOL, is_at_most
from servesat.cost_model.decode import replica_kv_bytes, replica_weights_bytes, waits_for_ici
from servesat.cost_model.memory import sequences_that_fit
from servesat.cost_model.sharding import fills_rows, heads_divide, kv_heads_split, scales_divide
from servesat.cost_model.speculation import NO_DRAFT
from servesat.cost_model.step_curve import hidden_tokens
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.spec.spec import Spec


def weights_wider_than_compute(spec: Spec, layouts: Layouts) -> Bools:
    """Whether the weights are wider than the dtype of the matmuls (requirement `dtypes`)."""
    storage = Storage(spec.model, spec.int4_group)
    wider = [not storage.fits_compute(choice.weights, choice.compute) for choice in layouts.dtypes]
    return np.array(wider, dtype=np.bool_)[layouts.dtype]


def shares_scales(spec: Spec) -> bool:
    """Whether some weights of the search share a scale in groups that tensor parallelism must not cut."""
    storage = Storage(spec.model, spec.int4_group)
    return any(storage.scale_group(group, weights) > 1 for weights in spec.weights for group in TensorGroup)


def cuts_scales(spec: Spec, layouts: Layouts) -> Bools:
    """Whether tensor parallelism cuts a group of weights that share a scale (requirement `blocks`)."""
    storage, cut = Storage(spec.model, spec.int4_group), np.zeros(len(layouts), dtype=np.bool_)
    for weights in {choice.weights for choice in layouts.dtypes}:
        of_it = np.array([choice.weights == weights for choice in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
        cut[of_it] = ~scales_divide(storage, weights, layouts.tp[of_it])
    return cut


def cuts_heads(spec: Spec, layouts: Layouts) -> Bools:
    """Whether tensor parallelism cuts heads or MLPs of the model, or of another that drafts for it (`heads`)."""
    cut: Bools = ~heads_divide(spec.model, layouts.tp)
    for draft in {one.draft: one.model for one in spec.drafts if one.model is not None}.values():
        of_it = np.array([choice.draft == draft.id for choice in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
        whole = heads_divide(draft, layouts.tp) & kv_heads_split(
            draft, layouts.tp, layouts.tp, np.ones_like(layouts.tp)
        )
        cut |= of_it & ~whole
    return cut


def splits_kv_heads_unevenly(spec: Spec, columns: Columns) -> Bools:
    """Whether the KV cache of a column does not split evenly over its shards (`kv_heads`)."""
    layouts = columns.layouts
    return ~kv_heads_split(spec.model, layouts.tp, columns.batch, layouts.batch_shards)


def asks_of_engine(spec: Spec) -> bool:
    """Whether a spec has engines, so that plans must be among what they run."""
    return bool(spec.engine)


def not_run_by_engine(spec: Spec, layouts: Layouts) -> Bools:
    """Whether the engine of a layout does not run its dtypes on its chip, or does not split a model so (`engine`)."""
    if not spec.engine:
        return np.zeros(len(layouts), dtype=np.bool_)
    chips = {place.offer.chip.id: place.offer.chip for place in layouts.places}
    position = {chip: at for at, chip in enumerate(chips)}
    chip = np.array([position[place.offer.chip.id] for place in layouts.places])[layouts.place]
    violated = ~layouts.runs
    node_chips = np.array([each.node_chips or np.inf for each in chips.values()])[chip]
    several_nodes = layouts.replica.chips > node_chips
    spread, staged = np.asarray(layouts.replica.ep) > 1, np.asarray(layouts.replica.pp) > 1
    in_groups = spread & (layouts.tp > 1)
    apart = np.array([place.sharding.groups_are_apart for place in layouts.places], dtype=np.bool_)[layouts.place]
    splits = layouts.kv_layout == KV_LAYOUTS.index(KvLayout.SEQUENCE)
    for engine in spec.engine:
        here = _of_engine(layouts, engine)
        had = np.array([layout in engine.layouts_of(spec.model) for layout in KV_LAYOUTS], dtype=np.bool_)
        breaks = apart | ~had[layouts.kv_layout] | (splits & ~_of_kv_caches(layouts, engine.split_kv_cache))
        if engine.experts != "any":
            breaks |= in_groups if engine.experts == "data_parallel" else spread
        if engine.nodes == "one":
            breaks |= several_nodes
        if spec.lora is not None:
            breaks |= in_groups if engine.serves_adapters(spec.model) else here
        if spec.workload.host_cache is not None:
            breaks |= splits if engine.host_cache else here
        if not engine.models_draft_in_groups:
            breaks |= spread & _of_draft_models(layouts)
        breaks |= splits & ~np.array([engine.splits_on(spec.model, name) for name in chips], dtype=np.bool_)[chip]
        if engine.kv_row_bytes is not None:
            rows = np.flatnonzero(here)
            devices = np.array([each.devices for each in chips.values()])[chip[rows]]
            breaks[rows] |= ~_fills_rows(spec, layouts, engine, rows, devices)
        if engine.quantises_whole:
            breaks |= _overflows_while_loading(spec, layouts, engine, chips, chip)
        if engine.pipelines != "any":
            breaks |= staged if engine.pipelines == "none" else staged & spread
        breaks |= spread & _keeps_experts_together(spec, layouts, engine, list(chips), chip)
        breaks |= _loads_no_checkpoint(spec, layouts, engine, list(chips), chip)
        violated = violated | (here & breaks)
    return violated


def _keeps_experts_together(spec: Spec, layouts: Layouts, engine: Engine, chips: Sequence[str], chip: Ints) -> Bools:
    """Whether the engine runs experts in a layout's weights on one group of chips alone; `chip` is among `chips`."""
    together = np.zeros(len(layouts), dtype=np.bool_)
    for weights in spec.weights:
        of_chips = [engine.weights_for(spec.model, name).get(weights) for name in chips]
        kept = np.array([one is not None and one.experts == "together" for one in of_chips], dtype=np.bool_)
        if kept.any():
            of_it = np.array([choice.weights == weights for choice in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
            together |= of_it & kept[chip]
    return together


def _loads_no_checkpoint(spec: Spec, layouts: Layouts, engine: Engine, chips: Sequence[str], chip: Ints) -> Bools:
    """Whether the only checkpoint of a layout's weights is one that its chips would cut; `chip` is among `chips`.

    Weights that the spec lists are its own, int4 where it states an `int4_group`.
    """
    cut = np.zeros(len(layouts), dtype=np.bool_)
    for weights in map(str, spec.model.checkpoint_blocks):
        is_stated = (spec.int4_group if weights == "int4" else spec.search.weights) is not None
        if is_stated or engine.has_own_checkpoint(spec.model, weights):
            continue
        of_it = np.array([choice.weights == weights for choice in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
        made = np.array([makes_weights(engine, spec.model, name, weights) for name in chips], dtype=np.bool_)
        cut |= of_it & ~made[chip] & cuts_checkpoint(spec.model, weights, layouts.tp)
    return cut


def _fills_rows(spec: Spec, layouts: Layouts, engine: Engine, rows: Ints, devices: Ints) -> Bools:
    """Whether the KV cache of some rows of layouts fills the rows of their engine's; `devices` of each one's chip."""
    dtypes, tp, kv_layout = layouts.dtypes, layouts.tp[rows], layouts.kv_layout[rows]
    code = (layouts.dtype[rows] * len(KV_LAYOUTS) + kv_layout) * (1 + int(devices.max(initial=0))) + devices
    _, first, kind = np.unique(code * (1 + int(tp.max(initial=0))) + tp, return_index=True, return_inverse=True)
    fills = [
        fills_rows(
            spec.model,
            engine.kv_row_bytes,
            KV_LAYOUTS[kv_layout[at]],
            int(tp[at]),
            devices=int(devices[at]),
            value_bytes=BYTES_PER_VALUE[dtypes[layouts.dtype[rows[at]]].kv_cache],
        )
        for at in first.tolist()
    ]
    return np.array(fills, dtype=np.bool_)[kind]


def _overflows_while_loading(
    spec: Spec, layouts: Layouts, engine: Engine, chips: Mapping[str, Chip], chip: Ints
) -> Bools:
    """Whether the 16-bit weights that an engine quantises itself do not fit in the memory of a layout's chips."""
    quantised = np.zeros(len(layouts), dtype=np.bool_)
    for weights in spec.weights:
        of_it = np.array([choice.weights == weights for choice in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
        made = np.array([makes_weights(engine, spec.model, name, weights) for name in chips], dtype=np.bool_)
        is_made = np.full(len(layouts), engine.checkpoint_of(spec.model, weights) is None)
        if not engine.has_own_checkpoint(spec.model, weights):
            is_made |= cuts_checkpoint(spec.model, weights, layouts.tp)
        quantised |= of_it & made[chip] & is_made
    before = replace(layouts.replica, weights=Storage(spec.model).weights("bf16"), drafting=NO_DRAFT)
    memory = np.array([each.usable_hbm_bytes or each.hbm_bytes for each in chips.values()])[chip]
    return quantised & ~is_at_most(replica_weights_bytes(before), layouts.replica.chips * memory * LOADED_SHARE)


def not_moved_by_engine(spec: Spec, layouts: Layouts) -> Bools:
    """Whether an engine does not move a layout's KV cache between pools (`engine`); from stages none is searched."""
    stays = (np.asarray(layouts.replica.pp) > 1) & bool(spec.engine)
    for engine in spec.engine:
        moved = np.array([layout in engine.layouts_of(spec.model, pools=True) for layout in KV_LAYOUTS], dtype=np.bool_)
        moves = Mode.DISAGGREGATED in engine.modes_for(spec.workload.new_prompt_tokens)
        stays |= _of_engine(layouts, engine) & ~(moved[layouts.kv_layout] & moves)
    return stays


def splits_as_no_prefill(spec: Spec, layouts: Layouts) -> Bools:
    """Whether a layout splits sequences as its engine does in no pool that prefills."""
    splits = np.zeros(len(layouts), dtype=np.bool_)
    for engine in spec.engine:
        if engine.disaggregation is not None and not engine.disaggregation.prefill_splits:
            splits |= _of_engine(layouts, engine) & (layouts.kv_layout == KV_LAYOUTS.index(KvLayout.SEQUENCE))
    return splits


def outside_engine(spec: Spec, columns: Columns) -> Bools:
    """Whether the engine of a column does not run it, in its serving mode (`engine`)."""
    layouts = columns.layouts
    mode = layouts.serving.mode
    violated = not_run_by_engine(spec, layouts)
    violated |= (mode == MODES.index(Mode.DISAGGREGATED)) & not_moved_by_engine(spec, layouts)
    for engine in spec.engine:
        has = np.array([each in engine.modes_for(spec.workload.new_prompt_tokens) for each in MODES], dtype=np.bool_)
        breaks = ~has[mode]
        if not engine.drafts_beside_chunks:
            breaks |= (mode == MODES.index(Mode.CHUNKED)) & (np.asarray(layouts.replica.drafting.tokens) > 0)
        if engine.chunk_unit is not None:
            in_group = layouts.serving.chunk / layouts.replica.ep
            breaks |= (layouts.serving.chunk_tokens_per_step > 0) & (in_group % engine.chunk_unit > 0)
        violated |= _of_engine(layouts, engine) & breaks
    return violated


def _of_engine(layouts: Layouts, engine: Engine) -> Bools:
    of_it: Bools = np.array([choice.engine == engine.id for choice in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
    return of_it


def _of_draft_models(layouts: Layouts) -> Bools:
    by_model = [draft_kind(choice.draft) == "model" for choice in layouts.dtypes]
    in_it: Bools = np.array(by_model, dtype=np.bool_)[layouts.dtype]
    return in_it


def _of_kv_caches(layouts: Layouts, kv_caches: Collection[str]) -> Bools:
    in_it: Bools = np.array([c.kv_cache in kv_caches for c in layouts.dtypes], dtype=np.bool_)[layouts.dtype]
    return in_it


def exceeds_quality_loss(spec: Spec, layouts: Layouts) -> Bools:
    """Whether the dtypes lose more of the model's score than the spec allows, or by an unknown amount (`quality`)."""
    return ~is_at_most(quality_losses(spec, layouts), spec.search.max_quality_loss or 0.0)


def tokens_per_s_to_meet_demand(spec: Spec, slices: Floats) -> Floats:
    """Output tokens/s that each of these slices must serve to meet the demand; infinite for less than one slice."""
    demanded = (spec.workload.requests_per_s or 0.0) * (spec.workload.output_tokens or 0) / spec.utilisation
    return np.where(slices >= 1, demanded / (1 + LIMIT_RTOL) / np.maximum(slices, 1.0), np.inf)


def _seconds(limit_ms: float | None) -> float:
    """A limit in ms, with the tolerance under which it is met; infinite where there is none [s]."""
    return np.inf if limit_ms is None else limit_ms / 1e3 * (1 + LIMIT_RTOL)


def batch_within_hbm(spec: Spec, layouts: Layouts, _: ReplicaTimes) -> Floats:
    """The largest batch whose KV cache fits beside the weights: ((1 - headroom) · Y · M - weights) / sequence bytes.

    Under an engine beside its runtime, and beside either term of its activations, both of which grow with the batch.
    """
    room = (1 - spec.kept_free) * layouts.replica_hbm_bytes * (1 + LIMIT_RTOL)
    sequence = replica_kv_bytes(spec.model, spec.workload.held_tokens, layouts.replica)
    weights = replica_weights_bytes(layouts.replica)
    if not spec.engine:
        return np.asarray(sequences_that_fit(room, weights, sequence))
    prompt_tokens, zero = step_prompt_tokens(spec, layouts), np.zeros(len(layouts))
    without = activation_terms_bytes(spec, layouts, zero, prompt_tokens)
    with_one = activation_terms_bytes(spec, layouts, zero + 1, prompt_tokens)
    held = weights + runtime_bytes(spec, layouts)
    within = [
        np.asarray(sequences_that_fit(room, held + fixed, sequence + (one - fixed)))
        for fixed, one in zip(without, with_one, strict=True)
    ]
    batch: Floats = np.minimum(*within)
    return batch


def batch_within_tpot(spec: Spec, layouts: Layouts, times: ReplicaTimes) -> Floats:
    """The largest batch whose time per output token is within `slo.tpot_ms`."""
    return times.largest_batch_within_tpot(_seconds(spec.slo.tpot_ms) / (1 + layouts.tpot_margin))


def batch_within_ttft(spec: Spec, layouts: Layouts, times: ReplicaTimes) -> Floats:
    """The largest batch whose first token is within `slo.ttft_ms`."""
    return times.largest_batch_within_ttft(_seconds(spec.slo.ttft_ms) / (1 + layouts.ttft_margin))


def batch_within_e2e(spec: Spec, layouts: Layouts, times: ReplicaTimes) -> Floats:
    """The largest batch whose last token is within `slo.e2e_ms`."""
    return times.largest_batch_within_e2e(_seconds(spec.slo.e2e_ms) / (1 + layouts.tpot_margin))


def batch_within_stall(spec: Spec, layouts: Layouts, times: ReplicaTimes) -> Floats:
    """The largest batch whose pauses are within `slo.stall_ms`."""
    return times.largest_batch_within_stall(_seconds(spec.slo.stall_ms) / (1 + layouts.tpot_margin))


def batch_hiding_ici(spec: Spec, layouts: Layouts, _: ReplicaTimes) -> Floats:
    """The largest batch whose matmuls hide the interconnect, the tokens of a chunk counted; infinite where all do."""
    hidden = np.asarray(hidden_tokens(spec.model, layouts.replica, LIMIT_RTOL) * layouts.replica.pp)
    return np.asarray((hidden - layouts.serving.chunk_tokens_per_step) / layouts.replica.drafting.verified)


def batch_fed_by_chunks(spec: Spec, layouts: Layouts, _: ReplicaTimes) -> Floats:
    """The largest batch that chunks keep up with: pp · c · G / (A · new tokens of a prompt); infinite without."""
    chunk, workload = layouts.serving.chunk_tokens_per_step, spec.workload
    fed = chunk * (workload.output_tokens or 0) / max(workload.new_prompt_tokens, 1e-9)
    fed = fed / layouts.replica.drafting.accepted
    return np.where(chunk > 0, fed * (1 + LIMIT_RTOL), np.inf)


def batch_for_throughput(spec: Spec, layouts: Layouts, times: ReplicaTimes) -> Floats:
    """The smallest batch at which all slices put out `slo.min_tokens_per_s`."""
    needed = (spec.slo.min_tokens_per_s or 0.0) / (1 + LIMIT_RTOL) / layouts.serving.slices
    return times.smallest_batch_for(needed / layouts.counted_replicas)


def outruns_its_chunks(spec: Spec, columns: Columns) -> Bools:
    """Whether prompts arrive faster than chunks take them: B · A · (new tokens) / G > pp · c."""
    chunk = columns.layouts.serving.chunk_tokens_per_step
    arriving = columns.batch * spec.workload.new_prompt_tokens / (spec.workload.output_tokens or 1)
    arriving = arriving * columns.layouts.replica.drafting.accepted
    return (chunk > 0) & ~is_at_most(arriving, chunk)


def steps_wait_for_ici(spec: Spec, columns: Columns) -> Bools:
    """Whether an MLP matmul of a step waits for the interconnect, the tokens of a chunk counted."""
    layouts = columns.layouts
    tokens = columns.batch * layouts.replica.drafting.verified + layouts.serving.chunk_tokens_per_step
    return waits_for_ici(spec.model, layouts.replica, tokens / layouts.replica.pp, LIMIT_RTOL)


def exceeds_quota(spec: Spec, columns: Columns) -> Bools:
    """Whether a plan takes more chips of some type than its quota."""
    layouts = columns.layouts
    over = np.zeros(len(columns), dtype=np.bool_)
    for limit in chips_of_quotas(spec, layouts):
        over |= limit.is_exceeded_by(columns.slices, layouts.serving.pool_slices)
    return over


def chips_of_quotas(spec: Spec, layouts: Layouts) -> list[SharedLimit]:
    """The chips of each quota that a unit of each pool takes."""
    purchase, limits = layouts.purchase, []
    for chip, quota in spec.search.quota.items():
        decodes, prefills = on_chip(layouts, chip)
        of_units = np.where(decodes, purchase.units.chips, 0), np.where(prefills, purchase.pool.chips, 0)
        limits.append(SharedLimit(quota, *of_units, purchase))
    return limits


def chips_in_all(spec: Spec, layouts: Layouts) -> list[SharedLimit]:
    """`search.max_chips`, and the chips that a unit of each pool takes of it."""
    limit, purchase = spec.search.max_chips, layouts.purchase
    return [] if limit is None else [SharedLimit(limit, purchase.units.chips, purchase.pool.chips, purchase)]


def instances_in_all(spec: Spec, layouts: Layouts) -> list[SharedLimit]:
    """`search.max_instances`, and the instances of a unit of each pool."""
    limit, purchase = spec.search.max_instances, layouts.purchase
    return [] if limit is None else [SharedLimit(limit, purchase.units.instances, purchase.pool.instances, purchase)]


def slices_in_all(spec: Spec, layouts: Layouts) -> list[SharedLimit]:
    """`search.max_slices`, of which each slice takes one."""
    limit, purchase = spec.search.max_slices, layouts.purchase.by_slice()
    return [] if limit is None else [SharedLimit(limit, purchase.units.slices, purchase.pool.slices, purchase)]


def dollars_in_all(spec: Spec, layouts: Layouts) -> list[SharedLimit]:
    """`search.max_usd_per_hour`, and the dollars an hour that a unit of each pool takes of it."""
    limit, purchase = spec.search.max_usd_per_hour, layouts.purchase
    usd = purchase.units.usd_per_hour, purchase.pool.usd_per_hour
    return [] if limit is None else [SharedLimit(limit, *usd, purchase)]


def rounded_up_loss(loss: float) -> float:
    """A loss with no more digits than it was published with, still large enough; infinite where it is not known."""
    return ceil(loss * 1e6 * (1 - LIMIT_RTOL)) / 1e6 if isfinite(loss) else loss
