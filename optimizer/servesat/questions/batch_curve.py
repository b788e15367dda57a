"""The decode step of a layout over the batch: the curves of the scaling book's two figures."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from servesat.candidates.engines import usable_bytes
from servesat.catalogue.chip import Chip, axis_sizes
from servesat.core.arrays import Floats, Ints
from servesat.core.plan import Assignment, KvLayout
from servesat.core.tolerances import round_down
from servesat.cost_model.decode import (
    Replica,
    Step,
    decode_step,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
)
from servesat.cost_model.figures_of_merit import critical_batch
from servesat.cost_model.memory import sequences_that_fit
from servesat.cost_model.sharding import Sharding, kv_batch_shards, links_of
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.deployment.check.purchase import offer_of
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class BatchCurve:
    """The decode step of a layout at a fixed context; arrays of shape [batches]."""

    context_tokens: int
    batch: Ints
    step: Step
    step_ms: Floats
    tokens_per_s_per_chip: Floats
    usd_per_million: Floats
    max_batch_in_hbm: int  # below 1 when no sequence fits
    critical_batch: float  # the matmuls are compute-bound from here on


def batch_curve(spec: Spec, assignment: Assignment, max_batch: int) -> BatchCurve:
    """Evaluate a layout at every batch up to `max_batch` that its KV cache sharding divides.

    The batch of the assignment is ignored.
    """
    offer = offer_of(spec, assignment)
    model, replica = spec.model, _replica(spec, offer.chip, assignment)
    is_batch = assignment.kv_layout is KvLayout.BATCH
    shards = int(kv_batch_shards(model, np.array(replica.tp))) if is_batch else 1
    batch_step = int(replica.ep) * shards
    batch = np.arange(batch_step, max_batch + 1, batch_step)
    step = decode_step(model, spec.workload.read_tokens, replica, batch.astype(np.float64), pay_ici=spec.ici == "pay")
    total_s = np.asarray(step.total_s)
    per_chip = batch / total_s / replica.chips
    weights = replica_weights_bytes(replica)
    kv_per_sequence = replica_kv_bytes(model, spec.workload.held_tokens, replica)
    engine = spec.engine_of(assignment.engine) if assignment.engine else None
    usable = (1 - spec.kept_free) * float(replica.chips) * usable_bytes(spec, offer.chip, engine)
    return BatchCurve(
        context_tokens=spec.workload.held_tokens,
        batch=batch,
        step=step,
        step_ms=total_s * 1e3,
        tokens_per_s_per_chip=per_chip,
        usd_per_million=np.asarray(usd_per_million_tokens(offer.usd_per_chip_hour, per_chip)),
        max_batch_in_hbm=int(round_down(sequences_that_fit(usable, weights, kv_per_sequence))),
        critical_batch=critical_batch(offer.chip, assignment.compute, BYTES_PER_VALUE[assignment.weights]),
    )


def _replica(spec: Spec, chip: Chip, assignment: Assignment) -> Replica:
    """A replica of an assignment, as the cost model takes it."""
    sizes = axis_sizes(assignment.topology)
    tp, ep = (prod(sizes[axis] for axis in axes) for axes in (assignment.tp_axes, assignment.ep_axes))
    sharding = Sharding(*assignment.sharding)
    links = links_of(chip, assignment.topology, sharding, exact_wraparound=spec.wraparound == "exact")
    storage = Storage(spec.model, spec.int4_group)
    stored = storage.weights(assignment.weights)
    return Replica(
        tp=tp,
        ep=ep,
        kv_copied_over=tp if assignment.kv_layout is KvLayout.COPIES else 1,
        kv_split_over=tp if assignment.kv_layout is KvLayout.SEQUENCE else 1,
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_s=chip.flop_per_s.by_dtype()[assignment.compute],
        tp_bytes_per_s=links.tp_bytes_per_s,
        ep_bytes_per_s=links.ep_bytes_per_s,
        weights=replace(stored, experts=stored.experts * storage.expert_padding(assignment.weights, float(tp))),
        kv_token_bytes=storage.kv_token_bytes(assignment.kv_cache),
        kv_value_bytes=BYTES_PER_VALUE[assignment.kv_cache],
    )
