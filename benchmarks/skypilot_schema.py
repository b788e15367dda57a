"""Writes the JSON schema of SkyPilot's task files, read from its wheel.

    python benchmarks/skypilot_schema.py WHEEL > tests/published/manifests/skypilot_task.json

SkyPilot's schemas are Python: they run here without what they import. An object that lists its keys refuses all others;
descriptions and defaults are left out.
"""

import importlib
import importlib.abc
import json
import sys
import types
from collections.abc import Callable, Iterable
from datetime import date
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_ONE = {"additionalProperties", "contains", "items", "not", "propertyNames"}
_SEVERAL = {"allOf", "anyOf", "oneOf"}
_NAMED = {  # as draft 2020-12 names them
    "$defs": "$defs",
    "definitions": "$defs",
    "patternProperties": "patternProperties",
    "properties": "properties",
}
_PLAIN = {
    "const", "enum", "exclusiveMaximum", "exclusiveMinimum", "maxItems", "maxLength", "maxProperties", "maximum",
    "minItems", "minLength", "minProperties", "minimum", "multipleOf", "pattern", "type", "uniqueItems",
}  # fmt: skip


def strict(node: Any) -> Any:
    """A schema with its validating keywords alone, closed to keys that it does not list."""
    if not isinstance(node, dict):
        return node
    found: Schema = {}
    for keyword, value in node.items():
        found |= _keyword(keyword, value)
    if node.get("required"):
        found["required"] = node["required"]
    if "properties" in node:
        found.setdefault("additionalProperties", False)
    return found


def _keyword(keyword: str, value: Any) -> Schema:
    """What a keyword becomes: nothing, if it validates nothing by itself."""
    if keyword in _ONE:
        return {keyword: strict(value)}
    if keyword in _SEVERAL:
        return {keyword: [strict(branch) for branch in value]}
    if keyword in _NAMED:
        return {_NAMED[keyword]: {name: strict(value[name]) for name in sorted(value)}}
    if keyword == "case_insensitive_enum":  # SkyPilot's own
        return {"pattern": f"^(?i:{'|'.join(value)})$"}
    return {keyword: value} if keyword in _PLAIN else {}


_NEEDED = {
    "sky.data.storage", "sky.serve.load_balancing_policies", "sky.serve.spot_placer", "sky.skylet.autostop_lib",
    "sky.skylet.constants", "sky.utils.kubernetes_enums", "sky.utils.schemas",
}  # fmt: skip


class _Stand(types.ModuleType):
    """A module in which every name is a mock."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()


class _Stands(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a stand-in for each module of a kind."""

    def __init__(self, stands: Callable[[str], bool]) -> None:
        self._stands = stands

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if self._stands(fullname) else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return _Stand(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: a stand-in is complete."""


def _packages(names: Iterable[str]) -> set[str]:
    return {name.rpartition(".")[0] for name in names}


def skypilot_task(wheel: Path) -> Schema:
    """The schema of a task's YAML, with those of its parts, which SkyPilot checks one by one, in their places."""
    for name in sorted({"sky"} | _packages(_NEEDED)):  # their own __init__ import the whole library
        package = types.ModuleType(name)
        package.__path__ = [f"{wheel}/{name.replace('.', '/')}"]
        package.__dict__["__version__"] = "0.0"
        sys.modules[name] = package
    sys.meta_path.insert(0, _Stands(lambda name: name.startswith("sky.") and name not in _NEEDED))
    sys.meta_path.append(_Stands(lambda name: not name.startswith("sky")))
    schemas: Any = importlib.import_module("sky.utils.schemas")
    schemas._allow_additional_properties = lambda: False  # a client leaves unknown keys to its server
    task = schemas.get_task_schema()
    properties = task["properties"]
    properties["resources"] = schemas.get_resources_schema()
    properties["service"] = schemas.get_service_schema()
    mount = {"anyOf": [{"type": "string"}, schemas.get_storage_schema()]}
    properties["file_mounts"] = {"type": "object", "additionalProperties": mount}
    found: Schema = strict(task)
    return {"title": "SkyPilot task"} | found


if __name__ == "__main__":
    file = Path(sys.argv[1])
    source = f"the wheel {'-'.join(file.name.split('-')[:2])}: sky/utils/schemas.py"
    head = {"$schema": DIALECT, "$comment": f"From {source}, read {date.today().isoformat()}."}
    print(json.dumps(head | skypilot_task(file), indent=1))
