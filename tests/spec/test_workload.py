from pathlib import Path

import pytest

from servesat import Spec


def test_a_trace_gives_means_a_rate_and_its_longest_request(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("time,prompt_tokens,output_tokens\n0,100,10\n1,300,30\n4,200,50\n")
    (tmp_path / "spec.yaml").write_text("model: llama-3-8b\nworkload: {arrivals: {trace: trace.csv}}\n")
    workload = Spec.load(tmp_path / "spec.yaml").workload
    assert (workload.prompt_tokens, workload.output_tokens, workload.requests_per_s) == (200, 30, 0.5)
    assert workload.longest_request_tokens == 330
    stated = {"arrivals": {"trace": str(tmp_path / "trace.csv")}, "requests_per_s": 2.0, "prompt_tokens": 50}
    workload = Spec.load({"model": "llama-3-8b", "workload": stated}).workload
    assert (workload.prompt_tokens, workload.output_tokens, workload.requests_per_s) == (50, 30, 2.0)


def test_lengths_that_spread_are_longer_than_their_means() -> None:
    """Of cv 1, s² = ln 2: 1 in 1,000 is longer than exp(3.09 · 0.8326 - 0.3466) = 9.27 times the mean."""
    workload = {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 1, "lengths": {"prompt_cv": 1.0}}
    loaded = Spec.load({"model": "llama-3-8b", "workload": workload})
    assert loaded.workload.longest_request_tokens == pytest.approx(9270 + 100, rel=2e-3)
    assert (loaded.percentile, loaded.utilisation) == (0.95, 0.85)
