"""The replica of a plan, as the cost model takes it: one row of `layouts`, from decisions alone."""

from dataclasses import replace
from math import inf, prod

import numpy as np

from servesat.candidates.engines import window_held
from servesat.catalogue.chip import Chip, axis_sizes
from servesat.core.plan import Assignment, KvLayout
from servesat.cost_model.decode import Replica
from servesat.cost_model.lora import adapters_bytes
from servesat.cost_model.sharding import Sharding, dearest_stage, links_of
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.spec.spec import Spec


def replica_of(spec: Spec, chip: Chip, assignment: Assignment) -> Replica:
    """The replica of an assignment that decodes on a chip of the spec."""
    sizes = axis_sizes(assignment.topology)
    ways = (assignment.tp_axes, assignment.ep_axes, assignment.pp_axes)
    tp, ep, pp = (prod(sizes[axis] for axis in axes) for axes in ways)
    sharding = Sharding(*assignment.sharding)
    links = links_of(chip, assignment.topology, sharding, exact_wraparound=spec.exact_wraparound)
    storage, (window_times, window_slack) = Storage(spec.model, spec.int4_group), window_held(spec, assignment.engine)
    replica = Replica(
        tp=tp,
        ep=ep,
        kv_copied_over=tp if assignment.kv_layout is KvLayout.COPIES else 1,
        kv_split_over=tp if assignment.kv_layout is KvLayout.SEQUENCE else 1,
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_s=storage.flop_per_s(chip.flop_per_s.by_dtype(), assignment.weights, assignment.compute),
        head_flop_per_s=head_flop_per_s(chip),
        tp_bytes_per_s=links.tp_bytes_per_s,
        ep_bytes_per_s=links.ep_bytes_per_s,
        pp=pp,
        pp_bytes_per_s=links.pp_bytes_per_s,
        dearest_stage=float(dearest_stage(spec.model, np.array(pp))),
        weights=storage.weights_over(assignment.weights, tp),
        kv_token_bytes=storage.kv_token_bytes(assignment.kv_cache),
        kv_value_bytes=BYTES_PER_VALUE[assignment.kv_cache],
        drafting=spec.drafting_of(assignment.draft, assignment.draft_tokens, assignment.weights),
        host_bytes_per_s=chip.host_bytes_per_s or inf,
        window_times=window_times,
        window_slack=window_slack,
    )
    return with_adapters(spec, replica)


def with_adapters(spec: Spec, replica: Replica) -> Replica:
    """The replica with the LoRA adapters of a spec in its memory."""
    lora = spec.lora
    if lora is None:
        return replica
    held = adapters_bytes(spec.model, replica, lora.ranks, attention_only=lora.modules == "attention")
    return replace(replica, weights=replace(replica.weights, adapters=held))


def head_flop_per_s(chip: Chip) -> float:
    """The peak of the output head, which stays 16-bit."""
    peaks = chip.flop_per_s.by_dtype()
    return peaks.get("bf16", max(peaks.values()))
