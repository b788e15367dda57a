"""Checking a certificate without a solver: its inputs, every figure, and that no plan is better."""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates.evaluation import cheapest, evaluate
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.core.errors import ServesatError
from servesat.core.reading import read_json
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL
from servesat.core.validation import shorten
from servesat.deployment.by_replay import solve_by_replay
from servesat.deployment.certificate import (
    FORMAT,
    FORMULAS,
    KEYS,
    SOLVER,
    catalogue_entry,
    digest_of,
    drafts_document,
    formulas_of,
    plain,
    records_of,
    replayed_document,
    sha256_of,
)
from servesat.deployment.check.plan import rederive
from servesat.deployment.decisions import assignment_of
from servesat.deployment.formulation.instance import round_columns
from servesat.deployment.proposals import Search
from servesat.deployment.settings import Settings
from servesat.spec.spec import Spec

MAX_CERTIFICATE_BYTES = 20_000_000
"""A certificate has its whole price book in it: 1.2 MB for every offer of every cloud."""

MAX_CELLS = 1_000_000
"""Layouts x batches up to which `verify` enumerates every batch rather than the breakpoints alone."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found: the checks that passed, and those that failed (none of which makes it valid)."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether every check passed."""
        return not self.failed


def verify(path: Path) -> Verification:
    """Check a certificate without a solver: its inputs, every figure, and that no plan is better.

    Optimality is checked against every batch of every layout where there are at most MAX_CELLS of them, and against the
    breakpoints otherwise; of a plan that replays verified they are run again, with the same seeds, for every proposal,
    and a trace is looked for relative to the certificate. Raises ServesatError for a file that is not a certificate.
    """
    document = read_json(path, ServesatError, max_bytes=MAX_CERTIFICATE_BYTES)
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise ServesatError(f"{path}: is not a certificate of servesat; expected format {FORMAT}")
    if set(document) != KEYS:
        wrong = ", ".join(sorted(KEYS ^ set(document)))
        raise ServesatError(f"{path}: {wrong} is missing or unknown; expected the keys {', '.join(sorted(KEYS))}")
    for key in ("spec", "catalogue", "plan", "solver", "formulas"):
        if not isinstance(document[key], Mapping):
            raise ServesatError(f"{path}: {key} = {shorten(document[key])}: expected a mapping")
    try:
        spec = Spec.load(document["spec"], folder=path.parent)
    except ServesatError as fault:
        return Verification(passed=(), failed=(str(fault),))
    passed: list[str] = []
    failed: list[str] = []
    for check in (_check_digest, _check_inputs, _check_solver, _check_figures, _check_bound, _check_optimality):
        try:
            faults, saying = check(spec, document)
        except (ServesatError, ArithmeticError, LookupError, TypeError, ValueError) as fault:
            faults, saying = [f"{check.__name__.removeprefix('_check_')}: {type(fault).__name__}: {fault}"], ""
        failed += faults
        passed += [] if faults else [saying]
    return Verification(passed=tuple(passed), failed=tuple(failed))


Checked = tuple[list[str], str]


def _check_digest(_: Spec, document: Mapping[str, Any]) -> Checked:
    """The document is the one that was written: any edit changes its digest."""
    if document["sha256"] != digest_of(document):
        return ["digest: the certificate was edited after it was written"], ""
    return [], f"digest: {document['sha256'][:12]}… of the whole document"


def _check_solver(_: Spec, document: Mapping[str, Any]) -> Checked:
    """The solver, its version and its parameters are of the kind that this version of servesat uses."""
    solver, faults = document["solver"], []
    parameters = solver.get("parameters")
    if solver.get("name") != SOLVER:
        faults.append(f"solver: name = {shorten(solver.get('name'))}, expected {SOLVER!r}")
    for name, told in (("solver: version", solver.get("version")), ("servesat", document["servesat"])):
        if not isinstance(told, str) or not re.fullmatch(r"\d[\w.+!-]*", told):
            faults.append(f"{name} = {shorten(told)}, expected a version such as 9.15.6755")
    expected = {field.name for field in fields(Settings)}
    if (
        not isinstance(parameters, Mapping)
        or set(parameters) != expected
        or not all(map(_is_setting, parameters.values()))
    ):
        faults.append(f"solver: parameters = {shorten(parameters)}, expected {', '.join(sorted(expected))}")
    return faults, f"solver: {SOLVER} {solver.get('version')}, as servesat {document['servesat']} ran it"


def _is_setting(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and value >= 0)


def _check_inputs(spec: Spec, document: Mapping[str, Any]) -> Checked:
    """What the certificate takes from the catalogue is what the catalogue holds today, and what its spec states."""
    stated: Mapping[str, str] = document["catalogue"]
    records = dict(records_of(spec))
    faults = []
    for name, sha256 in stated.items():
        entry = catalogue_entry(name)
        if entry is None or sha256_of(entry) != sha256:
            faults.append(f"catalogue: {name} is not the entry that the certificate was made with")
        if name not in records or sha256_of(records[name]) != sha256:
            faults.append(f"spec: {name} is not the entry that the certificate names")
    if document["drafts"] != drafts_document(spec):
        faults.append("drafts: not those, as accepted, that the certificate's spec may choose today")
    if document["formulas"] != formulas_of(spec):
        faults.append("formulas: not those of this version")
    inline = [name for name in records if name not in stated]
    faults += [
        f"spec: {name} is in the catalogue, and not stated" for name in inline if catalogue_entry(name) is not None
    ]
    return faults, f"inputs: {len(stated)} catalogue entries as stated; the spec's own: {', '.join(inline) or 'none'}"


def _check_figures(spec: Spec, document: Mapping[str, Any]) -> Checked:
    """Every figure follows from the decisions, and every requirement holds."""
    plan, margins = rederive(spec, assignment_of(document["plan"]))
    faults = list(_differences(plain(plan), document["plan"], "plan"))
    faults += [f"plan: violates {margin.requirement}" for margin in margins if not margin.holds]
    return faults, f"figures: {len(FORMULAS)} re-derived, {len(margins)} requirements hold"


def _differences(right: Any, told: Any, where: str) -> Iterator[str]:
    """Where a told document differs from the right one; numbers may differ by the tolerance, types may not."""
    if isinstance(right, dict) and isinstance(told, Mapping):
        yield from (f"{where}: {key} is missing" for key in right if key not in told)
        yield from (f"{where}: {key} is not a figure of a plan" for key in told if key not in right)
        for key in right:
            if key in told:
                yield from _differences(right[key], told[key], f"{where}.{key}")
    elif not _same(right, told):
        yield f"{where} is stated as {told!r}, and follows as {right!r}"


def _check_bound(spec: Spec, document: Mapping[str, Any]) -> Checked:
    cost, bound, gap = (
        document["plan"]["usd_per_million_output_tokens"],
        document["bound_usd_per_million_output_tokens"],
        document["gap"],
    )
    if document["status"] != "optimal":
        return [f"status: {document['status']!r}, expected 'optimal'"], ""
    if (spec.percentile is None) != (document["replayed"] is None):
        expected = "nothing, as its limits are on means" if spec.percentile is None else "what replays told"
        return [f"replayed = {shorten(document['replayed'])}: the spec expects {expected}"], ""
    if spec.percentile is not None:
        right = Search(spec, time.perf_counter(), Settings()).bound_usd_per_million
        if not _same(right, bound) or not _same(1 - right / cost, gap):
            return [f"bound: {bound!r} with a gap of {gap!r}, and {right!r} follows, below a cost of {cost!r}"], ""
        return [], f"bound: no proposal costs less than ${right:.4g} per million, {max(gap, 0.0):.1%} below the plan"
    if not _same(cost, bound) or not isinstance(gap, float) or not abs(gap) <= LIMIT_RTOL:
        return [f"bound: {bound!r} with a gap of {gap!r} does not prove a cost of {cost!r}"], ""
    return [], "bound: equal to the cost, no gap"


def _check_optimality(spec: Spec, document: Mapping[str, Any]) -> Checked:
    """No plan is cheaper, and none that ties is first in the order of ties."""
    if spec.percentile is not None:
        return _check_proposals(spec, document)
    layouts = enumerate_layouts(spec)
    every_batch = len(layouts) * spec.search.max_batch <= MAX_CELLS
    batches = np.arange(1, spec.search.max_batch + 1)
    columns = evaluate(spec, layouts, batches=batches if every_batch else None)
    best = cheapest(columns)
    cost = document["plan"]["usd_per_million_output_tokens"]
    if cost > best * (1 + COST_TIE_RTOL):
        return [f"optimality: a plan for ${best:.6g} per million exists, the certificate's costs ${cost:.6g}"], ""
    tied = np.flatnonzero((columns.violated == 0) & (columns.usd_per_million <= best * (1 + COST_TIE_RTOL)))
    first = columns.assignment(int(tied[np.argmin(round_columns(columns).tie_rank(tied))]))
    if first != assignment_of(document["plan"]):
        return [f"optimality: of the plans that tie, {first} comes first"], ""
    how = "every batch of every layout" if every_batch else "every layout at its breakpoints"
    return [], f"optimality: {how}, {len(columns):,} columns, none better"


def _check_proposals(spec: Spec, document: Mapping[str, Any]) -> Checked:
    """Proposed in order of cost and replayed again, every cheaper plan falls, and this one passes as stated."""
    again = solve_by_replay(spec, Settings())
    if again.plan is None or again.replayed is None:
        return [f"optimality: the proposals, replayed again, are {again.status}"], ""
    faults = list(_differences(plain(again.plan), document["plan"], "plan"))
    faults += _differences(replayed_document(spec, again.replayed), document["replayed"], "replayed")
    told = f"{again.replayed.requests:,} requests, {again.replayed.seeds} seeds, as stated"
    return faults, f"optimality: the cheapest of {again.replayed.proposals:,} proposals that keeps its limits in {told}"


def _same(right: Any, told: Any) -> bool:
    """Equal and of one type, lists entry by entry; floats within the tolerance."""
    if isinstance(right, list) and isinstance(told, list):
        return len(right) == len(told) and all(map(_same, right, told))
    if isinstance(right, float) and type(told) in {int, float}:
        return isfinite(told) and abs(right - told) <= LIMIT_RTOL * abs(right)
    return type(right) is type(told) and bool(right == told)
