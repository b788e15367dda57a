"""The limits of a spec, by requirement."""

from copy import deepcopy
from typing import Any

KEYS = {
    "tpot": ("slo", "tpot_ms"),
    "throughput": ("slo", "min_tokens_per_s"),
    "chips": ("search", "max_chips"),
    "budget": ("search", "max_usd_per_hour"),
}


def with_key(spec: dict[str, Any], requirement: str, value: Any) -> dict[str, Any]:
    """The spec with one limit at another value, or without it."""
    changed = deepcopy(spec)
    part, key = KEYS[requirement]
    if value is None:
        del changed[part][key]
    else:
        changed[part][key] = value
    return changed
