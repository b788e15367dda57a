"""The answer by enumeration: plain loops over every layout and every batch, written from DESIGN.md, not from the code.

Takes the raw spec (a mapping with inline model and chips) and imports nothing from servesat, so that a mistake in the
product's defaults, arrays or breakpoints cannot hide here too.
"""

from itertools import combinations, product
from typing import Any

BYTES = {"bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5}
MET = 1e-9  # a limit missed by less, relatively, is met
TIE = 1e-6


def enumerate_plans(spec: dict[str, Any]):
    """Yield (plan, violated requirements) for every layout and batch."""
    model, workload = spec["model"], spec["workload"]
    slo, search = spec.get("slo", {}), spec.get("search", {})
    layers, d_model, d_ff = model["layers"], model["d_model"], model["d_ff"]
    heads, kv_heads, head_dim = model["query_heads"], model["kv_heads"], model["head_dim"]
    held = workload.get("context_tokens") or workload["prompt_tokens"] + workload["output_tokens"]
    read = workload.get("context_tokens") or workload["prompt_tokens"] + workload["output_tokens"] / 2
    params = model.get("nominal_parameters")
    if params is None:
        mlp = (3 if model.get("gated_mlp", True) else 2) * d_model * d_ff
        params = layers * (mlp + 2 * d_model * head_dim * (heads + kv_heads))
        params += (1 if model.get("tied_embeddings", False) else 2) * d_model * model["vocab_size"]
    window_layers = model.get("window_layers", 0)
    window = model.get("window_tokens", held)

    def layer_tokens(tokens):
        return (layers - window_layers) * tokens + window_layers * min(tokens, window)

    headroom = spec.get("headroom", 0.0)
    pay = spec.get("ici", "forbid") == "pay"

    dtypes = list(
        product(
            search.get("weights", ["bf16", "int8"]),
            search.get("kv_cache", ["bf16", "int8"]),
            search.get("compute", ["bf16"]),
        )
    )
    for chip in search["chips"]:
        price = spec.get("price", {}).get(chip["name"], chip.get("usd_per_chip_hour"))
        for topology in search.get("topologies", {}).get(chip["name"], chip["topologies"]):
            sizes = [int(size) for size in topology.split("x")]
            long_axes = [axis for axis in range(len(sizes)) if sizes[axis] > 1]
            n = 1
            for size in sizes:
                n *= size
            for count in range(len(long_axes) + 1):
                for axes in combinations(long_axes, count):
                    y = 1
                    for axis in axes:
                        y *= sizes[axis]
                    widths = [chip["axes"][axis]["bytes_per_s"] for axis in axes]
                    for weights, kv_cache, compute in dtypes:
                        peak = chip["flop_per_s"].get(compute)
                        if peak is None:
                            continue
                        for batch in range(1, search.get("max_batch", 4096) + 1):
                            hbm, c = chip["hbm_bytes_per_s"], peak
                            weights_bytes = params * BYTES[weights]
                            kv_bytes = batch * 2 * kv_heads * head_dim * layer_tokens(held) * BYTES[kv_cache]
                            kv_read = batch * 2 * kv_heads * head_dim * layer_tokens(read) * BYTES[kv_cache]
                            t_weights = weights_bytes / (y * hbm)
                            t_flops = 2 * params * batch / (y * c)
                            t_kv = kv_read / (y * hbm)
                            gather = 0.0
                            if axes and min(widths) == max(widths):
                                gather = 2 * batch * d_model / (len(axes) * widths[0])
                            elif axes:
                                gather = max(2 * batch * d_model / width for width in widths)
                            t_ici = 4 * layers * gather if pay else 0.0
                            step = max(t_weights, t_flops, t_ici) + t_kv
                            replicas = n // y
                            tokens_per_s = replicas * batch / step
                            violated = set()
                            if weights_bytes + kv_bytes > (1 - headroom) * y * chip["hbm_bytes"] * (1 + MET):
                                violated.add("hbm")
                            if "tpot_ms" in slo and step * 1e3 > slo["tpot_ms"] * (1 + MET):
                                violated.add("tpot")
                            t_hbm = BYTES[weights] * d_model * d_ff / (y * hbm)
                            t_math = 2 * batch * d_model * d_ff / (y * c)
                            if not pay and y > 1 and gather > max(t_hbm, t_math) * (1 + MET):
                                violated.add("ici")
                            if heads % y or d_ff % y:
                                violated.add("heads")
                            if y <= kv_heads:
                                if kv_heads % y:
                                    violated.add("kv_heads")
                            elif y % kv_heads or batch % (y // kv_heads):
                                violated.add("kv_heads")
                            if BYTES[weights] > BYTES[compute]:
                                violated.add("dtypes")
                            if "max_chips" in search and n > search["max_chips"]:
                                violated.add("chips")
                            if "max_usd_per_hour" in search and price * n > search["max_usd_per_hour"] * (1 + MET):
                                violated.add("budget")
                            if "min_tokens_per_s" in slo and tokens_per_s * (1 + MET) < slo["min_tokens_per_s"]:
                                violated.add("throughput")
                            plan = {
                                "chip": chip["name"],
                                "topology": topology,
                                "tp_axes": axes,
                                "weights": weights,
                                "kv_cache": kv_cache,
                                "compute": compute,
                                "batch": batch,
                                "step_s": step,
                                "chips": n,
                                "tokens_per_s": tokens_per_s,
                                "usd_per_hour": price * n,
                                "usd": price * n / 3600 * step / (replicas * batch) * 1e6,
                            }
                            yield plan, frozenset(violated)


def solve(spec: dict[str, Any]):
    """The best plan by the order of DESIGN.md §3, or None; and the minimal conflicts, empty when there is a plan."""
    return settled(enumerate_plans(spec), best)


def settled(enumerated, first):
    """The first, by `first`, of the plans that violate nothing, or None; and the minimal conflicts where none does."""
    feasible, violations = [], set()
    for plan, violated in enumerated:
        violations.add(violated)
        if not violated:
            feasible.append(plan)
    return (first(feasible), set()) if feasible else (None, minimal_conflicts(violations))


def best(plans):
    """The first of some plans by the order of DESIGN.md §3: cost, then speed, then chips, then id."""
    cheapest = min(plan["usd"] for plan in plans)
    tied = [plan for plan in plans if plan["usd"] <= cheapest * (1 + TIE)]
    fastest = min(plan["step_s"] for plan in tied)
    tied = [plan for plan in tied if plan["step_s"] <= fastest * (1 + MET)]
    names = ("chip", "topology", "tp_axes", "weights", "kv_cache", "compute", "batch")
    return min(tied, key=lambda plan: (plan["chips"], *(plan[name] for name in names)))


def k_best(spec: dict[str, Any], count: int, group):
    """The `count` best plans, each with another `group(plan)` than the ones before."""
    left = [plan for plan, violated in enumerate_plans(spec) if not violated]
    chosen = []
    while left and len(chosen) < count:
        chosen.append(best(left))
        left = [plan for plan in left if group(plan) != group(chosen[-1])]
    return chosen


WANTED = {"tokens_per_s_per_chip": -1, "batch": -1}
"""Figures of which more is better; of the others less is."""


def figure(plan, axis):
    """A plan's figure in the units of the product."""
    return {
        "tpot_ms": plan["step_s"] * 1e3,
        "usd_per_million_output_tokens": plan["usd"],
        "tokens_per_s_per_chip": plan["tokens_per_s"] / plan["chips"],
        "chips": plan["chips"],
        "usd_per_hour": plan["usd_per_hour"],
        "batch": plan["batch"],
    }[axis]


def frontier(spec: dict[str, Any], axes, group=lambda plan: None):
    """The distinct figures that no plan of the same group equals or beats in all axes, by group.

    Figures are compared to ten digits, so that one computed in another order is the same.
    """
    by_group: dict[Any, set] = {}
    for plan, violated in enumerate_plans(spec):
        if not violated:
            scores = tuple(float(f"{WANTED.get(axis, 1) * figure(plan, axis):.9e}") for axis in axes)
            by_group.setdefault(group(plan), set()).add(scores)
    return {name: _undominated(scores) for name, scores in by_group.items()}


def _undominated(scores):
    kept = []
    for one in sorted(scores):  # whatever dominates a score comes before it
        if not any(all(a <= b for a, b in zip(other, one, strict=True)) for other in kept):
            kept.append(one)
    return kept


def minimal_conflicts(violations):
    """Every minimal set of requirements that hits each violation set, by trying all of them."""
    names = sorted(set().union(*violations))
    found = []
    for size in range(1, len(names) + 1):
        for members in combinations(names, size):
            if all(violated & set(members) for violated in violations) and not any(
                smaller <= set(members) for smaller in found
            ):
                found.append(frozenset(members))
    return set(found)
