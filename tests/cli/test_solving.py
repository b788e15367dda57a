import json
from pathlib import Path

import pytest

from servesat import Result, Status
from tests.cli.commands import CHAT, EXAMPLE, run
from tests.helpers import ROOT


def test_solve_prints_the_plan() -> None:
    result = run("solve", EXAMPLE)
    assert result.exit_code == 0
    assert "$2.730 per million output tokens" in result.stdout
    assert result.stderr == ""


def test_solve_json_is_the_same_every_time_but_for_solve_s() -> None:
    first, second = (json.loads(run("solve", EXAMPLE, "--json").stdout) for _ in range(2))
    assert first.pop("solve_s") > 0
    second.pop("solve_s")
    assert json.dumps(first) == json.dumps(second)


def test_infeasible_exits_3_with_its_conflict() -> None:
    result = run("solve", EXAMPLE, "--json", "--set", "search.max_chips=32")
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert (document["status"], document["plan"], document["conflict"]) == ("infeasible", None, [["tpot", "chips"]])


def test_unknown_exits_4(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = Result(status=Status.UNKNOWN, plan=None, solve_s=0.1)
    monkeypatch.setattr("servesat.questions.explain.solve", lambda *_, **__: unknown)
    result = run("solve", EXAMPLE, "--time-limit", "0.1")
    assert result.exit_code == 4
    assert "unknown: the time limit was reached before a plan was found" in result.stdout
    document = json.loads(run("solve", EXAMPLE, "--json", "--time-limit", "0.1").stdout)
    assert (document["status"], document["plan"], document["conflict"]) == ("unknown", None, None)


def test_overrides_and_price_book() -> None:
    result = run(
        "solve", EXAMPLE, "--json", "--set", "workload.context_tokens=32768", "--price-book", "scaling-book-2025-02"
    )
    plan = json.loads(result.stdout)["plan"]
    assert (plan["batch"], plan["usd_per_chip_hour"]) == (40, 1.2)


def test_a_plan_on_part_of_an_instance_says_what_it_pays_for() -> None:
    small = ("--set", "model=llama-3-8b", "--set", "search.chips=[h100-sxm]", "--set", "search.topologies.h100-sxm=4x1")
    small = (*small, "--price-book", "aws-2026-11")
    text = " ".join(run("solve", EXAMPLE, *small).stdout.split())
    assert "h100-sxm, aws us-east-1, on demand, p5.48xlarge: 4 of its 8 chips; a whole one is billed at $55.04" in text
    bill = json.loads(run("solve", EXAMPLE, *small, "--json").stdout)["plan"]["bills"][0]
    assert (bill["instance_chips"], bill["usd_per_instance_hour"]) == (8, 55.04)
    assert bill["instances"] == bill["chips"] / 8


def test_region_and_purchase_choose_the_price() -> None:
    spot = ("--price-book", "gcp-2026-11", "--region", "us-west1", "--purchase", "spot")
    plan = json.loads(run("solve", EXAMPLE, *spot, "--json").stdout)["plan"]
    assert plan["usd_per_chip_hour"] == 0.24493
    assert (plan["bills"][0]["region"], plan["bills"][0]["purchase"]) == ("us-west1", "spot")
    nowhere = run("solve", EXAMPLE, "--region", "mars")
    assert nowhere.exit_code == 1
    assert "region = 'mars': no price in list-2026-11 names it; known: FIN-03, us-central1" in nowhere.stderr
    elsewhere = run("solve", EXAMPLE, "--price-book", "gcp-2026-11", "--region", "us-central2")
    assert elsewhere.exit_code == 1
    assert "tpu-v5e has no price in gcp-2026-11 as on_demand in us-central2 (it has on_demand in " in (
        " ".join(elsewhere.stderr.split())
    )


def test_a_chip_that_cannot_compute_in_any_dtype_searched_is_named() -> None:
    result = run("solve", EXAMPLE, "--set", "search.chips=[tpu-v5e, h100-sxm]", "--set", "search.compute=[fp8]")
    assert result.exit_code in {0, 3}
    assert result.stderr == "note: tpu-v5e has no peak in fp8, so no plan on it was searched\n"


def test_an_infeasible_spec_prints_what_would_make_it_feasible() -> None:
    text = run("solve", EXAMPLE, "--set", "search.max_chips=32").stdout
    assert "tpot ≤ 15 ms and chips ≤ 32 cannot hold together on tpu-v5e" in text
    assert "tpot up to 15.76 ms: tpu-v5e 4x8, weights int8, batch 4, 15.76 ms, $42.02" in text
    assert "up to 64 chips: tpu-v5e 8x8, weights int8, batch 88, 11.26 ms, $2.730" in text
    document = json.loads(run("solve", EXAMPLE, "--json", "--set", "search.max_chips=32").stdout)
    first = document["corrections"][0]
    assert (first["requirement"], first["unit"], first["and"]) == ("tpot", "ms", [])
    assert first["value"] == pytest.approx(15.7567, abs=1e-4)
    assert first["plan"]["topology"] == "4x8"


def test_explain_says_what_each_limit_costs() -> None:
    arguments = ("solve", EXAMPLE, "--set", "workload.context_tokens=32768", "--explain")
    text = run(*arguments).stdout
    assert (
        "tpot: moving 15 to 19.32 ms saves 24.2%, 5.61% for each ms of it on average; beyond it nothing, hbm binds"
        in text
    )
    assert "hbm: costs nothing, no plan without it is cheaper" in text
    limits = {one["requirement"]: one for one in json.loads(run(*arguments, "--json").stdout)["limits"]}
    assert limits["tpot"]["then_binding"] == ["hbm"]


def test_top_says_that_its_plans_are_compared_by_means(tmp_path: Path) -> None:
    """The answer has passed its replay; those beside it only have means within the limits."""
    chat = {
        "model": "llama-3.1-8b",
        "engine": "vllm",
        "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 10},
        "slo": {"ttft_ms": 500},
        "search": {"chips": ["h100-sxm"], "weights": ["fp8"], "kv_cache": ["fp8"], "modes": ["interleaved"]},
        "price": {"h100-sxm": 3.0},
    }
    (tmp_path / "chat.yaml").write_text(json.dumps(chat))
    printed = run("solve", str(tmp_path / "chat.yaml"), "--top", "2", "--distinct", "topology").stdout
    assert "The 2 best distinct plans by means, which no replay verified" in " ".join(printed.split())


def test_top_prints_the_best_distinct_plans() -> None:
    arguments = ("solve", EXAMPLE, "--top", "3", "--distinct", "topology")
    assert "The 2 best distinct plans" in run(*arguments).stdout  # no third slice has a plan
    plans = json.loads(run(*arguments, "--json").stdout)["alternatives"]
    assert [plan["topology"] for plan in plans] == ["8x8", "8x16"]


def test_why_compares_term_by_term_or_names_the_conflict() -> None:
    chat = str(ROOT / "examples" / "llama-3-70b-chat.yaml")
    decoding = ("--set", "search.modes=[decode_only]", "--set", "workload.context_tokens=1280")
    text = run("why", chat, "--chip", "h100-sxm", *decoding).stdout
    assert "it wins when h100-sxm costs less than $3.364 a chip-hour (now $6.880)" in text
    excluded = run("why", EXAMPLE, "--topology", "4x8")
    assert excluded.exit_code == 3
    assert "no plan satisfies tpot ≤ 15 ms on tpu-v5e" in excluded.stdout
    document = json.loads(run("why", chat, "--chip", "h100-sxm", "--json", *decoding).stdout)
    assert document["alternative"]["plan"]["chip"] == "h100-sxm"
    assert document["break_even_usd_per_chip_hour"] == pytest.approx(3.364, abs=1e-3)
    assert "those of the best plan" in run("why", EXAMPLE, "--topology", "8x8").stdout
    cheaper = run("why", EXAMPLE, "--weights", "int4").stdout
    assert "less a token: it lies outside what the spec searches" in cheaper
    alone = run("why", EXAMPLE, "--chip", "tpu-v6e", "--set", "search.max_chips=32")
    assert alone.exit_code == 0
    assert "The spec itself has no plan (infeasible); under the decisions there is one:" in alone.stdout
    assert "at any price of tpu-v5e, which both take" in run("why", EXAMPLE, "--topology", "8x16").stdout
    assert run("why", EXAMPLE).exit_code == 2
    assert run("why", EXAMPLE, "--chip", "tpu-v9").exit_code == 1


def test_a_certificate_does_not_replace_its_spec(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(Path(EXAMPLE).read_text())
    refused = run("solve", str(spec), "--certificate", str(spec))
    assert refused.exit_code == 2
    assert "is the input file, and would be overwritten" in " ".join(refused.stderr.split())
    assert spec.read_text() == Path(EXAMPLE).read_text()


def test_a_certificate_is_written_and_verified(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    assert run("solve", EXAMPLE, "--certificate", str(path)).exit_code == 0
    assert run("verify", str(path)).stdout.endswith("the certificate is valid\n")
    path.write_text(path.read_text().replace('"batch": 88', '"batch": 80'))
    tampered = run("verify", str(path))
    assert tampered.exit_code == 1
    assert "the certificate is NOT valid" in tampered.stdout
    assert json.loads(run("verify", str(path), "--json").stdout)["valid"] is False
    infeasible = run("solve", EXAMPLE, "--set", "slo.tpot_ms=1", "--certificate", str(tmp_path / "no.json"))
    assert infeasible.exit_code == 3
    assert "cannot hold together" in infeasible.stdout or "no plan satisfies" in infeasible.stdout
    assert "no.json is not written: the result is infeasible" in infeasible.stderr
    assert not (tmp_path / "no.json").exists()
    assert run("verify", str(tmp_path / "none.json")).exit_code == 1


def test_solve_says_how_prompts_are_served() -> None:
    tpus = ("--set", "search.chips=[tpu-v5e,tpu-v6e]")
    text = run(
        "solve", CHAT, *tpus, "--set", "search.modes=[disaggregated]", "--set", "workload.requests_per_s=50"
    ).stdout
    assert "disaggregated: 2 slices of tpu-v6e 2x2 prefill" in text
    assert "of which 99.7% are requested" in text
    text = run("solve", CHAT, *tpus, "--set", "search.modes=[interleaved]").stdout
    assert "One token, 29.93 ms on average" in text
    assert "whole prefills of 19.7 ms between the steps" in text
