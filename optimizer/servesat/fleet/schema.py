"""The JSON schema of fleets, for editors."""

from typing import Any

from servesat.fleet.spec import FleetSpec
from servesat.spec.schema import TEXT, either, schema_of


def fleet_schema() -> dict[str, Any]:
    """The schema of a fleet's file: demands may be read from a file, and the sizes of requests stand for lengths."""
    schema = schema_of(FleetSpec, "servesat fleet")
    parts = schema["$defs"]
    for name in ("FleetWorkload", "RequestSize"):
        parts[name]["properties"]["demand"] = either(parts[name]["properties"]["demand"], TEXT)
    for name, given in (("FleetWorkload", "demand"), ("Spec", "workload")):
        parts[name]["required"] = [key for key in parts[name]["required"] if key != given]
    return schema
