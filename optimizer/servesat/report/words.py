"""Plans, limits and conflicts as sentences."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from servesat.candidates.requirements import RULES, Requirement
from servesat.core.plan import Bill, Plan
from servesat.core.quantities import dollars, gigabytes, number
from servesat.core.result import Change, LimitValue, Margin, SliceSummary
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload


def ways(plan: Plan) -> str:
    """How a replica is sharded: `64-way tensor parallelism over axes 0 and 1`, experts in `8 groups over axis 1`."""
    tensor = f"{plan.tp}-way tensor parallelism over {_axes(plan.tp_axes)}" if plan.tp_axes else "no tensor parallelism"
    if not plan.ep_axes:
        return tensor
    experts = f"experts spread {plan.ep} ways over {_axes(plan.ep_axes)}"
    return f"{tensor}, {experts}" if plan.tp_axes else f"{experts}, attention data-parallel"


def _axes(axes: Sequence[int]) -> str:
    *others, last = map(str, axes)
    return f"axes {', '.join(others)} and {last}" if others else f"axis {last}"


def workload(served: Workload) -> str:
    """What is served: `8,192 tokens of context`, or `prompts of 1,024 tokens, 256 of output`."""
    if served.prompt_tokens is None:
        return f"{served.held_tokens:,} tokens of context"
    cached = f" ({served.prefix_cache_hit:.0%} cached)" if served.prefix_cache_hit else ""
    rate = f", {number(served.requests_per_s)} requests/s" if served.requests_per_s else ""
    return f"prompts of {served.prompt_tokens:,} tokens{cached}, {served.output_tokens:,} of output{rate}"


def mode(plan: Plan) -> str:
    """How a plan serves prompts, as a sentence."""
    if plan.prefill is not None:
        pool = plan.prefill
        count = f"{pool.slices} slices of {pool.chip} {pool.topology}"
        return (
            f"disaggregated: {count} prefill (weights {pool.weights}, {plan.prefill_ms or 0.0:.1f} ms a prompt), "
            f"the KV cache moves in {plan.transfer_ms or 0.0:.1f} ms"
        )
    if plan.step_ms.prefill or plan.chunk_tokens is None:
        return f"{plan.mode}: whole prefills of {plan.prefill_ms or 0.0:.1f} ms between the steps"
    return f"chunked: {plan.chunk_tokens} prompt tokens ride on each step, {plan.prefill_ms or 0.0:.1f} ms a prompt"


def price(bill: Bill) -> str:
    """Where a price comes from, and what part of an instance it pays for."""
    where = " ".join(part for part in (bill.cloud, bill.region) if part) or "any cloud"
    text = f"{bill.chip}, {where}, {bill.purchase.replace('_', ' ') if bill.purchase else ''}"
    if bill.instance is not None:
        text += f", {bill.instance}"
    if bill.instances is not None and bill.instances != int(bill.instances):
        whole, part = divmod(bill.chips, bill.instance_chips or 1)
        filled = f"{whole} and " if whole else ""
        text += f": {filled}{part} of its {bill.instance_chips} chips; it is sold whole for "
        text += f"{dollars(bill.usd_per_instance_hour or 0.0)} an hour, and the rest must find work, too"
    return text + (f" ({bill.note})" if bill.note else "")


def pool(plan: Plan) -> str:
    """The prefill pool of a plan: `2 x tpu-v6e 2x2`."""
    return "none" if plan.prefill is None else f"{plan.prefill.slices} x {plan.prefill.chip} {plan.prefill.topology}"


def load(plan: Plan) -> str:
    """What a plan can serve, and how much of it is asked for."""
    asked = "" if plan.load_fraction is None else f", of which {plan.load_fraction:.1%} are asked for"
    finished, evicted = plan.sequences_finished_per_step or 0.0, plan.kv_tokens_evicted_per_step or 0.0
    steps = f"{number(finished)} sequences finish a step, {number(evicted)} tokens leave the KV cache"
    return f"up to {number(plan.requests_per_s or 0.0)} requests/s{asked}; {steps}"


def conflict(members: Sequence[str], spec: Spec) -> str:
    """A minimal conflict as a sentence."""
    sayings = [RULES[member].say(spec) for member in members]
    chips = [offer.chip.id for offer in spec.offers]
    where = f"on {chips[0]}" if len(chips) == 1 else f"on any of {len(chips)} chips"
    if len(sayings) == 1:
        return f"no plan satisfies {sayings[0]} {where}"
    return f"{', '.join(sayings[:-1])} and {sayings[-1]} cannot hold together {where}"


def change(one: Change) -> str:
    """A change of the spec as a sentence: `tpot up to 15.76 ms`, `+ chip tpu-v5p`, `weights may be int4`."""
    rule = RULES.get(one.requirement)
    text = (rule.correction if rule is not None else "") or _OPENED.get(one.requirement, "{requirement} may be {value}")
    up, down = _rounded(one.value, ceil), _rounded(one.value, floor)
    return text.format(requirement=one.requirement, value=one.value, up=up, down=down)


_OPENED = {
    "ici": "ici: {value}",
    "max_batch": "batches up to {value}",
    "chip": "+ chip {value}",
    "topology": "+ slice {value}",
}
"""What a correction opens that is not the limit of a requirement."""


def _rounded(value: float | int | str, towards: Callable[[float], int]) -> str:
    """Four significant digits, rounded up or down, so that the limit shown is enough."""
    if isinstance(value, str) or value == 0:
        return str(value)
    scale = min(1.0, 10.0 ** (floor(log10(value)) - 3))
    nudge = 1 - 1e-12 if towards is ceil else 1 + 1e-12
    return number(towards(value / scale * nudge) * scale)


def limit_value(one: LimitValue) -> str:
    """What a limit costs, as a sentence."""
    if not one.saves_usd_per_million_output_tokens:
        return f"{one.requirement}: costs nothing, no plan without it is cheaper"
    saves = f"saves {one.saves_fraction:.1%}"
    then = f", {' and '.join(one.then_binding)} binds" if one.then_binding else ""
    if one.limit is None or one.relaxed_to is None:
        upgrade = RULES[one.requirement].upgrade
        what = f"{upgrade} {saves} at most" if upgrade else f"a plan without the limit {saves}"
        return f"{one.requirement}: {what}; beyond it nothing{then}"
    moving = f"{one.requirement}: moving {number(one.limit)} to {number(one.relaxed_to)} {one.unit} {saves}"
    moved = abs(one.relaxed_to - one.limit)
    rate = f", {one.saves_fraction / moved:.2%} for each ms of it on average" if one.unit == "ms" else ""
    return f"{moving}{rate}; beyond it nothing{then}"


def excluded_because(summary: SliceSummary) -> str:
    """Why a slice has no plan, from the plan that violates the fewest requirements there."""
    return "; ".join(_violation(summary.plan, margin) for margin in summary.margins if not margin.holds)


def _violation(plan: Plan, margin: Margin) -> str:
    name = margin.requirement
    if name == Requirement.HBM and plan.weights_bytes / 1e9 > (margin.limit or 0.0):
        usable = f"{number(margin.limit or 0.0)} GB usable on {chips(plan.tp)}"
        return f"hbm: weights take {gigabytes(plan.weights_bytes)}, {usable}"
    if name == Requirement.TPOT and plan.step_ms.weights > (margin.limit or 0.0):
        return (
            f"tpot: loading {gigabytes(plan.weights_bytes)} of weights over {chips(plan.tp)} takes "
            f"{plan.step_ms.weights:.3g} ms, the limit is {margin.limit:g} ms"
        )
    if name == Requirement.HEADS:
        return f"heads: {plan.tp} ways do not divide the query heads and d_ff"
    if margin.value is None:
        return f"{name}: {plan.tp} ways at batch {plan.batch}, weights {plan.weights}, compute {plan.compute}"
    relation = "under" if RULES[name].at_least else "over"
    return (
        f"{name}: {number(margin.value)} {margin.unit}, {relation} the limit of {number(margin.limit or 0.0)}, "
        f"at batch {plan.batch}"
    )


def longest_term(plan: Plan) -> str:
    """What a step spends most of its time on, once the weights no longer matter."""
    terms = {
        "the arithmetic": plan.step_ms.flops,
        "the interconnect": plan.step_ms.ici,
        "the KV cache": plan.step_ms.kv_cache,
        "prefill": plan.step_ms.prefill,
    }
    always = {"the KV cache", "prefill"}
    bound = {name: time for name, time in terms.items() if name in always or time >= plan.step_ms.weights}
    return max(bound, key=lambda name: bound[name])


def chips(count: int) -> str:
    """A number of chips: `1 chip`, `64 chips`."""
    return f"{count} chip" if count == 1 else f"{count} chips"
