import json

import pytest

from servesat.questions.explain import answer
from servesat.report.documents import dumps, result_document
from tests.helpers import spec_of


def test_the_document_is_plain_json_with_the_keys_of_a_plan() -> None:
    document = json.loads(dumps(result_document(answer(spec_of(model="llama-3-405b", slo={"tpot_ms": 15})))))
    assert document["status"] == "optimal"
    assert document["binding"] == ["ici"]
    assert document["conflict"] is None
    plan = document["plan"]
    expected = {
        "chip": "tpu-v5e", "topology": "8x8", "tp_axes": [0, 1], "tp": 64, "replicas": 1, "weights": "int8",
        "kv_cache": "int8", "compute": "bf16", "batch": 88, "chips": 64,
    }  # fmt: skip
    assert {key: plan[key] for key in expected} == expected
    assert plan["tokens_per_s"] == pytest.approx(7814.0, abs=0.1)
    assert plan["tokens_per_s_per_chip"] == pytest.approx(122.1, abs=0.05)
    assert plan["step_ms"]["weights"] == pytest.approx(7.717, abs=1e-3)
    assert document["requirements"]["tpot"]["slack"] == pytest.approx(15 - plan["tpot_ms"])
    rejected = next(entry for entry in document["slices"] if entry["topology"] == "4x8")
    assert rejected["violated"] == ["tpot"]
    assert rejected["usd_per_million_output_tokens"] is None


def test_nan_is_never_written() -> None:
    with pytest.raises(ValueError, match="Out of range"):
        dumps({"value": float("nan")})
