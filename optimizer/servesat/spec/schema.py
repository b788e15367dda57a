"""The JSON schemas of what users write, for editors: looser than the records that it is read into.

An entry of the catalogue may be named, a path may stand for a file, and a single value for a list of it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from servesat.spec.slo import LIMITS

NAMED = {"ModelSpec", "PriceBook", "Calibration", "Chip", "Engine", "Spec", "Arrivals"}
"""Records that an id, a word or the path of a file stands for."""

TEXT = {"type": "string"}
PERCENTILES = {"type": "object", "patternProperties": {r"^p\d{1,2}(\.\d+)?$": {"type": "number"}}}


def schema_of(record: type[BaseModel], title: str) -> dict[str, Any]:
    """The schema of the files that are read into a record."""
    strict = record.model_json_schema()
    schema: dict[str, Any] = {key: _loosened(value) for key, value in strict.items() if key != "$defs"}
    schema["$defs"] = {name: _loosened(of_record) for name, of_record in strict.get("$defs", {}).items()}
    limits = schema["$defs"]["Slo"]["properties"]
    for key in LIMITS:
        limits[key] = {**limits[key], "anyOf": [*limits[key]["anyOf"], PERCENTILES]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": title}


def _loosened(schema: Any) -> Any:
    """A part of a schema, looser in all that is in it."""
    if isinstance(schema, list):
        return [_loosened(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: value if key in {"default", "enum"} else _loosened(value) for key, value in schema.items()}
    name = str(found.get("$ref", "")).rpartition("/")[2]
    if name in NAMED:
        return either(found, TEXT)
    if found.get("type") == "array" and "items" in found:
        return either(found, found["items"])
    return found


def either(schema: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """One schema or another, with what is said of the first."""
    said: dict[str, Any] = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    return {**said, "anyOf": [{key: value for key, value in schema.items() if key not in said}, *others]}
