import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from servesat import Result, Status
from servesat.catalogue.load import json_schema, load_model
from servesat.cli import app

ROOT = Path(__file__).parents[1]
EXAMPLE = str(ROOT / "examples" / "llama-3-405b-under-15ms.yaml")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


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
    monkeypatch.setattr("servesat.questions.explain.solve", lambda *_: unknown)
    result = run("solve", EXAMPLE, "--time-limit", "0.1")
    assert result.exit_code == 4
    assert "unknown: the time limit struck before a plan was found" in result.stdout
    document = json.loads(run("solve", EXAMPLE, "--json", "--time-limit", "0.1").stdout)
    assert (document["status"], document["plan"], document["conflict"]) == ("unknown", None, None)


def test_overrides_and_price_book() -> None:
    result = run(
        "solve", EXAMPLE, "--json", "--set", "workload.context_tokens=32768", "--price-book", "scaling-book-2025-02"
    )
    plan = json.loads(result.stdout)["plan"]
    assert (plan["batch"], plan["usd_per_chip_hour"]) == (40, 1.2)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["solve", "none.yaml"], 1, "error: none.yaml: no such file"),
        (["solve", EXAMPLE, "--set", "slo.tpot_ms=-1"], 1, "slo.tpot_ms = -1: expected a number greater than 0"),
        (["solve", EXAMPLE, "--price-book", "nope"], 1, "no price book 'nope'"),
        (["solve", EXAMPLE, "--set", "nonsense"], 2, "expected KEY=VALUE"),
        (["solve", EXAMPLE, "--time-limit", "nan"], 2, "--time-limit"),
        (["solve", EXAMPLE, "--time-limit", "-1"], 2, "--time-limit"),
        (["solve"], 2, "Missing argument"),
        (["solve", EXAMPLE, "--nope"], 2, "--nope"),
        (["chips", "tpu-v5ee"], 1, "did you mean 'tpu-v5e'"),
        (["models", "llama-9"], 1, "no model 'llama-9'"),
        (["prices", "none.toml"], 1, "none.toml: no such file"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_nothing_on_stdout(arguments: list[str], code: int, complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert complaint in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "row"),
    [("models", "llama-3-405b"), ("chips", "tpu-v5e"), ("prices", "scaling-book-2025-02")],
)
def test_listings(command: str, row: str) -> None:
    assert row in "".join(run(command).stdout.split()) or command == "prices"
    rows = json.loads(run(command, "--json").stdout)
    assert row in {entry.get("id", entry.get("price_book")) for entry in rows}


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["models", "llama-3-70b"], "kv_cache_bytes_per_token_bf16", 327_680),
        (["chips", "tpu-v5e"], "hbm_bytes", 16e9),
    ],
)
def test_entries(arguments: list[str], key: str, value: object) -> None:
    assert json.loads(run(*arguments, "--json").stdout)[key] == value
    assert key in run(*arguments).stdout


def test_a_price_book_is_a_table_and_a_document() -> None:
    assert "10.8" in run("prices", "scaling-book-2025-02").stdout
    document = json.loads(run("prices", "scaling-book-2025-02", "--json").stdout)
    assert document["chips"]["h100-sxm"][0]["usd_per_chip_hour"] == 10.8


def test_the_prices_of_a_chip_are_compared_cheapest_first() -> None:
    rows = json.loads(run("prices", "--chip", "h100-sxm", "--purchase", "on_demand", "--json").stdout)
    costs = [row["usd_per_chip_hour"] for row in rows]
    assert costs == sorted(costs)
    assert {row["chip"] for row in rows} == {"h100-sxm"}
    assert {row["cloud"] for row in rows} >= {"aws", "oci", "lambda", "nebius", "verda"}
    eight = next(row for row in rows if row["instance"] == "p5.48xlarge" and row["region"] == "us-east-1")
    assert (eight["instance_chips"], eight["usd_per_instance_hour"], eight["usd_per_chip_hour"]) == (8, 55.04, 6.88)
    here = json.loads(run("prices", "gcp-2026-11", "--region", "us-central1", "--json").stdout)
    assert {row["region"] for row in here} == {"us-central1"}
    wrong = run("prices", "--chip", "h100-sxn")
    assert wrong.exit_code == 1
    assert "did you mean 'h100-sxm'" in wrong.stderr


def test_a_plan_on_part_of_an_instance_says_what_it_pays_for() -> None:
    small = ("--set", "model=llama-3-8b", "--set", "search.chips=[h100-sxm]", "--set", "search.max_chips=4")
    text = " ".join(run("solve", EXAMPLE, *small).stdout.split())
    assert "h100-sxm, aws us-east-1, on demand, p5.48xlarge: 4 of its 8 chips; it is sold whole for $55.04" in text
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


def test_chips_are_ranked_for_a_model(tmp_path: Path) -> None:
    ranks = json.loads(run("chips", "rank", "llama-3-70b", "--price-book", "scaling-book-2025-02", "--json").stdout)
    by_chip = {row["chip"]: row for row in ranks["chips"]}
    assert set(by_chip) == {"tpu-v5e", "tpu-v5p", "h100-sxm"}
    costs = [row["usd_per_million_output_tokens"] for row in ranks["chips"]]
    assert costs == sorted(costs)
    v5e = by_chip["tpu-v5e"]
    assert v5e["flop_per_usd"] == pytest.approx(1.97e14 * 3600 / 1.2)
    assert v5e["hbm_traffic_bytes_per_usd"] == pytest.approx(8.2e11 * 3600 / 1.2)
    assert v5e["hbm_byte_hours_per_usd"] == pytest.approx(16e9 / 1.2)
    assert (v5e["critical_batch"], v5e["alpha"], v5e["beta"]) == pytest.approx((120.12, 2188.9, 9.11), rel=1e-3)
    assert v5e["smallest_slice"] == "2x4"
    out = tmp_path / "rank.svg"
    text = run("chips", "rank", "llama-3-70b", "--price-book", "scaling-book-2025-02", "--out", str(out)).stdout
    assert "tpu-v5e" in text
    assert out.stat().st_size > 1000


def test_a_config_is_imported_as_a_model_file(tmp_path: Path) -> None:
    config = {
        "model_type": "mixtral", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
        "num_experts_per_tok": 2, "sliding_window": None, "_name_or_path": "own/Mixtral",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = tmp_path / "mine.toml"
    assert run("models", "import", str(tmp_path), "--out", str(out)).exit_code == 0
    assert load_model(str(out)).moe == load_model("mixtral-8x7b").moe
    assert "experts = 8" in run("models", "import", str(tmp_path / "config.json")).stdout
    document = json.loads(run("models", "import", str(tmp_path), "--json").stdout)
    assert document["parameters"] == pytest.approx(46.7e9, rel=1e-3)
    assert document["active_parameters"] == pytest.approx(12.88e9, rel=1e-3)
    for source, complaint in ((str(out), "expected a config.json"), ("./none.json", "no such file or folder")):
        wrong = run("models", "import", source)
        assert wrong.exit_code == 1
        assert complaint in wrong.stderr


@pytest.mark.parametrize("kind", ["models", "hardware"])
def test_schema(kind: str) -> None:
    assert json.loads(run("schema", kind).stdout) == json_schema(kind)


def test_help_needs_neither_the_solver_nor_numpy() -> None:
    probe = "import sys, servesat.cli; print([m for m in ('ortools', 'numpy', 'pydantic', 'rich') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_output_survives_a_terminal_without_unicode() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from servesat.cli import app; app()", "solve", EXAMPLE],
        capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"$2.730 per million output tokens" in shown.stdout


def test_a_chip_that_cannot_compute_in_any_dtype_searched_is_named() -> None:
    result = run("solve", EXAMPLE, "--set", "search.chips=[tpu-v5e, h100-sxm]", "--set", "search.compute=[fp8]")
    assert result.exit_code in {0, 3}
    assert result.stderr == "note: tpu-v5e has no peak in fp8, so no plan on it was searched\n"


def test_version() -> None:
    assert run("--version").stdout.startswith("servesat ")


def test_book_prints_every_claim_and_problem() -> None:
    text = run("book").stdout
    assert "148 claims: 117 holds, 19 seed error, 1 assumption, 11 answered here" in text
    assert "Worked problem 3: LLaMA 3-405B under 15 ms" in text
    document = json.loads(run("book", "--json").stdout)
    assert len(document["claims"]) == 148
    under = document["worked_problems"]["under_15_ms"]
    assert len(under) == 24
    assert under[2]["plan"]["batch"] == 88


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
