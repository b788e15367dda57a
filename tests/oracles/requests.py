"""Whole requests by enumeration: plain loops over modes, layouts, batches, chunks and pools.

Written from docs/cost-model.md. Like tests/oracles/deployment.py it takes the raw spec, with inline model and chips,
and imports nothing from servesat.
"""

from itertools import product
from math import ceil
from typing import Any

from tests.oracles.deployment import COST_TIE_RTOL, settled
from tests.oracles.machine import MET, engines_of, machines
from tests.oracles.measured import Measured, calibration

MAX_SMALLER_POOL_SLICES = 4
MOST = 60  # slices of the other pool that are tried


def enumerate_plans(spec: dict[str, Any]):
    """Yield (plan, violated requirements) for every mode, layout, batch and number of slices."""
    world = World(spec)
    for mode in spec["search"].get("modes", ["interleaved", "chunked", "disaggregated"]):
        if mode == "interleaved":
            yield from world.in_one_pool("interleaved", None)
        elif mode == "chunked":
            alike = "interleaved" in spec["search"].get("modes", ["interleaved"]) and not spec.get("names_chunks")
            for chunk in spec["search"].get("chunk_tokens", [128, 256, 512, 1024, 2048, 4096, 8192]):
                if chunk < world.new or not alike:
                    yield from world.in_one_pool("chunked", chunk)
        else:
            yield from world.in_two_pools()


def solve(spec: dict[str, Any]):
    """The best plan by the order of docs/cost-model.md, or None; and the minimal conflicts, empty when there is one."""
    return settled(enumerate_plans(spec), best)


def best(plans):
    """The first of some plans by the order of docs/cost-model.md: cost, then speed, then chips, then id."""
    cheapest = min(plan["usd"] for plan in plans)
    tied = [plan for plan in plans if plan["usd"] <= cheapest * (1 + COST_TIE_RTOL)]
    fastest = min(plan["tpot_s"] for plan in tied)
    tied = [plan for plan in tied if plan["tpot_s"] <= fastest * (1 + MET)]
    return min(tied, key=lambda plan: (plan["chips"], *plan["id"]))


class World:
    """A spec's machines, and what they do with its workload."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.model, self.workload = spec, spec["model"], spec["workload"]
        self.search, self.slo = spec["search"], spec.get("slo", {})
        workload = self.workload
        self.prompt, self.output = workload["prompt_tokens"], workload["output_tokens"]
        self.from_host = self.prompt * workload.get("host_cache", {}).get("hit", 0.0)
        self.cached = self.prompt * workload.get("prefix_cache_hit", 0.0) + self.from_host
        self.new = self.prompt - self.cached
        self.held = workload.get("context_tokens") or self.prompt + self.output
        self.read = workload.get("context_tokens") or self.prompt + self.output / 2
        self.demand = workload.get("requests_per_s")
        self.load = spec.get("utilisation", 1.0)
        self.mfu, self.pay = spec.get("prefill_mfu", 1.0), spec.get("ici", "forbid") == "pay"
        self.machines = list(machines(spec))

    def prompt_flop(self, lay):
        return 2 * lay.active * self.new + self.attention_flop(lay)

    def attention_flop(self, lay):
        model, last = self.model, self.cached + self.new

        def met(reach):
            """Pairs of a new token and one that it meets: the integral of min(x, reach) over the new tokens."""
            below = max(0.0, min(last, reach) - min(self.cached, reach))
            inside = below * (min(last, reach) + min(self.cached, reach)) / 2
            return inside + (self.new - below) * reach

        each = 4 * model["query_heads"] * model.get("head_dim", 0)
        if lay.mla:
            wide = lay.mla["nope_head_dim"] + lay.mla["rope_head_dim"] + lay.mla["v_head_dim"]
            each = 2 * model["query_heads"] * wide
        windowed = model.get("window_layers", 0)
        pairs = (lay.own - windowed) * met(last) + windowed * met(model.get("window_tokens", last))
        total = 0
        for other in lay.others:
            width = other.get("head_dim", 0)
            both = 2 * other["heads"] * (width + (other.get("v_head_dim") or width))
            window = other.get("window_tokens", last)
            attended = both * met(min(window, other.get("selected_tokens", last), last))
            attended += other.get("index_flops", 0) * met(window)
            attended /= other.get("entry_tokens", 1)
            total += other["layers"] * (attended + other.get("state_flops", 0) * self.new)
        if lay.sparse:
            index = 2 * lay.sparse["index_heads"] * lay.sparse["index_head_dim"]
            return total + lay.own * each * met(lay.sparse["tokens"]) + lay.indexed * index * met(last)
        return total + each * pairs

    def measured(self, lay):
        return Measured(lay, self.cached, self.new, self.read)

    def closed_loop(self, lay, batch, chunk):
        """Times with so many requests under way: tpot, stall, ttft, and output tokens/s of a replica."""
        at = self.measured(lay)
        step, (alone, work) = at.step_s(batch), at.prompt(self.attention_flop(lay))
        pace = step / lay.accepted
        queue = at.queue_s(work, pace, batch, self.output)
        beside = ((batch - 1) * work - queue) / self.output
        tpot = pace + beside
        if chunk:
            stall, first = step + work * lay.pp * chunk / self.new, lay.pp * work + ceil(self.new / chunk) * step
        else:
            stall, first = step + alone / lay.pp, alone + step
        ttft = at.host["request_s"] + self.loaded_s(lay) + queue + beside + first
        return tpot, stall, ttft, batch * self.output / (ttft + (self.output - 1) * tpot)

    def loaded_s(self, lay):
        """What the links of the chips that hold a sequence take to bring what the host has of it."""
        if not self.from_host:
            return 0.0
        share = 1.0 if calibration(self.spec) is None else 0.8
        return lay.kept_bytes(self.from_host) / (lay.tp * lay.pp * lay.chip["host_bytes_per_s"] * share)

    def within_loads(self, lay, tokens_per_s):
        """No more than the requests that each group loads one after another."""
        return min(tokens_per_s, lay.ep * self.output / self.loaded_s(lay)) if self.from_host else tokens_per_s

    def prefill_s(self, lay):
        if calibration(self.spec) is not None:
            return self.measured(lay).prompt(self.attention_flop(lay))[0]
        flops = lay.fullest * self.prompt_flop(lay) / (lay.stage * lay.peak * self.mfu)
        busy = max(lay.load_s(self.new), flops, lay.pp * lay.ici_s(self.new) if self.pay else 0.0)
        return busy + lay.pp * self.new * lay.hop_s()

    def step_s(self, lay, batch, chunk=0):
        if calibration(self.spec) is not None:
            return self.measured(lay).step_s(batch)
        riding = lay.fullest * self.prompt_flop(lay) * chunk / self.new / (lay.stage * lay.peak * self.mfu)
        tokens = batch * (lay.ahead + 1)
        ici = lay.ici_s(tokens + lay.pp * chunk) if self.pay else 0.0
        whole = max(lay.load_s(tokens / lay.pp + chunk), lay.flops_s(tokens) + riding, ici)
        exchanged = lay.ahead * batch * lay.exchanged_s()
        moved = lay.kv_read_s(batch, self.read) + exchanged + batch * lay.hop_s()
        return whole + moved + lay.drafting_s(batch, self.read)

    def price(self, lay):
        return lay.chip["usd_per_chip_hour"] * lay.n

    def slices_for(self, tokens_per_s):
        return ceil(self.demand * self.output / (self.load * tokens_per_s) * (1 - MET))

    def finished(self, plan, violated):
        """Add the violated limits that all modes share."""
        slo, search = self.slo, self.search
        kept = 1e3 * (1 + slo.get("margin", 0))
        limits = [
            ("tpot", plan["tpot_s"] * kept, slo.get("tpot_ms")),
            ("ttft", plan["ttft_s"] * kept, slo.get("ttft_ms")),
            ("e2e", (plan["ttft_s"] + (self.output - 1) * plan["tpot_s"]) * kept, slo.get("e2e_ms")),
            ("stall", plan["stall_s"] * kept, slo.get("stall_ms")),
            ("chips", plan["chips"], search.get("max_chips")),
            ("budget", plan["usd_per_hour"], search.get("max_usd_per_hour")),
        ]
        violated |= {name for name, value, limit in limits if limit is not None and value > limit * (1 + MET)}
        if plan["tokens_per_s"] * (1 + MET) < slo.get("min_tokens_per_s", 0):
            violated.add("throughput")
        if max(self.held, self.prompt + self.output) > self.model.get("max_context_tokens", 10**12):
            violated.add("context")
        if plan["batch"] < search.get("min_batch", 1):
            violated.add("min_batch")
        if any(plan["taken"].get(chip, 0) > most for chip, most in search.get("quota", {}).items()):
            violated.add("quota")
        sold = self.demand * self.output if self.demand else self.load * plan["tokens_per_s"]
        plan["usd"] = plan["usd_per_hour"] / 3600 / sold * 1e6
        return plan, frozenset(violated)

    def in_one_pool(self, mode, chunk):
        for lay, batch in product(self.machines, range(1, self.search["max_batch"] + 1)):
            in_step = self.new if chunk is None or chunk >= self.new else chunk / lay.ep
            violated = lay.violations(batch, self.held, batch, mode, in_step)
            if lay.engine and in_step < self.new and in_step % lay.engine.get("chunk_unit", 1):
                violated.add("engine")
            (tpot, stall, ttft), riding = self.times_in_one_pool(lay, batch, chunk, violated)
            of_replica = batch / tpot
            if calibration(self.spec) is not None:
                tpot, stall, ttft, of_replica = self.closed_loop(lay, batch, riding)
            of_slice = lay.replicas * self.within_loads(lay, of_replica)
            slices = self.slices_for(of_slice) if self.demand else 1
            plan = {
                "mode": mode, "batch": batch, "tpot_s": tpot, "ttft_s": ttft, "stall_s": stall, "chunk": chunk,
                "slices": slices, "pool_slices": 0, "chips": slices * lay.n,
                "usd_per_hour": slices * self.price(lay), "tokens_per_s": slices * of_slice,
                "taken": {lay.chip["name"]: slices * lay.n},
                "id": (*self.name(lay), batch, mode, chunk or 0, (), slices, 0),
            }  # fmt: skip
            yield self.finished(plan, violated)

    def times_in_one_pool(self, lay, batch, chunk, violated):
        """The ideal times of tokens, pauses and first tokens, and the chunk of a step; adds what they break."""
        riding = chunk if chunk is not None and chunk < self.new else 0
        step = self.step_s(lay, batch, riding)
        if riding:
            times = step / lay.accepted, step, ceil(self.new / chunk) * step
            if batch * lay.accepted * self.new / self.output > lay.pp * chunk * (1 + MET):
                violated.add("chunk")
        else:
            whole = self.prefill_s(lay)
            stage = whole / lay.pp
            times = step / lay.accepted + batch / self.output * stage, max(step, stage), whole
            if lay.waits(self.new):
                violated.add("ici")
        if lay.waits(batch * (lay.ahead + 1) / lay.pp + riding):
            violated.add("ici")
        tpot, stall, ttft = times
        return (tpot, stall, ttft + self.loaded_s(lay)), riding

    def name(self, lay):
        split = (lay.tp_axes, lay.ep_axes, lay.layout, lay.pp_axes)
        engine = engines_of(self.spec).index(lay.engine)
        return (lay.chip["name"], lay.topology, split, lay.weights, lay.kv, lay.compute, engine, lay.ahead)

    def pools(self):
        """The machines that may be pools: none that is a multiple of one that executes the same."""

        def program(lay):
            links = (lay.gather_s(1), lay.exchange_s(1))
            return (
                lay.chip["name"],
                lay.tp,
                lay.ep,
                (lay.pp, lay.hop_s()),
                lay.layout,
                links,
                lay.weights,
                lay.kv,
                lay.compute,
                (id(lay.engine), lay.ahead),
            )

        able = [lay for lay in self.machines if lay.chip.get("network_bytes_per_s")]
        if "max_slices" in self.search or self.spec.get("counts_slices"):
            return able
        sizes = [(program(lay), lay.n) for lay in able]
        return [
            lay for lay in able if not any(like == program(lay) and n < lay.n and lay.n % n == 0 for like, n in sizes)
        ]

    def in_two_pools(self):
        able = self.pools()
        for pool, lay in product(able, able):
            alone = (
                engines_of(self.spec) != [None]
                and self.spec.get("mixed_pools") != "allow"
                and pool.chip is not lay.chip
            )
            fits = pool.kv == lay.kv and pool.engine is lay.engine and not pool.ahead and not lay.ahead
            if fits and pool.is_first_layout and not alone:
                yield from self.pair(pool, lay)

    def pair(self, pool, lay):
        whole = self.prefill_s(pool)
        networks = [side.y * side.chip["network_bytes_per_s"] for side in (pool, lay)]
        ttft = whole + pool.whole_bytes(self.prompt) / pool.fullest / min(networks)
        if calibration(self.spec) is not None:
            ttft += self.measured(pool).host["request_s"]
        shape = pool.violations(1, self.prompt, None, "disaggregated", self.new) | (
            {"ici"} if pool.waits(self.new) else set()
        )
        fed = pool.replicas * pool.pp * self.output / whole
        for batch in range(1, self.search["max_batch"] + 1):
            step = self.step_s(lay, batch)
            violated = shape | lay.violations(batch, self.held, batch, "disaggregated")
            if lay.waits(batch * (lay.ahead + 1) / lay.pp):
                violated.add("ici")
            of_slice = lay.replicas * batch * lay.accepted / step
            for pool_slices, slices in self.counts(fed, of_slice):
                taken = {lay.chip["name"]: slices * lay.n}
                taken[pool.chip["name"]] = taken.get(pool.chip["name"], 0) + pool_slices * pool.n
                plan = {
                    "mode": "disaggregated", "batch": batch, "tpot_s": step / lay.accepted, "ttft_s": ttft,
                    "stall_s": step,
                    "chunk": None, "slices": slices, "pool_slices": pool_slices,
                    "chips": slices * lay.n + pool_slices * pool.n,
                    "usd_per_hour": slices * self.price(lay) + pool_slices * self.price(pool),
                    "tokens_per_s": min(pool_slices * fed, slices * of_slice), "taken": taken,
                    "id": (*self.name(lay), batch, "disaggregated", 0, self.name(pool), slices, pool_slices),
                }  # fmt: skip
                yield self.finished(plan, set(violated))

    def counts(self, fed, of_slice):
        """Numbers of slices: what the demand needs, or up to SCARCER of one pool with any number of the other."""
        if self.demand:
            yield self.slices_for(fed), self.slices_for(of_slice)
            return
        for one, other in product(range(1, MAX_SMALLER_POOL_SLICES + 1), range(1, MOST + 1)):
            yield one, other
            if other > MAX_SMALLER_POOL_SLICES:
                yield other, one
