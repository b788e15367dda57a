"""Results as JSON documents; keys name the units of their numbers."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from servesat.core.plan import Plan
from servesat.core.result import Correction, Margin, Result, SliceSummary
from servesat.deployment.verification import Verification
from servesat.questions.one_pool import LeftOut
from servesat.report.limit_words import excluded_because
from servesat.spec.document import spec_document
from servesat.spec.spec import Spec


def dumps(document: Any) -> str:
    """Serialise a JSON document, dates and paths as text. Raises ValueError for NaN, TypeError for other objects."""
    return json.dumps(document, indent=1, allow_nan=False, default=_text)


def _text(value: Any) -> str:
    if isinstance(value, date | Path):
        return str(value)
    raise TypeError(f"{value!r} has no place in a document")


def result_document(result: Result) -> dict[str, Any]:
    """A result, with the same keys in every document."""
    return {
        "status": str(result.status),
        "plan": None if result.plan is None else plan_document(result.plan),
        "bound_usd_per_million_output_tokens": result.bound_usd_per_million_output_tokens,
        "binding": [str(requirement) for requirement in result.binding],
        "relaxations": [asdict(relaxation) for relaxation in result.relaxations],
        "conflict": None if result.conflict is None else [list(map(str, members)) for members in result.conflict],
        "requirements": margins_document(result.margins),
        "corrections": [correction_document(correction) for correction in result.corrections],
        "limits": [asdict(value) for value in result.limit_values],
        "alternatives": [plan_document(plan) for plan in result.alternatives],
        "slices": [_slice_document(summary) for summary in result.slices],
        "without_spot": None if result.without_spot is None else plan_document(result.without_spot),
        "loading": None if result.loading is None else asdict(result.loading),
        "expected": None if result.expected is None else asdict(result.expected),
        "basis": None if result.basis is None else asdict(result.basis),
        "replayed": None if result.replayed is None else asdict(result.replayed),
        "servable_requests_per_s": result.servable_requests_per_s,
        "means_hold": result.means_hold,
        "engines": [asdict(cost) for cost in result.engines],
        "api": None if result.api is None else asdict(result.api),
        "solve_s": result.solve_s,
    }


def answer_document(spec: Spec, result: Result) -> dict[str, Any]:
    """The JSON of `servesat solve`: the result, and the spec, so that `servesat launch` can start the plan."""
    return {"spec": spec_document(spec), **result_document(result)}


def plan_document(plan: Plan) -> dict[str, Any]:
    """A plan, with the same keys in every document."""
    return asdict(plan)


def correction_document(correction: Correction) -> dict[str, Any]:
    """A correction: its first change, a second one under `and`, the plan under them, and whether that was replayed."""
    first, *others = [asdict(change) for change in correction.changes]
    return {**first, "and": others, "plan": plan_document(correction.plan), "replayed": correction.replayed}


def left_out_document(left_out: LeftOut | None) -> dict[str, Any] | None:
    """The modes that a question leaves out, and the best plan in them."""
    if left_out is None:
        return None
    best = None if left_out.best is None else plan_document(left_out.best)
    return {"modes": list(map(str, left_out.modes)), "best": best}


def verification_document(verification: Verification) -> dict[str, Any]:
    """The JSON of `servesat verify`."""
    return {"valid": verification.valid, "passed": list(verification.passed), "failed": list(verification.failed)}


def margins_document(margins: Iterable[Margin]) -> dict[str, Any]:
    """The margins of a plan by requirement."""
    return {
        str(margin.requirement): {
            "holds": margin.holds,
            "value": margin.value,
            "limit": margin.limit,
            "slack": margin.slack,
            "unit": margin.unit,
        }
        for margin in margins
    }


def _slice_document(summary: SliceSummary) -> dict[str, Any]:
    plan, violated = summary.plan, summary.violated
    return {
        "chip": plan.chip,
        "topology": plan.topology,
        "chips": plan.chips,
        "usd_per_million_output_tokens": None if violated else plan.usd_per_million_output_tokens,
        "tpot_ms": None if violated else plan.tpot_ms,
        "batch": None if violated else plan.batch,
        "violated": [str(requirement) for requirement in violated],
        "reason": excluded_because(summary) if violated else None,
    }
