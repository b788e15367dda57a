"""Shortcuts of the tests: where the repository stands, and specs to start from."""

from pathlib import Path
from typing import Any

from servesat import Spec
from servesat.catalogue.model import ModelSpec
from servesat.core.plan import Assignment, KvLayout

ROOT = Path(__file__).parents[1]
AT = Assignment(
    chip="tpu-v5e",
    topology="4x4",
    tp_axes=(0, 1),
    kv_layout=KvLayout.BATCH,
    weights="int8",
    kv_cache="int8",
    compute="bf16",
    batch=32,
)
"""A plan for `spec_of()` that violates nothing."""
ON_32_CHIPS: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "llama-3-405b",
    "workload": {"context_tokens": 8192},
    "slo": {"tpot_ms": 15},
    "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "max_chips": 32},
}
"""A spec without a plan: 32 chips take longer than 15 ms to load the weights."""

CHAT_AT_RANDOM: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 30},
    "slo": {"ttft_ms": 250, "tpot_ms": 25},
    "engine": "vllm",
    "search": {
        "chips": ["h100-sxm", "l40s"], "weights": ["fp8"], "kv_cache": ["fp8"], "modes": ["interleaved"],
        "topologies": {"h100-sxm": ["1x1"], "l40s": ["1x1"]},
    },
    "price": {"h100-sxm": 3.0, "l40s": 1.0},
}  # fmt: skip
"""A search by replays of two chips, one of which costs a third and is late with first tokens."""


def spec_of(**keys: Any) -> Spec:
    """A spec for LLaMA 3-70B at 8k on v5e, with the given top-level keys in place of those."""
    base = {
        "cost_model": "ideal",
        "model": "llama-3-70b",
        "workload": {"context_tokens": 8192},
        "search": {"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"]},
    }
    return Spec.load(base | keys)


def searching(**keys: Any) -> Spec:
    """`spec_of` with these keys of its search changed."""
    return spec_of(search={"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], **keys})


def nearly_flat(**keys: Any) -> Spec:
    """A spec whose cost falls by less than a tie over many batches: weights are nothing beside the KV cache."""
    return spec_of(
        model={
            "name": "tiny", "layers": 10, "d_model": 512, "d_ff": 1024, "query_heads": 8, "kv_heads": 8,
            "head_dim": 64, "vocab_size": 100, "nominal_parameters": 1e9,
        },
        workload={"context_tokens": 1_000_000},
        search={
            "chips": [
                {
                    "name": "big", "vendor": "test", "hbm_bytes": 1e15, "hbm_bytes_per_s": 1e12,
                    "flop_per_s": {"bf16": 1e17}, "axes": [{"name": "x", "bytes_per_s": 1e11}], "topologies": ["1"],
                    "usd_per_chip_hour": 1.0,
                }
            ],
            "weights": ["bf16"], "kv_cache": ["bf16"],
        },
        **keys,
    )  # fmt: skip


OTHER_LAYERS: list[dict[str, Any]] = [
    {"layers": 1, "parameters": 5000, "heads": 8, "state_bytes": 700, "state_flops": 90},
    {
        "layers": 1, "parameters": 3000, "heads": 8, "kv_heads": 2, "head_dim": 16, "v_head_dim": 8,
        "window_tokens": 10,
    },
]  # fmt: skip
"""Two layers of a model: one with a state, and one with heads of its own within a window."""


def moe_model(experts: int = 8, **keys: Any) -> ModelSpec:
    """A small model with experts in three of its four layers, and keys in place of its own."""
    shape: dict[str, Any] = {
        "name": "mixture", "layers": 4, "d_model": 256, "d_ff": 1024, "query_heads": 8, "kv_heads": 4, "head_dim": 32,
        "vocab_size": 1000,
        "moe": {"layers": 3, "experts": experts, "experts_per_token": 2, "d_ff": 512, "shared_d_ff": 256},
    }  # fmt: skip
    shape |= keys
    if "mla" in keys:
        shape = {key: value for key, value in shape.items() if key not in {"kv_heads", "head_dim"}}
    return ModelSpec.model_validate(shape)


def toy_chip(name: str = "toy", **keys: Any) -> dict[str, Any]:
    """A chip of 1 TB at 1 TB/s and 1 PFLOP/s for $1 an hour, alone in its slice, with a network of 10 GB/s."""
    return {
        "name": name, "vendor": "test", "hbm_bytes": 1e12, "hbm_bytes_per_s": 1e12, "flop_per_s": {"bf16": 1e15},
        "axes": [{"name": "x", "bytes_per_s": 1e11}], "topologies": ["1"], "network_bytes_per_s": 1e10,
        "usd_per_chip_hour": 1.0, **keys,
    }  # fmt: skip


def toy_engine(name: str = "toy-engine", **keys: Any) -> dict[str, Any]:
    """An engine that runs bf16 and fp8 on toy chips, takes all of their memory, and nothing of it for itself."""
    memory = dict.fromkeys(("runtime_bytes", "collectives_bytes", "graphs_bytes"), 0.0)
    runs = {"chips": ["toy"], "weights": {"bf16": {"compute": ["bf16"]}}, "kv_cache": {"bf16": "auto", "fp8": "e4m3"}}
    every_mode = ["decode_only", "interleaved", "chunked", "disaggregated"]
    return {
        "name": name, "program": "vllm", "version": "1", "image": "toy/engine:1", "modes": every_mode,
        "kv_layouts": ["heads", "copies"], "latent_kv_layouts": ["heads", "copies"], "experts": "any",
        "nodes": "several", "runs": [runs], **keys,
        "memory": {"utilisation": 1.0, **memory, **keys.get("memory", {})},
    }  # fmt: skip


def toy_spec(*chips: dict[str, Any], **keys: Any) -> Spec:
    """Whole requests of 1,000 + 100 tokens to 10⁹ parameters in bf16, 8 kB of KV cache a token, on toy chips.

    A step of B sequences on one toy chip takes max(2, 0.002 · B) + 0.0084 · B ms; a prompt takes 2.04 ms, of which 2 ms
    are its matmuls and 0.04 ms its attention.
    """
    search = {"chips": list(chips or [toy_chip()]), "weights": ["bf16"], "kv_cache": ["bf16"]}
    base: dict[str, Any] = {"cost_model": "ideal",
        "model": {
            "name": "toy", "layers": 10, "d_model": 1000, "d_ff": 4000, "query_heads": 10, "kv_heads": 5,
            "head_dim": 40, "vocab_size": 1000, "nominal_parameters": 1e9,
        },
        "workload": {"prompt_tokens": 1000, "output_tokens": 100},
    }  # fmt: skip
    return Spec.load(base | keys | {"search": search | keys.get("search", {})})
