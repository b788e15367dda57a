"""A result that others can check: everything it rests on, and a verification that needs no solver."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from servesat.candidates.evaluation import cheapest, evaluate
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.catalogue.load import load_chip, load_model, load_price_book
from servesat.catalogue.record import Sourced
from servesat.catalogue.recovery import published
from servesat.core.errors import CatalogueError, ServesatError
from servesat.core.plan import Assignment, Mode, Plan, PrefillPool
from servesat.core.result import Result, Status
from servesat.core.tolerances import COST_TIE_RTOL, LIMIT_RTOL
from servesat.core.validation import read_json, shorten
from servesat.deployment.check.plan import rederive
from servesat.deployment.formulation.instance import round_columns
from servesat.deployment.settings import Settings
from servesat.spec.spec import Spec

FORMAT = "servesat-certificate-1"
MAX_CELLS = 1_000_000
"""Layouts x batches up to which `verify` enumerates every batch rather than the breakpoints alone."""

FORMULAS = {
    "tp": "product of the slice axes that carry tensor parallelism",
    "ep": "product of the slice axes that experts are spread over; Y = tp · ep",
    "replicas": "R = n / Y",
    "chips": "n · slices, and those of the prefill pool; n: product of the slice's axes",
    "kv_batch_shards": "Z = ep · tp / K beyond one KV head a chip (tp, for a latent that is not replicated), else ep",
    "tpot_ms": "step = max(t_weights, t_flops, t_ici) + t_kv; interleaved: + B / G · t_prefill",
    "step_ms.weights": "t_weights = weights read / (Y · W_hbm); of the experts 1 - (1 - k / E)^tokens",
    "step_ms.flops": "t_flops = 2 · P_active · B / (Y · C), and the FLOPs of a chunk",
    "step_ms.ici": "t_ici = L · 4 · b_a · B · D / (m · W_ici), experts by AllToAll; 0 under ici: forbid",
    "step_ms.kv_cache": "t_kv = kv_bytes(B) / (Y · W_hbm)",
    "step_ms.prefill": "interleaved: B / G · t_prefill, else 0",
    "tokens_per_s": "slices · R · B / tpot, or what the prefill pool feeds, where that is less",
    "tokens_per_s_per_chip": "tokens_per_s / chips",
    "usd_per_chip_hour": "the spec's price, else the chip's own, else the price book's",
    "bills": "of each pool: its chips, and the price of a chip-hour; chips / instance_chips instances",
    "usd_per_hour": "usd_per_chip_hour · n · slices, and the prefill pool's",
    "usd_per_million_output_tokens": "usd_per_hour / 3600 / output tokens sold a second · 10⁶",
    "weights_bytes": "(P - P_experts) · b_w · ep + P_experts · b_e",
    "kv_cache_bytes": "B · values a token · (L_full · S + L_window · min(S, window)) · b_kv · copies",
    "hbm_bytes": "Y · M",
    "hbm_used_fraction": "(weights_bytes + kv_bytes(B)) / (Y · M)",
    "prefill_ms": "t_prefill = max(t_weights, FLOPs / (Y · C · mfu)); chunked: ceil(P / c) · tpot",
    "transfer_ms": "kv_bytes(P) / min(Y · network) of the two pools",
    "ttft_ms": "t_prefill, and the transfer where there is one",
    "stall_ms": "the step; interleaved: the prefill where that is longer",
    "e2e_ms": "ttft + (G - 1) · tpot",
    "requests_per_s": "tokens_per_s / G",
    "load_fraction": "requests asked for / requests_per_s",
    "usd_per_request": "usd_per_hour / 3600 / requests sold a second",
    "usd_per_million_tokens": "usd_per_request / (P + G) · 10⁶",
    "sequences_finished_per_step": "B / G",
    "kv_tokens_evicted_per_step": "B · (P + G) / G",
}
"""The formula of each figure of a plan, as in docs/cost-model.md."""

_DECISIONS = {
    "chip": str,
    "topology": str,
    "tp_axes": list,
    "ep_axes": list,
    "kv_replicated": bool,
    "weights": str,
    "kv_cache": str,
    "compute": str,
    "batch": int,
    "mode": str,
    "chunk_tokens": int | None,
    "slices": int,
    "prefill": dict | None,
}
"""The decisions of a plan, with their types in JSON."""

_POOL = {"chip": str, "topology": str, "tp_axes": list, "ep_axes": list, "weights": str, "compute": str, "slices": int}


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What `verify` found: the checks that passed, and those that failed (none of which makes it valid)."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether every check passed."""
        return not self.failed


_KEYS = {
    "format",
    "servesat",
    "spec",
    "catalogue",
    "solver",
    "status",
    "plan",
    "formulas",
    "bound_usd_per_million_output_tokens",
    "gap",
}


def certify(spec: Spec, result: Result, settings: Settings) -> dict[str, Any]:
    """Everything that a result rests on, as one JSON document.

    Raises ServesatError unless the result is a proved plan, and where a record of the spec bears the id of another one
    in the catalogue.
    """
    if result.status is not Status.OPTIMAL or result.plan is None:
        raise ServesatError(f"no certificate: the result is {result.status}, and only a proved plan has one")
    for name, record in _records(spec):
        shelved = _shelved(name)
        if shelved is not None and shelved != record:
            raise ServesatError(f"no certificate: {name} is not the catalogue's entry of that id; give it another name")
    cost, bound = result.plan.usd_per_million_output_tokens, result.bound_usd_per_million_output_tokens
    return {
        "format": FORMAT,
        "servesat": version("servesat"),
        "spec": _spec_document(spec),
        "catalogue": {name: _sha256(record) for name, record in _records(spec) if _shelved(name) is not None},
        "solver": {"name": "OR-Tools CP-SAT", "version": version("ortools"), "parameters": asdict(settings)},
        "status": str(result.status),
        "plan": _plain(result.plan),
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
    if set(document) != _KEYS:
        wrong = ", ".join(sorted(_KEYS ^ set(document)))
        raise ServesatError(f"{path}: {wrong} is missing or unknown; expected the keys {', '.join(sorted(_KEYS))}")
    for key in ("spec", "catalogue", "plan", "solver", "formulas"):
        if not isinstance(document[key], Mapping):
            raise ServesatError(f"{path}: {key} = {shorten(document[key])}: expected a mapping")
    passed: list[str] = []
    failed: list[str] = []
    for check in (_check_inputs, _check_figures, _check_bound, _check_optimality):
        try:
            faults, saying = check(document)
        except (ServesatError, ArithmeticError, LookupError, TypeError, ValueError) as fault:
            faults, saying = [f"{check.__name__.removeprefix('_check_')}: {type(fault).__name__}: {fault}"], ""
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
    faults += [f"spec: {name} is in the catalogue, and not stated" for name in own if _shelved(name) is not None]
    return faults, f"inputs: {len(stated)} catalogue entries as stated; the spec's own: {', '.join(own) or 'none'}"


def _check_figures(document: Mapping[str, Any]) -> Checked:
    """Every figure follows from the decisions, and every requirement holds."""
    plan, margins = rederive(Spec.load(document["spec"]), _assignment(document))
    faults = list(_differences(_plain(plan), document["plan"], "plan"))
    faults += [f"plan: violates {margin.requirement}" for margin in margins if not margin.holds]
    return faults, f"figures: {len(FORMULAS)} re-derived, {len(margins)} requirements hold"


def _differences(right: Any, told: Any, where: str) -> Iterator[str]:
    """Where a told document differs from the right one; numbers may differ by the tolerance, types may not."""
    if isinstance(right, dict) and isinstance(told, Mapping):
        yield from (f"{where}: {key} is missing" for key in right if key not in told)
        yield from (f"{where}: {key} is no figure of a plan" for key in told if key not in right)
        for key in right:
            if key in told:
                yield from _differences(right[key], told[key], f"{where}.{key}")
    elif not _same(right, told):
        yield f"{where} is stated as {told!r}, and follows as {right!r}"


def _check_bound(document: Mapping[str, Any]) -> Checked:
    cost, bound, gap = (
        document["plan"]["usd_per_million_output_tokens"],
        document["bound_usd_per_million_output_tokens"],
        document["gap"],
    )
    if document["status"] != "optimal":
        return [f"status: {document['status']!r}, expected 'optimal'"], ""
    if not _same(cost, bound) or not isinstance(gap, float) or not abs(gap) <= LIMIT_RTOL:
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
    if cost > best * (1 + COST_TIE_RTOL):
        return [f"optimality: a plan for ${best:.6g} per million exists, the certificate's costs ${cost:.6g}"], ""
    tied = np.flatnonzero((columns.violated == 0) & (columns.usd_per_million <= best * (1 + COST_TIE_RTOL)))
    first = columns.assignment(int(tied[np.argmin(round_columns(columns).rank[tied])]))
    if first != _assignment(document):
        return [f"optimality: of the plans that tie, {first} comes first"], ""
    how = "every batch of every layout" if every_batch else "every layout at its breakpoints"
    return [], f"optimality: {how}, {len(columns):,} columns, none better"


def _assignment(document: Mapping[str, Any]) -> Assignment:
    """The decisions of a certificate's plan. Raises ServesatError where one is not of its type."""
    decisions = _typed(document["plan"], _DECISIONS)
    pool = decisions["prefill"]
    prefill = None if pool is None else PrefillPool(**_typed(pool, _POOL))
    return Assignment(**decisions | {"mode": Mode(decisions["mode"]), "prefill": prefill})


def _typed(told: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The decisions told, with lists as tuples. Raises ServesatError where one is not of its type."""
    decisions = {name: told[name] for name in types}
    right = all(
        isinstance(decisions[name], kind) and isinstance(decisions[name], bool) == (kind is bool)
        for name, kind in types.items()
    )
    lists = [name for name, kind in types.items() if kind is list]
    if not right or not all(type(axis) is int for name in lists for axis in decisions[name]):
        raise ServesatError(f"plan: the decisions {shorten(decisions)} are not of the types that a plan has")
    return decisions | {name: tuple(decisions[name]) for name in lists}


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
    if spec.search.max_quality_loss is not None:
        yield "models/quality/published", published()


def _shelved(name: str) -> Sourced | None:
    """The catalogue's entry of that name; None where it has none."""
    shelf, _, entry = name.rpartition("/")
    shelves: dict[str, Callable[[str], Sourced]] = {
        "models": load_model,
        "hardware/chips": load_chip,
        "hardware/prices": load_price_book,
        "models/quality": _published,
    }
    try:
        return shelves[shelf](entry)
    except CatalogueError:
        return None


def _published(_: str) -> Sourced:
    return published()


def _sha256(record: Sourced) -> str:
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(plan: Plan) -> Any:
    """A plan as JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(asdict(plan)))


def _same(right: Any, told: Any) -> bool:
    """Equal and of one type, lists entry by entry; floats within the tolerance."""
    if isinstance(right, list) and isinstance(told, list):
        return len(right) == len(told) and all(map(_same, right, told))
    if isinstance(right, float) and type(told) in {int, float}:
        return isfinite(told) and abs(right - told) <= LIMIT_RTOL * abs(right)
    return type(right) is type(told) and bool(right == told)
