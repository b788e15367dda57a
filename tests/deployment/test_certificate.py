import json
import re
from pathlib import Path
from typing import Any

import pytest

from servesat import ServesatError, Spec
from servesat.catalogue.drafts import Draft
from servesat.catalogue.load import load_chip
from servesat.deployment.certificate import FORMULAS, certify, digest_of, write_certificate
from servesat.deployment.decisions import DECISIONS
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.deployment.verification import verify
from servesat.report.documents import plan_document
from tests.helpers import searching, spec_of


def certified(tmp_path: Path, spec: Spec) -> Path:
    path = tmp_path / "certificate.json"
    write_certificate(certify(spec, solve(spec), Settings()), path)
    return path


def tamper(path: Path, keys: str, value: Any, *, sealed: bool = True) -> None:
    document = json.loads(path.read_text())
    *way, last = keys.split(".")
    part = document
    for key in way:
        part = part[int(key)] if isinstance(part, list) else part[key]
    part[last] = value
    if sealed:  # as one who knows the format would
        document["sha256"] = digest_of(document)
    path.write_text(json.dumps(document))


def test_a_certificate_is_valid_and_says_what_was_checked(tmp_path: Path) -> None:
    verification = verify(certified(tmp_path, spec_of(model="llama-3-405b", slo={"tpot_ms": 15})))
    assert verification.valid
    assert verification.passed[1] == "inputs: 3 catalogue entries as stated; the spec's own: none"
    # 25 layouts of v5e, the four with one chip a replica included, at 4,096 batches
    assert verification.passed[5] == "optimality: every batch of every layout, 102,400 columns, none better"


def test_a_large_search_is_checked_at_its_breakpoints(tmp_path: Path) -> None:
    spec = Spec.load({"cost_model": "ideal", "model": "llama-3-70b", "workload": {"context_tokens": 8192}})
    verification = verify(certified(tmp_path, spec))
    assert verification.valid
    assert "every layout at its breakpoints" in verification.passed[5]


def test_every_offer_of_every_cloud_is_certified(tmp_path: Path) -> None:
    bought = {"price_book": "all", "buy": "instances", "purchase": ["on_demand", "spot"]}
    whole = {"workload": {"prompt_tokens": 1000, "output_tokens": 100}, "search": {"modes": ["interleaved"]}}
    path = certified(tmp_path, Spec.load({"model": "llama-3-8b", **whole, **bought}))
    assert verify(path).valid
    tamper(path, "plan.region", "us-east-1")
    assert any("is not on offer" in fault for fault in verify(path).failed)


def test_inline_records_are_the_specs_own(tmp_path: Path) -> None:
    chip = load_chip("tpu-v5e").model_copy(update={"id": "mine", "name": "mine"})
    verification = verify(certified(tmp_path, searching(chips=[chip.model_copy(update={"usd_per_chip_hour": 1.0})])))
    assert verification.valid
    assert verification.passed[1].endswith("the spec's own: hardware/chips/mine")


WHOLE = Spec.load(
    {
        "cost_model": "ideal",
        "model": "llama-3-70b",
        "workload": {"prompt_tokens": 8192, "output_tokens": 512, "requests_per_s": 20},
        "search": {"chips": ["h100-sxm", "h200"], "modes": ["disaggregated"]},
        "ici": "pay",
    }
)


@pytest.mark.parametrize("figure", FORMULAS)
def test_every_figure_of_a_plan_is_checked(tmp_path: Path, figure: str) -> None:
    path = certified(tmp_path, WHOLE)
    plan = json.loads(path.read_text())["plan"]
    part = plan["step_ms"] if figure.startswith("step_ms.") else plan
    right = part[figure.removeprefix("step_ms.")]
    tamper(path, f"plan.{figure}", right[:-1] if isinstance(right, list) else (right or 0.0) * 1.000001 + 1)
    verification = verify(path)
    assert not verification.valid
    assert any(figure in fault or "is not on offer" in fault for fault in verification.failed)


@pytest.mark.slow
@pytest.mark.parametrize("modes", [["interleaved"], ["chunked"], ["disaggregated"]])
def test_whole_requests_are_certified_in_every_mode(tmp_path: Path, modes: list[str]) -> None:
    path = certified(tmp_path, WHOLE.changed({"search.modes": modes}))
    assert verify(path).failed == ()
    plan = json.loads(path.read_text())["plan"]
    tamper(path, "plan.slices", plan["slices"] + 1)
    assert any("meet the demand" in fault for fault in verify(path).failed)


def test_every_figure_has_its_formula() -> None:
    plan = solve(spec_of()).plan
    assert plan is not None
    document = plan_document(plan)
    figures = {key for key in document if key != "step_ms"} | {f"step_ms.{key}" for key in document["step_ms"]}
    assert figures - set(DECISIONS) == set(FORMULAS)


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        ("plan.topology", "8x8", "is stated as"),
        ("plan.batch", 44, "is stated as"),
        ("plan.surprise", 1, "surprise is not a figure of a plan"),
        ("bound_usd_per_million_output_tokens", 0.1, "does not prove a cost"),
        ("gap", 0.5, "does not prove a cost"),
        ("status", "feasible", "expected 'optimal'"),
        ("spec.model.layers", 81, "models/llama-3-70b is not the entry that the certificate names"),
        ("spec.search.chips.0.hbm_bytes", 32e9, "hardware/chips/tpu-v5e is not the entry that the certificate names"),
        ("catalogue.models/llama-3-70b", "0" * 64, "models/llama-3-70b is not the entry that the certificate was made"),
        ("spec.slo", {"tpot_ms": 1.0}, "violates tpot"),
        ("spec.search.max_batch", 8192, "holds"),
        ("formulas.tp", "something else", "formulas: not those of this version"),
        ("plan", {"chip": "tpu-v5e"}, "figures: ServesatError: plan: topology"),
        ("plan.batch", 138.0, "are not of the types that a plan has"),
        ("plan.tp_axes", [0, 7], "is not on offer"),
        ("plan.tp_axes", [False, True], "are not of the types that a plan has"),
        ("plan.step_ms.weights", 999.0, "plan.step_ms.weights is stated as 999.0"),
        ("plan.tokens_per_s", "many", "plan.tokens_per_s is stated as 'many'"),
        ("gap", False, "with a gap of False does not prove"),
        ("solver.name", "a guess", "solver: name = 'a guess', expected 'OR-Tools CP-SAT'"),
        ("solver.version", None, "solver: version = None, expected a version"),
        ("solver.parameters", {"seed": 0}, "solver: parameters = {'seed': 0}, expected"),
        ("servesat", ["0.1.0"], "servesat = ['0.1.0'], expected a version"),
        ("catalogue", {}, "spec: hardware/chips/tpu-v5e is in the catalogue, and not stated"),
    ],
)
def test_tampering_is_found(tmp_path: Path, keys: str, value: Any, complaint: str) -> None:
    path = certified(tmp_path, spec_of())
    tamper(path, keys, value)
    verification = verify(path)
    if complaint == "holds":
        assert verification.valid
        return
    assert not verification.valid
    assert any(complaint in fault for fault in verification.failed)


@pytest.mark.parametrize(
    ("keys", "value"), [("spec.search.max_batch", 8192), ("solver.version", "9.0.0"), ("spec.headroom", 1e-9)]
)
def test_any_edit_changes_the_digest(tmp_path: Path, keys: str, value: Any) -> None:
    path = certified(tmp_path, spec_of())
    tamper(path, keys, value, sealed=False)
    assert "digest: the certificate was edited after it was written" in verify(path).failed


def test_a_valid_plan_that_is_not_the_best_is_found(tmp_path: Path) -> None:
    """Every figure is right, every requirement holds, and a cheaper plan exists."""
    spec = spec_of()
    path = certified(tmp_path, spec)
    worse = solve(spec.changed({"search.max_batch": 40}))
    assert worse.plan is not None
    tamper(path, "plan", plan_document(worse.plan))
    tamper(path, "bound_usd_per_million_output_tokens", worse.plan.usd_per_million_output_tokens)
    (fault,) = verify(path).failed
    assert fault.startswith("optimality: a plan for $")


def test_a_plan_that_ties_and_is_not_the_first_is_found(tmp_path: Path) -> None:
    spec = searching(weights=["int4"])
    path = certified(tmp_path, spec)
    larger = solve(spec, batch=64)
    assert larger.plan is not None
    tamper(path, "plan", plan_document(larger.plan))
    tamper(path, "bound_usd_per_million_output_tokens", larger.plan.usd_per_million_output_tokens)
    (fault,) = verify(path).failed
    assert fault.startswith("optimality: of the plans that tie, ")


def test_another_catalogue_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certified(tmp_path, spec_of())
    faster = load_chip("tpu-v5e").model_copy(update={"hbm_bytes_per_s": 9e11})
    monkeypatch.setattr("servesat.deployment.certificate.load_chip", lambda _: faster)
    assert verify(path).failed == (
        "catalogue: hardware/chips/tpu-v5e is not the entry that the certificate was made with",
    )


DRAFTED: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "llama-3.1-8b",
    "workload": {"prompt_tokens": 200, "output_tokens": 100},
    "speculative": {"draft": "eagle3", "tokens": [3]},
    "search": {"chips": ["h200"], "modes": ["interleaved"]},
}


@pytest.mark.soak
def test_what_may_draft_is_certified(tmp_path: Path) -> None:
    path = certified(tmp_path, Spec.load(DRAFTED))
    assert verify(path).valid
    (held,) = json.loads(path.read_text())["drafts"]
    assert (held["draft"], held["tokens"], held["accepted"], held["parameters"]) == ("eagle3", 3, 2.9307, 424_673_280)
    for key, value in {"accepted": 3.5, "parameters": 1.0}.items():
        tamper(path, f"drafts.0.{key}", value)
        assert any(fault.startswith("drafts: not those") for fault in verify(path).failed)
        path = certified(tmp_path, Spec.load(DRAFTED))


def test_another_acceptance_in_the_catalogue_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certified(tmp_path, Spec.load(DRAFTED))
    monkeypatch.setattr(Draft, "length_of", lambda *_: 2.0)
    assert any(fault.startswith("drafts: not those") for fault in verify(path).failed)


def test_a_model_that_drafts_is_held_whole(tmp_path: Path) -> None:
    speculative = {"draft": "llama-3.1-8b", "tokens": [3], "accepted": 2.0}
    path = certified(tmp_path, Spec.load(DRAFTED | {"model": "llama-3.1-70b", "speculative": speculative}))
    assert verify(path).valid
    tamper(path, "drafts.0.model.layers", 31)
    assert any(fault.startswith("drafts: not those") for fault in verify(path).failed)


def test_only_a_proved_plan_has_a_certificate() -> None:
    spec = spec_of(slo={"tpot_ms": 0.01})
    with pytest.raises(ServesatError, match="the result is infeasible"):
        certify(spec, solve(spec), Settings())


@pytest.mark.parametrize("figure", ["tpot_ms", "tokens_per_s", "usd_per_million_output_tokens"])
@pytest.mark.parametrize("value", ["Infinity", "NaN", "1e999"])
def test_figures_that_are_not_finite_are_refused(tmp_path: Path, figure: str, value: str) -> None:
    path = certified(tmp_path, spec_of())
    path.write_text(re.sub(f'("{figure}": )[0-9.e+-]+', rf"\g<1>{value}", path.read_text()))
    with pytest.raises(ServesatError, match="expected a finite number"):
        verify(path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"batch": ', '"batch": 9999, "batch": ', "'batch' is listed twice"),
        ('"gap":', '"note": "trust me", "gap":', "note is missing or unknown"),
        ('"solver":', '"solved":', "solved, solver is missing or unknown"),
        ('"plan": {', '"plan": [], "formulas": {}, "x": {', "is missing or unknown|is listed twice"),
    ],
)
def test_a_certificate_of_another_shape_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = certified(tmp_path, spec_of())
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ServesatError, match=complaint):
        verify(path)


def test_a_spec_by_reference_is_no_certificate(tmp_path: Path) -> None:
    path = certified(tmp_path, spec_of())
    tamper(path, "spec", "spec.yaml")
    with pytest.raises(ServesatError, match=r"spec = 'spec.yaml': expected a mapping"):
        verify(path)


def test_a_record_that_borrows_a_catalogue_id_has_no_certificate() -> None:
    faster = load_chip("tpu-v5e").model_copy(update={"hbm_bytes_per_s": 9e11})
    spec = searching(chips=[faster])
    with pytest.raises(ServesatError, match="hardware/chips/tpu-v5e is not the catalogue's entry of that id"):
        certify(spec, solve(spec), Settings())


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "servesat-certificate-2"}', "{"])
def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(ServesatError, match=r"c\.json"):
        verify(path)


def test_a_certificate_cannot_be_written_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ServesatError, match="cannot be written"):
        write_certificate({}, tmp_path / "none" / "c.json")


def test_a_varied_price_has_no_certificate() -> None:
    chat = {"model": "llama-3.1-8b", "engine": "vllm", "workload": {"prompt_tokens": 500, "output_tokens": 100}}
    spec = Spec.load({**chat, "search": {"chips": ["h100-sxm"]}}).changed({"price.h100-sxm": 9.0})
    with pytest.raises(ServesatError, match=r"Spec\.changed varied a price"):
        certify(spec, solve(spec), Settings())
