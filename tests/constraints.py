"""Random constraints, each with a condition of its own on the plans of the oracles, in floats and plain Python."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st


class Constraint(NamedTuple):
    """A constraint as a spec states it, and what the oracle holds of a plan."""

    text: str
    holds: Callable[[dict[str, Any]], bool]


def figures(plan: dict[str, Any]) -> dict[str, Any]:
    """What an oracle's plan has, by the names that constraints use."""
    whole_request = "mode" in plan
    chip, topology, split, weights, kv_cache, compute = (
        plan["id"][:6]
        if whole_request
        else (
            plan["chip"], plan["topology"], (plan["tp_axes"], plan["ep_axes"], plan["kv_layout"], plan["pp_axes"]),
            plan["weights"], plan["kv_cache"], plan["compute"],
        )
    )  # fmt: skip
    sizes = [int(side) for side in topology.split("x")]
    pool = plan["id"][11] if whole_request else ()
    return {
        "chip": chip,
        "topology": topology,
        "tp": _ways(sizes, split[0]),
        "ep": _ways(sizes, split[1]),
        "pp": _ways(sizes, split[3]),
        "weights": weights,
        "kv_cache": kv_cache,
        "compute": compute,
        "batch": plan["batch"],
        "mode": plan.get("mode", "decode_only"),
        "chunk": plan.get("chunk") or 0,
        "slices": plan.get("slices", 1),
        "chips": plan["chips"],
        "tpot_ms": round(plan.get("tpot_s", plan.get("step_s")) * 1e3, 6),
        "usd_per_hour": round(plan["usd_per_hour"], 6),
        "prefill_chip": pool[0] if pool else "none",
        "prefill_weights": pool[3] if pool else "none",
        "prefill_slices": plan.get("pool_slices", 0),
    }


def _ways(sizes: list[int], axes: tuple[int, ...]) -> int:
    ways = 1
    for axis in axes:
        ways *= sizes[axis]
    return ways


def _atom(text: str, holds: Callable[[dict[str, Any]], bool]) -> Constraint:
    return Constraint(text, lambda plan: holds(figures(plan)))


def _texts(name: str, values: list[str]) -> Any:
    def built(value: str, same: bool) -> Constraint:
        key = name.replace(".", "_")
        return _atom(f"{name} {'==' if same else '!='} {value}", lambda one: (one[key] == value) == same)

    return st.builds(built, st.sampled_from(values), st.booleans())


def _modulo(modulus: int, rest: int, shift: int) -> Constraint:
    rest %= modulus
    return _atom(f"(batch - {shift}) % {modulus} == {rest}", lambda one: (one["batch"] - shift) % modulus == rest)


def _ratio(factor: int, operator: str) -> Constraint:
    meets = {"<=": lambda a, b: a <= b, ">": lambda a, b: a > b, "==": lambda a, b: a == b}[operator]
    return _atom(f"batch {operator} {factor} * tp", lambda one: meets(one["batch"], factor * one["tp"]))


def _slow(ms: float, operator: str) -> Constraint:
    below = operator == "<="
    return _atom(f"tpot_ms {operator} {ms}", lambda one: (one["tpot_ms"] <= ms) == below)


def _dollars(usd: float, chips: int) -> Constraint:
    return _atom(
        f"usd_per_hour <= {usd} + {chips} * chips", lambda one: one["usd_per_hour"] <= usd + chips * one["chips"]
    )


def atoms(*, of_slices: bool = True) -> Any:
    """Constraints of one comparison; without `of_slices` none on what the number of slices decides."""
    found = [
        st.builds(_modulo, st.sampled_from([2, 3, 4, 8]), st.integers(0, 7), st.sampled_from([0, 5])),
        st.builds(_ratio, st.sampled_from([1, 2, 4]), st.sampled_from(["<=", ">", "=="])),
        st.builds(lambda most: _atom(f"tp <= {most}", lambda one: one["tp"] <= most), st.sampled_from([1, 2, 4])),
        st.builds(lambda pp: _atom(f"pp != {pp}", lambda one: one["pp"] != pp), st.sampled_from([1, 2])),
        st.builds(lambda most: _atom(f"tp * ep < {most}", lambda one: one["tp"] * one["ep"] < most), st.integers(2, 9)),
        st.builds(lambda b: _atom(f"batch // 4 == {b}", lambda one: one["batch"] // 4 == b), st.integers(0, 6)),
        st.builds(_slow, st.sampled_from([0.5, 2.0, 10.0, 50.0]), st.sampled_from(["<=", ">"])),
        _texts("chip", ["chip0", "h100-sxm"]),
        _texts("kv_cache", ["bf16", "int8", "fp8"]),
        _texts("weights", ["bf16", "int8", "int4"]),
        _texts("mode", ["interleaved", "chunked", "disaggregated"]),
        _texts("prefill.chip", ["chip0", "none"]),
        _texts("prefill.weights", ["bf16", "int8"]),
    ]
    if of_slices:
        found += [
            st.builds(_dollars, st.sampled_from([0.5, 4.0, 30.0]), st.sampled_from([0, 1])),
            st.builds(lambda n: _atom(f"slices % 2 == {n}", lambda one: one["slices"] % 2 == n), st.integers(0, 1)),
            st.builds(lambda n: _atom(f"{n} <= chips", lambda one: n <= one["chips"]), st.sampled_from([2, 6])),
        ]
    return st.one_of(found)


def _both(one: Constraint, other: Constraint, how: str) -> Constraint:
    holds = {
        "and": lambda plan: one.holds(plan) and other.holds(plan),
        "or": lambda plan: one.holds(plan) or other.holds(plan),
        "implies": lambda plan: not one.holds(plan) or other.holds(plan),
    }[how]
    return Constraint(f"({one.text}) {how} ({other.text})", holds)


def constraints(*, of_slices: bool = True) -> Any:
    """Up to three constraints: comparisons, their contraries, and two joined by and, or, or implies."""
    simple = atoms(of_slices=of_slices)
    contrary = st.builds(lambda one: Constraint(f"not ({one.text})", lambda plan: not one.holds(plan)), simple)
    joined = st.builds(_both, simple, simple | contrary, st.sampled_from(["and", "or", "implies"]))
    return st.lists(simple | contrary | joined, min_size=1, max_size=3, unique_by=lambda one: one.text)


def enumerated(plans: Any, stated: list[Constraint]) -> Any:
    """An oracle's plans and violations, those of the constraints included."""
    for plan, violated in plans:
        yield plan, violated | {one.text for one in stated if not one.holds(plan)}
