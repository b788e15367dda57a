"""Small config.json files, one of each kind of architecture, and what is read from them."""

import json
from pathlib import Path
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.load import load_model
from servesat.catalogue.model import ModelSpec

LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "rope_theta": 500000.0,
}


def read(tmp_path: Path, config: Any) -> ModelSpec:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return load_model("config.json", tmp_path)


# One of each kind of architecture, small: what a config must say, and what is read from it.
SMALL = {
    "num_hidden_layers": 8,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 1000,
}
READ = {
    "layers": 8,
    "d_model": 64,
    "d_ff": 128,
    "query_heads": 4,
    "kv_heads": 2,
    "head_dim": 24,
    "vocab_size": 1000,
    "gated_mlp": True,
    "tied_embeddings": False,
}
EXPERTS = {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
MOE = {"layers": 8, "experts": 16, "experts_per_token": 2, "d_ff": 32, "shared_d_ff": 0}
WIDE = MOE | {"d_ff": 128}
LOCAL = {"num_local_experts": 16, "num_experts_per_tok": 2}
GLM = {
    "n_routed_experts": 16,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "n_shared_experts": 2,
    "first_k_dense_replace": 3,
}
RANKS = {"q_lora_rank": 48, "kv_lora_rank": 40, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 20}
MLA = {"q_lora_rank": 48, "kv_lora_rank": 40, "nope_head_dim": 16, "rope_head_dim": 8, "v_head_dim": 20}
INDEX = {"index_topk": 512, "index_n_heads": 6, "index_head_dim": 12}
SPARSE = {"tokens": 512, "index_heads": 6, "index_head_dim": 12}
CHUNKS = {"attention_chunk_size": 256, "intermediate_size_mlp": 512}
SLIDING = ["sliding_attention"] * 3 + ["full_attention"] * 5


def small(model_type: str, *left_out: str, **more: Any) -> dict[str, Any]:
    config = SMALL | {"model_type": model_type} | more
    return {key: value for key, value in config.items() if key not in left_out}


def window(tokens: int, layers: int) -> dict[str, Any]:
    return {"window_tokens": tokens, "window_layers": layers}


def without_heads(**more: Any) -> dict[str, Any]:
    return {key: value for key, value in READ.items() if key not in {"kv_heads", "head_dim"}} | more


def without_dense(**more: Any) -> dict[str, Any]:
    return {key: value for key, value in READ.items() if key != "d_ff"} | more


def groups(kind: str, bits: int, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"type": kind, "num_bits": bits}}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}} | more


Config = dict[str, Any]
SHAPE: Config = {"layers": 4, "d_model": 8, "query_heads": 2, "kv_heads": 1, "head_dim": 3}


def config(**fields: Any) -> ConfigJson:
    return ConfigJson(fields, "config.json", "a config.json")
