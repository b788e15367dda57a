"""The formulas behind the table of requirements: which columns violate one, and how it bounds batches and slices."""

from dataclasses import replace
from math import ceil, isfinite

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.layouts import Layouts, on_chip, quality_losses
from servesat.candidates.purchases import SharedLimit
from servesat.catalogue.model import TensorGroup
from servesat.core.arrays import Bools, Floats
from servesat.core.tolerances import LIMIT_RTOL, is_at_most
from servesat.cost_model.decode import replica_kv_bytes, replica_weights_bytes, waits_for_ici
from servesat.cost_model.memory import sequences_that_fit
from servesat.cost_model.sharding import kv_heads_split, scales_divide
from servesat.cost_model.step_curve import StepTime, hidden_tokens
from servesat.cost_model.storage import Storage
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


def splits_kv_heads_unevenly(spec: Spec, columns: Columns) -> Bools:
    """Whether the KV cache of a column does not split evenly over its shards (`kv_heads`)."""
    layouts = columns.layouts
    return ~kv_heads_split(spec.model, layouts.tp, columns.batch, layouts.batch_shards)


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


def batch_within_hbm(spec: Spec, layouts: Layouts, _: StepTime) -> Floats:
    """The largest batch whose KV cache fits beside the weights: ((1 - headroom) · Y · M - weights) / sequence bytes."""
    room = (1 - spec.headroom) * layouts.replica_hbm_bytes * (1 + LIMIT_RTOL)
    sequence = replica_kv_bytes(spec.model, spec.workload.held_tokens, layouts.replica)
    return np.asarray(sequences_that_fit(room, replica_weights_bytes(layouts.replica), sequence))


def batch_within_tpot(spec: Spec, _: Layouts, curve: StepTime) -> Floats:
    """The largest batch whose time per output token is within `slo.tpot_ms`."""
    return np.asarray(curve.largest_batch_within(_seconds(spec.slo.tpot_ms)))


def batch_within_ttft(spec: Spec, layouts: Layouts, curve: StepTime) -> Floats:
    """The largest batch whose first token is in time; infinite where no decode step precedes it."""
    serving = layouts.serving
    limit_s = (_seconds(spec.slo.ttft_ms) - serving.first_token_s) / np.maximum(serving.first_token_steps, 1.0)
    return np.where(serving.first_token_steps > 0, curve.largest_batch_within(limit_s), np.inf)


def batch_within_e2e(spec: Spec, layouts: Layouts, curve: StepTime) -> Floats:
    """The largest batch whose last token is in time: the steps of the first token, and G - 1 more."""
    serving = layouts.serving
    steps = serving.first_token_steps + (spec.workload.output_tokens or 0) - 1
    limit_s = (_seconds(spec.slo.e2e_ms) - serving.first_token_s) / np.maximum(steps, 1.0)
    first_alone = np.where(limit_s >= 0, np.inf, 0.0)  # with one token to a request, no batch delays its end
    return np.where(steps > 0, curve.largest_batch_within(limit_s), first_alone)


def batch_within_stall(spec: Spec, layouts: Layouts, curve: StepTime) -> Floats:
    """The largest batch whose step alone, without prefill, is within `slo.stall_ms`."""
    step = replace(curve, kv_s=curve.kv_s - layouts.serving.prefill_s_per_output_token)
    return np.asarray(step.largest_batch_within(_seconds(spec.slo.stall_ms)))


def batch_hiding_ici(spec: Spec, layouts: Layouts, _: StepTime) -> Floats:
    """The largest batch whose matmuls hide the interconnect, the tokens of a chunk counted; infinite where all do."""
    hidden = np.asarray(hidden_tokens(spec.model, layouts.replica, LIMIT_RTOL))
    return hidden - layouts.serving.chunk_tokens_per_step


def batch_fed_by_chunks(spec: Spec, layouts: Layouts, _: StepTime) -> Floats:
    """The largest batch that chunks keep up with: c · G / (new tokens of a prompt); infinite without chunks."""
    chunk, workload = layouts.serving.chunk_tokens_per_step, spec.workload
    fed = chunk * (workload.output_tokens or 0) / max(workload.new_prompt_tokens, 1e-9)
    return np.where(chunk > 0, fed * (1 + LIMIT_RTOL), np.inf)


def batch_for_throughput(spec: Spec, layouts: Layouts, curve: StepTime) -> Floats:
    """The smallest batch at which all slices put out `slo.min_tokens_per_s`."""
    needed = (spec.slo.min_tokens_per_s or 0.0) / (1 + LIMIT_RTOL) / layouts.serving.slices
    return np.asarray(curve.smallest_batch_for(needed / layouts.counted_replicas))


def outruns_its_chunks(spec: Spec, columns: Columns) -> Bools:
    """Whether prompts arrive faster than chunks take them: B · (new tokens) / G > c."""
    chunk = columns.layouts.serving.chunk_tokens_per_step
    arriving = columns.batch * spec.workload.new_prompt_tokens / (spec.workload.output_tokens or 1)
    return (chunk > 0) & ~is_at_most(arriving, chunk)


def steps_wait_for_ici(spec: Spec, columns: Columns) -> Bools:
    """Whether an MLP matmul of a step waits for the interconnect, the tokens of a chunk counted."""
    layouts = columns.layouts
    tokens = columns.batch + layouts.serving.chunk_tokens_per_step
    return waits_for_ici(spec.model, layouts.replica, tokens, LIMIT_RTOL)


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
