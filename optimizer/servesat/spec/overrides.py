"""Dotted keys that change a spec: `slo.tpot_ms`, `price.tpu-v5e`, `chip.tpu-v5e.axes.0.bytes_per_s`."""

from collections.abc import Mapping
from typing import Any

from servesat.catalogue.chip import Chip
from servesat.core.errors import SpecError
from servesat.core.reading import parse_yaml
from servesat.core.validation import Strict, shorten

BY_CHIP = ("price", "search.topologies", "search.quota")
"""Keys of a spec that map chip ids to values."""


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` and read the value as YAML: `slo.tpot_ms=20`, `search.chips=[tpu-v5e]`. Raises SpecError."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise SpecError(f"--set {text!r}: expected KEY=VALUE, as in slo.tpot_ms=20")
    return key.strip(), parse_yaml(value, f"--set {text!r}", SpecError)


def split_key(key: str) -> list[str]:
    """Split a dotted key; the id of a chip is a single part, even if it contains dots.

    `price.TPU 1.5` has two parts, `chip.TPU 1.5.axes.0.bytes_per_s` five.
    """
    parts = key.split(".")
    for prefix in BY_CHIP:
        names = prefix.split(".")
        if parts[: len(names)] == names and len(parts) > len(names):
            return [*names, ".".join(parts[len(names) :])]
    if parts[0] == "chip":
        field = next((at for at in range(2, len(parts)) if parts[at] in Chip.model_fields), len(parts) - 1)
        if field > 1:
            return ["chip", ".".join(parts[1:field]), *parts[field:]]
    return parts


def with_value(data: Mapping[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """Copy `data` with `value` at `path`, creating mappings on the way. Raises SpecError."""
    first, *rest = path
    if not rest:
        return {**data, first: value}
    child = data.get(first)
    if isinstance(child, Strict):
        child = dict(child)
    if child is not None and not isinstance(child, Mapping):
        raise SpecError(f"{key}: {first} = {shorten(child)}, expected a mapping to set {rest[0]} in")
    return {**data, first: with_value(child or {}, rest, value, key)}


def merged(fields: Any, overrides: Any, where: str) -> Any:
    """Merge overrides into nested fields; list entries are addressed by position. Raises SpecError."""
    if not isinstance(overrides, Mapping):
        return overrides
    if isinstance(fields, list | tuple):
        entries = dict(enumerate(fields))
        for position, value in overrides.items():
            if not str(position).isdecimal() or not str(position).isascii() or int(position) not in entries:
                raise SpecError(f"{where}: {position}: expected a position from 0 to {len(entries) - 1}")
            entries[int(position)] = merged(entries[int(position)], value, f"{where}.{position}")
        return list(entries.values())
    inner = fields if isinstance(fields, Mapping) else {}
    return {**inner, **{name: merged(inner.get(name), value, f"{where}.{name}") for name, value in overrides.items()}}
