"""What every file says of its plan, and the command that measures whether the plan holds."""

import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from servesat.catalogue.engine import UNPLANNED_CHUNK
from servesat.catalogue.load import load_model, model_ids
from servesat.core.plan import Mode
from servesat.core.quantities import dollars, gigabytes, number
from servesat.core.result import Expected
from servesat.launch.flags import budget, leaves_images_out, pins_adapters
from servesat.launch.servers import PORT, Launch, Role, Server
from servesat.questions.expected import expected

MEASURED_ROUNDS, FEWEST_PROMPTS = 5, 100
"""A benchmark sends this many requests for each that it has under way, and at least so many."""

LONGEST_S = 3600.0
"""How long a benchmark may take to send its fewest requests at a rate at which they come alone [s]."""

ALONE = 0.1
"""Requests under way on average, up to which each comes alone."""

UNPLANNED_OUTPUT = 256
"""Output tokens of a benchmark's requests where the plan has a context alone."""

_REUSE = ("what of earlier prompts it reuses", "what of earlier prompts its radix cache reuses")

_DECIDES = {
    "vllm": ("which requests share a step", "which are preempted and recomputed", _REUSE[0]),
    "sglang": ("which requests share a step", "which are retracted", _REUSE[1]),
    "trtllm": ("which requests share a step", "which are paused", _REUSE[0]),
    "vllm-tpu": ("which requests share a step", "which are preempted", "the shapes that it compiles while starting"),
}


def header(launch: Launch) -> list[str]:
    """Lines on the plan, its price and proof, and what the engine is left to decide."""
    plan, servers = launch.plan, launch.servers
    lines = [f"{launch.spec.model.name} on {launch.engine.name}, as servesat planned it."]
    lines += [_of_server(server) for server in servers]
    word = "at best   " if launch.spec.calibration is None else "predicted "
    lines.append(f"{word} {', '.join(_predicted(launch))}; by the {launch.spec.cost_model_name} cost model")
    practice = expected(launch.spec, plan)
    if practice is not None:
        lines.append(
            f"expected   {', '.join(_practice(launch, practice))}; by the calibrated one, from {practice.stack}"
        )
    bought = " and ".join(dict.fromkeys(_rented(server) for server in servers))
    hourly = launch.usd_per_hour
    lines.append(f"price      {dollars(hourly)} an hour, {dollars(730 * hourly)} a month: {bought}")
    shared = [bill for bill in plan.bills if bill.instances is not None and bill.instances != int(bill.instances)]
    if shared and launch.times == 1:
        lines.append("           for part of a machine: others use the rest, or you pay for it (buy: instances)")
    if launch.times == 1:
        lines.append(f"           {dollars(plan.usd_per_million_output_tokens)} per million output tokens")
    if launch.proof:
        lines.append(f"proof      {launch.proof}")
    left = plan.hbm_bytes * (1 - launch.spec.kept_free - plan.hbm_used_fraction)
    room = f"{gigabytes(plan.kv_cache_bytes)} of KV cache are needed in a replica, and {gigabytes(left)} more are free"
    lines.append(f"memory     {room}")
    if network := launch.spec.assumed_network(plan):
        lines.append(f"network    {network}")
    if any(map(leaves_images_out, servers)):
        lines.append(f"images     are left out: a step has no room for one of {servers[0].whole_image_tokens:,} tokens")
    if stretched := _stretched(launch):
        lines.append(f"context    {stretched}")
    lines.append(f"engine     decides {_decided_by(servers[0])}")
    lines += _beside_the_model(launch, servers[0])
    if plan.mode is Mode.DECODE_ONLY:
        taken = f"the servers take {UNPLANNED_CHUNK:,} of their tokens a step"
        lines.append(f"prompts    are not in this plan, as the workload has no prompt_tokens: {taken}")
    return [*lines, *launch.notes]


def _decided_by(server: Server) -> str:
    """What is left to an engine, as a clause: of prefixes nothing where it keeps none."""
    decided = [what for what in _DECIDES[server.engine.program] if server.keeps_prefixes or what not in _REUSE]
    comma = "," if len(decided) > 2 else ""
    return f"{', '.join(decided[:-1])}{comma} and {decided[-1]}"


def _stretched(launch: Launch) -> str | None:
    """That requests are longer than the model's own context, which engines refuse unless they are told to scale it."""
    model, asked = launch.spec.model, launch.servers[0].context_tokens
    own = load_model(model.id).max_context_tokens if model.id in model_ids() else None
    if own is None or asked <= own:
        return None
    flag = {"sglang": "--json-model-override-args", "trtllm": "its config.json"}.get(
        launch.engine.program, "--hf-overrides"
    )
    return f"{asked:,} tokens are beyond the {own:,} of the checkpoint: add the rope scaling of its card, by {flag}"


def _beside_the_model(launch: Launch, server: Server) -> Iterator[str]:
    """What keeps prefixes in the memory of hosts, and how adapters are added and asked for."""
    program = launch.engine.program
    if server.host_cache_bytes:
        where = "/dev/shm" if program == "vllm" else "pinned memory"
        together = max(1, min(server.machine_chips // server.chips, server.count))
        total = f", {gigabytes(together * server.host_cache_bytes)} on a machine of {together}" if together > 1 else ""
        yield f"host       keeps {gigabytes(server.host_cache_bytes)} of prefixes for each server in {where}{total}"
    if launch.spec.lora is not None:
        of_sglang = program == "sglang"
        flag, named = ("--lora-paths", "MODEL:NAME") if of_sglang else ("--lora-modules", "NAME")
        asked = "--lora-name" if of_sglang else "--lora-modules"
        pinned = '\'{"lora_name": "NAME", "lora_path": "PATH", "pinned": true}\''
        adapter = pinned if pins_adapters(server) else "NAME=PATH"
        yield f"adapters   are added to the servers by {flag} {adapter}; a request has {named} as its model"
        yield f"           the benchmark asks for the bare model, unless {asked} NAME is added to it"


def _of_server(server: Server) -> str:
    alike = "server" if server.count == 1 else "servers"
    of_chips = f"{server.chips} × {server.chip.id}" + (f" on {server.nodes} nodes" if server.nodes > 1 else "")
    split = f"tp {server.tp}" + (f", experts over {server.ep}" if server.ep > 1 else "")
    split += f", {server.pp} stages" if server.pp > 1 else ""
    if server.draft is not None:
        ahead = "1 token" if server.draft.tokens == 1 else f"{server.draft.tokens} tokens"
        split += f", {ahead} ahead by {server.draft.draft}"
    split += f", {server.data_parallel} replicas" if server.data_parallel > 1 else ""
    batch = (
        f"up to {server.sequences} sequences, {budget(server):,} tokens a {'micro-batch' if server.pp > 1 else 'step'}"
    )
    batch += " and group" if server.ep > 1 else ""
    what = "" if server.role is Role.SERVE else f" {server.role}"
    return f"{server.count}{what} {alike} of {of_chips} ({split}), {server.checkpoint}; {batch}"


def _rented(server: Server) -> str:
    if server.cloud is None and server.instance is None:
        return server.chip.id
    bought = (server.purchase or "").replace("_", " ")
    return " ".join(part for part in (server.cloud, server.region, server.instance, bought) if part)


def _predicted(launch: Launch) -> Iterable[str]:
    plan, errors = launch.plan, launch.spec.errors_of(launch.plan.chip, launch.plan.engine)
    demand, output = launch.spec.workload.requests_per_s, launch.spec.workload.output_tokens
    if launch.replayed is not None and demand is not None and output is not None:
        for name, times in zip(("TTFT", "TPOT"), launch.replayed, strict=True):
            if name == "TTFT" or output > 1:
                yield f"{name} p50 {number(times.p50)} ms, p95 {number(times.p95)} ms"
        yield f"{_tokens_per_s(demand * output)} at {number(demand)} requests/s"
        return
    if demand is not None and output is not None and launch.times == 1:
        yield f"TPOT at most {number(plan.tpot_ms)} ms{_error(plan.tpot_ms, errors.tpot)}"
        yield f"{_tokens_per_s(demand * output)} at {number(demand)} requests/s, of {plan.tokens_per_s:,.0f} in all"
        return
    yield f"TPOT {number(plan.tpot_ms)} ms{_error(plan.tpot_ms, errors.tpot)}"
    if plan.ttft_ms is not None:
        yield f"TTFT {number(plan.ttft_ms)} ms{_error(plan.ttft_ms, errors.ttft)}"
    yield f"{launch.times * plan.tokens_per_s:,.0f} output tokens/s in all"


def _tokens_per_s(rate: float) -> str:
    return f"{number(rate) if rate < 100 else f'{rate:,.0f}'} output tokens/s"


def _error(value_ms: float, share: float) -> str:
    return f" ± {number(value_ms * share)}" if share else ""


def yaml_text(document: Any) -> str:
    """A document as YAML, its keys in their order."""
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=110, default_flow_style=False)


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """A text of several lines as a block."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Plain.add_representer(str, _text)


def _practice(launch: Launch, practice: Expected) -> Iterable[str]:
    yield f"TPOT {number(practice.tpot_ms)} ms"
    if practice.ttft_ms is not None:
        yield f"TTFT {number(practice.ttft_ms)} ms"
    yield f"{launch.times * practice.tokens_per_s:,.0f} output tokens/s"


def commented(lines: Iterable[str]) -> str:
    """Lines as comments of a shell script or of YAML, whatever their text holds."""
    return "".join(f"# {' '.join(line.splitlines())}".rstrip() + "\n" for line in lines)


def benchmark(launch: Launch, port: int | None = PORT) -> str:
    """A script that loads what was started, at a port, as the plan expects, and says what it should measure.

    Without a port its user has to say where all servers are met.
    """
    plan, workload = launch.plan, launch.spec.workload
    together = launch.times * plan.batch * plan.replicas * plan.slices
    output = workload.output_tokens or min(UNPLANNED_OUTPUT, workload.longest_context_tokens - 1)
    prompt = workload.prompt_tokens or max(1, workload.longest_context_tokens - output)
    load, count = ["--max-concurrency", str(together)], max(FEWEST_PROMPTS, MEASURED_ROUNDS * together)
    if workload.requests_per_s is not None and launch.times == 1:
        load = ["--request-rate", f"{workload.requests_per_s:g}", *_bursts(launch)]
        if _comes_alone(launch):  # and may as well come one after another
            load, count = ["--max-concurrency", "1"], FEWEST_PROMPTS
    words = [*_bench(launch), *_lengths(launch, prompt, output), "--num-prompts", str(count), *load]
    word = "at best" if launch.spec.calibration is None else "should measure"
    if unsent := _unsent(launch):
        word = f"sends no {', no '.join(unsent)}, and so will not show what the plan has:"
    practice = expected(launch.spec, plan)
    told = [f"{word} {_sent(launch, _predicted(launch))}"]
    if practice is not None:
        told.append(f"should measure {_sent(launch, _practice(launch, practice))}, see docs/accuracy.md")
    if plan.draft is not None:
        told.append("random tokens are drafted worse than text: use a dataset of your own for the accepted length")
    if port is None:
        usage = f"URL: the address of what shares requests out to all {launch.servers[0].count} servers"
        given = f"${{1:?{usage}}}"
    else:
        usage = f"URL: the address of what was started; http://localhost:{port} unless it is given"
        given = f"${{1:-http://localhost:{port}}}"
    command = " \\\n  ".join([shlex.join(words[:4]), '--base-url "$url"', *_pairs(words[4:])])
    return f"#!/usr/bin/env bash\n{commented([*told, usage])}url={given}\n{command}\n"


def _comes_alone(launch: Launch) -> bool:
    """Whether requests hardly ever meet at the rate of a plan, which takes long to send enough of them."""
    rate, e2e_ms = launch.spec.workload.requests_per_s, launch.plan.e2e_ms
    if rate is None or e2e_ms is None or launch.times > 1:
        return False
    return FEWEST_PROMPTS / rate > LONGEST_S and rate * e2e_ms / 1e3 < ALONE


def _sent(launch: Launch, figures: Iterable[str]) -> str:
    """The figures that a benchmark should measure: no throughput where it sends one request after another."""
    return ", ".join(figure for figure in figures if not (_comes_alone(launch) and "tokens/s" in figure))


def _pairs(words: list[str]) -> list[str]:
    """Words with each flag beside its value."""
    lines: list[list[str]] = []
    for word in words:
        if word.startswith("--") or not lines:
            lines.append([word])
        else:
            lines[-1].append(word)
    return [shlex.join(line) for line in lines]


def _bench(launch: Launch) -> list[str]:
    if launch.engine.program == "sglang":
        return ["python3", "-m", "sglang.bench_serving", "--backend=sglang-oai", "--model", launch.checkpoint]
    allowing = ["--trust-remote-code"] if launch.spec.model.remote_code else []
    return ["vllm", "bench", "serve", "--backend=openai", "--model", launch.checkpoint, "--ignore-eos", *allowing]


def _lengths(launch: Launch, prompt: int, output: int) -> list[str]:
    is_sglang = launch.engine.program == "sglang"
    cached = 0 if is_sglang else min(prompt - 1, round(prompt * launch.spec.workload.prefix_cache_hit))
    words = ["--dataset-name", "random", "--random-input-len", str(prompt - cached), "--random-output-len", str(output)]
    words += ["--random-prefix-len", str(cached)] if cached else []
    return [*words, "--random-range-ratio", "1" if is_sglang else "0"]  # its shortest as a share; vLLM's is the spread


def _bursts(launch: Launch) -> list[str]:
    """Gaps of a Gamma distribution of shape 1 / cv², which vLLM's benchmark draws."""
    cv = launch.spec.workload.arrivals.gamma_cv
    return ["--burstiness", f"{1 / cv**2:g}"] if cv not in {0, 1} and launch.engine.program != "sglang" else []


def _unsent(launch: Launch) -> list[str]:
    """What requests of the spec are like and those of a benchmark are not."""
    workload, is_sglang = launch.spec.workload, launch.engine.program == "sglang"
    spread = workload.lengths.prompt_cv or workload.lengths.output_cv
    differences = {
        "requests of the trace": workload.arrivals.trace is not None,
        "lengths that differ": bool(spread) and workload.arrivals.trace is None,
        "prefixes that are cached": workload.prefix_cache_hit > 0 and is_sglang,
        "prefixes kept in hosts": workload.host_hit > 0,
        "bursts": workload.arrivals.gamma_cv > 1 and not _bursts(launch),
        "arrivals at regular intervals": workload.arrivals.gamma_cv < 1 and not _bursts(launch),
    }
    return [name for name, differs in differences.items() if differs]
