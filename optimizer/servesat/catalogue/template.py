"""A model file to fill in, for an architecture that no importer reads."""

from textwrap import wrap
from typing import Any

from pydantic import BaseModel

from servesat.catalogue.model import (
    Experts,
    LatentAttention,
    ModelSpec,
    NativeWeights,
    OtherLayers,
    OtherMlps,
    SparseAttention,
    WiderWeights,
)

_EXAMPLE: dict[str, Any] = {
    "name": '"My model"',
    "layers": 32,
    "d_model": 4096,
    "d_ff": 14336,
    "query_heads": 32,
    "kv_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
}
_OPTIONAL: dict[str, Any] = {
    "gated_mlp": "true",
    "tied_embeddings": "false",
    "max_context_tokens": 131072,
    "window_tokens": 4096,
    "window_layers": 16,
    "mlp_layers": 16,
    "vision_parameters": 0,
    "mtp_parameters": 0,
}
_TABLES: dict[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "moe": (
        Experts,
        {
            "layers": 32, "experts": 128, "experts_per_token": 8, "every": 1, "d_ff": 1536, "d_model": 2048,
            "shared_d_ff": 0,
        },
    ),
    "mla": (
        LatentAttention,
        {"q_lora_rank": 1536, "kv_lora_rank": 512, "nope_head_dim": 128, "rope_head_dim": 64, "v_head_dim": 128},
    ),
    "sparse": (SparseAttention, {"tokens": 2048, "index_heads": 64, "index_head_dim": 128, "layers": 16}),
    "[other_layers]": (
        OtherLayers,
        {
            "layers": 24, "beside": "false", "parameters": 50_000_000, "heads": 16, "kv_heads": 0, "head_dim": 0,
            "v_head_dim": 0, "window_tokens": 1024, "entry_tokens": 1, "selected_tokens": 2048, "index_bytes": 0,
            "index_flops": 0, "state_bytes": 4_000_000, "state_flops": 7_000_000,
        },
    ),
    "[other_mlps]": (OtherMlps, {"layers": 4, "d_ff": 5632}),
    "native": (
        NativeWeights,
        {"dtype": '"fp8"', "group": 128, "group_bits": 0.25, "pad": 256, "tables": '["embedding", "head"]'},
    ),
    "native.wider.attention": (WiderWeights, {"dtype": '"bf16"', "share": 1.0}),
}  # fmt: skip
_COLUMN = 30
_WIDTH = 100


def model_template() -> str:
    """The text of a model file with every field explained, those that a dense model does not need commented out."""
    lines = [
        "# A model, as servesat reads it. What a dense model needs is filled in with LLaMA 3 8B: replace it, and",
        "# uncomment what else the model has. `servesat models FILE` then shows its parameters and its KV cache.",
        "",
    ]
    lines += [_line(ModelSpec, name, value) for name, value in _EXAMPLE.items()]
    lines += ["", *(_line(ModelSpec, name, value, optional=True) for name, value in _OPTIONAL.items())]
    for table, (record, values) in _TABLES.items():
        lines += ["", *(f"# {text}" for text in wrap((record.__doc__ or "").splitlines()[0], _WIDTH)), f"# [{table}]"]
        lines += [_line(record, name, value, optional=True) for name, value in values.items()]
    return "\n".join([*lines, "", "[sources]", 'default = "where these figures are from"', ""])


def _line(record: type[BaseModel], name: str, value: Any, *, optional: bool = False) -> str:
    """One field with its value and what it means."""
    stated = f"{'# ' if optional else ''}{name} = {value}"
    meaning = record.model_fields[name].description
    return f"{stated:<{_COLUMN}}  # {meaning}" if meaning else stated
