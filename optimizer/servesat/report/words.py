"""Plans, and parts of them, as sentences and as cells of tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from servesat.core.plan import KvLayout, Plan
from servesat.core.quantities import dollars, gigabytes, number
from servesat.core.result import Loading
from servesat.questions.one_pool import LeftOut
from servesat.spec.lora import Lora
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload


def ways(plan: Plan) -> str:
    """How a replica is sharded: `64-way tensor parallelism over axes 0 and 1`."""
    tensor = f"{plan.tp}-way tensor parallelism over {_axes(plan.tp_axes)}" if plan.tp_axes else "no tensor parallelism"
    if plan.ep_axes:
        experts = f"experts spread {plan.ep} ways over {_axes(plan.ep_axes)}"
        tensor = f"{tensor}, {experts}" if plan.tp_axes else f"{experts}, attention data-parallel"
    return f"{tensor}, {plan.pp} pipeline stages over {_axes(plan.pp_axes)}" if plan.pp_axes else tensor


def adapters(spec: Spec, lora: Lora, plan: Plan) -> str:
    """LoRA adapters: `8 at a time, of rank 16, 1.3 GB of a replica; steps take 1.2 times as long`."""
    at_a_time = f"{lora.adapters} at a time" if lora.adapters > 1 else "1"
    slower = f"; steps take {spec.step_factor:g} times as long" if spec.calibration is not None else ""
    return f"{at_a_time}, of rank {lora.rank}, {gigabytes(plan.adapter_bytes)} of a replica{slower}"


def host_cache(load: Workload, plan: Plan) -> str:
    """What hosts keep: `4,000 tokens of a prompt loaded in 12.8 ms, from 320 GB of memory for each replica`."""
    loaded = f"{load.host_prompt_tokens:,.0f} tokens of a prompt loaded in {plan.host_load_ms:.1f} ms"
    return f"{loaded}, from {gigabytes(plan.host_bytes)} of memory for each replica"


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
    shares = {"cached": load.prefix_cache_hit, "in the memory of hosts": load.host_hit}
    told = " and ".join(f"{share:.0%} {where}" for where, share in shares.items() if share)
    cached = f" ({told})" if told else ""
    held = f"{load.held_tokens:,} tokens of context"
    read = held if load.prompt_tokens is None else f"prompts of {load.prompt_tokens:,} tokens{cached}"
    written = f", {load.output_tokens:,} of output" if load.output_tokens else ""
    rate = f", {number(load.requests_per_s)} requests/s" if load.requests_per_s else ""
    return read + written + rate


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
    if plan.chunk_tokens is None:
        return f"{plan.mode}: whole prefills of {plan.prefill_ms or 0.0:.1f} ms between the steps"
    if plan.chunk_tokens >= new_prompt_tokens:
        return f"{plan.mode}: a prompt rides whole on one step, {plan.prefill_ms or 0.0:.1f} ms a prompt"
    each = "step" if plan.pp == 1 else f"micro-batch, {plan.pp} of a step"
    return f"chunked: {plan.chunk_tokens} prompt tokens ride on each {each}, {plan.prefill_ms or 0.0:.1f} ms a prompt"


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
    per_s = plan.requests_per_s or 0.0
    return f"up to {number(per_s)} requests/s ({number(per_s / plan.chips)} a chip){demand}; {steps}"


def left_out(what: LeftOut | None) -> str:
    """What a question leaves out, for its title: `, without disaggregated plans`; empty if nothing."""
    return "" if what is None else f", without {' and '.join(what.modes)} plans"


def best_left_out(what: LeftOut) -> str:
    """The best plan that a question leaves out, as a sentence."""
    modes = " and ".join(what.modes)
    if what.best is None:
        return f"{modes} plans are left out: there is none within the limits"
    cost = dollars(what.best.usd_per_million_output_tokens)
    return f"{modes} plans are left out: the best costs {cost} per million output tokens (servesat modes)"


def longest_term(plan: Plan, *, hides_ici: bool) -> str:
    """The longest part of a step that is not hidden behind loading the weights, which may hide the interconnect."""
    step = plan.step_ms
    overlapping = {"the arithmetic": step.flops} | ({"the interconnect": step.ici} if hides_ici else {})
    in_turn = {
        "the interconnect": step.kv_exchange + step.pipeline + (0.0 if hides_ici else step.ici),
        "the KV cache": step.kv_cache,
        "the output head": step.head,
        "launching kernels": step.launches,
        "prefill": step.prefill,
        "the host": step.host,
        "drafting": step.draft,
    }
    not_hidden = in_turn | {name: time for name, time in overlapping.items() if time >= step.weights}
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
