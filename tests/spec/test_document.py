from pathlib import Path

from servesat import Spec
from servesat.spec.document import spec_document


def test_a_spec_is_written_as_one_would(tmp_path: Path) -> None:
    asked = {
        "cost_model": "ideal",
        "model": "llama-3-70b",
        "workload": {"context_tokens": 8192},
        "slo": {"tpot_ms": 20.0},
    }
    assert spec_document(Spec.load(asked)) == asked
    assert spec_document(Spec.load(asked).constrained([])) == asked
    more = {**asked, "engine": ["vllm-0.32"], "headroom": 0.0, "search": {"chips": ["h100-sxm"], "weights": ["fp8"]}}
    assert spec_document(Spec.load(more)) == more


def test_what_the_catalogue_has_not_is_written_in_full() -> None:
    chip = {
        "name": "mine", "vendor": "me", "hbm_bytes": 1e11, "hbm_bytes_per_s": 1e12, "flop_per_s": {"bf16": 1e14},
        "axes": [{"name": "x", "bytes_per_s": 1e11}], "topologies": ["2"], "usd_per_chip_hour": 1.0,
    }  # fmt: skip
    spec = Spec.load(
        {"cost_model": "ideal", "model": "llama-3-8b", "workload": {"context_tokens": 100}, "search": {"chips": [chip]}}
    )
    document = spec_document(spec)
    assert document["search"]["chips"][0]["hbm_bytes"] == 1e11
    assert Spec.load(document) == spec


def test_a_trace_is_found_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("time,prompt_tokens,output_tokens\n0,100,10\n1,300,30\n4,200,50\n")
    (tmp_path / "spec.yaml").write_text("model: llama-3-8b\nworkload: {arrivals: {trace: trace.csv}}\n")
    spec = Spec.load(tmp_path / "spec.yaml")
    assert spec.workload.arrivals.trace == "trace.csv"
    document = spec_document(spec)
    assert document["workload"]["arrivals"] == {"trace": str(tmp_path / "trace.csv")}
    assert Spec.load(document).workload.longest_request_tokens == 330
