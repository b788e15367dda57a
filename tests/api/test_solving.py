import json
from pathlib import Path
from typing import Any

import pytest

import servesat
from servesat import Spec, SpecError
from servesat.report.replays import replay_rows
from tests.cli.commands import EXAMPLE, run
from tests.helpers import CHAT_AT_RANDOM, ON_32_CHIPS, spec_of


def test_a_spec_is_a_path_a_mapping_a_spec_or_its_keys() -> None:
    mapping: dict[str, Any] = {**ON_32_CHIPS, "slo": {"tpot_ms": 20}}
    plans = [servesat.solve(one).plan for one in (mapping, Spec(**mapping))] + [servesat.solve(**mapping).plan]
    assert plans[0] is not None
    assert plans[0] == plans[1] == plans[2]
    assert servesat.solve(Path(EXAMPLE)).plan == servesat.solve(EXAMPLE).plan


def test_a_solution_is_a_result_with_its_spec() -> None:
    solution = servesat.solve(EXAMPLE)
    assert isinstance(solution, servesat.Result)
    assert solution.plan is not None
    assert (solution.status, solution.plan.topology, solution.spec.model.id) == ("optimal", "8x8", "llama-3-405b")
    assert solution.limit_values == ()
    assert servesat.solve(EXAMPLE, explain=True).limit_values != ()


def test_the_repr_says_what_is_asked_the_plan_its_bill_what_binds_and_what_is_proved() -> None:
    lines = repr(servesat.solve(EXAMPLE)).splitlines()
    assert lines[:4] == [
        "LLaMA 3 405B · 8,192 tokens of context · ideal cost model · prices: list-2026-11",
        "",
        "tpu-v5e 8x8, weights int8, KV cache int8, compute bf16, batch 88, 11.26 ms a token",
        "$2.730 per million output tokens, $76.80 an hour for 64 chips; ici binds",
    ]
    assert lines[5].startswith("optimal: proved that no plan costs less than $2.730 (")


def test_constraints_of_python_hold() -> None:
    held = servesat.solve(spec_of(), constrain=lambda m: m.add(m.batch % 16 == 1)).plan
    assert held is not None
    assert held.batch % 16 == 1
    assert servesat.solve(spec_of(), constrain="batch % 16 == 1").plan == held
    assert servesat.solve(spec_of(), constrain=["batch % 16 == 1", "tp >= 1"]).plan == held


def test_a_certificate_is_one_that_verify_accepts(tmp_path: Path) -> None:
    servesat.solve(EXAMPLE).certify(tmp_path / "certificate.json")
    assert run("verify", str(tmp_path / "certificate.json")).exit_code == 0
    with pytest.raises(servesat.ServesatError, match="no certificate: the result is infeasible"):
        servesat.solve(ON_32_CHIPS).certify(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"top": 0}, "top = 0: expected a whole number from 1 to 1000"),
        ({"top": 2.5}, "top = 2.5: expected a whole number from 1 to 1000"),
        ({"distinct": "colour"}, "distinct = 'colour': expected chip, topology or layout"),
        ({"time_limit_s": 0}, "time_limit_s = 0: expected a number of seconds, more than 0"),
        ({"time_limit_s": float("nan")}, "time_limit_s = nan: expected a number of seconds, more than 0"),
        ({"time_limit_s": "5"}, "time_limit_s = '5': expected a number of seconds, more than 0"),
    ],
)
def test_an_option_that_cannot_be_is_an_error(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        servesat.solve(EXAMPLE, **options)


def test_a_spec_and_keys_are_not_given_together() -> None:
    with pytest.raises(TypeError, match="not 'tpot_ms' beside a spec"):
        servesat.solve(EXAMPLE, tpot_ms=5)
    with pytest.raises(SpecError, match="spec: model is missing"):
        servesat.solve()
    with pytest.raises(SpecError, match="spec: slos: unknown key; did you mean 'slo'"):
        servesat.solve(model="llama-3-8b", workload={"context_tokens": 10}, slos={})


def test_why_fixes_at_least_one_decision() -> None:
    with pytest.raises(SpecError, match="fix at least one decision"):
        servesat.why(EXAMPLE)
    with pytest.raises(SpecError, match="batch = 0: expected at least 1"):
        servesat.why(EXAMPLE, batch=0)
    rival = servesat.why(EXAMPLE, weights="bf16")
    assert rival.alternative.plan is not None
    assert rival.alternative.plan.weights == "bf16"
    assert rival.to_pandas()["which"].tolist() == ["best", "alternative"]


def test_a_portfolio_has_the_notes_of_its_deployments() -> None:
    search, workload = (
        {"chips": ["h100-sxm", "l4"]},
        {"context_tokens": 2048, "output_tokens": 100, "requests_per_s": 2},
    )
    chat = {"cost_model": "ideal", "model": "llama-3-8b", "workload": workload, "search": search}
    answer = servesat.portfolio({"deployments": {"chat": chat}})
    assert "chat: search.chips: l4 has no price in list-2026-11, and is left out" in answer.notes


def test_answers_of_one_token_have_no_tpot() -> None:
    workload = {"prompt_tokens": 500, "output_tokens": 1, "requests_per_s": 2}
    search = {"chips": ["l4"]}
    solution = servesat.solve(model="llama-3.1-8b", workload=workload, slo={"ttft_ms": 1000}, search=search)
    assert solution.replayed is not None
    assert dict(replay_rows(solution.replayed))["tpot"] == "none: answers have one token"
    assert "answers have one token, " in str(solution)
    script = servesat.launch(solution, to="command").files["serve.sh"]
    assert "TTFT p50" in script
    assert "TPOT" not in script


def test_notes_say_what_was_left_out() -> None:
    spec = {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"prompt_tokens": 100, "output_tokens": 10}}
    solution = servesat.solve(spec)
    assert "have no network_bytes_per_s" in solution.notes[0]
    assert json.dumps(solution.to_dict()).count("network_bytes_per_s") == 0
    for text in (repr(solution), str(solution), solution._repr_html_()):
        assert "note: " in text


def test_the_table_of_a_replayed_plan_has_its_percentiles() -> None:
    """Those of an answer by means are missing values."""
    replayed = servesat.solve(CHAT_AT_RANDOM)
    (row,) = replayed.to_pandas().to_dict("records")
    assert replayed.replayed is not None
    assert row["ttft_p95_ms"] == replayed.replayed.ttft_ms.p95
    assert row["e2e_p50_ms"] == replayed.replayed.e2e_ms.p50
    means = servesat.solve({**CHAT_AT_RANDOM, "slo": {**CHAT_AT_RANDOM["slo"], "percentile": "mean"}}).to_pandas()
    assert means["ttft_p95_ms"].isna().all()
