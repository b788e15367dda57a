"""One layout over every batch: the curves behind the chapter's two figures."""

from dataclasses import dataclass, replace

import numpy as np

from servesat.core.arrays import Floats, Ints
from servesat.core.result import Assignment
from servesat.cost_model.decode import (
    Step,
    decode_step,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
)
from servesat.cost_model.figures_of_merit import critical_batch
from servesat.cost_model.memory import BYTES_PER_VALUE, sequences_that_fit
from servesat.deployment.check import rederive, replica_of
from servesat.spec.spec import Spec


@dataclass(frozen=True)
class Sweep:
    """The decode step of one layout at one context; arrays of shape [batches]."""

    context_tokens: int
    batch: Ints
    step: Step
    step_ms: Floats
    tokens_per_s_per_chip: Floats
    usd_per_million: Floats
    fits: int  # largest batch that HBM holds; below 1 when even one sequence does not fit
    critical: float  # batch from which the matmuls are compute-bound


def sweep(spec: Spec, assignment: Assignment, max_batch: int) -> Sweep:
    """Evaluate a layout at every batch up to `max_batch` over which its KV cache splits; its own batch is ignored."""
    offer = next(offer for offer in spec.offers if offer.chip.id == assignment.chip)
    model, replica = spec.model, replica_of(spec, offer.chip, assignment)
    plan, _ = rederive(spec, replace(assignment, batch=1))
    shards = plan.kv_batch_shards
    batch = np.arange(shards, max_batch + 1, shards)
    step = decode_step(model, spec.workload.read_tokens, replica, batch.astype(np.float64), pay_ici=spec.ici == "pay")
    total_s = np.asarray(step.total_s)
    per_chip = batch / total_s / replica.chips
    held = replica_weights_bytes(model, replica)
    sequence = replica_kv_bytes(model, spec.workload.held_tokens, replica)
    usable = (1 - spec.headroom) * float(replica.chips) * offer.chip.hbm_bytes
    return Sweep(
        context_tokens=spec.workload.held_tokens,
        batch=batch,
        step=step,
        step_ms=total_s * 1e3,
        tokens_per_s_per_chip=per_chip,
        usd_per_million=np.asarray(usd_per_million_tokens(offer.usd_per_chip_hour, per_chip)),
        fits=int(np.floor(sequences_that_fit(usable, held, sequence))),
        critical=critical_batch(offer.chip, assignment.compute, BYTES_PER_VALUE[assignment.weights]),
    )
