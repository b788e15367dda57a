"""Sentences and quantities as a person would say them."""

from collections.abc import Callable, Sequence
from math import ceil, floor, log10

from servesat.core.result import Bill, Change, LimitValue, Margin, Plan, Requirement, SliceSummary
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload


def dollars(amount: float) -> str:
    """Four significant digits, two decimals at least: $2.730, $0.7825, $28.99, $1,234.56, $2.954e-05."""
    if amount < 1e-3 or amount >= 1e9:
        return f"${amount:.4g}"
    return f"${amount:,.{max(2, 3 - floor(log10(amount)))}f}"


def number(value: float) -> str:
    """Four significant digits, whole from a thousand on: 16.02, 0.8379, 12,340."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def change_of(fraction: float) -> str:
    """A relative change in percent: `+12.3%`, `-4.0%`, and `0.0%` without a sign."""
    text = f"{fraction:+.1%}"
    return "0.0%" if text in {"+0.0%", "-0.0%"} else text


def gigabytes(amount: float) -> str:
    """Decimal gigabytes, as datasheets count: 405 GB, 1,024 GB, 0.54 GB."""
    value = amount / 1e9
    return f"{value:,.0f} GB" if value >= 100 else f"{value:.3g} GB"


_SCALES = {
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")),
    "$/year": ((1e6, "M$/year"), (1.0, "$/year")),
}


def quantity(value: float, unit: str) -> str:
    """A figure with its unit, four significant digits, scaled as people say it: 131.1 kB/token, 17.22 ms."""
    base, slash, rest = unit.partition("/")
    scales = _SCALES.get(unit) or _SCALES.get(base)
    if scales is None:
        text = f"{value:,.4g}" if abs(value) >= 1e6 or abs(value) < 1e3 else f"{value:,.0f}"
        return f"{text} {unit}".strip()
    size, name = next(((size, name) for size, name in scales if abs(value) >= size), scales[-1])
    suffix = f"/{rest}" if slash and unit not in _SCALES else ""
    return f"{value / size:.4g} {name}{suffix}"


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


def limit(requirement: Requirement, spec: Spec) -> str:
    """A requirement with its limit, as the spec states it: `tpot ≤ 15 ms`."""
    slo, search = spec.slo, spec.search
    sayings = {
        Requirement.HBM: f"hbm (at most {1 - spec.headroom:.0%} of memory used)",
        Requirement.TPOT: f"tpot ≤ {slo.tpot_ms:g} ms" if slo.tpot_ms else "tpot",
        Requirement.ICI: "ici (matmuls must not wait for the interconnect)",
        Requirement.HEADS: "heads (the shards must divide the query heads and d_ff)",
        Requirement.KV_HEADS: "kv_heads (the KV cache must split evenly)",
        Requirement.DTYPES: "dtypes (weights no wider than the compute dtype)",
        Requirement.CHIPS: f"chips ≤ {search.max_chips}",
        Requirement.BUDGET: f"budget ≤ ${search.max_usd_per_hour:g}/h" if search.max_usd_per_hour else "budget",
        Requirement.THROUGHPUT: f"throughput ≥ {number(slo.min_tokens_per_s or 0.0)} tokens/s",
        Requirement.TTFT: f"ttft ≤ {slo.ttft_ms:g} ms" if slo.ttft_ms else "ttft",
        Requirement.E2E: f"e2e ≤ {slo.e2e_ms:g} ms" if slo.e2e_ms else "e2e",
        Requirement.STALL: f"stall ≤ {slo.stall_ms:g} ms" if slo.stall_ms else "stall",
        Requirement.CHUNK: "chunk (a step's chunk must keep up with the prompts that arrive)",
        Requirement.QUALITY: f"quality (loses at most {search.max_quality_loss or 0:.2%} of its score)",
        Requirement.MIN_BATCH: f"batch ≥ {search.min_batch}",
        Requirement.QUOTA: "quota (" + ", ".join(f"{chip} ≤ {most}" for chip, most in search.quota.items()) + ")",
    }
    return sayings[requirement]


def conflict(members: Sequence[Requirement], spec: Spec) -> str:
    """A minimal conflict as a sentence."""
    sayings = [limit(member, spec) for member in members]
    chips = [offer.chip.id for offer in spec.offers]
    where = f"on {chips[0]}" if len(chips) == 1 else f"on any of {len(chips)} chips"
    if len(sayings) == 1:
        return f"no plan satisfies {sayings[0]} {where}"
    return f"{', '.join(sayings[:-1])} and {sayings[-1]} cannot hold together {where}"


def change(one: Change) -> str:
    """A change of the spec as a sentence: `tpot up to 15.76 ms`, `+ chip tpu-v5p`, `weights may be int4`."""
    return {
        "tpot": "tpot up to {up} ms",
        "chips": "up to {value} chips",
        "budget": "up to ${up} an hour",
        "throughput": "at least {down} tokens/s",
        "hbm": "headroom of {down}",
        "ttft": "ttft up to {up} ms",
        "e2e": "e2e up to {up} ms",
        "stall": "stalls up to {up} ms",
        "min_batch": "batches of {value} at least",
        "ici": "ici: {value}",
        "max_batch": "batches up to {value}",
        "chip": "+ chip {value}",
        "topology": "+ slice {value}",
    }.get(one.requirement, "{requirement} may be {value}").format(
        requirement=one.requirement, value=one.value, up=_rounded(one.value, ceil), down=_rounded(one.value, floor)
    )


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
        worth = {Requirement.HBM: "more memory", Requirement.ICI: "a faster interconnect"}[one.requirement]
        return f"{one.requirement}: {worth} {saves} at most; beyond it nothing{then}"
    moving = f"{one.requirement}: moving {number(one.limit)} to {number(one.relaxed_to)} {one.unit} {saves}"
    moved = abs(one.relaxed_to - one.limit)
    rate = f", {one.saves_fraction / moved:.2%} for each ms of it on average" if one.unit == "ms" else ""
    return f"{moving}{rate}; beyond it nothing{then}"


def excluded_because(summary: SliceSummary) -> str:
    """Why a slice has no plan, from the plan that violates the fewest requirements there."""
    return "; ".join(_violation(summary.plan, margin) for margin in summary.margins if not margin.holds)


def _violation(plan: Plan, margin: Margin) -> str:
    name = margin.requirement
    if name is Requirement.HBM and plan.weights_bytes / 1e9 > (margin.limit or 0.0):
        usable = f"{number(margin.limit or 0.0)} GB usable on {chips(plan.tp)}"
        return f"hbm: weights take {gigabytes(plan.weights_bytes)}, {usable}"
    if name is Requirement.TPOT and plan.step_ms.weights > (margin.limit or 0.0):
        return (
            f"tpot: loading {gigabytes(plan.weights_bytes)} of weights over {chips(plan.tp)} takes "
            f"{plan.step_ms.weights:.3g} ms, the limit is {margin.limit:g} ms"
        )
    if name is Requirement.HEADS:
        return f"heads: {plan.tp} ways do not divide the query heads and d_ff"
    if margin.value is None:
        return f"{name}: {plan.tp} ways at batch {plan.batch}, weights {plan.weights}, compute {plan.compute}"
    relation = "under" if name is Requirement.THROUGHPUT else "over"
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
