"""Hugging Face `config.json` files, read as the shape of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servesat.errors import CatalogueError
from servesat.validation import nearest, shorten


@dataclass(frozen=True)
class _Family:
    """What a model type leaves unsaid: whether its MLP is gated and its embeddings tied, and where its windows are."""

    gated_mlp: bool = True
    tied_embeddings: bool = False


# The defaults are those of each type's configuration class in the transformers library.
_FAMILIES = {
    "gemma": _Family(tied_embeddings=True),
    "llama": _Family(),
    "mistral": _Family(),
    "qwen2": _Family(),
    "qwen3": _Family(),
}

_SHAPE = {
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "query_heads": "num_attention_heads",
    "vocab_size": "vocab_size",
}


def model_fields(config: object, where: str) -> dict[str, Any]:
    """Translate a `config.json` into the keys of a model file.

    Raises CatalogueError when the architecture is not supported, or a field that its shape needs is missing.
    """
    if not isinstance(config, Mapping):
        raise CatalogueError(f"{where}: expected a JSON object, as in a Hugging Face config.json")
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise CatalogueError(f"{where}: model_type is missing; expected a Hugging Face config.json")
    family = _FAMILIES.get(model_type)
    if family is None:
        raise CatalogueError(f"{where}: model_type = {model_type!r} is not supported; {nearest(model_type, _FAMILIES)}")
    missing = [field for field in _SHAPE.values() if config.get(field) is None]
    if missing:
        raise CatalogueError(f"{where}: {', '.join(missing)} is missing; expected in a {model_type} config.json")

    fields = {name: config[source] for name, source in _SHAPE.items()}
    fields["kv_heads"] = _or(config.get("num_key_value_heads"), fields["query_heads"])
    fields["head_dim"] = config.get("head_dim") or _head_dim(fields, where)
    fields["gated_mlp"] = family.gated_mlp
    fields["tied_embeddings"] = _or(config.get("tie_word_embeddings"), family.tied_embeddings)
    fields |= _window(config, fields["layers"])
    fields["name"] = str(config.get("_name_or_path") or model_type)
    return fields


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _head_dim(fields: Mapping[str, Any], where: str) -> int:
    d_model, heads = fields["d_model"], fields["query_heads"]
    if not (isinstance(d_model, int) and isinstance(heads, int) and heads > 0 and d_model % heads == 0):
        raise CatalogueError(
            f"{where}: head_dim is missing, and hidden_size = {shorten(d_model)} is not a multiple of "
            f"num_attention_heads = {shorten(heads)}"
        )
    return d_model // heads


def _window(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The sliding window, where the configuration switches one on; Qwen's applies above `max_window_layers`."""
    window = config.get("sliding_window")
    if window is None or config.get("use_sliding_window") is False:
        return {}
    full_layers = config.get("max_window_layers", 0) if config.get("use_sliding_window") else 0
    return {"window_tokens": window, "window_layers": layers - full_layers} if full_layers < layers else {}
