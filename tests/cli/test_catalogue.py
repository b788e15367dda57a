import json
from pathlib import Path

import pytest

from servesat.catalogue.load import json_schema, load_model
from tests.cli.commands import run


@pytest.mark.parametrize(
    ("command", "shown", "listed"),
    [
        ("models", "llama-3-405b", "llama-3-405b"),
        ("chips", "tpu-v5e", "tpu-v5e"),
        ("engines", "SGLang0.5.23", "vllm-0.32"),
        ("prices", "p5.48xlarge", "scaling-book-2025-02"),
    ],
)
def test_listings(command: str, shown: str, listed: str) -> None:
    assert shown in "".join(run(command).stdout.split())
    rows = json.loads(run(command, "--json").stdout)[command]
    assert listed in {entry.get("id", entry.get("price_book")) for entry in rows}


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["models", "llama-3-70b"], "kv_cache_bytes_per_token_bf16", 327_680),
        (["chips", "tpu-v5e"], "hbm_bytes", 16e9),
        (["engines", "vllm"], "version", "0.32"),
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
    rows = json.loads(run("prices", "--chip", "h100-sxm", "--purchase", "on_demand", "--json").stdout)["prices"]
    costs = [row["usd_per_chip_hour"] for row in rows]
    assert costs == sorted(costs)
    assert {row["chip"] for row in rows} == {"h100-sxm"}
    assert {row["cloud"] for row in rows} >= {"aws", "oci", "lambda", "nebius", "verda"}
    eight = next(row for row in rows if row["instance"] == "p5.48xlarge" and row["region"] == "us-east-1")
    assert (eight["instance_chips"], eight["usd_per_instance_hour"], eight["usd_per_chip_hour"]) == (8, 55.04, 6.88)
    here = json.loads(run("prices", "gcp-2026-11", "--region", "us-central1", "--json").stdout)["prices"]
    assert {row["region"] for row in here} == {"us-central1"}
    wrong = run("prices", "--chip", "h100-sxn")
    assert wrong.exit_code == 1
    assert "did you mean 'h100-sxm'" in wrong.stderr


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
    assert (v5e["flop_per_s"], v5e["hbm_bytes"], v5e["hbm_bytes_per_s"]) == (1.97e14, 16e9, 8.2e11)
    out = tmp_path / "rank.svg"
    text = run("chips", "rank", "llama-3-70b", "--price-book", "scaling-book-2025-02", "--out", str(out)).stdout
    assert "tpu-v5e      $1.200       197       16     820      0.59" in text
    assert out.stat().st_size > 1000


def test_chips_are_ranked_at_prices_of_ones_own() -> None:
    ranking = ["chips", "rank", "llama-3-70b", "--price-book", "scaling-book-2025-02", "--json"]
    ranks = json.loads(run(*ranking, "--price", "h100-sxm=0.99", "--price", "a40=0.4").stdout)
    by_chip = {row["chip"]: row for row in ranks["chips"]}
    assert set(by_chip) == {"tpu-v5e", "tpu-v5p", "h100-sxm", "a40"}
    assert by_chip["h100-sxm"]["flop_per_usd"] == pytest.approx(9.89e14 * 3600 / 0.99)
    wrong = run(*ranking, "--price", "h100-sxm")
    assert wrong.exit_code == 2
    assert "expected CHIP=USD" in wrong.stderr
    assert "price.h100: no such chip" in run(*ranking, "--price", "h100=2").stderr


def test_the_list_of_chips_has_each_peak() -> None:
    rows = {row["id"]: row for row in json.loads(run("chips", "--json").stdout)["chips"]}
    assert rows["h100-sxm"]["fp8_tflop_per_s"] == 1979
    assert rows["tpu-v5e"]["fp8_tflop_per_s"] is None
    listed = run("chips").stdout
    assert "bf16 197, int8 394" in listed
    assert "fp8_tflop_per_s" not in listed


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
    (tmp_path / "empty").mkdir()
    for source, complaint in (
        (str(out), "expected a config.json"),
        ("./none.json", "no such file or folder"),
        (str(tmp_path / "empty"), "has no config.json"),
    ):
        wrong = run("models", "import", source)
        assert wrong.exit_code == 1
        assert complaint in wrong.stderr


@pytest.mark.parametrize("kind", ["models", "chips", "prices", "engines"])
def test_schema(kind: str) -> None:
    assert json.loads(run("schema", kind).stdout) == json_schema(kind)
