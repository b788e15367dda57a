"""Plans that other commands wrote: results and certificates."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import isclose
from pathlib import Path

from servesat.core.errors import LaunchError, NoPlanError, ServesatError, SpecError
from servesat.core.plan import Plan
from servesat.core.quantities import number
from servesat.core.reading import STANDARD_INPUT, read_json, read_yaml, shown
from servesat.core.result import Percentiles, Status
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.core.validation import shorten
from servesat.deployment.check.plan import rederive
from servesat.deployment.decisions import assignment_of
from servesat.deployment.verification import MAX_CERTIFICATE_BYTES
from servesat.launch.servers import Launch, launch_of
from servesat.spec.spec import Spec

_REPLAYED = ("ttft_ms", "tpot_ms")

FIGURES = ("usd_per_hour", "usd_per_million_output_tokens", "tpot_ms", "ttft_ms")
"""What a result tells of a plan that is derived again, and compared."""

PROVED = "no plan of the spec costs less"
VERIFIED = "verified by replay: the cheapest proposal whose replays keep the limits"


def kind_of(path: Path) -> str:
    """What a file holds, by its keys: a `result` has a plan, a `fleet` workloads; else it is a `spec`."""
    document = _document(path)
    keys = set(document) if isinstance(document, Mapping) else set()
    return "result" if keys & {"plan", "status"} else "fleet" if "workloads" in keys else "spec"


def _document(path: Path) -> object:
    """What a file holds, a result or a spec; a result may have any name but that of YAML."""
    if path.suffix == ".json":
        return read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    if path.suffix not in {".yaml", ".yml"}:
        with suppress(LaunchError):
            return read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    return read_yaml(path, SpecError)


def refuse_document(source: object) -> None:
    """Raise LaunchError for the JSON of a result as a mapping, which has lost the folder that its files are in."""
    if isinstance(source, Mapping) and source.keys() >= {"status", "plan", "spec"}:
        raise LaunchError("source has the keys of a result: give the solution itself, or the file of its JSON")


def result_launch(path: Path, checkpoint: str | None = None) -> Launch:
    """The launch of a result of `solve --json`, or of a certificate.

    The figures are derived again, and must meet the limits of the spec. Raises LaunchError otherwise.
    """
    spec, plan, status = plan_of_result(path)
    name = shown(path) if path == STANDARD_INPUT else path.name
    differing = _differing(path, plan)
    said = f"; solve it again, as figures differ: {', '.join(differing)}" if differing else "; not solved again"
    launch = launch_of(spec, plan, proof=f"{status}, as {name} says{said}", checkpoint=checkpoint)
    return replace(launch, replayed=_replayed(path))


def _differing(path: Path, plan: Plan) -> list[str]:
    """The figures of a result's plan that are others today: `usd_per_hour 0.01, now 4.89`."""
    document = read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    told = document["plan"] if isinstance(document, Mapping) else {}
    found = []
    for name in FIGURES:
        before, now = told.get(name), getattr(plan, name)
        if before is None or (now is not None and _is_same(before, now)):
            continue
        found.append(f"{name} {shorten(before)}, now {'none' if now is None else number(now)}")
    return found


def _is_same(told: object, now: float) -> bool:
    if isinstance(told, bool) or not isinstance(told, int | float) or abs(told) > sys.float_info.max:
        return False
    return isclose(told, now, rel_tol=COST_TIE_RTOL)


def _replayed(path: Path) -> tuple[Percentiles, Percentiles] | None:
    """The percentiles of a result whose plan was replayed. Raises LaunchError where they are malformed."""
    document = read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    found = document.get("replayed") if isinstance(document, dict) else None
    if found is None:
        return None
    try:
        ttft, tpot = (Percentiles(**{key: float(ms) for key, ms in found[name].items()}) for name in _REPLAYED)
    except (AttributeError, LookupError, TypeError, ValueError) as fault:
        raise LaunchError(f"{shown(path)}: replayed = {shorten(found)}: expected {' and '.join(_REPLAYED)}") from fault
    return ttft, tpot


def plan_of_result(path: Path) -> tuple[Spec, Plan, str]:
    """The spec and the plan of a result, its figures derived again, and its status.

    Raises NoPlanError for a result without a plan, LaunchError for a malformed one.
    """
    where = shown(path)
    document = read_json(path, LaunchError, max_bytes=MAX_CERTIFICATE_BYTES)
    if not isinstance(document, Mapping) or not {"spec", "status", "plan"} <= set(document):
        raise LaunchError(
            f"{where}: expected the JSON of `servesat solve` or a certificate, with spec, status and plan"
        )
    if document["status"] not in list(Status):
        raise LaunchError(f"{where}: status = {shorten(document['status'])}: expected one of {', '.join(Status)}")
    if document["status"] in {Status.INFEASIBLE, Status.UNKNOWN}:
        raise NoPlanError(f"{where}: has no plan: the result is {document['status']}", Status(document["status"]))
    has_plan = isinstance(document["plan"], Mapping)
    if not has_plan or not isinstance(document["spec"], Mapping):
        raise LaunchError(f"{where}: has no plan: the result is {document['status']}")
    try:
        spec = Spec.load(document["spec"], folder=path.parent)
        plan, margins = rederive(spec, assignment_of(document["plan"]))
    except ServesatError as fault:
        raise LaunchError(f"{where}: {fault}") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as fault:
        raise LaunchError(f"{where}: the plan is malformed: {fault}") from None
    broken = [margin.requirement for margin in margins if not margin.holds]
    if broken:
        raise LaunchError(f"{where}: the plan breaks {', '.join(broken)}: solve the spec again")
    return spec, plan, str(document["status"])


def proof_of(status: str, *, replayed: bool = False) -> str:
    """How far a plan is proved, or verified."""
    if status != Status.OPTIMAL:
        return "none: the time limit was reached first"
    return VERIFIED if replayed else PROVED
