"""How a plan stands to each requirement of a spec: its value, the limit and the slack, from formulas of its own.

Names, units, limits and their direction are those of the table of requirements; no formula is.
"""

from collections.abc import Callable

from servesat.candidates.requirements import RULES
from servesat.candidates.rule import Requirement
from servesat.catalogue.recovery import published
from servesat.core.plan import Mode, Plan
from servesat.core.result import Margin
from servesat.deployment.check.constraints import constraint_margins
from servesat.deployment.check.engine import (
    activation_bytes,
    cannot_start,
    has_weights,
    loads_whole_blocks,
    runtime_bytes,
)
from servesat.deployment.check.prompt import Prompt, new_tokens
from servesat.deployment.check.replica import CheckedReplica
from servesat.deployment.check.weights import BITS
from servesat.spec.spec import Spec

MET_RTOL = 1e-9
"""A limit missed by less than this share of it is met."""

OF_REPLAYS = frozenset({Requirement.TTFT, Requirement.TPOT, Requirement.E2E})
"""Requirements whose percentiles a replay verifies."""

Pair = tuple[float, float]
"""A value and its limit."""


def margins_of(
    spec: Spec, plan: Plan, prompt: Prompt, replica: CheckedReplica, pool: CheckedReplica | None
) -> tuple[Margin, ...]:
    """The margin of each requirement that the spec makes, in the order of the table, then those of its constraints.

    Where both pools must meet one, the margin of the one that is nearer to its limit.
    """
    sides = [replica] if pool is None else [replica, pool]
    structure = {
        Requirement.HEADS: all(side.divides_heads for side in sides),
        Requirement.KV_HEADS: all(side.splits_kv_heads for side in sides) and plan.batch % replica.batch_multiple == 0,
        Requirement.DTYPES: all(side.computes for side in sides),
        Requirement.BLOCKS: not any(side.cuts_scales for side in sides),
    }
    kept = spec.margins_of(plan.chip, plan.engine)
    figures = {
        Requirement.TPOT: plan.tpot_ms * (1 + kept.tpot),
        Requirement.TTFT: None if plan.ttft_ms is None else plan.ttft_ms * (1 + kept.ttft),
        Requirement.E2E: None if plan.e2e_ms is None else plan.e2e_ms * (1 + kept.tpot),
        Requirement.STALL: plan.stall_ms * (1 + kept.tpot),
        Requirement.CHIPS: float(plan.chips),
        Requirement.INSTANCES: float(plan.instances),
        Requirement.SLICES: float(plan.slices + (0 if plan.prefill is None else plan.prefill.slices)),
        Requirement.BUDGET: plan.usd_per_hour,
        Requirement.THROUGHPUT: plan.tokens_per_s,
        Requirement.MIN_BATCH: float(plan.batch),
        Requirement.CONTEXT: _longest_sequence(spec),
    }
    compared: dict[str, Callable[[], Margin | None]] = {
        Requirement.HBM: lambda: _nearest(Requirement.HBM, _memory(spec, plan, replica, pool)),
        Requirement.ICI: lambda: _nearest(Requirement.ICI, _waits(spec, plan, prompt, replica, pool)),
        Requirement.CHUNK: lambda: _chunk(spec, plan, prompt),
        Requirement.QUOTA: lambda: _quota(spec, plan),
        Requirement.QUALITY: lambda: _quality(spec, plan),
        Requirement.ENGINE: lambda: _engine(spec, plan, sides),
    }
    found = []
    for name, rule in RULES.items():
        if not rule.is_stated(spec) or (spec.percentile is not None and name in OF_REPLAYS):
            continue
        if name in structure:
            margin: Margin | None = Margin(requirement=name, holds=structure[Requirement(name)])
        elif name in compared:
            margin = compared[name]()
        else:
            value, limit = figures[Requirement(name)], rule.limit(spec)
            margin = None if value is None or limit is None else _margin(name, value, float(limit))
        if margin is not None:
            found.append(margin)
    return (*found, *constraint_margins(spec, plan))


def _margin(name: str, value: float, limit: float, unit: str | None = None) -> Margin:
    """The margin of a value; it holds where it is on the right side of the limit, or within MET_RTOL of it."""
    rule = RULES[name]
    slack = value - limit if rule.at_least else limit - value
    within = MET_RTOL * (value if rule.at_least else limit)
    unit = unit or rule.margin_unit or rule.unit
    return Margin(requirement=name, holds=slack >= -within, value=value, limit=limit, slack=slack, unit=unit)


def _nearest(name: str, pairs: list[Pair], units: list[str] | None = None) -> Margin:
    """The margin of the pair whose value is the largest share of its limit: the violated one, or the nearest to it."""
    shares = [value / limit if limit else value * float("inf") if value else 0.0 for value, limit in pairs]
    at = shares.index(max(shares))
    return _margin(name, *pairs[at], unit=units[at] if units else None)


def _longest_sequence(spec: Spec) -> float:
    """Tokens of a sequence at its end: its prompt and its whole answer, or the context stated, if that is longer."""
    workload = spec.workload
    stated = [workload.context_tokens, (workload.prompt_tokens or 0) + (workload.output_tokens or 0)]
    return float(max(tokens for tokens in stated if tokens is not None))


def _memory(spec: Spec, plan: Plan, replica: CheckedReplica, pool: CheckedReplica | None) -> list[Pair]:
    """GB held and usable, of a replica of each pool; one that prefills holds the cache of one prompt."""
    usable = 1 - spec.kept_free
    held = replica.weights_bytes + plan.batch * replica.held_kv_bytes(spec.workload.held_tokens)
    held += plan.runtime_bytes + plan.activation_bytes
    pairs = [(held / 1e9, usable * replica.hbm_bytes / 1e9)]
    if pool is not None:
        engine = next((engine for engine in spec.engine if engine.id == plan.engine), None)
        held = pool.weights_bytes + pool.held_kv_bytes(spec.workload.prompt_tokens or 0)
        held += runtime_bytes(engine, pool) + activation_bytes(engine, pool, 0, spec.workload.new_prompt_tokens)
        pairs.append((held / 1e9, usable * pool.hbm_bytes / 1e9))
    return pairs


def _waits(spec: Spec, plan: Plan, prompt: Prompt, replica: CheckedReplica, pool: CheckedReplica | None) -> list[Pair]:
    """Microseconds on the interconnect, and those that hide them, of every matmul: of a step, and of a whole prompt."""
    matmuls = replica.matmuls((plan.batch * (plan.draft_tokens + 1) + prompt.chunk_tokens) / replica.pp)
    if prompt.s_per_output_token:
        matmuls += replica.matmuls(float(new_tokens(spec)))
    if pool is not None:
        matmuls += pool.matmuls(float(new_tokens(spec)))
    return [(ici_s * 1e6, hidden_s * 1e6) for ici_s, hidden_s in matmuls]


def _chunk(spec: Spec, plan: Plan, prompt: Prompt) -> Margin | None:
    """Prompt tokens that arrive in a step, and those that its chunk takes; None for a plan without chunks."""
    if plan.mode is not Mode.CHUNKED or not prompt.chunk_tokens:
        return None
    arriving = float(plan.batch * new_tokens(spec) / (spec.workload.output_tokens or 1)) * plan.accepted_tokens
    return _margin(Requirement.CHUNK, arriving, prompt.chunk_tokens)


def _quota(spec: Spec, plan: Plan) -> Margin:
    """The chips of the type that is nearest to its quota, in both pools together."""
    taken = dict.fromkeys(spec.search.quota, 0)
    for bill in plan.bills:
        if bill.chip in taken:
            taken[bill.chip] += bill.chips
    pairs = [(float(taken[chip]), float(quota)) for chip, quota in spec.search.quota.items()]
    return _nearest(Requirement.QUOTA, pairs, [f"chips of {chip}" for chip in spec.search.quota])


def _quality(spec: Spec, plan: Plan) -> Margin:
    """The share of its score that the model loses, in the pool that loses more; no value where it is not known."""
    limit, rule = spec.search.max_quality_loss or 0.0, RULES[Requirement.QUALITY]
    sides = [(plan.weights, plan.compute)]
    sides += [] if plan.prefill is None else [(plan.prefill.weights, plan.prefill.compute)]
    kept = [_share_kept(spec, weights, plan.kv_cache, compute) for weights, compute in sides]
    known = [share for share in kept if share is not None]
    if len(known) < len(kept):
        return Margin(requirement=rule.name, holds=False, limit=limit, unit=rule.margin_unit or "")
    return _margin(rule.name, 1 - min(known), limit)


def _engine(spec: Spec, plan: Plan, sides: list[CheckedReplica]) -> Margin:
    """Whether the plan's engine can start it."""
    engine = next(engine for engine in spec.engine if engine.id == plan.engine)
    starts = cannot_start(engine, plan, sides, spec.workload.new_prompt_tokens) is None
    loads = spec.search.weights is not None or all(has_weights(engine, side) for side in sides)
    whole = all(loads_whole_blocks(spec, engine, side) for side in sides)
    return Margin(requirement=Requirement.ENGINE, holds=starts and loads and whole)


def _share_kept(spec: Spec, weights: str, kv_cache: str, compute: str) -> float | None:
    """The published recovery of weights and compute, times that of the KV cache, each at most 1; None if unknown."""
    model, table = spec.model, published()
    native = "bf16" if model.native is None else model.native.dtype
    lossless = (compute == "bf16" and weights in {"bf16", native}) or (weights == native and compute == native)
    of_weights = [1.0] if lossless else []
    if not lossless:
        of_weights = [
            row.recovery
            for row in table.weights
            if model.id in row.models
            and row.weights == weights
            and (row.compute == compute or BITS[row.compute] < BITS[compute])
        ]
    of_cache = [1.0] if kv_cache == "bf16" else []
    for name in (model.id, "*"):
        rows = [row for row in table.kv_cache if row.kv_cache == kv_cache and name in row.models]
        of_cache = of_cache or [row.recovery for row in rows]
    if not of_weights or not of_cache:
        return None
    return min(1.0, max(of_weights)) * min(1.0, max(of_cache))
