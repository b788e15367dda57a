"""Hugging Face `config.json` files, read as the shape of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from servesat.errors import CatalogueError
from servesat.validation import nearest, shorten


@dataclass(frozen=True)
class _Family:
    """What a model type leaves unsaid in its `config.json`, and the fields that it must say; all have gated MLPs.

    A field whose default is a number of the type's configuration class, not a consequence of other fields, is required:
    a guess would go unnoticed.
    """

    tied_embeddings: bool = False
    required: tuple[str, ...] = ()
    window: str = ""  # how `sliding_window` applies: to every layer, above max_window_layers, or not at all


_FAMILIES = {
    "gemma": _Family(tied_embeddings=True, required=("num_key_value_heads", "head_dim")),
    "llama": _Family(),
    "mistral": _Family(required=("num_key_value_heads", "sliding_window"), window="every layer"),
    "qwen2": _Family(required=("num_key_value_heads",), window="above max_window_layers"),
    "qwen3": _Family(required=("num_key_value_heads", "head_dim"), window="above max_window_layers"),
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

    Raises CatalogueError when the architecture is not supported, or a field of its shape is missing or no count.
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
    missing += [field for field in family.required if field not in config]
    if missing:
        raise CatalogueError(f"{where}: {', '.join(missing)} is missing; expected in a {model_type} config.json")

    fields: dict[str, Any] = {name: _count(config, source, where) for name, source in _SHAPE.items()}
    own_kv_heads = config.get("num_key_value_heads") is not None
    fields["kv_heads"] = _count(config, "num_key_value_heads", where) if own_kv_heads else fields["query_heads"]
    fields["head_dim"] = _head_dim(config, where)
    tied = config.get("tie_word_embeddings")
    fields["tied_embeddings"] = family.tied_embeddings if tied is None else tied
    fields["name"] = str(config.get("_name_or_path") or model_type)
    return fields | _window(config, family, where)


def _count(config: Mapping[str, Any], field: str, where: str) -> int:
    value = config[field]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CatalogueError(f"{where}: {field} = {shorten(value)}: expected a whole number of at least 1")
    return value


def _head_dim(config: Mapping[str, Any], where: str) -> int:
    if config.get("head_dim") is not None:
        return _count(config, "head_dim", where)
    d_model, heads = (_count(config, field, where) for field in ("hidden_size", "num_attention_heads"))
    if d_model % heads:
        raise CatalogueError(
            f"{where}: head_dim is missing, and hidden_size = {d_model} is not a multiple of "
            f"num_attention_heads = {heads}"
        )
    return d_model // heads


def _window(config: Mapping[str, Any], family: _Family, where: str) -> dict[str, Any]:
    """The sliding window, where the model type has one and the configuration switches it on."""
    if not family.window or config.get("sliding_window") is None:
        return {}
    full_layers = 0
    if family.window == "above max_window_layers":
        if config.get("use_sliding_window") is not True:
            return {}
        if config.get("max_window_layers") is None:
            raise CatalogueError(f"{where}: max_window_layers is missing; expected beside use_sliding_window")
        full_layers = _count(config, "max_window_layers", where)
    window_layers = _count(config, "num_hidden_layers", where) - full_layers
    if window_layers < 1:
        return {}
    return {"window_tokens": _count(config, "sliding_window", where), "window_layers": window_layers}
