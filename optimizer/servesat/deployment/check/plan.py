"""A plan put together again from its decisions alone: every figure, and every margin."""

from dataclasses import asdict, replace
from math import inf
from typing import Any, NamedTuple

from servesat.catalogue.chip import Chip, chips_in
from servesat.catalogue.engine import Engine
from servesat.core.errors import SolverError
from servesat.core.plan import (
    Assignment,
    Bill,
    Cost,
    KvLayout,
    MemoryUse,
    Mode,
    Pace,
    Parallelism,
    Plan,
    PrefillPool,
    RequestFigures,
    StepBreakdown,
)
from servesat.core.result import Margin
from servesat.deployment.check.calibrated import MeasuredReplica
from servesat.deployment.check.drafts import drafted
from servesat.deployment.check.engine import activation_bytes, prompt_tokens_of_step, runtime_bytes, usable_bytes
from servesat.deployment.check.margins import margins_of
from servesat.deployment.check.prompt import Prompt, cached_tokens, new_tokens, prompt_of
from servesat.deployment.check.purchase import bills_of, offer_of
from servesat.deployment.check.purchase import usd_per_hour as usd_per_hour_of
from servesat.deployment.check.replica import CheckedReplica, StepParts
from servesat.deployment.check.search import offer_in_search, sides_of
from servesat.deployment.check.times import Times, times_of
from servesat.spec.lora import STEP_FACTOR
from servesat.spec.offers import Offer
from servesat.spec.spec import Spec

TOO_FEW_RTOL, ENOUGH_RTOL = 2e-9, 5e-10
"""Slices that miss the demand by more than the first are too few; slices that miss it by less than the second meet it.

In between the choice rests on rounding, and either number is accepted.
"""


def rederive(spec: Spec, assignment: Assignment) -> tuple[Plan, tuple[Margin, ...]]:
    """The figures of an assignment, and how it stands to every requirement of the spec, violated or not.

    Raises SolverError when the assignment is not one of the spec's: a chip, slice, axis, dtype, mode or batch not on
    offer, or a number of slices that does not follow from the demand.
    """
    offer = offer_in_search(spec, assignment)
    replica = replica_of(spec, offer.chip, assignment)
    pool = pool_replica_of(spec, assignment)
    prompt = prompt_of(spec, assignment, replica, pool, _networks(spec, assignment))
    times = times_of(spec, assignment, replica, prompt)
    replicas = chips_in(assignment.topology) // replica.chips
    bills = bills_of(spec, assignment)
    tokens_per_s, sold_per_s = _throughput(spec, assignment, prompt, pool, replicas * times.tokens_per_s)
    flow = _Flow(tokens_per_s, sold_per_s, sum(map(usd_per_hour_of, bills)), sum(bill.chips for bill in bills))
    parts = (
        _parallelism(assignment, replica, replicas, flow),
        _memory(spec, assignment, replica),
        _pace(spec, assignment, replica, times, flow),
        _cost(spec, offer, bills, flow),
        _request_figures(spec, assignment, prompt, times, flow),
    )
    decisions = {name: getattr(assignment, name) for name in Assignment.__dataclass_fields__}
    figures = {name: getattr(part, name) for part in parts for name in part.__dataclass_fields__}
    plan = Plan(**decisions, **figures)
    return plan, margins_of(spec, plan, prompt, replica, pool)


class _Flow(NamedTuple):
    """What all slices put out and cost together, and the chips that are paid for."""

    tokens_per_s: float
    sold_tokens_per_s: float
    usd_per_hour: float
    chips: int


def _parallelism(assignment: Assignment, replica: CheckedReplica, replicas: int, flow: _Flow) -> Parallelism:
    return Parallelism(
        tp=replica.tp,
        ep=replica.ep,
        pp=replica.pp,
        replicas=replicas,
        chips=flow.chips,
        kv_batch_shards=replica.batch_multiple,
        kv_replicated=assignment.kv_layout is KvLayout.COPIES,
    )


def _memory(spec: Spec, assignment: Assignment, replica: CheckedReplica) -> MemoryUse:
    batch = float(assignment.batch)
    kv_cache = batch * replica.held_kv_bytes(spec.workload.held_tokens)
    engine = engine_named(spec, assignment.engine)
    runtime = runtime_bytes(engine, replica)
    activations = activation_bytes(engine, replica, batch, prompt_tokens_of_step(spec, assignment, replica.ep))
    return MemoryUse(
        weights_bytes=replica.weights_bytes,
        kv_cache_bytes=kv_cache,
        hbm_bytes=replica.hbm_bytes,
        hbm_used_fraction=(replica.weights_bytes + kv_cache + runtime + activations) / replica.hbm_bytes,
        runtime_bytes=runtime,
        activation_bytes=activations,
        adapter_bytes=replica.adapter_bytes,
        host_bytes=_host_bytes(spec, assignment, replica, kv_cache / batch),
    )


def _host_bytes(spec: Spec, assignment: Assignment, replica: CheckedReplica, sequence_bytes: float) -> float:
    """What hosts keep for each group, as wide as on its chips; of the copies of a latent vLLM keeps a single one."""
    if spec.workload.host_cache is None:
        return 0.0
    engine = engine_named(spec, assignment.engine)
    single = engine is not None and engine.program == "vllm" and spec.model.mla is not None
    copies = replica.tp if single and assignment.kv_layout is KvLayout.COPIES else 1
    return replica.ep * spec.workload.host_cache.tokens * sequence_bytes / spec.workload.held_tokens / copies


def _pace(spec: Spec, assignment: Assignment, replica: CheckedReplica, times: Times, flow: _Flow) -> Pace:
    read_tokens = spec.workload.read_tokens
    return Pace(
        tpot_ms=times.tpot_s * 1e3,
        step_ms=_step_ms(times.step, times.between_s, replica.accepted),
        accepted_tokens=replica.accepted,
        stall_ms=times.stall_s * 1e3,
        tokens_per_s=flow.tokens_per_s,
        tokens_per_s_per_chip=flow.tokens_per_s / flow.chips,
        mfu=replica.mfu(times.tokens_per_s, _prompt_flop(spec, assignment, replica)),
        mbu=replica.mbu(float(assignment.batch), read_tokens, times.tpot_s * times.accepted),
    )


def _cost(spec: Spec, offer: Offer, bills: tuple[Bill, ...], flow: _Flow) -> Cost:
    usd_per_hour, sold_per_hour = flow.usd_per_hour, 3600 * flow.sold_tokens_per_s
    power_kw = _power_kw(spec, bills)
    return Cost(
        usd_per_chip_hour=offer.usd_per_chip_hour,
        usd_per_hour=usd_per_hour,
        usd_per_month=usd_per_hour * 730,
        usd_per_year=usd_per_hour * 8760,
        usd_per_million_output_tokens=usd_per_hour / sold_per_hour * 1e6,
        usd_per_hour_of_chips_used=sum(bill.chips_used * bill.usd_per_chip_hour for bill in bills),
        chips_used=sum(bill.chips_used for bill in bills),
        instances=sum(int(bill.instances or 0) for bill in bills) if spec.buy == "instances" else 0,
        power_kw=power_kw,
        kwh_per_million_output_tokens=None if power_kw is None else power_kw / sold_per_hour * 1e6,
        bills=bills,
    )


def _prompt_flop(spec: Spec, assignment: Assignment, replica: CheckedReplica) -> float:
    """FLOPs of prompts for each output token, on the chips that decode [FLOP]."""
    if assignment.mode in {Mode.DECODE_ONLY, Mode.DISAGGREGATED}:
        return 0.0
    whole = replica.prompt_flop(float(cached_tokens(spec)), float(new_tokens(spec)))
    return whole / (spec.workload.output_tokens or 1)


def replica_of(spec: Spec, chip: Chip, assignment: Assignment) -> CheckedReplica:
    """One replica of an assignment, by the cost model of the spec."""
    engine = engine_named(spec, assignment.engine)
    parts: dict[str, Any] = {
        "model": spec.model,
        "chip": chip,
        "topology": assignment.topology,
        "tp_axes": assignment.tp_axes,
        "ep_axes": assignment.ep_axes,
        "pp_axes": assignment.pp_axes,
        "kv_layout": assignment.kv_layout,
        "weights": assignment.weights,
        "kv_cache": assignment.kv_cache,
        "compute": assignment.compute,
        "int4_group": spec.int4_group,
        "exact_wraparound": spec.exact_wraparound,
        "pays_ici": spec.pays_ici,
        "usable_bytes": usable_bytes(spec, chip, engine),
        "lora": spec.lora,
        "loads_from_host": spec.workload.host_cache is not None,
        "hits_prefixes": spec.workload.prefix_cache_hit + spec.workload.host_hit > 0,
    }
    if engine is not None and spec.model.id in engine.whole_windows:
        parts["windows_kept"] = inf
    elif engine is not None and engine.window_pool_slack is not None:
        twice = 2.0 if parts["hits_prefixes"] else 1.0
        parts |= {"windows_kept": twice, "kept_beyond_windows": engine.window_pool_slack}
    if spec.calibration is None:
        return _with_draft(spec, CheckedReplica(**parts), assignment)
    slowness = 1.0 if spec.lora is None else spec.lora.step_factor or STEP_FACTOR
    return _with_draft(
        spec, MeasuredReplica(**parts, calibration=spec.calibration, engine=engine, slowness=slowness), assignment
    )


def _with_draft(spec: Spec, bare: CheckedReplica, assignment: Assignment) -> CheckedReplica:
    """The replica with the draft of an assignment. Raises SolverError for one that the spec does not have."""
    if assignment.draft is None:
        return bare
    found = [one for one in spec.drafts if (one.draft, one.tokens) == (assignment.draft, assignment.draft_tokens)]
    if not found or bare.pp > 1 or assignment.prefill is not None:
        where = "beside a prefill pool" if assignment.prefill is not None else "in this spec"
        raise SolverError(f"draft = {assignment.draft}, {assignment.draft_tokens} tokens: not on offer {where}")
    return replace(bare, draft=drafted(found[0], bare))


def pool_replica_of(spec: Spec, assignment: Assignment) -> CheckedReplica | None:
    """One replica of the prefill pool, which holds its prompt's cache in the decode pool's dtype."""
    pool = assignment.prefill
    if pool is None:
        return None
    names = ("chip", "topology", "tp_axes", "ep_axes", "pp_axes", "kv_layout", "weights", "compute")
    beside = replace(assignment, **{name: getattr(pool, name) for name in names}, draft=None, draft_tokens=0)
    return replica_of(spec, offer_of(spec, pool).chip, beside)


def engine_named(spec: Spec, name: str | None) -> Engine | None:
    """An engine of the spec. Raises SolverError for another, and for a plan without one where the spec has some."""
    found = [engine for engine in spec.engine if engine.id == name]
    if bool(spec.engine) == (name is None) or (name is not None and not found):
        raise SolverError(f"engine = {name}: not one of the spec's")
    return found[0] if found else None


def _throughput(
    spec: Spec, assignment: Assignment, prompt: Prompt, pool: CheckedReplica | None, slice_tokens_per_s: float
) -> tuple[float, float]:
    """Output tokens/s that all slices can put out, and those that are sold. Raises SolverError for too many slices.

    With a demand the slices of each pool are the fewest that meet it: one less would not, but for rounding. Under
    percentiles there may be more.
    """
    workload = spec.workload
    output_tokens = workload.output_tokens or 0
    able = {"slices": (assignment.slices, slice_tokens_per_s * _counted_on(spec, assignment))}
    if assignment.prefill is not None and pool is not None:
        pool_replicas = chips_in(assignment.prefill.topology) // pool.chips
        fed_per_s = pool_replicas * pool.pp * output_tokens / prompt.prefill_s * _counted_on(spec, assignment.prefill)
        able["prefill.slices"] = (assignment.prefill.slices, fed_per_s)
    tokens_per_s = min(count * each for count, each in able.values())
    if workload.requests_per_s is None:
        return tokens_per_s, spec.utilisation * tokens_per_s
    demanded = workload.requests_per_s * output_tokens
    for name, (count, each) in able.items():
        if count * each * spec.utilisation * (1 + TOO_FEW_RTOL) < demanded:
            raise SolverError(f"{name} = {count}: too few for the demand")
        if spec.percentile is None and (count - 1) * each * spec.utilisation * (1 + ENOUGH_RTOL) >= demanded:
            raise SolverError(f"{name} = {count}: {count - 1} meet the demand")
    return tokens_per_s, demanded


def _counted_on(spec: Spec, pool: Assignment | PrefillPool) -> float:
    """The share of a pool's capacity that is left when spot machines are withdrawn."""
    return spec.spot_capacity if pool.purchase == "spot" else 1.0


def _request_figures(spec: Spec, assignment: Assignment, prompt: Prompt, times: Times, flow: _Flow) -> RequestFigures:
    workload, batch = spec.workload, assignment.batch
    prompt_tokens, output_tokens = workload.prompt_tokens, workload.output_tokens
    if output_tokens is None:
        return RequestFigures()
    held = workload.held_tokens if prompt_tokens is None else prompt_tokens + output_tokens
    demand, ended = workload.requests_per_s, batch * times.accepted / output_tokens
    figures = RequestFigures(
        requests_per_s=flow.tokens_per_s / output_tokens,
        load_fraction=None if demand is None else demand * output_tokens / flow.tokens_per_s,
        sequences_finished_per_step=ended,
        kv_tokens_evicted_per_step=ended * held,
    )
    if assignment.mode is Mode.DECODE_ONLY or prompt_tokens is None:
        return figures
    usd_per_request = flow.usd_per_hour / 3600 * output_tokens / flow.sold_tokens_per_s
    return replace(
        figures,
        prefill_ms=times.prefill_s * 1e3,
        host_load_ms=None if spec.workload.host_cache is None else times.loaded_s * 1e3,
        transfer_ms=None if assignment.prefill is None else prompt.transfer_s * 1e3,
        ttft_ms=times.ttft_s * 1e3,
        e2e_ms=times.e2e_s * 1e3,
        usd_per_request=usd_per_request,
        usd_per_million_input_tokens=usd_per_request * 1e6 / prompt_tokens,
        usd_per_million_tokens=usd_per_request * 1e6 / (prompt_tokens + output_tokens),
    )


def _power_kw(spec: Spec, bills: tuple[Bill, ...]) -> float | None:
    """The rated power of all chips that are paid for, with what a data centre adds [kW]; None where one is unknown."""
    rated = {chip.id: chip.power_w for chip in spec.chips}
    total_w = 0.0
    for bill in bills:
        of_chip = rated[bill.chip]
        if of_chip is None:
            return None
        total_w += bill.chips * of_chip
    return total_w * spec.power.pue / 1000


def _networks(spec: Spec, assignment: Assignment) -> list[float]:
    """What a chip of each pool sends: as fast as it can, or as its instance lets each of its chips [bytes/s]."""
    found = []
    for side in sides_of(assignment):
        offer = offer_of(spec, side)
        network, price = offer.chip.network_bytes_per_s or 0.0, offer.price
        if price is not None and price.instance_chips and price.network_bytes_per_s is not None:
            network = min(network, price.network_bytes_per_s / price.instance_chips)
        found.append(network)
    return found


def _step_ms(step: StepParts, prefill_s: float, accepted: float) -> StepBreakdown:
    """The parts of a step for each of the tokens that it makes."""
    terms = {name.removesuffix("_s"): value * 1e3 / accepted for name, value in asdict(step).items()}
    return StepBreakdown(**terms, prefill=prefill_s * 1e3)
