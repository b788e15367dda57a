import re
from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError
from tests.spec.texts import V5E, read


def test_a_slice_may_be_named_in_any_order_of_axes_that_are_alike(tmp_path: Path) -> None:
    spec = read(tmp_path, V5E.replace("]}", "], topologies: {tpu-v5e: [4x2, 1x1]}}"))
    assert spec.topologies_of(spec.offers[0].chip) == ("1x1", "2x4")
    with pytest.raises(SpecError, match=r"search.topologies.tpu-v5e: '2x4' and '4x2' are the same slice"):
        read(tmp_path, V5E.replace("]}", "], topologies: {tpu-v5e: [2x4, 4x2]}}"))
    h100 = V5E.replace("tpu-v5e", "h100-sxm")
    assert read(tmp_path, h100.replace("]}", "], topologies: {h100-sxm: [8x2]}}")).search.topologies
    with pytest.raises(SpecError, match=r"search.topologies.h100-sxm: '2x8' is not offered"):  # 8 nodes of 2
        read(tmp_path, h100.replace("]}", "], topologies: {h100-sxm: [2x8]}}"))


@pytest.mark.parametrize(
    ("workload", "slo", "message"),
    [
        ({}, {"percentile": 0.9}, "slo.percentile = 0.9: holds of requests that arrive: give workload.requests_per_s"),
        ({}, {"ttft_ms": {"p99": 5}}, "slo.ttft_ms = {'p99': 5.0}: holds of"),
        ({"requests_per_s": 1}, {"ttft_ms": {"99": 5}}, "expected percentiles as in {p99: 800, p50: 200}"),
        (
            {"requests_per_s": 1},
            {"percentiles": {"ttft": {"p99": 5}}},
            "slo.percentiles.ttft = 'ttft': expected one of",
        ),
        ({"requests_per_s": 1}, {"percentiles": {"ttft_ms": {"q99": 5}}}, "['q99']: expected percentiles as in"),
        ({"requests_per_s": 1}, {"percentiles": {"ttft_ms": {}}}, "is empty: expected percentiles as in"),
        ({"requests_per_s": 1}, {"percentiles": 5}, "slo.percentiles = 5: expected a mapping"),
        ({"requests_per_s": 1}, {"ttft_ms": {"p99.99": 5}}, "p99.99: expected a percentile above p0, up to p99.9"),
        ({"requests_per_s": 1}, {"percentile": 0.9999}, "expected a share of the requests up to 0.999"),
        (
            {"requests_per_s": 1},
            {"tpot_ms": 1, "percentiles": {"tpot_ms": {"p95": 30}}},
            "tpot_ms = 1 beside slo.percentiles.tpot_ms: give one of them",
        ),
        ({"requests_per_s": 1}, {"ttft_ms": {"p99": 5}, "percentile": "mean"}, "has no meaning beside"),
        (
            {"requests_per_s": 1},
            {"percentile": 95},
            "slo.percentile: 95: expected a share of the requests up to 0.999, as 0.95",
        ),
        ({"requests_per_s": 1}, {"goodput": 0.9}, "slo.goodput: is the share of requests within limits, and none of"),
        ({"requests_per_s": 1, "arrivals": "clock"}, {}, "workload.arrivals = 'clock': expected poisson, "),
        ({"requests_per_s": 1, "arrivals": {"trace": "no.csv"}}, {}, "workload.arrivals.trace = 'no.csv': "),
        ({"arrivals": {"gamma_cv": 2}}, {}, "arrivals needs requests_per_s"),
        ({"lengths": {"prompt_cv": 1}}, {}, "lengths needs requests_per_s"),
    ],
)
def test_percentiles_and_arrivals_are_checked(workload: dict[str, Any], slo: dict[str, Any], message: str) -> None:
    asked = {"model": "llama-3-8b", "workload": {"prompt_tokens": 100, "output_tokens": 10, **workload}, "slo": slo}
    with pytest.raises(SpecError, match=re.escape(message)):
        Spec.load(asked)
