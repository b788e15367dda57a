"""The decisions of a plan, read from its JSON."""

from collections.abc import Mapping
from typing import Any

from servesat.core.errors import ServesatError
from servesat.core.plan import Assignment, KvLayout, Mode, PrefillPool
from servesat.core.validation import shorten

_RENTED = dict.fromkeys(("cloud", "region", "purchase", "instance", "term"), str | None)

DECISIONS = {
    "chip": str,
    "topology": str,
    "tp_axes": list,
    "ep_axes": list,
    "kv_layout": str,
    "pp_axes": list,
    "weights": str,
    "kv_cache": str,
    "compute": str,
    "engine": str | None,
    "draft": str | None,
    "draft_tokens": int,
    "batch": int,
    "mode": str,
    "chunk_tokens": int | None,
    "slices": int,
    "prefill": dict | None,
    **_RENTED,
}
"""The decisions of a plan, with their types in JSON."""

POOL = {
    "chip": str,
    "topology": str,
    "tp_axes": list,
    "ep_axes": list,
    "kv_layout": str,
    "pp_axes": list,
    "weights": str,
    "compute": str,
    "slices": int,
} | _RENTED


def assignment_of(plan: Mapping[str, Any]) -> Assignment:
    """The decisions of a plan. Raises ServesatError where one is missing or not of its type."""
    decisions = _typed(plan, DECISIONS)
    pool = decisions["prefill"]
    prefill = None
    try:
        if pool is not None:
            of_pool = _typed(pool, POOL)
            prefill = PrefillPool(**of_pool | {"kv_layout": KvLayout(of_pool["kv_layout"])})
        enums = {"mode": Mode(decisions["mode"]), "kv_layout": KvLayout(decisions["kv_layout"])}
    except ValueError as fault:
        raise ServesatError(f"plan: {fault}") from None
    return Assignment(**decisions | enums | {"prefill": prefill})


def _typed(told: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The decisions told, with lists as tuples. Raises ServesatError where one is not of its type."""
    missing = [name for name in types if name not in told]
    if missing:
        raise ServesatError(f"plan: {', '.join(missing)} is missing")
    decisions = {name: told[name] for name in types}
    right = all(
        isinstance(decisions[name], kind) and isinstance(decisions[name], bool) == (kind is bool)
        for name, kind in types.items()
    )
    lists = [name for name, kind in types.items() if kind is list]
    if not right or not all(type(axis) is int for name in lists for axis in decisions[name]):
        raise ServesatError(f"plan: the decisions {shorten(decisions)} are not of the types that a plan has")
    return decisions | {name: tuple(decisions[name]) for name in lists}
