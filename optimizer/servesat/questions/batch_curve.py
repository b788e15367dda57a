"""The decode step of a layout over the batch: the curves of the scaling book's two figures."""

from dataclasses import dataclass, fields, replace

import numpy as np

from servesat.candidates.engines import usable_bytes
from servesat.candidates.replicas import replica_of
from servesat.core.arrays import Floats, Ints
from servesat.core.plan import Assignment, KvLayout
from servesat.core.tolerances import round_down
from servesat.cost_model.calibrated import Request, step_curve, work_of
from servesat.cost_model.decode import (
    Replica,
    Step,
    decode_step,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
)
from servesat.cost_model.figures_of_merit import bytes_per_active_parameter, critical_batch
from servesat.cost_model.memory import sequences_that_fit
from servesat.cost_model.sharding import kv_batch_shards
from servesat.cost_model.storage import Storage
from servesat.deployment.check.purchase import offer_of
from servesat.replay.step_times import constants_of
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class BatchCurve:
    """The decode step of a layout at a fixed context; arrays of shape [batches]."""

    context_tokens: int
    batch: Ints
    step: Step
    usd_per_chip_hour: float
    step_ms: Floats
    tokens_per_s_per_chip: Floats
    usd_per_million: Floats
    max_batch_in_hbm: int  # below 1 when no sequence fits
    critical_batch: float  # the matmuls are compute-bound from here on


def batch_curve(spec: Spec, assignment: Assignment, max_batch: int) -> BatchCurve:
    """Evaluate a layout at every batch up to `max_batch` that its KV cache sharding divides.

    At smaller batches, which are too few to share out, the KV cache of each sequence is split over the chips instead.
    The batch of the assignment is ignored.
    """
    offer = offer_of(spec, assignment)
    model, replica = spec.model, replica_of(spec, offer.chip, assignment)
    is_batch = assignment.kv_layout is KvLayout.BATCH
    shards = int(kv_batch_shards(model, np.array(replica.tp))) if is_batch else 1
    batch_step = int(replica.ep) * int(replica.pp) * shards
    few, batch = np.arange(1, min(shards, max_batch + 1)), np.arange(batch_step, max_batch + 1, batch_step)
    step = _step(spec, replica, assignment, batch.astype(np.float64))
    if len(few) and batch_step == shards:
        split = replace(assignment, kv_layout=KvLayout.SEQUENCE)
        first = _step(spec, replica_of(spec, offer.chip, split), split, few.astype(np.float64))
        step, batch = _joined(first, len(few), step, len(batch)), np.concatenate([few, batch])
    total_s = np.asarray(step.total_s)
    per_chip = batch / total_s / replica.chips
    weights = replica_weights_bytes(replica)
    stored = Storage(model, spec.int4_group).weights_bytes(assignment.weights)
    kv_per_sequence = replica_kv_bytes(model, spec.workload.held_tokens, replica)
    engine = spec.engine_of(assignment.engine) if assignment.engine else None
    usable = (1 - spec.kept_free) * float(replica.chips) * usable_bytes(spec, offer.chip, engine)
    return BatchCurve(
        context_tokens=spec.workload.held_tokens,
        batch=batch,
        step=step,
        usd_per_chip_hour=offer.usd_per_chip_hour,
        step_ms=total_s * 1e3,
        tokens_per_s_per_chip=per_chip,
        usd_per_million=np.asarray(usd_per_million_tokens(offer.usd_per_chip_hour, per_chip)),
        max_batch_in_hbm=int(round_down(sequences_that_fit(usable, weights, kv_per_sequence))),
        critical_batch=critical_batch(offer.chip, assignment.compute, bytes_per_active_parameter(model, stored)),
    )


def _joined(first: Step, few: int, second: Step, many: int) -> Step:
    """The terms of two runs of batches as those of one."""
    parts = ((getattr(first, field.name), getattr(second, field.name)) for field in fields(Step))
    return Step(*(np.concatenate([np.broadcast_to(one, few), np.broadcast_to(other, many)]) for one, other in parts))


def _step(spec: Spec, replica: Replica, assignment: Assignment, batch: Floats) -> Step:
    """A step by the cost model of the spec; of the calibrated one all that is neither weights nor FLOPs is `rest`."""
    if spec.calibration is None:
        return decode_step(spec.model, spec.workload.read_tokens, replica, batch, pay_ici=spec.pays_ici)
    constants, workload = constants_of(spec, assignment), spec.workload
    request = Request(workload.cached_prompt_tokens, workload.new_prompt_tokens, workload.read_tokens)
    work = work_of(spec.model, replica, request)
    curve = step_curve(work, constants)
    weights_s, flops_s = curve.load_s(batch), batch * curve.flops_s
    kv_s = batch * work.sequence_kv_s / constants.kv_cache
    rest_s = curve.at(batch) - np.maximum(weights_s, flops_s) - kv_s
    return Step(weights_s=weights_s, flops_s=flops_s, ici_s=0.0 * batch, kv_cache_s=kv_s, kv_exchange_s=rest_s)
