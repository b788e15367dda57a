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

_LISTS = (
    "modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers", "ignored_modules", "excluded_modules",
    "llm_int8_skip_modules",
)  # fmt: skip
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
    "cached": [[f"{module}.{name}_proj" for module in ("self_attn", "mixer")] for name in "qkvo"],
    "state": [
        [f"{module}.{name}" for module in ("linear_attn", "mamba", "mixer", "self_attn") for name in names]
        for names in (("in_proj", "in_proj_qkvz", "in_proj_qkv", "q_proj"), ("out_proj", "o_proj"))
    ],
}
"""Matrices of layers of other kinds that are counted together, each with its names: all are left out, or none."""
_MLP = {
    "gate": ("gate_proj", "gate_up_proj", "w1"),
    "up": ("up_proj", "gate_up_proj", "w3"),
    "down": ("down_proj", "w2"),
}
_MLP_MODULES = ("mlp", "feed_forward", "block_sparse_moe", "mixer")
_SHARED = ("shared_experts", "shared_expert", "shared_mlp")
_NUMBERED = ("mixtral", "phimoe", "minimax_m1", "minimax_m2", "minimax_text_01")
"""The types of models whose experts are w1, w2 and w3: a pattern on `gate` means their router alone."""
_SHARED_MLP = ("hunyuan", "granitemoe")
"""How the types of models begin whose shared experts are a `shared_mlp`."""
_EXPERT = re.compile(r"\blayers\.([0-9]{1,4})\..*\bexperts\.([0-9]{1,5})(?:\.(\w+))?$")
MAX_PATTERN = 1000
MAX_PATTERNS = 1000
_NESTED_REPEATS = re.compile(r"[+*}]\)[+*{]")
"""What takes a regular expression exponential time."""


Shares = dict[TensorGroup, float]
"""A share of the parameters of each group."""


def shares_left_out(config: ConfigJson, key: str, model: ModelSpec, with_experts: Collection[int]) -> Shares:
    """The share of each group's parameters that a scheme leaves unquantised, of the groups of which it leaves some.

    Raises CatalogueError for a pattern that is malformed, and for layers of different widths.
    """
    found = _Finder(config, key, model, with_experts)
    left, quantised = found.shares(_left_out(config, key)), _quantised(config, key)
    if quantised is not None:
        inside = found.shares(quantised)
        left = {group: min(1.0, 1 - inside[group] + left[group]) for group in left}
    return {group: share for group, share in left.items() if share}


def shares_by_dtype(
    config: ConfigJson, key: str, model: ModelSpec, with_experts: Collection[int], modules: Mapping[str, list[str]]
) -> dict[str, Shares]:
    """The share of each group's parameters that is stored in each dtype, by the modules listed for it."""
    found, shares = _Finder(config, key, model, with_experts), {}
    for dtype, names in modules.items():
        listed = _LeftOut()
        for name in names:
            _add(listed, name, config, key)
        shares[dtype] = found.shares(listed)
    return shares


@dataclass(frozen=True)
class _Finder:
    """Finds the matrices of a model that lists of modules name."""

    config: ConfigJson
    key: str
    model: ModelSpec
    with_experts: Collection[int]

    def shares(self, listed: "_LeftOut") -> Shares:
        """The share of each group's parameters that is listed. Raises CatalogueError."""
        blocks = self.config.get("_pattern") if isinstance(self.config.get("_pattern"), str) else ""
        kept: Shares = {}
        total: Shares = {}
        for matrix in matrices(self.model):
            names = _module_names(matrix, self.model)
            if matrix.name not in _OTHER and not names:
                continue
            patterned = tuple(name for name in names if self._may_have(name, matrix.group))
            layers = _layers_of(matrix, self.model, self.with_experts, blocks)
            try:
                shares = sum(listed.share_of(matrix, at, self.model, patterned) for at in layers) if listed else 0.0
            except ValueError as fault:
                raise self.config.fault(f"{self.key}: {fault}") from None
            total[matrix.group] = total.get(matrix.group, 0.0) + matrix.parameters * matrix.layers
            kept[matrix.group] = kept.get(matrix.group, 0.0) + matrix.parameters * min(shares, matrix.layers)
        return {group: kept[group] / total[group] for group in total}

    def _may_have(self, name: str, group: TensorGroup) -> bool:
        """Whether a model of this type may call a matrix so: a pattern may match names of other types."""
        kind = str(self.config.get("model_type"))
        if group is TensorGroup.EXPERTS and kind in _NUMBERED:
            return name.rpartition(".")[2] in {"w1", "w2", "w3"}
        return ".shared_mlp." not in name or kind.startswith(_SHARED_MLP)


def _layers_of(matrix: Matrix, model: ModelSpec, with_experts: Collection[int], blocks: str) -> list[int]:
    """The layers that have a matrix, by number; all that may where their kinds are mixed.

    `blocks` has a letter for each layer of a model whose layers are each a mixer or an MLP.
    """
    of_experts = set(with_experts)
    if blocks:
        letter = {"state": "M", TensorGroup.ATTENTION: "*", TensorGroup.MLP: "-"}
        wanted = letter.get(matrix.name) or letter.get(matrix.group, "E")
        return [layer for layer, block in enumerate(blocks) if block == wanted]
    if matrix.group == TensorGroup.ATTENTION or model.mlp_layers is not None:
        return list(range(model.layers))
    return [layer for layer in range(model.layers) if (layer in of_experts) == (matrix.group != TensorGroup.MLP)]


def _module_names(matrix: Matrix, model: ModelSpec) -> tuple[str, ...]:
    """What implementations call a matrix within its layer; nothing for a matrix outside the blocks."""
    if matrix.group == TensorGroup.ATTENTION:
        names = _ATTENTION.get(matrix.name, ())
        return tuple(f"{module}.{name}" for module in ("self_attn", "mixer") for name in names)
    names = _MLP.get(matrix.name, ())
    if matrix.group == TensorGroup.MLP:
        plain = {"up": ("fc1",), "down": ("fc2",)}.get(matrix.name, ())  # of OPT
        return (*(f"{module}.{name}" for module in _MLP_MODULES for name in names), *plain)
    if matrix.group == TensorGroup.SHARED_EXPERTS:
        return tuple(f"{module}.{shared}.{name}" for module in _MLP_MODULES for shared in _SHARED for name in names)
    if matrix.group == TensorGroup.EXPERTS:
        beside = model.moe is not None and model.dense_layers + model.moe.layers > model.layers
        modules = ("",) if beside else tuple(f"{module}." for module in _MLP_MODULES)  # of Gemma 4, beside its MLP
        return tuple(f"{module}experts.0.{name}" for module in modules for name in names)
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

    def share_of(self, matrix: Matrix, layer: int, model: ModelSpec, patterned: tuple[str, ...]) -> float:
        """The share of a matrix that is left out in a layer: all of it, or that of the single experts listed.

        Of its names, patterns are matched with those of `patterned`.
        """
        if matrix.name in _OTHER:
            left = {self._leaves(layer, names, names) for names in _OTHER[matrix.name]}
            if len(left) > 1:
                raise ValueError(f"names parts of the mixing of layer {layer} alone: not supported")
            return float(left.pop())
        names = _module_names(matrix, model)
        if self._leaves(layer, names, patterned):
            return 1.0
        if matrix.group != TensorGroup.EXPERTS or model.moe is None or layer not in self.experts:
            return 0.0
        projections = {"", *(name.rpartition(".")[2] for name in names)}
        return len({number for number, name in self.experts[layer] if name in projections}) / model.moe.experts

    def _leaves(self, layer: int, names: Collection[str], patterned: Collection[str]) -> bool:
        """Whether a matrix of a layer is listed under any of its names, or a pattern matches one of `patterned`."""
        within = f"model.layers.{layer}."
        return any(self._lists(within + name) for name in names) or any(
            self._matches(within + name) for name in (patterned if self.patterns else ())
        )

    def _lists(self, name: str) -> bool:
        """Whether a module, one that it is part of, or a part of its name, is left out by name."""
        if self.names and any(run in self.names for run in _runs(name.split("."))):
            return True
        return bool(self.beginnings) and any(name[:length] in self.beginnings for length in range(len(name) + 1))

    def _matches(self, name: str) -> bool:
        """Whether a pattern matches a module, or one that it is part of.

        One on `gate` that matches gate_proj means that, and not the up_proj of a fused gate_up_proj.
        """

        def matched(name: str) -> set[int]:
            parts = name.split(".")
            wholes = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
            return {number for number, matches in enumerate(self.patterns) if any(map(matches, wholes))}

        found = matched(name)
        if found and name.endswith("gate_up_proj"):
            found -= matched(name.replace("gate_up_proj", "gate_proj")) | matched(name.replace("gate_up_", "up_"))
        return bool(found)


def _runs(parts: list[str]) -> Iterator[str]:
    """Every run of whole parts of a name."""
    for first in range(len(parts)):
        for last in range(first + 1, len(parts) + 1):
            yield ".".join(parts[first:last])


def _left_out(config: ConfigJson, key: str) -> _LeftOut:
    """Read every list of a scheme, GPTQModel's `dynamic`, AutoRound's `extra_config` and MLX's entries by module."""
    scheme, found = config.get(key), _LeftOut()
    substrings = scheme.get("quant_method") == "awq"
    for name in _LISTS:
        for entry in _texts(config, key, name):
            _add(found, f"*{entry}*" if substrings and not entry.startswith("re:") else entry, config, f"{key}.{name}")
    for name, widths in _by_module(config, key):
        pattern = f"re:{name[2:]}" if name.startswith(("-:", "+:")) else name
        if name.startswith("-:") or widths is False or (_whole(_bits(widths)) or 0) >= 16:
            _add(found, pattern, config, key)
            continue
        if re.search(r"gate$|router", name):
            continue
        for field_name in ("bits", "group_size"):
            stated, own = _stated(widths, field_name), _stated(scheme, field_name)
            if stated is not None and stated != own:
                raise config.fault(
                    f"{key}: {shorten(name)} has {field_name} {shorten(stated)}, not {own}: not supported"
                )
    if len(found.patterns) > MAX_PATTERNS:
        raise config.fault(f"{key}: {len(found.patterns)} patterns, expected at most {MAX_PATTERNS}")
    return found


def _quantised(config: ConfigJson, key: str) -> _LeftOut | None:
    """What alone a scheme quantises: the targets of compressed-tensors, or GPTQ's lists of modules; None if all."""
    scheme, found = config.get(key), _LeftOut()
    groups = scheme.get("config_groups")
    for name, group in groups.items() if isinstance(groups, Mapping) else ():
        where = f"config_groups.{name}.targets"
        targets = _texts(config, key, where) if isinstance(group, Mapping) and group.get("targets") else ["Linear"]
        if "Linear" in targets:
            return None
        for target in targets:
            _add(found, target, config, f"{key}.{where}")
    inside = scheme.get("modules_in_block_to_quantize")
    if inside is not None:
        nested = inside if isinstance(inside, list) else [3]
        flat: list[Any] = [entry for part in nested for entry in (part if isinstance(part, list) else [part])]
        for entry in flat:
            if not isinstance(entry, str):
                raise config.wrong(f"{key}.modules_in_block_to_quantize", "lists of the names of modules")
            _add(found, entry, config, f"{key}.modules_in_block_to_quantize")
    return found if found else None


def _texts(config: ConfigJson, key: str, name: str) -> list[str]:
    """The texts of a list, nothing where it is absent. Raises CatalogueError for anything else."""
    entries = config.get(f"{key}.{name}")
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise config.wrong(f"{key}.{name}", "a list of the names of modules")
    if not all(isinstance(entry, str) for entry in entries):
        raise config.wrong(f"{key}.{name}", "a list of the names of modules")
    return entries


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


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
    return _stated(widths, "bits")


def _stated(widths: Any, name: str) -> Any:
    """A field of a scheme, or of its entry for a module, under any of its names."""
    synonyms = {"bits": ("bits", "w_bit"), "group_size": ("group_size", "q_group_size")}[name]
    found = [widths.get(each) for each in synonyms] if isinstance(widths, Mapping) else []
    return next((value for value in found if value is not None), None)


def _add(found: _LeftOut, entry: str, config: ConfigJson, where: str) -> None:
    """Take in a name, a name that ends in `*`, another pattern with `*`, or a regular expression after `re:`."""
    if len(entry) > MAX_PATTERN:
        raise config.fault(f"{where}: {shorten(entry)}: expected at most {MAX_PATTERN} characters")
    if entry.startswith("re:"):
        try:
            if _NESTED_REPEATS.search(entry):
                raise re.error("repeats within repeats take too long")
            pattern = re.compile(entry[3:].replace("language_model\\.", "").replace("language_model.", ""))
        except re.error as fault:
            raise config.fault(f"{where}: {shorten(entry)}: not a regular expression: {fault}") from None
        found.patterns.append(pattern.match)
        return
    name = entry.replace("language_model.", "").replace("backbone.", "model.")
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
