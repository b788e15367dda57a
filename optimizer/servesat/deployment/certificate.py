"""A result that others can check: everything it rests on, in one JSON document."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from servesat.catalogue.load import load_calibration, load_chip, load_engine, load_model, load_price_book
from servesat.catalogue.record import Sourced
from servesat.catalogue.recovery import published
from servesat.core.errors import CatalogueError, ServesatError
from servesat.core.plan import Plan
from servesat.core.result import Replayed, Result, Status
from servesat.core.writing import write_text
from servesat.deployment.settings import Settings
from servesat.spec.spec import Spec

FORMAT = "servesat-certificate-9"
SOLVER = "OR-Tools CP-SAT"

FORMULAS = {
    "tp": "product of the slice axes that carry tensor parallelism",
    "ep": "product of the slice axes that experts are spread over",
    "pp": "product of the slice axes of stages; Y = tp · ep · pp; λ = the dearest stage / the mean",
    "replicas": "R = n / Y",
    "chips": "chips_used, or the chips of whole instances",
    "kv_batch_shards": "Z = pp · ep · tp / K where the chips beyond one KV head each split the batch, else pp · ep",
    "kv_replicated": "kv_layout is copies",
    "tpot_ms": "step = max(t_weights, t_flops, t_ici) + t_kv + t_exchange + t_pipeline, and step_ms.prefill",
    "step_ms.weights": "t_weights = pp · weights read / (Y · W_hbm); of the experts 1 - (1 - k / E)^(tokens / pp)",
    "step_ms.flops": "t_flops = λ · 2 · Θ_active · B / (Y · C), and the FLOPs of pp chunks",
    "step_ms.ici": "t_ici = λ / pp · L · 4 · b_a · B · D / (m · W_ici), experts by AllToAll; 0 under ici: forbid",
    "step_ms.kv_cache": "t_kv = kv_bytes(B) / (Y · W_hbm)",
    "step_ms.kv_exchange": "t_exchange = λ · b_a · B / (ep · pp) · L · N / K · (H + H_v + 2) / (m · W_ici), if split",
    "step_ms.pipeline": "t_pipeline = B · 2 · b_a · D / (tp · ep · W_pp) from stage to stage",
    "step_ms.draft": "t_draft = δ · (max(t_weights, t_flops) of the draft + its share of t_kv)",
    "accepted_tokens": "A: as published of the draft and the dataset, or as the spec has it; parts of step_ms are / A",
    "step_ms.prefill": "interleaved: B / G · t_prefill / pp, else 0",
    "step_ms.head": "0: with the weights and FLOPs",
    "step_ms.launches": "0",
    "step_ms.host": "0",
    "tokens_per_s": "slices · R · B / tpot (on spot its spot_capacity), or what the prefill pool feeds, if less",
    "tokens_per_s_per_chip": "tokens_per_s / chips",
    "mfu": "output tokens/s of a replica · (2 · Θ_active + FLOPs of a prompt / G) / (Y · C)",
    "mbu": "(pp · weights read + kv_bytes(B)) / (tpot · Y · W_hbm)",
    "usd_per_chip_hour": "the spec's price, else the chip's own, else the price book's",
    "bills": "of each pool: its chips, and the price of a chip-hour; chips / instance_chips instances, or whole ones",
    "usd_per_hour": "usd_per_chip_hour · n · slices, and the prefill pool's; or instances · usd_per_instance_hour",
    "usd_per_month": "730 · usd_per_hour",
    "usd_per_year": "8,760 · usd_per_hour",
    "usd_per_hour_of_chips_used": "usd_per_chip_hour · chips_used of each bill",
    "instances": "of each bill, where whole ones are bought",
    "power_kw": "chips of each bill · power_w / 1,000 · pue",
    "kwh_per_million_output_tokens": "power_kw / 3,600 / output tokens sold a second · 10⁶",
    "chips_used": "n · slices, and those of the prefill pool; n: product of the slice's axes",
    "usd_per_million_output_tokens": "usd_per_hour / 3600 / output tokens sold a second · 10⁶",
    "weights_bytes": "(tables + λ · all but experts) · ep + λ · experts, as stored; over stages pp · the larger table",
    "kv_cache_bytes": "B · λ · bytes a token and layer · (L_full · S + L_window · min(S, window)) · copies",
    "hbm_bytes": "Y · M; under an engine Y · utilisation · the memory that the driver reports",
    "hbm_used_fraction": "(weights_bytes + kv_cache_bytes + runtime_bytes + activation_bytes) / hbm_bytes",
    "runtime_bytes": "Y · (runtime + graphs + collectives, where Y > 1), of the engine",
    "activation_bytes": "Y · max(b_a · T · (c_1 · D + c_2 · F / tp), 4 · c_3 · B / ep · V + b_a · T · D)",
    "adapter_bytes": "2 · adapters · rank · Y · (inputs + outputs of each matrix, as a chip has it)",
    "host_bytes": "ep · host_cache.tokens · kv_cache_bytes / (B · S)",
    "prefill_ms": "t_prefill = max(t_weights, FLOPs / (Y · C · mfu)); chunked: ceil((P - P_c) / c) · tpot",
    "transfer_ms": "kv_bytes(P) / min(Y · network) of the two pools",
    "host_load_ms": "kv_bytes(P · host_cache.hit) / (tp · pp · W_host · e_h)",
    "ttft_ms": "t_prefill, and the transfer where there is one",
    "stall_ms": "the step; interleaved: the prefill where that is longer",
    "e2e_ms": "ttft + (G - 1) · tpot",
    "requests_per_s": "tokens_per_s / G",
    "load_fraction": "requests asked for / requests_per_s",
    "usd_per_request": "usd_per_hour / 3600 / requests sold a second",
    "usd_per_million_input_tokens": "usd_per_request / P · 10⁶",
    "usd_per_million_tokens": "usd_per_request / (P + G) · 10⁶",
    "sequences_finished_per_step": "B / G",
    "kv_tokens_evicted_per_step": "B · (P + G) / G",
}
"""The formula of each figure of a plan of the ideal cost model, as in docs/cost-model.md."""

CALIBRATED = {
    "tpot_ms": "step + ((B - 1) · work - queue) / G; step = max(t_weights, t_flops) + all other terms",
    "step_ms.weights": "t_weights / e_b, without embedding and head",
    "step_ms.flops": "B · (t_dense + t_experts / u_e) / e_f, without the head",
    "step_ms.ici": "2 a_l · (L · [tp > 1] + L_e · [ep > 1]) + B · t_sent / e_u",
    "step_ms.kv_cache": "t_kv / e_k",
    "step_ms.kv_exchange": "t_exchange / e_u",
    "step_ms.draft": "t_draft = δ · (max(t_weights, t_flops) of the draft + its share of t_kv)",
    "accepted_tokens": "A: as published of the draft and the dataset, or as the spec has it; parts of step_ms are / A",
    "step_ms.prefill": "((B - 1) · work - queue) / G",
    "step_ms.head": "max(t_head / e_b, B · t_head flops / e_f)",
    "step_ms.launches": "8 · L · t_0",
    "step_ms.host": "a + b · B / ep, and what is missing to t_h · (8 · L + 12 · L_e) of the whole step",
    "tokens_per_s": "slices · R · B · G / e2e (without prompts B / step), or what the prefill pool feeds, if less",
    "prefill_ms": "t_prompt + step; chunked: work + ceil((P - P_c) / c) · step; of a pool t_prompt; each with t_p",
    "ttft_ms": "t_r + queue + prefill, and the transfer where there is one",
    "stall_ms": "the step and what of a prompt it takes in",
}
"""Those of the calibrated cost model that differ."""


def formulas_of(spec: Spec) -> dict[str, str]:
    """The formula of each figure of a plan, by the cost model of the spec."""
    return FORMULAS if spec.calibration is None else {**FORMULAS, **CALIBRATED}


KEYS = {
    "format",
    "servesat",
    "spec",
    "catalogue",
    "drafts",
    "solver",
    "status",
    "plan",
    "replayed",
    "formulas",
    "bound_usd_per_million_output_tokens",
    "gap",
    "sha256",
}


def certify(spec: Spec, result: Result, settings: Settings) -> dict[str, Any]:
    """Everything that a result rests on, as one JSON document.

    Of a plan that replays verified it holds what they told, by which `verify` runs them again. Raises ServesatError
    unless the result is a proved or verified plan, where a record of the spec bears the id of another one in the
    catalogue, and where `Spec.changed` varied a price.
    """
    if result.status is not Status.OPTIMAL or result.plan is None:
        raise ServesatError(
            f"no certificate: the result is {result.status}, and only a proved or verified plan has one"
        )
    for name, record in records_of(spec):
        entry = catalogue_entry(name)
        if entry is not None and entry != record:
            raise ServesatError(f"no certificate: {name} is not the catalogue's entry of that id; give it another name")
    if spec.has_varied_prices:
        raise ServesatError(
            "no certificate: Spec.changed varied a price, which a spec file cannot express; load a spec that states it"
        )
    cost, bound = result.plan.usd_per_million_output_tokens, result.bound_usd_per_million_output_tokens
    document = {
        "format": FORMAT,
        "servesat": version("servesat"),
        "spec": _spec_document(spec),
        "catalogue": {
            name: sha256_of(record) for name, record in records_of(spec) if catalogue_entry(name) is not None
        },
        "drafts": drafts_document(spec),
        "solver": {"name": SOLVER, "version": version("ortools"), "parameters": asdict(settings)},
        "status": str(result.status),
        "plan": plain(result.plan),
        "replayed": None if result.replayed is None else replayed_document(spec, result.replayed),
        "formulas": formulas_of(spec),
        "bound_usd_per_million_output_tokens": bound,
        "gap": None if bound is None else 1 - bound / cost,
    }
    return {**document, "sha256": digest_of(document)}


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of a certificate without its own digest: of its JSON text with sorted keys and no spaces."""
    whole = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_certificate(document: Mapping[str, Any], path: Path) -> None:
    """Write a certificate. Raises ServesatError when the file cannot be written."""
    write_text(path, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _spec_document(spec: Spec) -> dict[str, Any]:
    """A spec with everything it refers to written out, but for a trace, which it names as the spec does."""
    document = spec.model_dump(mode="json", exclude_none=True)
    document["search"]["chips"] = [chip.model_dump(mode="json", exclude_none=True) for chip in spec.chips]
    return document


def drafts_document(spec: Spec) -> list[dict[str, Any]]:
    """The drafts that a plan may choose: what drafts, how many tokens, how many are accepted, and what it weighs."""
    models = [None if one.model is None else one.model.model_dump(mode="json") for one in spec.drafts]
    return [one._asdict() | {"model": model} for one, model in zip(spec.drafts, models, strict=True)]


def replayed_document(spec: Spec, replayed: Replayed) -> dict[str, Any]:
    """What replays told of a plan, with the digest of the trace that they ran; their seeds count from 0."""
    trace = spec.workload.arrivals.file
    digest = None if trace is None else hashlib.sha256(trace.read_bytes()).hexdigest()
    return {**json.loads(json.dumps(asdict(replayed))), "trace_sha256": digest}


def records_of(spec: Spec) -> Iterator[tuple[str, Sourced]]:
    """The model, the chips, the price book and the engines that a spec rests on, by their place in the catalogue."""
    yield f"models/{spec.model.id}", spec.model
    for chip in spec.chips:
        yield f"hardware/chips/{chip.id}", chip
    yield f"hardware/prices/{spec.price_book.id}", spec.price_book
    if spec.calibration is not None:
        yield f"hardware/calibrations/{spec.calibration.id}", spec.calibration
    for engine in spec.engine:
        yield f"engines/{engine.id}", engine
    if spec.search.max_quality_loss is not None:
        yield "models/quality/published", published()


def catalogue_entry(name: str) -> Sourced | None:
    """The catalogue's entry of that name; None where it has none."""
    shelf, _, entry = name.rpartition("/")
    shelves: dict[str, Callable[[str], Sourced]] = {
        "models": load_model,
        "hardware/chips": load_chip,
        "hardware/prices": load_price_book,
        "hardware/calibrations": load_calibration,
        "engines": load_engine,
        "models/quality": _published,
    }
    try:
        return shelves[shelf](entry)
    except CatalogueError:
        return None


def _published(_: str) -> Sourced:
    return published()


def sha256_of(record: Sourced) -> str:
    """SHA-256 of a record's fields."""
    text = json.dumps(record.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(plan: Plan) -> Any:
    """A plan as JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(asdict(plan)))
