"""Which weights a quantised checkpoint leaves as they were: lists of modules and patterns, matched with its layers."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any

from servesat.catalogue.config_json import ConfigJson
from servesat.catalogue.model import ModelSpec, TensorGroup
from servesat.catalogue.tensors import Matrix, matrices
from servesat.core.validation import shorten

_LISTS = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")
"""Keys of the lists of modules that are left out, as each method calls them."""

_ATTENTION = {
    "q": ("q_proj", "qkv_proj"),
    "k": ("k_proj", "qkv_proj"),
    "v": ("v_proj", "qkv_proj"),
    "o": ("o_proj", "out_proj"),
    "q_a": ("q_a_proj", "fused_qkv_a_proj"),
    "q_b": ("q_b_proj",),
    "kv_a": ("kv_a_proj_with_mqa", "fused_qkv_a_proj"),
    "kv_b": ("kv_b_proj",),
    "index_q": ("indexer.wq_b",),
    "index_k": ("indexer.wk",),
    "index_weights": ("indexer.weights_proj",),
}
_OTHER = {
    "cached": ("self_attn.o_proj", "mixer.o_proj"),
    "state": ("linear_attn.out_proj", "mamba.out_proj", "mixer.out_proj", "self_attn.out_proj"),
}
_MLP = {
    "gate": ("gate_proj", "gate_up_proj", "w1"),
    "up": ("up_proj", "gate_up_proj", "w3"),
    "down": ("down_proj", "w2"),
}
_MLP_MODULES = ("mlp", "feed_forward", "block_sparse_moe")
_SHARED = ("shared_experts", "shared_expert", "shared_mlp")
_EXPERT = re.compile(r"\blayers\.([0-9]{1,4})\..*\bexperts\.([0-9]{1,5})(?:\.(\w+))?$")
MAX_PATTERN = 1000


def shares_left_out(
    config: ConfigJson, key: str, model: ModelSpec, with_experts: Collection[int]
) -> dict[TensorGroup, float]:
    """The share of each group's parameters that a scheme leaves unquantised, of the groups of which it leaves some.

    Raises CatalogueError for a pattern that is malformed, and for layers of different widths.
    """
    left_out = _left_out(config, key)
    if not left_out:
        return {}
    in_blocks = [matrix for matrix in matrices(model) if _module_names(matrix)]
    kept: dict[TensorGroup, float] = {}
    total: dict[TensorGroup, float] = {}
    for matrix in in_blocks:
        shares = sum(left_out.share_of(matrix, at, model) for at in _layers_of(matrix, model, with_experts))
        total[matrix.group] = total.get(matrix.group, 0.0) + matrix.parameters * matrix.layers
        kept[matrix.group] = kept.get(matrix.group, 0.0) + matrix.parameters * min(shares, matrix.layers)
    return {group: kept[group] / total[group] for group in kept if kept[group]}


def _layers_of(matrix: Matrix, model: ModelSpec, with_experts: Collection[int]) -> list[int]:
    """The layers that have a matrix, by number; all that may where their kinds are mixed."""
    of_experts = set(with_experts)
    if matrix.group == TensorGroup.ATTENTION or model.mlp_layers is not None:
        return list(range(model.layers))
    return [layer for layer in range(model.layers) if (layer in of_experts) == (matrix.group != TensorGroup.MLP)]


def _module_names(matrix: Matrix) -> tuple[str, ...]:
    """What implementations call a matrix within its layer; nothing for a matrix outside the blocks."""
    if matrix.name in _OTHER:
        return _OTHER[matrix.name]
    if matrix.group == TensorGroup.ATTENTION:
        return tuple(f"self_attn.{name}" for name in _ATTENTION[matrix.name])
    names = _MLP.get(matrix.name, ())
    if matrix.group == TensorGroup.MLP:
        plain = {"up": ("fc1",), "down": ("fc2",)}.get(matrix.name, ())  # of OPT
        return (*(f"{module}.{name}" for module in _MLP_MODULES for name in names), *plain)
    if matrix.group == TensorGroup.SHARED_EXPERTS:
        return tuple(f"{module}.{shared}.{name}" for module in _MLP_MODULES for shared in _SHARED for name in names)
    if matrix.group == TensorGroup.EXPERTS:
        return tuple(f"{module}.experts.0.{name}" for module in _MLP_MODULES for name in names)
    return ()


@dataclass
class _LeftOut:
    """What a scheme leaves out: modules by name, beginnings of names, and patterns; and single experts, by layer."""

    names: set[str] = field(default_factory=set)
    beginnings: set[str] = field(default_factory=set)
    patterns: list[Callable[[str], Any]] = field(default_factory=list)
    experts: dict[int, set[tuple[int, str]]] = field(default_factory=dict)  # number, and projection or ""

    def __bool__(self) -> bool:
        return bool(self.names or self.beginnings or self.patterns or self.experts)

    def share_of(self, matrix: Matrix, layer: int, model: ModelSpec) -> float:
        """The share of a matrix that is left out in a layer: all of it, or that of the single experts listed."""
        names = _module_names(matrix)
        if any(self._has(f"model.layers.{layer}.{name}") for name in names):
            return 1.0
        if matrix.group != TensorGroup.EXPERTS or model.moe is None or layer not in self.experts:
            return 0.0
        projections = {"", *(name.rpartition(".")[2] for name in names)}
        return len({number for number, name in self.experts[layer] if name in projections}) / model.moe.experts

    def _has(self, name: str) -> bool:
        """Whether a module, one that it is part of, or a part of its name, is left out."""
        parts = name.split(".")
        if self.names and any(run in self.names for run in _runs(parts)):
            return True
        if self.beginnings and any(name[:length] in self.beginnings for length in range(len(name) + 1)):
            return True
        wholes = [".".join(parts[:count]) for count in range(1, len(parts) + 1)] if self.patterns else []
        return any(matches(whole) for matches in self.patterns for whole in wholes)


def _runs(parts: list[str]) -> Iterator[str]:
    """Every run of whole parts of a name."""
    for first in range(len(parts)):
        for last in range(first + 1, len(parts) + 1):
            yield ".".join(parts[first:last])


def _left_out(config: ConfigJson, key: str) -> _LeftOut:
    """Read every list of a scheme, GPTQModel's `dynamic`, AutoRound's `extra_config` and MLX's entries by module."""
    scheme, found = config.get(key), _LeftOut()
    for name in _LISTS:
        entries = scheme.get(name)
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, str):
                _add(found, entry, config, f"{key}.{name}")
    for name, widths in _by_module(config, key):
        if isinstance(widths, Mapping) and name.startswith("+:") and _bits(widths) in (None, _bits(scheme)):
            continue
        pattern = f"re:{name[2:]}" if name.startswith(("-:", "+:")) else name
        left = name.startswith("-:") or widths is False or (isinstance(widths, Mapping) and (_bits(widths) or 0) >= 16)
        if left:
            _add(found, pattern, config, key)
        elif _bits(widths) not in (None, _bits(scheme)) and not re.search(r"gate$|router|embed|lm_head", name):
            raise config.fault(f"{key}: {shorten(name)} has {_bits(widths)} bits, not {_bits(scheme)}: not supported")
    return found


def _by_module(config: ConfigJson, key: str) -> Iterator[tuple[str, Any]]:
    """What a scheme says of single modules, or of patterns: their widths, or false."""
    scheme = config.get(key)
    for field_name in ("dynamic", "extra_config"):
        entries = scheme.get(field_name)
        if isinstance(entries, Mapping):
            yield from ((str(name), widths) for name, widths in entries.items())
    for name, widths in scheme.items():
        if "." in name and (widths is False or isinstance(widths, Mapping)):
            yield name, widths


def _bits(widths: Any) -> Any:
    """The width that a scheme, or its entry for a module, states."""
    if not isinstance(widths, Mapping):
        return None
    return widths.get("bits", widths.get("w_bit"))


def _add(found: _LeftOut, entry: str, config: ConfigJson, where: str) -> None:
    """Take in a name, a name that ends in `*`, another pattern with `*`, or a regular expression after `re:`."""
    if len(entry) > MAX_PATTERN:
        raise config.fault(f"{where}: {shorten(entry)}: expected at most {MAX_PATTERN} characters")
    if entry.startswith("re:"):
        try:
            pattern = re.compile(entry[3:].replace("language_model\\.", "").replace("language_model.", ""))
        except re.error as fault:
            raise config.fault(f"{where}: {shorten(entry)}: not a regular expression: {fault}") from None
        found.patterns.append(pattern.match)
        return
    name = entry.replace("language_model.", "")
    expert = _EXPERT.search(name)
    if expert is not None:
        layer, number, projection = expert.groups()
        found.experts.setdefault(int(layer), set()).add((int(number), projection or ""))
    elif "*" not in name and "?" not in name:
        found.names.add(name)
    elif name.endswith("*") and not re.search(r"[*?\[]", name[:-1]) and name.startswith(("model.", "layers.")):
        found.beginnings.add(name[:-1])
    else:
        found.patterns.append(re.compile(translate(name)).match)
