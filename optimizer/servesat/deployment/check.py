"""What a valid plan is, without a solver: every figure and every slack re-derived from the spec and the catalogue."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, prod

from servesat.candidates.layouts import links_of
from servesat.catalogue.chip import Chip, axis_sizes, chips_in
from servesat.catalogue.model import ModelSpec
from servesat.core.errors import SolverError
from servesat.core.result import Assignment, Bill, Margin, Mode, Plan, PrefillPool, Requirement, StepTime
from servesat.core.tolerances import TOLERANCE
from servesat.cost_model.decode import (
    Matmul,
    Replica,
    Step,
    decode_step,
    mlp_matmuls,
    replica_kv_bytes,
    replica_weights_bytes,
    usd_per_million_tokens,
)
from servesat.cost_model.memory import BYTES_PER_VALUE, kv_cache_bytes
from servesat.cost_model.prefill import prompt_flops_s, prompt_s, sequences_finished, tokens_evicted
from servesat.cost_model.quantisation_loss import quality_loss
from servesat.cost_model.sharding import Sharding, split_widths
from servesat.spec.spec import Offer, Spec


def rederive(spec: Spec, assignment: Assignment) -> tuple[Plan, tuple[Margin, ...]]:
    """The figures of an assignment, and how it stands to every requirement of the spec, violated or not.

    Raises SolverError when the assignment is none of the spec's: a chip, slice, axis, dtype, mode or batch not on
    offer, or a number of slices that does not follow from the demand.
    """
    offer = _offer(spec, assignment)
    chip, model, workload = offer.chip, spec.model, spec.workload
    replica = replica_of(spec, chip, assignment)
    tp, ep = int(replica.tp), int(replica.ep)
    replicas = chips_in(assignment.topology) // (tp * ep)
    batch = float(assignment.batch)
    prompt = _prompt(spec, assignment, replica)
    step = decode_step(
        model,
        workload.read_tokens,
        replica,
        batch,
        pay_ici=spec.ici == "pay",
        chunk_tokens=prompt.riding_tokens,
        chunk_s=prompt.riding_s,
    )
    tpot_s = float(step.total_s) + prompt.share_s * batch
    pool, size = assignment.prefill, _deployment(spec, assignment, prompt, replicas * batch / tpot_s)
    weights = float(replica_weights_bytes(model, replica))
    kv_cache = batch * float(replica_kv_bytes(model, workload.held_tokens, replica))
    plan = Plan(
        chip=assignment.chip,
        topology=assignment.topology,
        tp_axes=assignment.tp_axes,
        ep_axes=assignment.ep_axes,
        kv_replicated=assignment.kv_replicated,
        weights=assignment.weights,
        kv_cache=assignment.kv_cache,
        compute=assignment.compute,
        batch=assignment.batch,
        mode=assignment.mode,
        chunk_tokens=assignment.chunk_tokens,
        slices=assignment.slices,
        prefill=pool,
        tp=tp,
        ep=ep,
        replicas=replicas,
        chips=size.chips,
        kv_batch_shards=_batch_shards(model, assignment, replica),
        tpot_ms=tpot_s * 1e3,
        step_ms=_step_ms(step, prompt.share_s * batch),
        tokens_per_s=size.tokens_per_s,
        tokens_per_s_per_chip=size.tokens_per_s / size.chips,
        usd_per_chip_hour=offer.usd_per_chip_hour,
        usd_per_hour=size.usd_per_hour,
        usd_per_million_output_tokens=float(usd_per_million_tokens(size.usd_per_hour, size.sold_tokens_per_s)),
        weights_bytes=weights,
        kv_cache_bytes=kv_cache,
        hbm_bytes=tp * ep * chip.hbm_bytes,
        hbm_used_fraction=(weights + kv_cache) / (tp * ep * chip.hbm_bytes),
        bills=tuple(_bill(spec, side) for side in _sides(assignment)),
        stall_ms=max(float(step.total_s), prompt.pause_s) * 1e3,
        **_request_figures(spec, assignment, prompt, tpot_s, size),
    )
    return plan, _margins(spec, plan, mlp_matmuls(model, replica, batch + prompt.riding_tokens))


@dataclass(frozen=True)
class _Prompt:
    """What prefill does to a plan: its time, and what it adds to the steps of a replica that decodes [s]."""

    prefill_s: float = 0.0
    transfer_s: float = 0.0
    pause_s: float = 0.0  # for sequences that are being decoded
    share_s: float = 0.0  # of each sequence of the batch, for each output token
    riding_tokens: float = 0.0
    riding_s: float = 0.0


@dataclass(frozen=True)
class _Deployment:
    """All slices of a plan together."""

    chips: int
    usd_per_hour: float
    tokens_per_s: float  # that they can put out
    sold_tokens_per_s: float  # that pay for them


def _prompt(spec: Spec, assignment: Assignment, replica: Replica) -> _Prompt:
    workload, chunk = spec.workload, assignment.chunk_tokens
    new, output_tokens = workload.new_prompt_tokens, workload.output_tokens or 1
    if assignment.mode is Mode.DECODE_ONLY:
        return _Prompt()
    if assignment.prefill is not None:
        pool, pool_chip = replica_of_pool(spec, assignment), _chip(spec, assignment.prefill.chip)
        sent = float(kv_cache_bytes(spec.model, workload.prompt_tokens or 0, pool.kv_cache_value_bytes))
        chips = ((pool, pool_chip), (replica, _chip(spec, assignment.chip)))
        slower = min(float(side.chips) * (chip.network_bytes_per_s or 0.0) for side, chip in chips)
        return _Prompt(prefill_s=_prompt_s(spec, pool), transfer_s=sent / slower)
    if chunk is not None and chunk < new:
        whole_s = prompt_flops_s(spec.model, workload.cached_prompt_tokens, new, replica, spec.prefill_mfu)
        return _Prompt(riding_tokens=chunk, riding_s=float(whole_s) * chunk / new)
    prefill_s = _prompt_s(spec, replica)
    return _Prompt(prefill_s=prefill_s, pause_s=prefill_s, share_s=prefill_s / output_tokens)


def _prompt_s(spec: Spec, replica: Replica) -> float:
    cached, new = spec.workload.cached_prompt_tokens, spec.workload.new_prompt_tokens
    return float(prompt_s(spec.model, cached, new, replica, mfu=spec.prefill_mfu, pay_ici=spec.ici == "pay"))


def _deployment(spec: Spec, assignment: Assignment, prompt: _Prompt, slice_tokens_per_s: float) -> _Deployment:
    """Count the chips, dollars and tokens of all slices, and check that they are as many as the demand needs."""
    workload, pool, slices = spec.workload, assignment.prefill, assignment.slices
    output_tokens = workload.output_tokens or 0
    offers = {offer.chip.id: offer.usd_per_chip_hour for offer in spec.offers}
    chips = slices * chips_in(assignment.topology)
    usd_per_hour = chips * offers[assignment.chip]
    tokens_per_s = slices * slice_tokens_per_s
    needed = {"slices": (slices, slice_tokens_per_s)}
    if pool is not None:
        pool_chips = pool.slices * chips_in(pool.topology)
        pool_replicas = chips_in(pool.topology) // _ways(pool.topology, pool.tp_axes + pool.ep_axes)
        fed = pool_replicas * output_tokens / prompt.prefill_s
        chips, usd_per_hour = chips + pool_chips, usd_per_hour + pool_chips * offers[pool.chip]
        tokens_per_s = min(tokens_per_s, pool.slices * fed)
        needed["prefill.slices"] = (pool.slices, fed)
    if workload.requests_per_s is None:
        return _Deployment(chips, usd_per_hour, tokens_per_s, spec.utilisation * tokens_per_s)
    demanded = workload.requests_per_s * output_tokens
    for name, (count, each) in needed.items():
        least = ceil(demanded / (spec.utilisation * each) * (1 - TOLERANCE))
        if count != least:
            raise SolverError(f"{name} = {count}, but {least} meet the demand")
    return _Deployment(chips, usd_per_hour, tokens_per_s, demanded)


def _request_figures(
    spec: Spec, assignment: Assignment, prompt: _Prompt, tpot_s: float, size: _Deployment
) -> dict[str, float]:
    """The figures of whole requests, by the names of a plan; none where the workload has no prompts."""
    workload, batch = spec.workload, assignment.batch
    prompt_tokens, output_tokens = workload.prompt_tokens, workload.output_tokens
    if prompt_tokens is None or output_tokens is None:
        return {}
    figures = {
        "requests_per_s": size.tokens_per_s / output_tokens,
        "sequences_finished_per_step": sequences_finished(batch, output_tokens),
        "kv_tokens_evicted_per_step": tokens_evicted(batch, prompt_tokens, output_tokens),
    }
    if workload.requests_per_s is not None:
        figures["load_fraction"] = workload.requests_per_s * output_tokens / size.tokens_per_s
    if assignment.mode is Mode.DECODE_ONLY:
        return figures
    per_s = size.sold_tokens_per_s / output_tokens
    chunks = ceil(workload.new_prompt_tokens / assignment.chunk_tokens) if prompt.riding_tokens else 0  # type: ignore[operator]
    prefill_s = prompt.prefill_s + chunks * tpot_s
    ttft_s = prefill_s + prompt.transfer_s
    figures |= {
        "prefill_ms": prefill_s * 1e3,
        "ttft_ms": ttft_s * 1e3,
        "e2e_ms": (ttft_s + (output_tokens - 1) * tpot_s) * 1e3,
        "usd_per_request": size.usd_per_hour / 3600 / per_s,
        "usd_per_million_tokens": size.usd_per_hour / 3600 / per_s / (prompt_tokens + output_tokens) * 1e6,
    }
    return figures | ({"transfer_ms": prompt.transfer_s * 1e3} if assignment.prefill is not None else {})


def _bill(spec: Spec, side: Assignment | PrefillPool) -> Bill:
    """What one pool pays for, by its price."""
    offer = next(offer for offer in spec.offers if offer.chip.id == side.chip)
    chips, price = side.slices * chips_in(side.topology), offer.price
    bill = Bill(chip=side.chip, chips=chips, usd_per_chip_hour=offer.usd_per_chip_hour)
    if price is None:
        return bill
    names = ("purchase", "cloud", "region", "instance", "instance_chips", "usd_per_instance_hour", "note")
    instances = None if price.instance_chips is None else chips / price.instance_chips
    return replace(bill, **{name: getattr(price, name) for name in names}, instances=instances)


def _ways(topology: str, axes: tuple[int, ...]) -> int:
    sizes = axis_sizes(topology)
    return prod(sizes[axis] for axis in axes)


def replica_of_pool(spec: Spec, assignment: Assignment) -> Replica:
    """One replica of the prefill pool of a disaggregated assignment."""
    pool = assignment.prefill
    if pool is None:
        raise SolverError(f"{assignment} has no prefill pool")
    names = {name: getattr(pool, name) for name in ("chip", "topology", "tp_axes", "ep_axes", "weights", "compute")}
    return replica_of(spec, _chip(spec, pool.chip), replace(assignment, **names, kv_replicated=False))


def _chip(spec: Spec, chip_id: str) -> Chip:
    return next(offer.chip for offer in spec.offers if offer.chip.id == chip_id)


def _batch_shards(model: ModelSpec, assignment: Assignment, replica: Replica) -> int:
    """The ways that attention splits the batch: over the groups that share experts, and beyond one KV head a chip."""
    tp, ep = int(replica.tp), int(replica.ep)
    beyond = tp > model.kv_heads and tp % model.kv_heads == 0 and not assignment.kv_replicated
    return ep * (tp // model.kv_heads if beyond else 1)


def replica_of(spec: Spec, chip: Chip, assignment: Assignment) -> Replica:
    """One replica of an assignment, as the cost model sees it."""
    tp = _ways(assignment.topology, assignment.tp_axes)
    links = links_of(spec, chip, assignment.topology, Sharding(*assignment.sharding))
    return Replica(
        tp=tp,
        ep=_ways(assignment.topology, assignment.ep_axes),
        kv_copies=tp if assignment.kv_replicated else 1,
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_s=chip.flop_per_s.by_dtype()[assignment.compute],
        tp_bytes_per_s=links.tp_bytes_per_s,
        ep_bytes_per_s=links.ep_bytes_per_s,
        weights_value_bytes=spec.resident_value_bytes(assignment.weights),
        expert_value_bytes=spec.value_bytes(assignment.weights),
        kv_cache_value_bytes=BYTES_PER_VALUE[assignment.kv_cache],
    )


def _offer(spec: Spec, assignment: Assignment) -> Offer:
    search, pool = spec.search, assignment.prefill
    sides = _sides(assignment)
    by_chip = {offer.chip.id: offer for offer in spec.offers}
    chunks = (None,) if assignment.mode is not Mode.CHUNKED else search.chunk_tokens
    on_offer = (
        all(side.chip in by_chip and _machine_on_offer(spec, by_chip[side.chip].chip, side) for side in sides)
        and assignment.kv_cache in search.kv_cache
        and 1 <= assignment.batch <= search.max_batch
        and assignment.mode in spec.modes
        and assignment.chunk_tokens in chunks
        and (pool is not None) == (assignment.mode is Mode.DISAGGREGATED)
        and all(side.slices >= 1 for side in sides)
    )
    if not on_offer:
        raise SolverError(f"{assignment} is not on offer in this spec")
    return by_chip[assignment.chip]


def _sides(assignment: Assignment) -> tuple[Assignment | PrefillPool, ...]:
    """The slices that decode, and those of the prefill pool where there is one."""
    return (assignment,) if assignment.prefill is None else (assignment, assignment.prefill)


def _machine_on_offer(spec: Spec, chip: Chip, side: Assignment | PrefillPool) -> bool:
    """Whether the search has this slice of a chip, these axes and these dtypes."""
    moe, axes = spec.model.moe, side.tp_axes + side.ep_axes
    return (
        side.topology in spec.topologies_of(chip)
        and all(axis_sizes(side.topology)[axis] > 1 for axis in axes)
        and len(set(axes)) == len(axes)
        and (not side.ep_axes or (moe is not None and moe.experts % _ways(side.topology, side.ep_axes) == 0))
        and (not side.sharding[2] or (spec.model.mla is not None and bool(side.tp_axes)))
        and side.weights in spec.weights
        and side.compute in spec.search.compute
        and side.compute in chip.flop_per_s.by_dtype()
    )


def _step_ms(step: Step, prefill_s: float) -> StepTime:
    return StepTime(
        weights=float(step.weights_s) * 1e3,
        flops=float(step.flops_s) * 1e3,
        ici=float(step.ici_s) * 1e3,
        kv_cache=float(step.kv_cache_s) * 1e3,
        prefill=prefill_s * 1e3,
    )


def _margins(spec: Spec, plan: Plan, matmuls: list[Matmul]) -> tuple[Margin, ...]:
    """How a plan stands to each requirement; where both pools must meet one, the margin of the one that is nearer."""
    model, search, workload = spec.model, spec.search, spec.workload
    own = replica_of(spec, _chip(spec, plan.chip), plan)
    usable_gb = (1 - spec.headroom) * plan.hbm_bytes / 1e9
    matmuls = [*matmuls]
    margins = [_at_most(Requirement.HBM, (plan.weights_bytes + plan.kv_cache_bytes) / 1e9, usable_gb, "GB")]
    rules = [_rules(spec, own, plan, plan.batch % plan.kv_batch_shards == 0)]
    if plan.mode is Mode.INTERLEAVED or (plan.mode is Mode.CHUNKED and not _rides(spec, plan)):
        matmuls += mlp_matmuls(model, own, workload.new_prompt_tokens)
    if plan.prefill is not None:
        pool = replica_of_pool(spec, plan)
        held = float(replica_weights_bytes(model, pool) + replica_kv_bytes(model, workload.prompt_tokens or 0, pool))
        pool_gb = (1 - spec.headroom) * float(pool.chips) * _chip(spec, plan.prefill.chip).hbm_bytes / 1e9
        margins = [_nearer(margins[0], _at_most(Requirement.HBM, held / 1e9, pool_gb, "GB"))]
        rules.append(_rules(spec, pool, plan.prefill, True))
        matmuls += mlp_matmuls(model, pool, workload.new_prompt_tokens)
    margins += _time_limits(spec, plan)
    if spec.ici == "forbid":
        waits = ((float(one.ici_s) * 1e6, float(one.hidden_s) * 1e6) for one in matmuls)
        margins.append(reduce(_nearer, (_at_most(Requirement.ICI, *wait, "us a matmul") for wait in waits)))
    for position, requirement in enumerate((Requirement.HEADS, Requirement.KV_HEADS, Requirement.DTYPES)):
        margins.append(Margin(requirement=requirement, holds=all(held[position] for held in rules)))
    margins += _size_limits(spec, plan)
    if search.max_quality_loss is not None:
        margins.append(_quality(spec, plan, search.max_quality_loss))
    if plan.mode is Mode.CHUNKED and _rides(spec, plan):
        arriving = plan.batch * workload.new_prompt_tokens / (workload.output_tokens or 1)
        margins.append(_at_most(Requirement.CHUNK, arriving, float(plan.chunk_tokens or 0), "tokens a step"))
    if search.min_batch is not None:
        margins.append(_at_least(Requirement.MIN_BATCH, float(plan.batch), float(search.min_batch), "sequences"))
    return tuple(margins)


def _quality(spec: Spec, plan: Plan, most: float) -> Margin:
    """The share of its score that the model loses, in the pool that loses more; no value where it is not known."""
    losses = [quality_loss(spec.model, side.weights, plan.kv_cache, side.compute) for side in _sides(plan)]
    known = [loss for loss in losses if loss is not None]
    if len(known) < len(losses):
        return Margin(requirement=Requirement.QUALITY, holds=False, limit=most, unit="of its score")
    return _at_most(Requirement.QUALITY, max(known), most, "of its score")


def _rides(spec: Spec, plan: Plan) -> bool:
    """Whether the chunk of a chunked plan is a part of the prompt, rather than the whole."""
    return plan.chunk_tokens is not None and plan.chunk_tokens < spec.workload.new_prompt_tokens


def _rules(spec: Spec, replica: Replica, side: Assignment | PrefillPool, splits: bool) -> tuple[bool, bool, bool]:
    """Whether one side meets `heads`, `kv_heads` and `dtypes`; `splits`: its batch does where it must."""
    model, tp = spec.model, int(replica.tp)
    even = model.kv_heads % tp == 0 if tp <= model.kv_heads else tp % model.kv_heads == 0
    heads = all(width % tp == 0 for width in split_widths(model))
    return heads, even and splits, spec.computes(side.weights, side.compute)


def _time_limits(spec: Spec, plan: Plan) -> Iterator[Margin]:
    slo = spec.slo
    for requirement, value, limit in (
        (Requirement.TPOT, plan.tpot_ms, slo.tpot_ms),
        (Requirement.TTFT, plan.ttft_ms, slo.ttft_ms),
        (Requirement.E2E, plan.e2e_ms, slo.e2e_ms),
        (Requirement.STALL, plan.stall_ms, slo.stall_ms),
    ):
        if limit is not None and value is not None:
            yield _at_most(requirement, value, limit, "ms")


def _size_limits(spec: Spec, plan: Plan) -> Iterator[Margin]:
    search, slo = spec.search, spec.slo
    if search.max_chips is not None:
        yield _at_most(Requirement.CHIPS, float(plan.chips), float(search.max_chips), "chips")
    if search.max_usd_per_hour is not None:
        yield _at_most(Requirement.BUDGET, plan.usd_per_hour, search.max_usd_per_hour, "$/h")
    if slo.min_tokens_per_s is not None:
        yield _at_least(Requirement.THROUGHPUT, plan.tokens_per_s, slo.min_tokens_per_s, "tokens/s")
    taken: dict[str, int] = {}
    for side in _sides(plan):
        taken[side.chip] = taken.get(side.chip, 0) + side.slices * chips_in(side.topology)
    quotas = [
        _at_most(Requirement.QUOTA, float(taken.get(chip, 0)), float(most), f"chips of {chip}")
        for chip, most in search.quota.items()
    ]
    if quotas:
        yield reduce(_nearer, quotas)


def _nearer(one: Margin, other: Margin) -> Margin:
    """The margin that is violated, or nearer to it, relatively."""
    return max(one, other, key=lambda margin: (margin.value or 0.0) / (margin.limit or 1e-30))


def _at_most(requirement: Requirement, value: float, limit: float, unit: str) -> Margin:
    holds = value <= limit * (1 + TOLERANCE)
    return Margin(requirement=requirement, holds=holds, value=value, limit=limit, slack=limit - value, unit=unit)


def _at_least(requirement: Requirement, value: float, limit: float, unit: str) -> Margin:
    holds = value * (1 + TOLERANCE) >= limit
    return Margin(requirement=requirement, holds=holds, value=value, limit=limit, slack=value - limit, unit=unit)
