"""The result of a deployment as text: the plan, its step and memory as bars, why it is best, and its proof."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from servesat.candidates.engines import not_served
from servesat.candidates.rule import Requirement
from servesat.catalogue.chip import chips_in
from servesat.core.plan import Mode, Plan
from servesat.core.quantities import dollars, gigabytes, number, whole_dollars
from servesat.core.result import Correction, Margin, Result, SliceSummary, Status
from servesat.report.basis_words import broken_in_practice, cost_model, errors, in_practice, rests_on
from servesat.report.explanation import alternatives_table, print_explanation
from servesat.report.limit_words import change, conflict, excluded_because, relaxation
from servesat.report.price_words import beside_api, on_spot, price
from servesat.report.replays import fell, replay_rows, verified
from servesat.report.words import (
    adapters,
    batch_split,
    chips,
    decode_slices,
    drafting,
    duration,
    host_cache,
    kv_layout,
    load,
    loads,
    longest_term,
    mode,
    sequences,
    ways,
    workload,
)
from servesat.spec.spec import Spec

BAR_WIDTH = 32
"""Width of a full bar [characters]."""


def print_result(console: Console, spec: Spec, result: Result, *, explain: bool) -> None:
    """Print a result: the plan, where its time goes, why it is best, and what is proved."""
    console.print(title(spec))
    if result.plan is None:
        console.print(_no_plan(spec, result))
        return
    console.print(_plan_table(spec, result, result.plan))
    console.print(_step_bars(result.plan, hides_ici=spec.calibration is None, at_full_batch=bool(result.replayed)))
    console.print(_hbm_bar(spec, result.plan))
    console.print(_why(spec, result, result.plan))
    if result.alternatives:
        console.print(alternatives_table(result.alternatives, in_means=result.replayed is not None))
    if explain:
        print_explanation(console, result)
    console.print(_proof(result, result.plan))


def print_summary(console: Console, spec: Spec, result: Result) -> None:
    """Print a result in a few lines: what is asked, the plan, its bill, what binds, and what is proved."""
    console.print(title(spec))
    plan = result.plan
    if plan is None:
        console.print(_no_plan(spec, result))
        return
    dtypes = f"weights {plan.weights}, KV cache {plan.kv_cache}, compute {plan.compute}"
    console.print(
        Text.assemble((decode_slices(plan), "bold"), f", {dtypes}, batch {plan.batch}, {plan.tpot_ms:.2f} ms a token")
    )
    if plan.mode is not Mode.DECODE_ONLY:
        console.print(Text(mode(plan, spec.workload.new_prompt_tokens)))
    per_million = f"{dollars(plan.usd_per_million_output_tokens)} per million output tokens"
    several = len(result.binding) > 1
    if result.replayed is not None and result.binding:
        verb = "rule out cheaper plans" if several else "rules out cheaper plans"
    else:
        verb = "bind" if several else "binds"
    bound_by = f"{' and '.join(result.binding) or 'no limit'} {verb}"
    bill = f", {dollars(plan.usd_per_hour)} an hour for {chips(plan.chips)}; {bound_by}"
    console.print(Text.assemble((per_million, "bold"), bill))
    console.print(_proof(result, plan))


def _verified(result: Result, plan: Plan) -> Text | None:
    """What stands for the proof of a plan that replays verified, in full."""
    bound = result.bound_usd_per_million_output_tokens
    if result.replayed is None or result.status is not Status.OPTIMAL or bound is None:
        return None
    cost = plan.usd_per_million_output_tokens
    return Text(f"\n{verified(result.replayed, bound, cost, result.solve_s)}", style="green")


def title(spec: Spec) -> Text:
    """What is asked: the model, the workload, the cost model, and whose prices."""
    parts = [
        workload(spec.workload),
        cost_model(spec),
        f"prices: {spec.price_book.id}" + (" and the spec's" if spec.price else ""),
    ]
    return Text.assemble((spec.model.name, "bold"), " · ", " · ".join(parts), "\n")


def _plan_table(spec: Spec, result: Result, plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    replicas = f"{plan.replicas} replicas" if plan.replicas > 1 else "1 replica"
    of_slice = chips_in(plan.topology)
    count = f"{plan.slices} slices of " if plan.slices > 1 else ""
    table.add_row(
        "slice",
        Text.assemble(
            count, (f"{plan.chip} {plan.topology}", "bold"), f" ({chips(of_slice)}), {ways(plan)}, {replicas}"
        ),
    )
    if plan.mode is not Mode.DECODE_ONLY:
        table.add_row("mode", mode(plan, spec.workload.new_prompt_tokens))
    if network := spec.assumed_network(plan):
        table.add_row("network", network)
    table.add_row("dtypes", f"weights {plan.weights}, KV cache {plan.kv_cache}, compute {plan.compute}")
    if result.loading is not None:
        table.add_row("engine", loads(result.loading, plan.weights))
    for label, text in _beside_the_model(spec, plan):
        table.add_row(label, text)
    table.add_row("batch", f"{sequences(plan.batch)} a replica{batch_split(plan)}{kv_layout(plan)}")
    tpot_error, ttft_error = ("", "") if result.basis is None else errors(plan, result.basis)
    pace = f"{plan.tokens_per_s:,.0f} tokens/s, {plan.tokens_per_s_per_chip:,.1f} a chip"
    for label, text in () if result.replayed is None else replay_rows(result.replayed):
        table.add_row(label, text)
    full, each = ("tpot", "") if result.replayed is None else ("full", " a token")
    tpot = f"{plan.tpot_ms:.2f} ms{tpot_error}{each}"
    table.add_row(full, f"{'answers have one token' if spec.workload.output_tokens == 1 else tpot}, {pace}")
    table.add_row("used", f"{plan.mfu:.1%} of the peak FLOP/s (MFU), {plan.mbu:.1%} of the memory bandwidth (MBU)")
    if plan.ttft_ms is not None and plan.e2e_ms is not None and result.replayed is None:
        ends = f"{duration(plan.ttft_ms)}{ttft_error} to the first token, {duration(plan.e2e_ms)} to the last"
        table.add_row("request", f"{ends}; {duration(plan.stall_ms or 0.0)} between two tokens at most")
    if plan.requests_per_s is not None:
        table.add_row("load", load(plan))
    if result.expected is not None:
        table.add_row("practice", in_practice(result.expected))
    if result.basis is not None:
        for line in rests_on(plan, result.basis):
            table.add_row("measured", line)
    _add_costs(table, plan)
    if any(bill.purchase == "spot" for bill in plan.bills):
        table.add_row("spot", on_spot(plan, result.without_spot, spec.spot_capacity))
    if result.api is not None:
        table.add_row("api", beside_api(result.api))
    return table


def _add_costs(table: Table, plan: Plan) -> None:
    """Add what a plan costs: by the token, by the request, by the hour, month and year, and where it is paid."""
    per_million = f"{dollars(plan.usd_per_million_output_tokens)} per million output tokens"
    rest = ""
    if plan.usd_per_million_tokens is not None and plan.usd_per_million_input_tokens is not None:
        of_input = dollars(plan.usd_per_million_input_tokens)
        rest = f", or {of_input} of input, or {dollars(plan.usd_per_million_tokens)} of both"
    table.add_row("cost", Text.assemble((per_million, "bold"), rest))
    if plan.usd_per_request is not None:
        table.add_row("", f"{dollars(plan.usd_per_request)} a request")
    idle = plan.chips - plan.chips_used
    share = f"; the share of the chips used is {dollars(plan.usd_per_hour_of_chips_used)} an hour" if idle else ""
    a_chip = f" at {dollars(plan.usd_per_chip_hour)} a chip" if plan.prefill is None else f", {chips(plan.chips)}"
    by_time = f"{whole_dollars(plan.usd_per_month)} a month, {whole_dollars(plan.usd_per_year)} a year"
    table.add_row("bill", f"{dollars(plan.usd_per_hour)} an hour{a_chip}, {by_time}{share}")
    if plan.power_kw is not None and plan.kwh_per_million_output_tokens is not None:
        energy = f"{number(plan.kwh_per_million_output_tokens)} kWh per million output tokens"
        table.add_row("energy", f"{energy}, {number(plan.power_kw)} kW as the chips are rated")
    lines = (price(bill) for bill in plan.bills if bill.cloud is not None or bill.instance is not None)
    for line in dict.fromkeys(lines):
        table.add_row("price", line)


def _step_bars(plan: Plan, *, hides_ici: bool, at_full_batch: bool) -> Group:
    step = plan.step_ms
    overlapping = {"weights": step.weights, "FLOPs": step.flops} | ({"ICI": step.ici} if hides_ici else {})
    longest = max(overlapping, key=lambda name: overlapping[name])
    table = Table.grid(padding=(0, 2))
    for name, value in overlapping.items():
        if value > 0:
            hidden = name != longest
            table.add_row(
                name,
                Text(_bar(value / plan.tpot_ms), style="dim" if hidden else "cyan"),
                f"{value:.2f} ms" + (f"  hidden behind {longest}" if hidden else ""),
            )
    table.add_row("KV cache", Text(_bar(step.kv_cache / plan.tpot_ms), style="magenta"), f"{step.kv_cache:.2f} ms")
    if step.kv_exchange:
        exchange = f"{step.kv_exchange:.2f} ms  queries and partial results of split sequences"
        table.add_row("exchange", Text(_bar(step.kv_exchange / plan.tpot_ms), style="magenta"), exchange)
    if step.pipeline:
        passed_on = f"{step.pipeline:.2f} ms  activations from stage to stage"
        table.add_row("pipeline", Text(_bar(step.pipeline / plan.tpot_ms), style="magenta"), passed_on)
    if step.draft:
        table.add_row("draft", Text(_bar(step.draft / plan.tpot_ms), style="green"), f"{step.draft:.2f} ms")
    others = {"head": step.head, "collectives": 0.0 if hides_ici else step.ici, "launches": step.launches}
    for name, value in {**others, "host": step.host}.items():
        if value:
            table.add_row(name, Text(_bar(value / plan.tpot_ms), style="blue"), f"{value:.2f} ms")
    if step.prefill:
        table.add_row("prefill", Text(_bar(step.prefill / plan.tpot_ms), style="yellow"), f"{step.prefill:.2f} ms")
    title = f"One token, {plan.tpot_ms:.2f} ms on average" if step.prefill else f"One step, {plan.tpot_ms:.2f} ms"
    title += " at a full batch" if at_full_batch else ""
    return Group(Text(f"\n{title}", style="bold"), table)


def _beside_the_model(spec: Spec, plan: Plan) -> Iterator[tuple[str, str]]:
    """Drafts, adapters, and a cache in the memory of hosts, each where the plan has it."""
    if plan.draft is not None:
        yield "draft", drafting(plan)
    if spec.lora is not None:
        yield "adapters", adapters(spec, spec.lora, plan)
    if spec.workload.host_cache is not None:
        yield "prefixes", host_cache(spec.workload, plan)


def _hbm_bar(spec: Spec, plan: Plan) -> Group:
    table = Table.grid(padding=(0, 2))
    held = {"weights": plan.weights_bytes - plan.adapter_bytes, "KV cache": plan.kv_cache_bytes}
    beside = {
        "adapters": plan.adapter_bytes,
        "activations": plan.activation_bytes,
        "runtime": plan.runtime_bytes,
    }
    for name, used in {**held, **{name: used for name, used in beside.items() if used}}.items():
        table.add_row(name, Text(_bar(used / plan.hbm_bytes), style="cyan"), gigabytes(used))
    headroom = f", {spec.kept_free:.0%} kept free" if spec.kept_free else ""
    title = f"\nHBM of a replica, {plan.hbm_used_fraction:.1%} of {gigabytes(plan.hbm_bytes)} used{headroom}"
    return Group(Text(title, style="bold"), table)


def _bar(fraction: float) -> str:
    full, eighths = divmod(round(fraction * BAR_WIDTH * 8), 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[eighths] if eighths else "")


def _why(spec: Spec, result: Result, plan: Plan) -> Group:
    lines: list[RenderableType] = [Text("\nWhy", style="bold")]
    used = {margin.requirement: _used(margin) for margin in result.margins}
    none_binds = "no limit is reached" if result.relaxations else "no limit binds"
    verb, here = ("binds", "") if result.replayed is None else ("rules out cheaper plans", " here")
    for requirement in result.binding:
        of_limit = f"{used[requirement]}{here}" if requirement in used else "in replays"
        lines.append(Text.assemble((f"{requirement} {verb}", "yellow"), f": {of_limit}"))
    told = dict.fromkeys(fell(fallen) for fallen in (result.replayed.fallen if result.replayed else ()))
    lines += [Text(line) for line in list(told)[-3:]]
    if result.max_batch_binds:
        lines.append(Text(f"search.max_batch = {spec.search.max_batch} binds: a larger batch would cost less"))
    elif any(limit.requirement in spec.constraints for limit in result.relaxations):
        pass  # said below
    elif not result.binding and spec.workload.requests_per_s is not None:
        lines.append(Text(f"{none_binds}: these slices meet the demand, and none that cost less do"))
    elif not result.binding:
        longest = longest_term(plan, hides_ici=spec.calibration is None)
        lines.append(Text(f"{none_binds}: a larger batch would not cost less: {longest} takes the time"))
    if result.expected is not None:
        lines += [Text(text, style="yellow") for text in broken_in_practice(spec, result.expected)]
    lines += [Text(relaxation(limit)) for limit in result.relaxations]
    for summary in _next_smaller(result, plan):
        where = f"{summary.plan.topology} ({chips(summary.plan.chips)})"
        lines.append(Text(f"{where} is rejected: {excluded_because(summary)}"))
    return Group(*lines)


def _next_smaller(result: Result, plan: Plan) -> Sequence[SliceSummary]:
    """The largest rejected slice with fewer chips than the plan, which a reader would try first."""
    rejected = [summary for summary in result.slices if summary.violated and summary.plan.chips < plan.chips]
    return rejected[-1:]


def _used(margin: Margin) -> str:
    if margin.value is None or margin.limit is None:
        return "a rule"
    return f"{number(margin.value)} of {number(margin.limit)} {margin.unit}"


def _no_plan(spec: Spec, result: Result) -> Text:
    if result.status is Status.UNKNOWN:
        why = "the time limit was reached before a plan was found; raise it with --time-limit"
        if spec.percentile is not None:
            why = (
                "replays leave open whether some plan keeps the limits, or constraints allow numbers of slices too far "
                "apart; move a limit by a few percent, or raise --time-limit if you gave one"
            )
        return Text(f"unknown: {why}", "red")
    lines = [f"  {conflict(members, spec)}" for members in result.conflict or ()]
    if (Requirement.ENGINE,) in (result.conflict or ()) and not _runs_somewhere(spec):
        lines.append("  set `engine: none` to plan for machines that no engine is known to run on")
    text = Text.assemble(("infeasible: no plan satisfies every requirement\n", "red"), "\n".join(lines))
    if result.servable_requests_per_s is not None:
        text.append(
            f"\n\nAt least {number(result.servable_requests_per_s)} requests/s can be served within these limits"
        )
    if result.means_hold:
        text.append("\n\nA plan keeps the limits on average: with requests that arrive at random, queues break them")
    if not result.corrections:
        if result.means_hold:
            return text
        return text.append("\n\nno change of one or two limits or parts of the search makes a plan exist")
    which = "any one of these" if len(result.corrections[0].changes) == 1 else "these two together"
    on_average = spec.percentile is not None and not result.corrections[0].replayed
    exists = "a plan keeps the limits on average; queues may need more" if on_average else "a plan exists"
    text.append(f"\n\nWith {which} {exists}\n", style="bold")
    return text.append("\n".join(f"  {_correction(correction)}" for correction in result.corrections))


def _runs_somewhere(spec: Spec) -> bool:
    able = [engine for engine in spec.engine if not_served(spec, engine) is None]
    return any(engine.support_of(chip.id) is not None for engine in able for chip in spec.chips)


def _correction(correction: Correction) -> str:
    plan = correction.plan
    changes = " and ".join(map(change, correction.changes))
    return (
        f"{changes}: {plan.chip} {plan.topology}, weights {plan.weights}, batch {plan.batch}, {plan.tpot_ms:.2f} ms, "
        f"{dollars(plan.usd_per_million_output_tokens)} per million output tokens"
    )


def _proof(result: Result, plan: Plan) -> Text:
    said = _verified(result, plan)
    if said is not None:
        return said
    cost, bound = plan.usd_per_million_output_tokens, result.bound_usd_per_million_output_tokens
    if result.status is Status.OPTIMAL:
        proof = f"optimal: proved that no plan costs less than {dollars(cost)}"
    elif bound is None:
        proof = "feasible: the time limit was reached before any bound was proved"
    else:
        gap = f"a gap of {result.gap:.2%}"
        proof = f"feasible: the time limit was reached; no plan costs less than {dollars(bound)}, {gap}"
    return Text(f"\n{proof} ({result.solve_s:.2f} s)", style="green" if result.status is Status.OPTIMAL else "yellow")
