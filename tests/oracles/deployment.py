"""The answer by enumeration: plain loops over every layout and every batch.

Written from docs/cost-model.md, not from the code.

Takes the raw spec (a mapping with inline model and chips) and imports nothing from servesat, so that a mistake in the
product's defaults, arrays or breakpoints cannot hide here too.
"""

from itertools import combinations
from typing import Any

from tests.oracles.machine import MET, engines_of, machines
from tests.oracles.measured import Measured, calibration

COST_TIE_RTOL = 1e-6


def enumerate_plans(spec: dict[str, Any]):
    """Yield (plan, violated requirements) for every layout and batch."""
    workload, slo, search = spec["workload"], spec.get("slo", {}), spec.get("search", {})
    held = workload.get("context_tokens") or workload["prompt_tokens"] + workload["output_tokens"]
    read = workload.get("context_tokens") or workload["prompt_tokens"] + workload["output_tokens"] / 2
    pay = spec.get("ici", "forbid") == "pay"
    for machine in machines(spec):
        chip, n, replicas = machine.chip, machine.n, machine.replicas
        price = spec.get("price", {}).get(chip["name"], chip.get("usd_per_chip_hour"))
        measured = None if calibration(spec) is None else Measured(machine, 0, 0, read)
        for batch in range(1, search.get("max_batch", 4096) + 1):
            tokens = batch * (machine.ahead + 1)
            if measured is None:
                t_ici = machine.ici_s(tokens) if pay else 0.0
                step = max(machine.load_s(tokens / machine.pp), machine.flops_s(tokens), t_ici)
                step += machine.kv_read_s(batch, read) + batch * machine.hop_s()
                step += machine.ahead * batch * machine.exchanged_s() + machine.drafting_s(batch, read)
            else:
                step = measured.step_s(batch)
            step /= machine.accepted
            tokens_per_s = replicas * batch / step
            violated = machine.violations(batch, held, batch)
            if "tpot_ms" in slo and step * (1 + slo.get("margin", 0)) * 1e3 > slo["tpot_ms"] * (1 + MET):
                violated.add("tpot")
            if machine.waits(tokens / machine.pp):
                violated.add("ici")
            if "max_chips" in search and n > search["max_chips"]:
                violated.add("chips")
            if "max_usd_per_hour" in search and price * n > search["max_usd_per_hour"] * (1 + MET):
                violated.add("budget")
            if held > spec["model"].get("max_context_tokens", held):
                violated.add("context")
            if "min_tokens_per_s" in slo and tokens_per_s * (1 + MET) < slo["min_tokens_per_s"]:
                violated.add("throughput")
            plan = {
                "chip": chip["name"],
                "topology": machine.topology,
                "tp_axes": machine.tp_axes,
                "ep_axes": machine.ep_axes,
                "kv_layout": machine.layout,
                "pp_axes": machine.pp_axes,
                "weights": machine.weights,
                "kv_cache": machine.kv,
                "kv_bytes": machine.token_bytes(),
                "compute": machine.compute,
                "engine": engines_of(spec).index(machine.engine),
                "draft_tokens": machine.ahead,
                "batch": batch,
                "step_s": step,
                "chips": n,
                "tokens_per_s": tokens_per_s,
                "usd_per_hour": price * n,
                "usd": price * n / 3600 * step / (replicas * batch) * 1e6,
            }
            yield plan, frozenset(violated)


def solve(spec: dict[str, Any]):
    """The best plan, or None; and the minimal conflicts, empty when there is a plan."""
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
    """The first of some plans: by cost, then by speed, then by chips, then by id."""
    cheapest = min(plan["usd"] for plan in plans)
    tied = [plan for plan in plans if plan["usd"] <= cheapest * (1 + COST_TIE_RTOL)]
    fastest = min(plan["step_s"] for plan in tied)
    tied = [plan for plan in tied if plan["step_s"] <= fastest * (1 + MET)]
    split = ("tp_axes", "ep_axes", "kv_layout", "pp_axes")
    names = (
        "chip",
        "topology",
        *split,
        "weights",
        "kv_bytes",
        "kv_cache",
        "compute",
        "engine",
        "draft_tokens",
        "batch",
    )
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


def frontier(enumerated, axes, group=lambda plan: None):
    """The distinct figures that no feasible plan of the same group equals or beats in all axes, by group.

    Figures are compared to ten digits, so that one computed in another order is the same.
    """
    by_group: dict[Any, set] = {}
    for plan, violated in enumerated:
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
