"""Plans, limits and conflicts as sentences."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from servesat.candidates.requirements import RULES, Requirement, rules_of
from servesat.core.plan import Bill, KvLayout, Plan
from servesat.core.quantities import change_of, dollars, gigabytes, number
from servesat.core.result import (
    ApiComparison,
    Basis,
    Change,
    EngineCost,
    Expected,
    LimitValue,
    Loading,
    Margin,
    Relaxation,
    SliceSummary,
)
from servesat.questions.one_pool import LeftOut
from servesat.spec.engines import NONE
from servesat.spec.keys import CALIBRATED, IDEAL
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload


def ways(plan: Plan) -> str:
    """How a replica is sharded: `64-way tensor parallelism over axes 0 and 1`."""
    tensor = f"{plan.tp}-way tensor parallelism over {_axes(plan.tp_axes)}" if plan.tp_axes else "no tensor parallelism"
    if plan.ep_axes:
        experts = f"experts spread {plan.ep} ways over {_axes(plan.ep_axes)}"
        tensor = f"{tensor}, {experts}" if plan.tp_axes else f"{experts}, attention data-parallel"
    return f"{tensor}, {plan.pp} pipeline stages over {_axes(plan.pp_axes)}" if plan.pp_axes else tensor


def drafting(plan: Plan) -> str:
    """What drafts tokens ahead: `3 tokens ahead by eagle3, of which a step makes 2.50 with its own`."""
    tokens = f"{plan.draft_tokens} token{'s' if plan.draft_tokens > 1 else ''} ahead by {plan.draft}"
    return f"{tokens}: a step makes {plan.accepted_tokens:.2f}, its own one included"


def rare_columns(plans: Sequence[Plan | Mapping[str, Any] | None]) -> list[tuple[str, list[str]]]:
    """The columns of a table that few plans need, with a cell for each: stages and drafts, where some plan has them."""

    def of(plan: Plan | Mapping[str, Any], name: str) -> Any:
        return plan[name] if isinstance(plan, Mapping) else getattr(plan, name)

    def draft(plan: Plan | Mapping[str, Any]) -> str:
        return f"{of(plan, 'draft_tokens')} by {of(plan, 'draft')}" if of(plan, "draft") else "none"

    found = [plan for plan in plans if plan is not None]
    kinds: list[tuple[str, Callable[[Any], str]]] = []
    if any(of(plan, "pp") > 1 for plan in found):
        kinds.append(("stages", lambda plan: str(of(plan, "pp"))))
    if any(of(plan, "draft") for plan in found):
        kinds.append(("drafted", draft))
    return [(name, ["" if plan is None else show(plan) for plan in plans]) for name, show in kinds]


def _axes(axes: Sequence[int]) -> str:
    *others, last = map(str, axes)
    return f"axes {', '.join(others)} and {last}" if others else f"axis {last}"


def workload(load: Workload) -> str:
    """A workload: `8,192 tokens of context`, or `prompts of 1,024 tokens, 256 of output`."""
    if load.prompt_tokens is None:
        return f"{load.held_tokens:,} tokens of context"
    cached = f" ({load.prefix_cache_hit:.0%} cached)" if load.prefix_cache_hit else ""
    rate = f", {number(load.requests_per_s)} requests/s" if load.requests_per_s else ""
    return f"prompts of {load.prompt_tokens:,} tokens{cached}, {load.output_tokens:,} of output{rate}"


def mode(plan: Plan, new_prompt_tokens: float) -> str:
    """How a plan serves prompts of so many tokens that are not cached."""
    if plan.prefill is not None:
        pool = plan.prefill
        one = pool.slices == 1
        count = "1 slice" if one else f"{pool.slices} slices"
        return (
            f"disaggregated: {count} of {pool.chip} {pool.topology} {'prefills' if one else 'prefill'} "
            f"(weights {pool.weights}, {plan.prefill_ms or 0.0:.1f} ms a prompt), "
            f"the KV cache moves in {plan.transfer_ms or 0.0:.1f} ms"
        )
    if plan.chunk_tokens is None or plan.chunk_tokens >= new_prompt_tokens:
        return f"{plan.mode}: whole prefills of {plan.prefill_ms or 0.0:.1f} ms between the steps"
    each = "step" if plan.pp == 1 else f"micro-batch, {plan.pp} of a step"
    return f"chunked: {plan.chunk_tokens} prompt tokens ride on each {each}, {plan.prefill_ms or 0.0:.1f} ms a prompt"


def price(bill: Bill) -> str:
    """Where a price comes from, and the instances, or the part of one, that it pays for."""
    where = " ".join(part for part in (bill.cloud, bill.region) if part) or "any cloud"
    bought = bill.purchase.replace("_", " ") if bill.purchase else ""
    text = f"{bill.chip}, {bought}" if bought == "owned" else f"{bill.chip}, {where}, {bought}"
    text += f" ({bill.term})" if bill.term else ""
    if bill.instance is not None:
        text += f", {bill.instance}"
    if isinstance(bill.instances, int):
        used = f"{bill.chips_used:,} of {chips(bill.chips)} used"
        each = f"{dollars(bill.usd_per_instance_hour or 0.0)} an hour each"
        text = f"{bill.instances:,} × {bill.instance}, {text.removesuffix(f', {bill.instance}')}: {each}, {used}"
    elif bill.instances is not None and bill.instances != int(bill.instances):
        full, part = divmod(bill.chips, bill.instance_chips or 1)
        instances = f"{full} and " if full else ""
        text += f": {instances}{part} of its {bill.instance_chips} chips; a whole one costs "
        text += f"{dollars(bill.usd_per_instance_hour or 0.0)} an hour, and the rest must find work, too"
    text += f", price of {bill.as_of}" if bill.as_of else ""
    return text + (f" ({bill.note})" if bill.note else "")


def beside_api(api: ApiComparison) -> str:
    """What the cheapest API charges for the same load, and from which load on serving yourself costs less."""
    cheapest, count = api.offers[0], len(api.offers)
    of = f"the cheapest of {count} providers" if count > 1 else "the only provider listed"
    text = f"{dollars(cheapest.usd_per_request)} a request at {cheapest.provider}, {of} on {api.checked}"
    text += f": {dollars(api.usd_per_hour)} an hour for this load"
    if api.pays_at_no_load:
        return text + "; no plan costs less at any load"
    load = api.break_even_requests_per_s
    return text if load is None else text + f"; a plan first pays at {number(load)} requests/s"


def on_spot(plan: Plan, without_spot: Plan | None, spot_capacity: float) -> str:
    """What a plan on spot rests on, and what the best one without spot costs."""
    bills = [bill for bill in plan.bills if bill.purchase == "spot"]
    facts = [fact for bill in bills for fact in _facts_of_spot(bill)]
    text = "; ".join(dict.fromkeys(facts)) + "; " if facts else ""
    text += "prices are one snapshot, and the machines may be withdrawn at short notice; "
    if spot_capacity < 1:
        text += f"{spot_capacity:.0%} of their capacity is counted on; "
    else:
        text += "none of their capacity is spare (spot_capacity keeps some); "
    if without_spot is None:
        return text + "without spot there is no plan within these limits"
    more = without_spot.usd_per_million_output_tokens / plan.usd_per_million_output_tokens - 1
    million = dollars(without_spot.usd_per_million_output_tokens)
    return text + f"without spot the best plan costs {million} per million output tokens, {change_of(more)}"


def _facts_of_spot(bill: Bill) -> Iterator[str]:
    """What is known of a price on spot: how far zones differ, and how often instances are withdrawn."""
    if bill.lowest_usd_per_instance_hour is not None and bill.usd_per_instance_hour is not None:
        zones = f"{dollars(bill.lowest_usd_per_instance_hour)} to {dollars(bill.usd_per_instance_hour)}"
        yield f"zones asked {zones} an hour for {bill.instance}, the highest is billed"
    if bill.interrupted_per_month is not None:
        low, high = bill.interrupted_per_month
        share = f"{low:.0%} to {high:.0%}" if high < 1 else f"more than {low:.0%}"
        as_of = f" (as of {bill.interrupted_as_of})" if bill.interrupted_as_of else ""
        yield f"{share} of {bill.instance} in {bill.region} were withdrawn in a month{as_of}"


def batch_split(plan: Plan) -> str:
    """The micro-batches of stages, and the ways that attention shards the KV cache over the batch, as an end."""
    text = f", in {plan.pp} micro-batches of {plan.batch // plan.pp}" if plan.pp > 1 else ""
    ways = plan.kv_batch_shards // plan.pp
    return f"{text}, KV cache sharded {ways} ways over the batch" if ways > 1 else text


def kv_layout(plan: Plan) -> str:
    """Where the KV cache lies, as the end of a cell; empty where chips have heads of their own or split the batch."""
    match plan.kv_layout:
        case KvLayout.COPIES:
            return ", a copy of its KV heads on each chip that needs them"
        case KvLayout.SEQUENCE:
            return ", the KV cache of a sequence split over chips"
        case _:
            return ""


def loads(loading: Loading, weights: str) -> str:
    """The engine of a plan and what it loads: `vLLM 0.32, loads Qwen/Qwen3-32B and makes fp8 of it`."""
    if loading.checkpoint is None:
        dtype = weights if loading.quantises is None else "bf16"
        return f"{loading.engine}; it needs a checkpoint in {dtype}, and the catalogue knows none"
    made = "" if loading.quantises is None else f", makes {weights} of it ({loading.quantises})"
    return f"{loading.engine}, loads {loading.checkpoint}{made}"


def in_practice(expected: Expected) -> str:
    """What to expect of a plan: `tpot 14.20 ms, 210 ms to the first token, 4,100 tokens/s: taken for vllm 0.19.0`."""
    first = "" if expected.ttft_ms is None else f", {duration(expected.ttft_ms)} to the first token"
    basis = f"from measurements of {expected.stack}" if expected.stack_is_calibrated else f"taken for {expected.stack}"
    chip = "" if expected.chip_is_calibrated else ", the chip not calibrated"
    return f"tpot {expected.tpot_ms:.2f} ms{first}, {expected.tokens_per_s:,.0f} tokens/s: {basis}{chip}"


def cost_model(spec: Spec) -> str:
    """The cost model of a spec: `ideal cost model`, `calibrated cost model`, `cost model mine.toml`."""
    name = spec.cost_model_name
    return f"{name} cost model" if name in {IDEAL, CALIBRATED} else f"cost model {name}"


def errors(plan: Plan, basis: Basis) -> tuple[str, str]:
    """How far the times of a plan are off, per output token and to the first one: ` ± 4.1 ms`, ` ± 0.2 s`."""
    tpot, ttft = plan.tpot_ms * basis.tpot_error, (plan.ttft_ms or 0.0) * basis.ttft_error
    return (f" ± {tpot:.2f}" if tpot else "", f" ± {duration(ttft)}" if ttft else "")


def rests_on(plan: Plan, basis: Basis) -> Iterator[str]:
    """What the times of a plan rest on, and the best plan on a chip that was measured, where its own was not."""
    chip = plan.chip if basis.chip_is_calibrated else f"{plan.chip} is not calibrated"
    stack = basis.stack if basis.stack_is_calibrated else f"{basis.stack} in place of {plan.engine or 'an engine'}"
    yield f"{chip}; {stack} (docs/accuracy.md)"
    other = basis.best_calibrated
    if other is not None:
        dollars_of = other.usd_per_million_output_tokens
        more = dollars_of / plan.usd_per_million_output_tokens - 1
        yield f"of calibrated chips {decode_slices(other)} is best: {dollars(dollars_of)} a million, {more:.1%} more"


def broken_in_practice(spec: Spec, expected: Expected) -> Iterator[str]:
    """The limits and the demand that a plan would miss in practice: `tpot ≤ 20 ms, and 28.1 ms are to be expected`."""
    figures = {
        Requirement.TPOT: (spec.slo.tpot_ms, expected.tpot_ms),
        Requirement.TTFT: (spec.slo.ttft_ms, expected.ttft_ms),
    }
    for name, (limit, figure) in figures.items():
        if limit is not None and figure is not None and figure > limit:
            yield f"{RULES[name].say(spec)}, and {number(figure)} ms are to be expected in practice (docs/accuracy.md)"
    demand, output = spec.workload.requests_per_s, spec.workload.output_tokens
    if demand is not None and output is not None and expected.tokens_per_s < demand * output:
        served = number(expected.tokens_per_s / output)
        yield f"{number(demand)} requests/s are asked, and {served} are to be expected in practice (docs/accuracy.md)"


def engine_cost(cost: EngineCost, plan: Plan) -> str:
    """What another engine would cost: `SGLang 0.5.23: $0.51 per million output tokens, 3.2% more: h100-sxm 4x1, …`."""
    name = "no engine, the machine alone" if cost.engine == NONE else cost.engine
    if cost.plan is None:
        return f"{name}: no plan meets the limits"
    dollars_of, other = cost.plan.usd_per_million_output_tokens, cost.plan
    share = dollars_of / plan.usd_per_million_output_tokens - 1
    more = "the same" if abs(share) < 5e-5 else f"{share:.1%} more" if share > 0 else f"{-share:.1%} less"
    dtypes = f"weights {other.weights}, KV cache {other.kv_cache}"
    where = f"{decode_slices(other)}, {dtypes}, batch {other.batch}"
    return f"{name}: {dollars(dollars_of)} per million output tokens, {more}: {where}"


def pool(plan: Plan) -> str:
    """The prefill pool of a plan: `2 x tpu-v6e 2x2`."""
    return "none" if plan.prefill is None else f"{plan.prefill.slices} x {plan.prefill.chip} {plan.prefill.topology}"


def decode_slices(plan: Plan) -> str:
    """The slices that decode, as a cell of a table: `tpu-v5e 4x4`, `2 x tpu-v5e 4x4`."""
    return _some(plan.slices, plan.chip, plan.topology)


def rented_as(plan: Plan) -> str:
    """Where a plan's slices are rented, as a cell of a table: `aws us-east-1 p5.48xlarge`; empty if none is named."""
    parts = (plan.cloud, plan.region, plan.instance, plan.purchase if plan.purchase != "on_demand" else None)
    return " ".join(part for part in parts if part)


def pool_slices(plan: Plan) -> str:
    """The slices of the prefill pool, as a cell of a table; empty without one."""
    prefill = plan.prefill
    return "" if prefill is None else _some(prefill.slices, prefill.chip, prefill.topology)


def _some(slices: int, chip: str, topology: str) -> str:
    return f"{chip} {topology}" if slices == 1 else f"{slices} x {chip} {topology}"


def load(plan: Plan) -> str:
    """The capacity of a plan, and the share of it that is requested."""
    demand = "" if plan.load_fraction is None else f", of which {plan.load_fraction:.1%} are requested"
    finished, evicted = plan.sequences_finished_per_step or 0.0, plan.kv_tokens_evicted_per_step or 0.0
    steps = f"{number(finished)} sequences finish a step, {number(evicted)} tokens leave the KV cache"
    return f"up to {number(plan.requests_per_s or 0.0)} requests/s{demand}; {steps}"


def conflict(members: Sequence[str], spec: Spec) -> str:
    """A minimal conflict as a sentence."""
    rules = rules_of(spec)
    limits = [rules[member].say(spec) for member in members]
    chips = [chip.id for chip in spec.chips]
    where = f"on {chips[0]}" if len(chips) == 1 else f"on any of {len(chips)} chips"
    if len(limits) == 1:
        return f"no plan satisfies {limits[0]} {where}"
    return f"{', '.join(limits[:-1])} and {limits[-1]} cannot hold together {where}"


def change(correction: Change) -> str:
    """A change of the spec: `tpot up to 15.76 ms`, `+ chip tpu-v5p`, `weights may be int4`."""
    name, value = correction.requirement, correction.value
    if correction.key.startswith("constraints."):
        return str(value)
    rule = RULES.get(name)
    text = (rule.correction if rule is not None else "") or _SEARCH_CHANGES.get(name, "{requirement} may be {value}")
    return text.format(requirement=name, value=value, up=_rounded(value, ceil), down=_rounded(value, floor))


_SEARCH_CHANGES = {
    "ici": "ici: {value}",
    "max_batch": "batches up to {value}",
    "chip": "+ chip {value}",
    "topology": "+ slice {value}",
}
"""Texts of changes that widen the search."""


def _rounded(value: float | int | str, towards: Callable[[float], int]) -> str:
    """Four significant digits, rounded so that the limit shown suffices."""
    if isinstance(value, str) or value == 0:
        return str(value)
    scale = min(1.0, 10.0 ** (floor(log10(value)) - 3))
    nudge = 1 - 1e-12 if towards is ceil else 1 + 1e-12
    return number(towards(value / scale * nudge) * scale)


def limit_value(value: LimitValue) -> str:
    """What a limit costs, as a sentence."""
    if not value.saves_usd_per_million_output_tokens:
        return f"{value.requirement}: costs nothing, no plan without it is cheaper"
    saves = f"saves {value.saves_fraction:.1%}"
    then = (
        f", {' and '.join(value.then_binding)} bind{'s' if len(value.then_binding) == 1 else ''}"
        if value.then_binding
        else ""
    )
    if value.limit is None or value.relaxed_to is None:
        upgrade = _upgrade(value.requirement)
        what = f"{upgrade} {saves} at most" if upgrade else f"a plan without the limit {saves}"
        return f"{value.requirement}: {what}; beyond it nothing{then}"
    moving = f"{value.requirement}: moving {number(value.limit)} to {number(value.relaxed_to)} {value.unit} {saves}"
    moved = abs(value.relaxed_to - value.limit)
    rate = f", {value.saves_fraction / moved:.2%} for each ms of it on average" if value.unit == "ms" else ""
    return f"{moving}{rate}; beyond it nothing{then}"


def relaxation(limit: Relaxation) -> str:
    """What a looser limit would save, as a sentence: `tpot up to 53.1 ms would save 4.1%`."""
    saves = f"would save {limit.saves_fraction:.1%}"
    if limit.requirement not in RULES:
        return f"without {limit.requirement} a plan {saves}"
    if limit.relaxed_to is not None:
        return f"{change(Change(requirement=limit.requirement, key='', value=limit.relaxed_to))} {saves}"
    upgrade = _upgrade(limit.requirement)
    return f"{upgrade} {saves} at most" if upgrade else f"a larger {limit.requirement} {saves} at most"


def _upgrade(requirement: str) -> str:
    """What a machine that meets a requirement has more of; empty for one that no machine meets, as a constraint."""
    return RULES[requirement].upgrade if requirement in RULES else ""


def left_out(what: LeftOut | None) -> str:
    """What a question leaves out, for its title: `, without disaggregated plans`; empty if nothing."""
    return "" if what is None else f", without {' and '.join(what.modes)} plans"


def best_left_out(what: LeftOut) -> str:
    """The best plan that a question leaves out, as a sentence."""
    modes = " and ".join(what.modes)
    if what.best is None:
        return f"{modes} plans are left out: there is none within the limits"
    cost = dollars(what.best.usd_per_million_output_tokens)
    return f"{modes} plans are left out: the best costs {cost} per million output tokens (servesat solve, or modes)"


def excluded_because(summary: SliceSummary) -> str:
    """Why a slice has no plan: the violations of its nearest plan."""
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
    relation = "under" if margin.value < (margin.limit or 0.0) else "over"
    figure = f"{number(margin.value)} {margin.unit}".strip()
    return f"{name}: {figure}, {relation} the limit of {number(margin.limit or 0.0)}, at batch {plan.batch}"


def longest_term(plan: Plan) -> str:
    """The longest part of a step that is not hidden behind loading the weights."""
    terms = {
        "the arithmetic": plan.step_ms.flops,
        "the interconnect": plan.step_ms.ici,
    }
    in_turn = {
        "the KV cache": plan.step_ms.kv_cache + plan.step_ms.kv_exchange,
        "prefill": plan.step_ms.prefill,
        "the host": plan.step_ms.host,
        "drafting": plan.step_ms.draft,
    }
    not_hidden = {name: time for name, time in terms.items() if time >= plan.step_ms.weights} | in_turn
    return max(not_hidden, key=lambda name: not_hidden[name])


def sequences(count: int) -> str:
    """A number of sequences: `1 sequence`, `88 sequences`."""
    return f"{count} sequence" if count == 1 else f"{count} sequences"


def duration(ms: float) -> str:
    """Milliseconds in words, as seconds from one on: `195.1 ms`, `42.64 s`."""
    return f"{ms:.1f} ms" if ms < 1e3 else f"{ms / 1e3:,.2f} s"


def chips(count: int) -> str:
    """A number of chips: `1 chip`, `64 chips`."""
    return f"{count} chip" if count == 1 else f"{count} chips"
