"""The batches worth trying: where a requirement starts or stops to hold, and where a cost ties with the cheapest.

In every serving mode the time per output token of a layout is max(load, flops, ici) + kv·B. Each of them grows with B,
or stays, and grows no faster than B, the loading of experts included: so cost per token falls with the batch or stays.
Only the largest batch that a set of requirements allows can be cheapest, and only the smallest one within the tie band
can win the tie. A cost model without this monotonicity must tabulate the batch instead.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from servesat.candidates.layouts import Layouts
from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.result import Requirement
from servesat.core.tolerances import BIT, TIE, TOLERANCE
from servesat.cost_model.decode import decode_step, layers_ici_s, load_parts_s, replica_kv_bytes, replica_weights_bytes
from servesat.cost_model.memory import not_visited, sequences_that_fit
from servesat.cost_model.step_curve import Line, Load, StepShape, hidden_tokens
from servesat.spec.spec import Spec


def breakpoints(spec: Spec, layouts: Layouts) -> Ints:
    """The batches at which a requirement starts or stops to hold, as legal multiples; shape [layouts, breakpoints].

    Entries below 1 or above max_batch are none.
    """
    clip = spec.search.max_batch + 1.0
    with np.errstate(divide="ignore"):
        upper, lower = [limit for _, limit in _upper(spec, layouts)], list(_lower(spec, layouts))
    highest = np.floor(np.clip(np.column_stack([*upper, np.full(len(layouts), clip - 1)]), 0.0, clip)).astype(np.int64)
    lowest = np.ceil(np.clip(np.column_stack(lower), 0.0, clip)).astype(np.int64)
    multiple = layouts.batch_shards[:, None]
    # `lowest` itself stands for dropping `kv_heads`, its next multiple for keeping it.
    return np.column_stack([highest // multiple * multiple, lowest, -(-lowest // multiple) * multiple])


def largest_batch(spec: Spec, layouts: Layouts, relaxed: int) -> Ints:
    """The largest legal batch within every limit that sets one, but for those relaxed; 0 where there is none."""
    with np.errstate(divide="ignore"):
        limits = [limit for requirement, limit in _upper(spec, layouts) if not relaxed & int(BIT[requirement])]
    largest = np.minimum(np.min(limits, axis=0, initial=np.inf), spec.search.max_batch)
    multiple = layouts.batch_shards
    legal: Ints = np.floor(np.maximum(largest, 0.0)).astype(np.int64) // multiple * multiple
    least = 1 if relaxed & int(BIT[Requirement.MIN_BATCH]) else spec.search.min_batch or 1
    return legal * (legal >= least)


def tie_breakpoints(spec: Spec, layouts: Layouts, cheapest: float, relaxed: int) -> Ints:
    """The smallest legal batch of each layout whose cost ties with the cheapest column; shape [layouts, 1].

    Cost is flat beyond the critical batch, nearly so where the KV cache dominates, and steps down with the number of
    slices that a demand needs: of the batches that tie, the smallest is the fastest.
    """
    if not np.isfinite(cheapest):
        return np.zeros((len(layouts), 1), dtype=np.int64)
    with np.errstate(divide="ignore"):
        needed = _tokens_that_tie(spec, layouts, cheapest * (1 + TIE))
        if spec.slo.min_tokens_per_s is not None and not relaxed & int(BIT[Requirement.THROUGHPUT]):
            needed = np.maximum(needed, spec.slo.min_tokens_per_s / (1 + TOLERANCE) / layouts.serving.slices)
        least = step_shape(spec, layouts).least_batch_for(needed / layouts.replicas)
    least = np.maximum(least, spec.search.min_batch or 1)
    least = np.ceil(np.clip(least, 1.0, spec.search.max_batch + 1.0)).astype(np.int64)
    multiple = layouts.batch_shards
    tied: Ints = -(-least // multiple) * multiple
    return tied[:, None]


def _tokens_that_tie(spec: Spec, layouts: Layouts, usd_per_million: float) -> Floats:
    """Output tokens/s of one slice at which a layout costs so much; infinite where it cannot."""
    serving, demand = layouts.serving, spec.workload.requests_per_s
    pool_usd = serving.pool_total_usd_per_hour
    if demand is not None:
        per_hour = usd_per_million * demand * (spec.workload.output_tokens or 0) * 3600 / 1e6
        return _tokens_for(spec, np.floor((per_hour - pool_usd) / layouts.usd_per_hour))
    usd = serving.slices * layouts.usd_per_hour + pool_usd
    tokens = usd / 3600 * 1e6 / usd_per_million / spec.utilisation
    return np.where(serving.fed_tokens_per_s >= tokens, tokens / serving.slices, np.inf)


def _tokens_for(spec: Spec, slices: Floats) -> Floats:
    """Output tokens/s that one slice must put out for so many to meet the demand; infinite for less than one."""
    demanded = (spec.workload.requests_per_s or 0.0) * (spec.workload.output_tokens or 0) / spec.utilisation
    return np.where(slices >= 1, demanded / (1 + TOLERANCE) / np.maximum(slices, 1.0), np.inf)


def step_shape(spec: Spec, layouts: Layouts) -> StepShape:
    """The time per output token of each layout, as a function of the batch."""
    serving, pay_ici = layouts.serving, spec.ici == "pay"
    one = decode_step(spec.model, spec.workload.read_tokens, layouts.replica, np.ones(len(layouts)), pay_ici=pay_ici)
    riding_ici_s = layers_ici_s(spec.model, layouts.replica, serving.riding_tokens) if pay_ici else 0.0 * one.ici_s
    return StepShape(
        load=Load(*load_parts_s(spec.model, layouts.replica), not_visited(spec.model), serving.riding_tokens),
        flops=Line(serving.riding_s, one.flops_s),
        ici=Line(riding_ici_s, one.ici_s),
        kv_s=one.kv_cache_s + serving.share_s,
    )


def _upper(spec: Spec, layouts: Layouts) -> Iterator[tuple[Requirement, Floats]]:
    """The largest batch that each requirement allows, not rounded; shape [layouts] each.

    The interconnect sets none where the FLOPs hide it at any batch.
    """
    model, serving, slo, workload = spec.model, layouts.serving, spec.slo, spec.workload
    shape = step_shape(spec, layouts)
    room = (1 - spec.headroom) * layouts.replica_hbm_bytes * (1 + TOLERANCE)
    sequence = replica_kv_bytes(model, workload.held_tokens, layouts.replica)
    weights = replica_weights_bytes(model, layouts.replica)
    yield Requirement.HBM, np.asarray(sequences_that_fit(room, weights, sequence))
    if slo.tpot_ms is not None:
        yield Requirement.TPOT, np.asarray(shape.largest_batch_within(_seconds(slo.tpot_ms)))
    if slo.ttft_ms is not None:
        in_chunks = serving.first_token_steps > 0
        limit_s = (_seconds(slo.ttft_ms) - serving.first_token_s) / np.maximum(serving.first_token_steps, 1.0)
        yield Requirement.TTFT, np.where(in_chunks, shape.largest_batch_within(limit_s), np.inf)
    if slo.e2e_ms is not None:
        steps = serving.first_token_steps + (workload.output_tokens or 0) - 1
        limit_s = (_seconds(slo.e2e_ms) - serving.first_token_s) / np.maximum(steps, 1.0)
        first_alone = np.where(limit_s >= 0, np.inf, 0.0)  # with one token to a request, no batch delays its end
        yield Requirement.E2E, np.where(steps > 0, shape.largest_batch_within(limit_s), first_alone)
    if slo.stall_ms is not None:
        step = replace(shape, kv_s=shape.kv_s - serving.share_s)
        yield Requirement.STALL, np.asarray(step.largest_batch_within(_seconds(slo.stall_ms)))
    if spec.ici == "forbid":
        hidden = np.asarray(hidden_tokens(model, layouts.replica, TOLERANCE))
        yield Requirement.ICI, hidden - serving.riding_tokens
    if np.any(serving.riding_tokens):
        fed = serving.riding_tokens * (workload.output_tokens or 0) / max(workload.new_prompt_tokens, 1e-9)
        yield Requirement.CHUNK, np.where(serving.riding_tokens > 0, fed * (1 + TOLERANCE), np.inf)


def _lower(spec: Spec, layouts: Layouts) -> Iterator[Floats]:
    """The least batch that each requirement allows, not rounded; shape [layouts] each."""
    serving, search, slo = layouts.serving, spec.search, spec.slo
    yield np.ones(len(layouts))
    if search.min_batch is not None:
        yield np.full(len(layouts), float(search.min_batch))
    shape = step_shape(spec, layouts)
    if slo.min_tokens_per_s is not None:
        needed = slo.min_tokens_per_s / (1 + TOLERANCE) / serving.slices
        yield np.asarray(shape.least_batch_for(needed / layouts.replicas))
    if spec.workload.requests_per_s is None:
        return
    allowed = []
    if search.max_chips is not None:
        allowed.append((search.max_chips - serving.pool_total_chips) / layouts.chips)
    if search.max_usd_per_hour is not None:
        budget = search.max_usd_per_hour * (1 + TOLERANCE)
        allowed.append((budget - serving.pool_total_usd_per_hour) / layouts.usd_per_hour)
    for chip, most in search.quota.items():
        here, pool = of_chip(layouts, chip)
        left = most - np.where(pool, serving.pool_total_chips, 0)
        allowed.append(np.where(here, left / layouts.chips, np.inf))
    for slices in allowed:
        yield np.asarray(shape.least_batch_for(_tokens_for(spec, np.floor(slices)) / layouts.replicas))


def of_chip(layouts: Layouts, chip: str) -> tuple[Bools, Bools]:
    """Which layouts decode on a chip, and which have their prefill pool on it."""
    is_it = np.array([place.offer.chip.id == chip for place in layouts.places], dtype=np.bool_)
    pool = layouts.serving.pool_place
    return is_it[layouts.place], is_it[pool] & (pool >= 0)


def _seconds(limit_ms: float) -> float:
    """A limit as it is compared: one missed by less than the tolerance is met [s]."""
    return limit_ms / 1e3 * (1 + TOLERANCE)
