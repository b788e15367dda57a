"""What a valid plan is, without a solver: every figure and every slack re-derived from the spec and the catalogue."""

from math import prod

from servesat.candidates import TOLERANCE
from servesat.catalogue import Chip, axis_sizes, chips_in
from servesat.collectives import tensor_parallel_bytes_per_s
from servesat.errors import SolverError
from servesat.latency import Matmul, Replica, Step, decode_step, mlp_matmul, usd_per_million_tokens
from servesat.memory import BYTES_PER_VALUE, kv_cache_bytes, weights_bytes
from servesat.plan import Assignment, Margin, Plan, Requirement, StepTime
from servesat.spec import Offer, Spec


def rederive(spec: Spec, assignment: Assignment) -> tuple[Plan, tuple[Margin, ...]]:
    """The figures of an assignment, and how it stands to every requirement of the spec, violated or not.

    Raises SolverError when the assignment is none of the spec's: a chip, slice, axis, dtype or batch not on offer.
    """
    offer = _offer(spec, assignment)
    chip, model = offer.chip, spec.model
    replica = replica_of(chip, assignment)
    tp = int(replica.tp)
    chips = chips_in(assignment.topology)
    replicas = chips // tp
    batch = float(assignment.batch)
    step = decode_step(model, spec.workload.kv_tokens, replica, batch, pay_ici=spec.ici == "pay")
    tokens_per_s = replicas * batch / float(step.total_s)
    usd_per_hour = offer.usd_per_chip_hour * chips
    weights = float(weights_bytes(model, replica.weights_value_bytes))
    kv_cache = batch * float(kv_cache_bytes(model, spec.workload.kv_tokens, replica.kv_cache_value_bytes))
    plan = Plan(
        chip=assignment.chip,
        topology=assignment.topology,
        tp_axes=assignment.tp_axes,
        weights=assignment.weights,
        kv_cache=assignment.kv_cache,
        compute=assignment.compute,
        batch=assignment.batch,
        tp=tp,
        replicas=replicas,
        chips=chips,
        kv_batch_shards=tp // model.kv_heads if tp > model.kv_heads and tp % model.kv_heads == 0 else 1,
        tpot_ms=float(step.total_s) * 1e3,
        step_ms=_step_ms(step),
        tokens_per_s=tokens_per_s,
        tokens_per_s_per_chip=tokens_per_s / chips,
        usd_per_chip_hour=offer.usd_per_chip_hour,
        usd_per_hour=usd_per_hour,
        usd_per_million_output_tokens=float(usd_per_million_tokens(usd_per_hour, tokens_per_s)),
        weights_bytes=weights,
        kv_cache_bytes=kv_cache,
        hbm_bytes=tp * chip.hbm_bytes,
        hbm_used_fraction=(weights + kv_cache) / (tp * chip.hbm_bytes),
    )
    return plan, _margins(spec, plan, mlp_matmul(model, replica, batch))


def replica_of(chip: Chip, assignment: Assignment) -> Replica:
    """One replica of an assignment, as the cost model sees it."""
    sizes = axis_sizes(assignment.topology)
    return Replica(
        tp=prod(sizes[axis] for axis in assignment.tp_axes),
        hbm_bytes_per_s=chip.hbm_bytes_per_s,
        flop_per_s=chip.flop_per_s.by_dtype()[assignment.compute],
        tp_bytes_per_s=tensor_parallel_bytes_per_s([chip.axes[axis].bytes_per_s for axis in assignment.tp_axes]),
        weights_value_bytes=BYTES_PER_VALUE[assignment.weights],
        kv_cache_value_bytes=BYTES_PER_VALUE[assignment.kv_cache],
    )


def _offer(spec: Spec, assignment: Assignment) -> Offer:
    for offer in spec.offers:
        chip, search = offer.chip, spec.search
        if chip.id == assignment.chip:
            on_offer = (
                assignment.topology in spec.topologies_of(chip)
                and all(axis_sizes(assignment.topology)[axis] > 1 for axis in assignment.tp_axes)
                and len(set(assignment.tp_axes)) == len(assignment.tp_axes)
                and assignment.weights in search.weights
                and assignment.kv_cache in search.kv_cache
                and assignment.compute in search.compute
                and assignment.compute in chip.flop_per_s.by_dtype()
                and 1 <= assignment.batch <= search.max_batch
            )
            if on_offer:
                return offer
    raise SolverError(f"{assignment} is not on offer in this spec")


def _step_ms(step: Step) -> StepTime:
    return StepTime(
        weights=float(step.weights_s) * 1e3,
        flops=float(step.flops_s) * 1e3,
        ici=float(step.ici_s) * 1e3,
        kv_cache=float(step.kv_cache_s) * 1e3,
    )


def _margins(spec: Spec, plan: Plan, matmul: Matmul) -> tuple[Margin, ...]:
    model, slo, search = spec.model, spec.slo, spec.search
    usable_gb = (1 - spec.headroom) * plan.hbm_bytes / 1e9
    fits = BYTES_PER_VALUE[plan.weights] <= BYTES_PER_VALUE[plan.compute]
    splits = (
        model.kv_heads % plan.tp == 0
        if plan.tp <= model.kv_heads
        else plan.tp % model.kv_heads == 0 and plan.batch % plan.kv_batch_shards == 0
    )
    margins = [_at_most(Requirement.HBM, (plan.weights_bytes + plan.kv_cache_bytes) / 1e9, usable_gb, "GB")]
    if slo.tpot_ms is not None:
        margins.append(_at_most(Requirement.TPOT, plan.tpot_ms, slo.tpot_ms, "ms"))
    if spec.ici == "forbid":
        margins.append(
            _at_most(Requirement.ICI, float(matmul.ici_s) * 1e6, float(matmul.hidden_s) * 1e6, "us a matmul")
        )
    margins += [
        Margin(requirement=Requirement.HEADS, holds=model.query_heads % plan.tp == 0 and model.d_ff % plan.tp == 0),
        Margin(requirement=Requirement.KV_HEADS, holds=splits),
        Margin(requirement=Requirement.DTYPES, holds=fits),
    ]
    if search.max_chips is not None:
        margins.append(_at_most(Requirement.CHIPS, float(plan.chips), float(search.max_chips), "chips"))
    if search.max_usd_per_hour is not None:
        margins.append(_at_most(Requirement.BUDGET, plan.usd_per_hour, search.max_usd_per_hour, "$/h"))
    if slo.min_tokens_per_s is not None:
        margins.append(_at_least(Requirement.THROUGHPUT, plan.tokens_per_s, slo.min_tokens_per_s, "tokens/s"))
    return tuple(margins)


def _at_most(requirement: Requirement, value: float, limit: float, unit: str) -> Margin:
    holds = value <= limit * (1 + TOLERANCE)
    return Margin(requirement=requirement, holds=holds, value=value, limit=limit, slack=limit - value, unit=unit)


def _at_least(requirement: Requirement, value: float, limit: float, unit: str) -> Margin:
    holds = value * (1 + TOLERANCE) >= limit
    return Margin(requirement=requirement, holds=holds, value=value, limit=limit, slack=value - limit, unit=unit)
