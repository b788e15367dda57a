"""Whole requests by enumeration: plain loops over modes, layouts, batches, chunks and pools.

Written from docs/cost-model.md. Like tests/oracle.py it takes the raw spec, with inline model and chips, and imports
nothing from servesat.
"""

from itertools import combinations, product
from math import ceil, prod
from typing import Any

from tests.oracle import BYTES, MET, TIE, settled

SCARCER = 4
MOST = 60  # slices of the other pool that are tried


def enumerate_plans(spec: dict[str, Any]):
    """Yield (plan, violated requirements) for every mode, layout, batch and number of slices."""
    world = World(spec)
    for mode in spec["search"].get("modes", ["interleaved", "chunked", "disaggregated"]):
        if mode == "interleaved":
            yield from world.in_one_pool("interleaved", None)
        elif mode == "chunked":
            for chunk in spec["search"].get("chunk_tokens", [128, 256, 512, 1024, 2048, 4096, 8192]):
                if chunk < world.new or "interleaved" not in spec["search"].get("modes", ["interleaved"]):
                    yield from world.in_one_pool("chunked", chunk)
        else:
            yield from world.in_two_pools()


def solve(spec: dict[str, Any]):
    """The best plan by the order of docs/cost-model.md, or None; and the minimal conflicts, empty when there is one."""
    return settled(enumerate_plans(spec), best)


def best(plans):
    """The first of some plans by the order of docs/cost-model.md: cost, then speed, then chips, then id."""
    cheapest = min(plan["usd"] for plan in plans)
    tied = [plan for plan in plans if plan["usd"] <= cheapest * (1 + TIE)]
    fastest = min(plan["tpot_s"] for plan in tied)
    tied = [plan for plan in tied if plan["tpot_s"] <= fastest * (1 + MET)]
    return min(tied, key=lambda plan: (plan["chips"], *plan["id"]))


class World:
    """A spec's machines, and what they do with its workload."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.model, self.workload = spec, spec["model"], spec["workload"]
        self.search, self.slo = spec["search"], spec.get("slo", {})
        model, workload = self.model, self.workload
        self.prompt, self.output = workload["prompt_tokens"], workload["output_tokens"]
        self.cached = self.prompt * workload.get("prefix_cache_hit", 0.0)
        self.new = self.prompt - self.cached
        self.held = workload.get("context_tokens") or self.prompt + self.output
        self.read = workload.get("context_tokens") or self.prompt + self.output / 2
        self.demand = workload.get("requests_per_s")
        self.load = spec.get("utilisation", 1.0)
        self.mfu, self.pay = spec.get("prefill_mfu", 1.0), spec.get("ici", "forbid") == "pay"
        mlp = (3 if model.get("gated_mlp", True) else 2) * model["d_model"] * model["d_ff"]
        heads = 2 * model["d_model"] * model["head_dim"] * (model["query_heads"] + model["kv_heads"])
        counted = model["layers"] * (mlp + heads)
        counted += (1 if model.get("tied_embeddings", False) else 2) * model["d_model"] * model["vocab_size"]
        self.params = model.get("nominal_parameters") or counted
        self.layouts = list(self._layouts())

    def _layouts(self):
        dtypes = product(
            self.search.get("weights", ["bf16", "int8"]),
            self.search.get("kv_cache", ["bf16", "int8"]),
            self.search.get("compute", ["bf16"]),
        )
        for chip, (weights, kv_cache, compute) in product(self.search["chips"], list(dtypes)):
            if compute not in chip["flop_per_s"]:
                continue
            for topology in chip["topologies"]:
                sizes = [int(size) for size in topology.split("x")]
                long_axes = [axis for axis in range(len(sizes)) if sizes[axis] > 1]
                for count in range(len(long_axes) + 1):
                    for axes in combinations(long_axes, count):
                        yield {
                            "chip": chip, "topology": topology, "axes": axes, "weights": weights, "kv": kv_cache,
                            "compute": compute, "n": prod(sizes), "y": prod(sizes[axis] for axis in axes),
                            "widths": [chip["axes"][axis]["bytes_per_s"] for axis in axes],
                            "shape": sorted((sizes[axis], chip["axes"][axis]["bytes_per_s"]) for axis in axes),
                        }  # fmt: skip

    def bandwidth(self, lay):
        widths = lay["widths"]
        if not widths:
            return float("inf")
        return sum(widths) if min(widths) == max(widths) else min(widths)

    def kv_bytes(self, lay, tokens):
        model = self.model
        windowed = model.get("window_layers", 0)
        window = min(tokens, model.get("window_tokens", tokens))
        layer_tokens = (model["layers"] - windowed) * tokens + windowed * window
        return 2 * model["kv_heads"] * model["head_dim"] * layer_tokens * BYTES[lay["kv"]]

    def prompt_flop(self):
        model, last = self.model, self.cached + self.new

        def met(reach):
            """Pairs of a new token and one that it meets: the integral of min(x, reach) over the new tokens."""
            below = max(0.0, min(last, reach) - min(self.cached, reach))
            inside = below * (min(last, reach) + min(self.cached, reach)) / 2
            return inside + (self.new - below) * reach

        windowed = model.get("window_layers", 0)
        pairs = (model["layers"] - windowed) * met(last) + windowed * met(model.get("window_tokens", last))
        return 2 * self.params * self.new + 4 * model["query_heads"] * model["head_dim"] * pairs

    def ici_s(self, lay, tokens):
        return 4 * self.model["layers"] * 2 * tokens * self.model["d_model"] / self.bandwidth(lay)

    def prefill_s(self, lay):
        chip = lay["chip"]
        weights = self.params * BYTES[lay["weights"]] / (lay["y"] * chip["hbm_bytes_per_s"])
        flops = self.prompt_flop() / (lay["y"] * chip["flop_per_s"][lay["compute"]] * self.mfu)
        return max(weights, flops, self.ici_s(lay, self.new) if self.pay else 0.0)

    def step_s(self, lay, batch, chunk=0):
        chip = lay["chip"]
        peak = lay["y"] * chip["flop_per_s"][lay["compute"]]
        weights = self.params * BYTES[lay["weights"]] / (lay["y"] * chip["hbm_bytes_per_s"])
        flops = 2 * self.params * batch / peak + self.prompt_flop() * chunk / self.new / (peak * self.mfu)
        ici = self.ici_s(lay, batch + chunk) if self.pay else 0.0
        return max(weights, flops, ici) + batch * self.kv_bytes(lay, self.read) / (lay["y"] * chip["hbm_bytes_per_s"])

    def waits(self, lay, tokens):
        chip, model = lay["chip"], self.model
        matrix = model["d_model"] * model["d_ff"]
        hbm = BYTES[lay["weights"]] * matrix / (lay["y"] * chip["hbm_bytes_per_s"])
        math = 2 * tokens * matrix / (lay["y"] * chip["flop_per_s"][lay["compute"]])
        gather = 2 * tokens * model["d_model"] / self.bandwidth(lay)
        return not self.pay and gather > max(hbm, math) * (1 + MET)

    def shape_violations(self, lay, held_sequences, tokens, batch):
        model, y, kv_heads = self.model, lay["y"], self.model["kv_heads"]
        violated = set()
        used = self.params * BYTES[lay["weights"]] + held_sequences * self.kv_bytes(lay, tokens)
        if used > (1 - self.spec.get("headroom", 0.0)) * y * lay["chip"]["hbm_bytes"] * (1 + MET):
            violated.add("hbm")
        if model["query_heads"] % y or model["d_ff"] % y:
            violated.add("heads")
        if kv_heads % y if y <= kv_heads else y % kv_heads or (batch and batch % (y // kv_heads)):
            violated.add("kv_heads")
        if BYTES[lay["weights"]] > BYTES[lay["compute"]]:
            violated.add("dtypes")
        return violated

    def price(self, lay):
        return lay["chip"]["usd_per_chip_hour"] * lay["n"]

    def slices_for(self, tokens_per_s):
        return ceil(self.demand * self.output / (self.load * tokens_per_s) * (1 - MET))

    def finished(self, plan, violated):
        """Add the violated limits that all modes share."""
        slo, search = self.slo, self.search
        limits = [
            ("tpot", plan["tpot_s"] * 1e3, slo.get("tpot_ms")),
            ("ttft", plan["ttft_s"] * 1e3, slo.get("ttft_ms")),
            ("e2e", (plan["ttft_s"] + (self.output - 1) * plan["tpot_s"]) * 1e3, slo.get("e2e_ms")),
            ("stall", plan["stall_s"] * 1e3, slo.get("stall_ms")),
            ("chips", plan["chips"], search.get("max_chips")),
            ("budget", plan["usd_per_hour"], search.get("max_usd_per_hour")),
        ]
        violated |= {name for name, value, limit in limits if limit is not None and value > limit * (1 + MET)}
        if plan["tokens_per_s"] * (1 + MET) < slo.get("min_tokens_per_s", 0):
            violated.add("throughput")
        if plan["batch"] < search.get("min_batch", 1):
            violated.add("min_batch")
        if any(plan["taken"].get(chip, 0) > most for chip, most in search.get("quota", {}).items()):
            violated.add("quota")
        sold = self.demand * self.output if self.demand else self.load * plan["tokens_per_s"]
        plan["usd"] = plan["usd_per_hour"] / 3600 / sold * 1e6
        return plan, frozenset(violated)

    def in_one_pool(self, mode, chunk):
        for lay, batch in product(self.layouts, range(1, self.search["max_batch"] + 1)):
            violated = self.shape_violations(lay, batch, self.held, batch)
            riding = chunk if chunk is not None and chunk < self.new else 0
            step = self.step_s(lay, batch, riding)
            if riding:
                tpot, stall, ttft = step, step, ceil(self.new / chunk) * step
                if batch * self.new / self.output > chunk * (1 + MET):
                    violated.add("chunk")
            else:
                whole = self.prefill_s(lay)
                tpot, stall, ttft = step + batch / self.output * whole, max(step, whole), whole
                if self.waits(lay, self.new):
                    violated.add("ici")
            if self.waits(lay, batch + riding):
                violated.add("ici")
            replicas = lay["n"] // lay["y"]
            of_slice = replicas * batch / tpot
            slices = self.slices_for(of_slice) if self.demand else 1
            plan = {
                "mode": mode, "batch": batch, "tpot_s": tpot, "ttft_s": ttft, "stall_s": stall, "chunk": chunk,
                "slices": slices, "pool_slices": 0, "chips": slices * lay["n"],
                "usd_per_hour": slices * self.price(lay), "tokens_per_s": slices * of_slice,
                "taken": {lay["chip"]["name"]: slices * lay["n"]},
                "id": (*self.name(lay), batch, mode, chunk or 0, (), slices, 0),
            }  # fmt: skip
            yield self.finished(plan, violated)

    def name(self, lay):
        return (lay["chip"]["name"], lay["topology"], lay["axes"], lay["weights"], lay["kv"], lay["compute"])

    def in_two_pools(self):
        def program(lay):
            return (lay["chip"]["name"], lay["y"], self.bandwidth(lay), lay["weights"], lay["kv"], lay["compute"])

        able = [lay for lay in self.layouts if lay["chip"].get("network_bytes_per_s")]
        fewest: dict[Any, int] = {}
        for lay in able:
            fewest[program(lay)] = min(fewest.get(program(lay), lay["n"]), lay["n"])
        able = [lay for lay in able if lay["n"] == fewest[program(lay)]]
        for pool, lay in product(able, able):
            if pool["kv"] == lay["kv"]:
                yield from self.pair(pool, lay)

    def pair(self, pool, lay):
        whole = self.prefill_s(pool)
        networks = [side["y"] * side["chip"]["network_bytes_per_s"] for side in (pool, lay)]
        ttft = whole + self.kv_bytes(pool, self.prompt) / min(networks)
        shape = self.shape_violations(pool, 1, self.prompt, None) | ({"ici"} if self.waits(pool, self.new) else set())
        fed = (pool["n"] // pool["y"]) * self.output / whole
        for batch in range(1, self.search["max_batch"] + 1):
            step = self.step_s(lay, batch)
            violated = shape | self.shape_violations(lay, batch, self.held, batch)
            if self.waits(lay, batch):
                violated.add("ici")
            of_slice = (lay["n"] // lay["y"]) * batch / step
            for pool_slices, slices in self.counts(fed, of_slice):
                taken = {lay["chip"]["name"]: slices * lay["n"]}
                taken[pool["chip"]["name"]] = taken.get(pool["chip"]["name"], 0) + pool_slices * pool["n"]
                plan = {
                    "mode": "disaggregated", "batch": batch, "tpot_s": step, "ttft_s": ttft, "stall_s": step,
                    "chunk": None, "slices": slices, "pool_slices": pool_slices,
                    "chips": slices * lay["n"] + pool_slices * pool["n"],
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
        for one, other in product(range(1, SCARCER + 1), range(1, MOST + 1)):
            yield one, other
            if other > SCARCER:
                yield other, one
