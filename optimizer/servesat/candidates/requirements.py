"""The table of requirements: what a plan must satisfy, how it limits the batch, and how it is worded and relaxed.

A requirement is one entry of RULES. The violation masks, the breakpoints of the batch, conflicts, corrections, the cost
of limits, the margins of `check`, certificates and the reports all read this table. CONTRIBUTING.md shows how to add an
entry; docs/cost-model.md has every formula.
"""

from dataclasses import replace

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.constraints import Values, constant_of, constraint_bits, numbers, satisfied
from servesat.candidates.layouts import Layouts, quality_losses
from servesat.candidates.requirement_formulas import (
    asks_of_engine,
    batch_fed_by_chunks,
    batch_for_throughput,
    batch_hiding_ici,
    batch_within_e2e,
    batch_within_hbm,
    batch_within_stall,
    batch_within_tpot,
    batch_within_ttft,
    chips_in_all,
    chips_of_quotas,
    cuts_heads,
    cuts_scales,
    dollars_in_all,
    exceeds_quota,
    instances_in_all,
    not_run_by_engine,
    outruns_its_chunks,
    outside_engine,
    rounded_up_loss,
    shares_scales,
    slices_in_all,
    splits_kv_heads_unevenly,
    steps_wait_for_ici,
    weights_wider_than_compute,
)
from servesat.candidates.rule import REQUIREMENT_BIT, Kind, Requirement, Rule
from servesat.core.arrays import Ints
from servesat.core.plan import Mode
from servesat.core.tolerances import LIMIT_RTOL, round_to_loose_side
from servesat.cost_model.decode import waits_for_ici
from servesat.cost_model.sharding import kv_heads_split
from servesat.spec.expressions import Bound, Expression, limit_in
from servesat.spec.spec import Spec


def rules_of(spec: Spec) -> dict[str, Rule]:
    """Every requirement of a spec by its name: those of the table, then its constraints, named by their texts."""
    return {**RULES, **{one.text: _constraint(one, at) for at, one in enumerate(spec.expressions)}}


def bits_of(spec: Spec) -> dict[str, int]:
    """The bit of each requirement of a spec in a violation mask, by name."""
    return {**REQUIREMENT_BIT, **constraint_bits(spec)}


def _constraint(expression: Expression, position: int) -> Rule:
    """A constraint as a requirement; one that holds a figure to a limit can be relaxed."""
    said = expression.text.replace("{", "{{").replace("}", "}}")
    rule = Rule(
        name=expression.text,
        kind=Kind.CONSTRAINT,
        key=f"constraints.{position}",
        stated=lambda _: True,
        violated=lambda spec, columns: ~satisfied(spec, expression, Values(columns.layouts, columns.batch, columns)),
        text=said,
    )
    bound = limit_in(expression)
    if bound is None:
        return rule
    return replace(
        rule,
        at_least=bound.at_least,
        figure=lambda spec, columns: numbers(spec, bound.term, Values(columns.layouts, columns.batch, columns)),
        limit_of=lambda spec: float(constant_of(spec, bound.limit)),
        correction=f"{bound.said} {{value}}",
        adjusted=lambda figure: _writable(figure, bound),
    )


def _writable(figure: float, bound: Bound) -> float | int:
    """A figure as a limit that allows it: a whole number where it is one."""
    limit = round_to_loose_side(figure, at_least=bound.at_least)
    return int(limit) if limit.is_integer() else limit


def violations(spec: Spec, columns: Columns, among: int = -1) -> Ints:
    """Which requirements, `among` those of a mask, each column violates, as a bit mask; shape [columns]."""
    mask, bits = columns.layouts.serving.violated & among, bits_of(spec)
    for name, rule in rules_of(spec).items():
        if bits[name] & among and rule.is_stated(spec):
            mask |= np.where(rule.is_violated(spec, columns), bits[name], 0)
    return mask


def structural_violations(spec: Spec, layouts: Layouts) -> Ints:
    """The bits of the structural requirements that each layout violates at any batch; shape [layouts]."""
    shards = layouts.batch_shards
    violated = {
        Requirement.HEADS: cuts_heads(spec, layouts),
        Requirement.KV_HEADS: ~kv_heads_split(spec.model, layouts.tp, shards, shards),
        Requirement.DTYPES: weights_wider_than_compute(spec, layouts),
        Requirement.BLOCKS: cuts_scales(spec, layouts),
        Requirement.ENGINE: not_run_by_engine(spec, layouts),
    }
    return sum((np.where(rows, REQUIREMENT_BIT[name], 0) for name, rows in violated.items()), np.zeros_like(shards))


def prefill_violations(spec: Spec, layouts: Layouts) -> Ints:
    """The bit of `ici` where prefill, a matmul over all new tokens of a prompt, waits for the interconnect."""
    if not spec.forbids_ici:
        return np.zeros(len(layouts), dtype=np.int64)
    tokens = np.full(len(layouts), spec.workload.new_prompt_tokens)
    waits = waits_for_ici(spec.model, layouts.replica, tokens, LIMIT_RTOL)
    return np.where(waits, REQUIREMENT_BIT[Requirement.ICI], 0)


_RULES = (
    Rule(
        name=Requirement.HBM,
        kind=Kind.HARDWARE,
        key="headroom",
        margin_unit="GB",
        usable_share=True,
        limit_of=lambda spec: 1 - spec.kept_free,
        figure=lambda _, columns: columns.hbm_used_fraction,
        largest_batch=batch_within_hbm,
        text="hbm (at most {limit:.0%} of memory used)",
        correction="headroom of {down}",
        adjusted=lambda used: max(0.0, 1 - used),
        upgrade="more memory",
    ),
    Rule(
        name=Requirement.TPOT,
        kind=Kind.SERVICE_LEVEL,
        key="slo.tpot_ms",
        unit="ms",
        figure=lambda _, columns: columns.tpot_s * 1e3 * (1 + columns.layouts.tpot_margin),
        largest_batch=batch_within_tpot,
        text="tpot ≤ {limit:g} ms",
        correction="tpot up to {up} ms",
    ),
    Rule(
        name=Requirement.ICI,
        kind=Kind.HARDWARE,
        margin_unit="us a matmul",
        stated=lambda spec: spec.forbids_ici and (spec.model.dense_layers > 0 or spec.model.moe is not None),
        violated=steps_wait_for_ici,
        largest_batch=batch_hiding_ici,
        text="ici (matmuls must not wait for the interconnect)",
        upgrade="a faster interconnect",
    ),
    Rule(
        name=Requirement.HEADS,
        kind=Kind.STRUCTURE,
        stated=lambda _: True,
        violated=lambda spec, columns: cuts_heads(spec, columns.layouts),
        text="heads (the shards must divide the query heads and d_ff)",
    ),
    Rule(
        name=Requirement.KV_HEADS,
        kind=Kind.STRUCTURE,
        stated=lambda _: True,
        violated=splits_kv_heads_unevenly,
        text="kv_heads (the KV cache must split evenly)",
    ),
    Rule(
        name=Requirement.DTYPES,
        kind=Kind.STRUCTURE,
        stated=lambda _: True,
        violated=lambda spec, columns: weights_wider_than_compute(spec, columns.layouts),
        text="dtypes (weights no wider than the compute dtype)",
    ),
    Rule(
        name=Requirement.BLOCKS,
        kind=Kind.STRUCTURE,
        stated=shares_scales,
        violated=lambda spec, columns: cuts_scales(spec, columns.layouts),
        text="blocks (tensor parallelism must not cut weights that share a scale)",
    ),
    Rule(
        name=Requirement.CHIPS,
        kind=Kind.RESOURCE,
        key="search.max_chips",
        unit="chips",
        figure=lambda _, columns: columns.chips,
        shared=chips_in_all,
        text="chips ≤ {limit}",
        correction="up to {value} chips",
        adjusted=int,
    ),
    Rule(
        name=Requirement.INSTANCES,
        kind=Kind.RESOURCE,
        key="search.max_instances",
        unit="instances",
        figure=lambda _, columns: columns.instances,
        shared=instances_in_all,
        text="instances ≤ {limit}",
        correction="up to {value} instances",
        adjusted=int,
    ),
    Rule(
        name=Requirement.SLICES,
        kind=Kind.RESOURCE,
        key="search.max_slices",
        unit="slices",
        figure=lambda _, columns: columns.slices + columns.layouts.serving.pool_slices,
        shared=slices_in_all,
        text="slices ≤ {limit}",
        correction="up to {value} slices",
        adjusted=int,
    ),
    Rule(
        name=Requirement.BUDGET,
        kind=Kind.RESOURCE,
        key="search.max_usd_per_hour",
        unit="$/h",
        figure=lambda _, columns: columns.usd_per_hour,
        shared=dollars_in_all,
        text="budget ≤ ${limit:g}/h",
        correction="up to ${up} an hour",
    ),
    Rule(
        name=Requirement.THROUGHPUT,
        kind=Kind.SERVICE_LEVEL,
        key="slo.min_tokens_per_s",
        unit="tokens/s",
        at_least=True,
        figure=lambda _, columns: columns.tokens_per_s,
        smallest_batch=batch_for_throughput,
        text="throughput ≥ {number} tokens/s",
        correction="at least {down} tokens/s",
    ),
    Rule(
        name=Requirement.TTFT,
        kind=Kind.SERVICE_LEVEL,
        key="slo.ttft_ms",
        unit="ms",
        figure=lambda _, columns: columns.ttft_s * 1e3 * (1 + columns.layouts.ttft_margin),
        largest_batch=batch_within_ttft,
        text="ttft ≤ {limit:g} ms",
        correction="ttft up to {up} ms",
    ),
    Rule(
        name=Requirement.E2E,
        kind=Kind.SERVICE_LEVEL,
        key="slo.e2e_ms",
        unit="ms",
        figure=lambda _, columns: columns.e2e_s * 1e3 * (1 + columns.layouts.tpot_margin),
        largest_batch=batch_within_e2e,
        text="e2e ≤ {limit:g} ms",
        correction="e2e up to {up} ms",
    ),
    Rule(
        name=Requirement.STALL,
        kind=Kind.SERVICE_LEVEL,
        key="slo.stall_ms",
        unit="ms",
        figure=lambda _, columns: columns.stall_s * 1e3 * (1 + columns.layouts.tpot_margin),
        largest_batch=batch_within_stall,
        text="stall ≤ {limit:g} ms",
        correction="stalls up to {up} ms",
    ),
    Rule(
        name=Requirement.CHUNK,
        kind=Kind.HARDWARE,
        margin_unit="tokens a step",
        stated=lambda spec: Mode.CHUNKED in spec.modes,
        violated=outruns_its_chunks,
        largest_batch=batch_fed_by_chunks,
        text="chunk (a step's chunk must keep up with the prompts that arrive)",
    ),
    Rule(
        name=Requirement.MIN_BATCH,
        kind=Kind.SERVICE_LEVEL,
        key="search.min_batch",
        unit="sequences",
        at_least=True,
        figure=lambda _, columns: columns.batch,
        smallest_batch=lambda spec, layouts, _: np.full(len(layouts), float(spec.search.min_batch or 1)),
        text="batch ≥ {limit}",
        correction="batches of {value} at least",
        adjusted=int,
    ),
    Rule(
        name=Requirement.QUOTA,
        kind=Kind.RESOURCE,
        margin_unit="chips of",
        stated=lambda spec: bool(spec.search.quota),
        violated=exceeds_quota,
        shared=chips_of_quotas,
        text="quota ({quotas})",
    ),
    Rule(
        name=Requirement.QUALITY,
        kind=Kind.RESOURCE,
        key="search.max_quality_loss",
        margin_unit="of its score",
        figure=lambda spec, columns: quality_losses(spec, columns.layouts),
        text="quality (loses at most {limit:.2%} of its score)",
        correction="a quality loss of up to {value}",
        adjusted=rounded_up_loss,
    ),
    Rule(
        name=Requirement.CONTEXT,
        kind=Kind.STRUCTURE,
        key="model.max_context_tokens",
        unit="tokens",
        figure=lambda spec, columns: np.full(len(columns), spec.workload.longest_context_tokens),
        text="context ≤ {number} tokens",
        correction="model.max_context_tokens of {value}, as by rope scaling",
        adjusted=int,
    ),
    Rule(
        name=Requirement.ENGINE,
        kind=Kind.STRUCTURE,
        stated=asks_of_engine,
        violated=outside_engine,
        text="engine ({engines})",
    ),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _RULES}
"""Every requirement by its name, in the order in which they are listed to people."""
