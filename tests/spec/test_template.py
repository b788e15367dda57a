import re
from typing import Any

import pytest

from servesat import SpecError
from servesat.core.reading import parse_yaml
from servesat.spec.spec import Spec
from servesat.spec.template import Beginnings, spec_template

GIVEN: dict[str, Any] = {
    "model": "qwen3-32b", "prompt_tokens": 2000, "output_tokens": 300, "requests_per_s": 20.0, "ttft_ms": 500.0,
    "tpot_ms": 40.0,
}  # fmt: skip


def read(text: str) -> Spec:
    keys: Any = parse_yaml(text, "spec.yaml", SpecError)
    return Spec.load(keys)


def test_a_template_says_what_it_is_given() -> None:
    spec = read(spec_template(Beginnings(**GIVEN, clouds=("aws", "gcp"))))
    assert (spec.model.id, spec.workload.requests_per_s, spec.percentile) == ("qwen3-32b", 20, 0.95)
    assert (spec.slo.ttft_ms, spec.slo.tpot_ms, spec.cloud) == (500, 40, ("aws", "gcp"))
    free = read(spec_template(Beginnings(**GIVEN | {"requests_per_s": None, "ttft_ms": None, "tpot_ms": None})))
    assert (free.workload.requests_per_s, free.slo.ttft_ms, free.slo.tpot_ms, free.cloud) == (None, None, None, ())
    one = read(spec_template(Beginnings(**GIVEN | {"tpot_ms": None, "requests_per_s": 0.25})))
    assert (one.slo.ttft_ms, one.slo.tpot_ms, one.workload.requests_per_s) == (500, None, 0.25)


@pytest.mark.parametrize("left_out", [{}, {"requests_per_s": None, "ttft_ms": None, "tpot_ms": None}])
def test_every_key_that_is_commented_out_can_be_put_in(left_out: dict[str, Any]) -> None:
    text = spec_template(Beginnings(**GIVEN | left_out))
    keys = re.sub(r"^( *)# ?(( *)\w+:(?: .*)?)$", r"\1\2", text, flags=re.MULTILINE)
    spec = read(keys)
    assert keys.count("#   ") == 0
    assert (spec.search.max_usd_per_hour, spec.search.weights, spec.cloud) == (50, ("bf16", "fp8"), ("aws", "gcp"))
    assert (spec.workload.prefix_cache_hit, spec.purchase, spec.region) == (0.5, ("on_demand", "spot"), ("us-east-1",))
    assert (spec.workload.requests_per_s, spec.slo.ttft_ms, [engine.program for engine in spec.engine]) == (
        20, 500, ["vllm"],
    )  # fmt: skip


def test_a_path_is_quoted_where_it_has_to_be() -> None:
    text = spec_template(Beginnings(**GIVEN | {"model": "../my models/a: b.toml"}))
    assert 'model: "../my models/a: b.toml"' in text
    assert parse_yaml(text, "spec.yaml", SpecError)["model"] == "../my models/a: b.toml"  # type: ignore[index]
