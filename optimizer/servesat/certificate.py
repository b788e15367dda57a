"""A result that others can check: everything it rests on, and a verification that needs no solver."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates import TIE, TOLERANCE, cheapest, evaluate
from servesat.catalogue import Sourced, load_chip, load_model, load_price_book
from servesat.check import rederive
from servesat.errors import CatalogueError, ServesatError
from servesat.formulation import Settings
from servesat.instance import round_columns
from servesat.layouts import enumerate_layouts
from servesat.plan import Assignment, Result, Status
from servesat.spec import Spec
from servesat.validation import read_json

FORMAT = "servesat-certificate-1"
MAX_CELLS = 1_000_000
"""Layouts x batches up to which `verify` enumerates every batch rather than the breakpoints alone."""

FORMULAS = {
    "tp": "Y: product of the slice axes that carry tensor parallelism",
    "replicas": "R = n / Y",
    "chips": "n: product of the slice's axes",
    "kv_batch_shards": "Z = Y / K beyond one KV head a chip, else 1",
    "tpot_ms": "step = max(t_weights, t_flops, t_ici) + t_kv",
    "step_ms.weights": "t_weights = P · b_w / (Y · W_hbm)",
    "step_ms.flops": "t_flops = 2 · P · B / (Y · C)",
    "step_ms.ici": "t_ici = L · 4 · b_a · B · D / (m · W_ici), 0 under ici: forbid",
    "step_ms.kv_cache": "t_kv = kv_bytes(B) / (Y · W_hbm)",
    "tokens_per_s": "R · B / step",
    "tokens_per_s_per_chip": "tokens_per_s / n",
    "usd_per_chip_hour": "the spec's price, else the chip's own, else the price book's",
    "usd_per_hour": "usd_per_chip_hour · n",
    "usd_per_million_output_tokens": "usd_per_hour / 3600 / tokens_per_s · 10⁶",
    "weights_bytes": "P · b_w",
    "kv_cache_bytes": "B · 2 · K · H · (L_full · S + L_window · min(S, window)) · b_kv",
    "hbm_bytes": "Y · M",
    "hbm_used_fraction": "(weights_bytes + kv_bytes(B)) / (Y · M)",
}
"""The formula of each figure of a plan, as in docs/cost-model.md."""

_DECISIONS = ("chip", "topology", "tp_axes", "weights", "kv_cache", "compute", "batch")


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found: the checks that passed, and those that failed (none of which makes it valid)."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether every check passed."""
        return not self.failed


def certify(spec: Spec, result: Result, settings: Settings) -> dict[str, Any]:
    """Everything that a result rests on, as one JSON document. Raises ServesatError unless the result is proved."""
    if result.status is not Status.OPTIMAL or result.plan is None:
        raise ServesatError(f"--certificate: the result is {result.status}; only a proved plan has a certificate")
    cost, bound = result.plan.usd_per_million_output_tokens, result.bound_usd_per_million_output_tokens
    return {
        "format": FORMAT,
        "servesat": version("servesat"),
        "spec": _spec_document(spec),
        "catalogue": {name: _sha256(record) for name, record in _records(spec) if _shelved(name) == record},
        "solver": {"name": "OR-Tools CP-SAT", "version": version("ortools"), "parameters": asdict(settings)},
        "status": str(result.status),
        "plan": json.loads(json.dumps(asdict(result.plan))),
        "formulas": FORMULAS,
        "bound_usd_per_million_output_tokens": bound,
        "gap": None if bound is None else 1 - bound / cost,
    }


def write_certificate(document: Mapping[str, Any], path: Path) -> None:
    """Write a certificate. Raises ServesatError when the file cannot be written."""
    try:
        path.write_text(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as fault:
        raise ServesatError(f"{path}: cannot be written: {fault.strerror}") from None


def verify(path: Path) -> Verification:
    """Check a certificate without a solver: its inputs, every figure, and that no plan is better.

    Optimality is checked against every batch of every layout where there are at most MAX_CELLS of them, and against the
    breakpoints otherwise. Raises ServesatError for a file that is no certificate.
    """
    document = read_json(path, ServesatError)
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise ServesatError(f"{path}: is no certificate of servesat; expected format {FORMAT}")
    missing = [key for key in ("spec", "catalogue", "plan", "status", "formulas") if key not in document]
    if missing:
        raise ServesatError(f"{path}: {', '.join(missing)} is missing")
    passed: list[str] = []
    failed: list[str] = []
    for check in (_check_inputs, _check_figures, _check_bound, _check_optimality):
        try:
            faults, saying = check(document)
        except (ServesatError, KeyError, TypeError, ValueError) as fault:
            faults, saying = [f"{check.__name__.removeprefix('_check_')}: {fault}"], ""
        failed += faults
        passed += [] if faults else [saying]
    return Verification(passed=tuple(passed), failed=tuple(failed))


Checked = tuple[list[str], str]


def _check_inputs(document: Mapping[str, Any]) -> Checked:
    """What the certificate takes from the catalogue is what the catalogue holds today, and what its spec states."""
    stated: Mapping[str, str] = document["catalogue"]
    records = dict(_records(Spec.load(document["spec"])))
    faults = []
    for name, sha256 in stated.items():
        shelved = _shelved(name)
        if shelved is None or _sha256(shelved) != sha256:
            faults.append(f"catalogue: {name} is not the entry that the certificate was made with")
        if name not in records or _sha256(records[name]) != sha256:
            faults.append(f"spec: {name} is not the entry that the certificate names")
    if document["formulas"] != FORMULAS:
        faults.append("formulas: not those of this version")
    own = [name for name in records if name not in stated]
    return faults, f"inputs: {len(stated)} catalogue entries as stated; the spec's own: {', '.join(own) or 'none'}"


def _check_figures(document: Mapping[str, Any]) -> Checked:
    """Every figure follows from the decisions, and every requirement holds."""
    stated = document["plan"]
    plan, margins = rederive(Spec.load(document["spec"]), _assignment(document))
    figures = dict(_flat(asdict(plan)))
    told = dict(_flat(stated))
    faults = [f"plan: {name} is missing" for name in figures if name not in told]
    faults += [f"plan: {name} is no figure of a plan" for name in told if name not in figures]
    for name, figure in figures.items():
        if name in told and not _same(figure, told[name]):
            faults.append(f"plan: {name} is stated as {told[name]!r}, and follows as {figure!r}")
    faults += [f"plan: violates {margin.requirement}" for margin in margins if not margin.holds]
    return faults, f"figures: {len(figures)} re-derived, {len(margins)} requirements hold"


def _check_bound(document: Mapping[str, Any]) -> Checked:
    cost, bound, gap = (
        document["plan"]["usd_per_million_output_tokens"],
        document["bound_usd_per_million_output_tokens"],
        document["gap"],
    )
    if document["status"] != "optimal":
        return [f"status: {document['status']!r}, expected 'optimal'"], ""
    if not _same(cost, bound) or not abs(gap) <= TOLERANCE:
        return [f"bound: {bound!r} with a gap of {gap!r} does not prove a cost of {cost!r}"], ""
    return [], "bound: equal to the cost, no gap"


def _check_optimality(document: Mapping[str, Any]) -> Checked:
    """No plan is cheaper, and none that ties is first in the order of ties."""
    spec = Spec.load(document["spec"])
    layouts = enumerate_layouts(spec)
    every_batch = len(layouts) * spec.search.max_batch <= MAX_CELLS
    batches = np.arange(1, spec.search.max_batch + 1)
    columns = evaluate(spec, layouts, batches=batches if every_batch else None)
    best = cheapest(columns)
    cost = document["plan"]["usd_per_million_output_tokens"]
    if cost > best * (1 + TIE):
        return [f"optimality: a plan for ${best:.6g} per million exists, the certificate's costs ${cost:.6g}"], ""
    tied = np.flatnonzero((columns.violated == 0) & (columns.usd_per_million <= best * (1 + TIE)))
    first = columns.assignment(int(tied[np.argmin(round_columns(columns).rank[tied])]))
    if first != _assignment(document):
        return [f"optimality: of the plans that tie, {first} comes first"], ""
    how = "every batch of every layout" if every_batch else "every layout at its breakpoints"
    return [], f"optimality: {how}, {len(columns):,} columns, none better"


def _assignment(document: Mapping[str, Any]) -> Assignment:
    plan = document["plan"]
    decisions = {name: plan[name] for name in _DECISIONS}
    return Assignment(**decisions | {"tp_axes": tuple(decisions["tp_axes"])})


def _spec_document(spec: Spec) -> dict[str, Any]:
    """A spec with everything it refers to written out."""
    document = spec.model_dump(mode="json", exclude_none=True)
    document["search"]["chips"] = [offer.chip.model_dump(mode="json", exclude_none=True) for offer in spec.offers]
    return document


def _records(spec: Spec) -> Iterator[tuple[str, Sourced]]:
    """The model, the chips and the price book that a spec rests on, by their place in the catalogue."""
    yield f"models/{spec.model.id}", spec.model
    for offer in spec.offers:
        yield f"hardware/chips/{offer.chip.id}", offer.chip
    yield f"hardware/prices/{spec.price_book.id}", spec.price_book


def _shelved(name: str) -> Sourced | None:
    """The catalogue's entry of that name; None where it has none."""
    shelf, _, entry = name.rpartition("/")
    load: Callable[[str], Sourced] = {
        "models": load_model,
        "hardware/chips": load_chip,
        "hardware/prices": load_price_book,
    }[shelf]
    try:
        return load(entry)
    except CatalogueError:
        return None


def _sha256(record: Sourced) -> str:
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple | list) else value


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, int | float) and not isinstance(other, bool):
        return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))
    return bool(one == other) and type(one) is type(other)
