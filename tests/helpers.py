"""Shortcuts of the tests: specs to start from."""

from typing import Any

from servesat import Spec


def spec_of(**keys: Any) -> Spec:
    """A spec for LLaMA 3-70B at 8k on v5e, with the given top-level keys in place of those."""
    base = {
        "model": "llama-3-70b",
        "workload": {"context_tokens": 8192},
        "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"]},
    }
    return Spec.load(base | keys)


def searching(**keys: Any) -> Spec:
    """`spec_of` with these keys of its search changed."""
    return spec_of(search={"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], **keys})
