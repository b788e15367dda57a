from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError
from servesat.spec.workload import Lengths, Workload


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


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"arrivals": {"trace": "a.csv", "gamma_cv": 3}}, "gamma_cv has no effect beside a trace"),
        ({"arrivals": {"trace": "a.csv"}, "lengths": {"prompt_cv": 1}}, "lengths has no effect beside a trace"),
    ],
)
def test_what_has_no_effect_beside_a_trace_is_refused(keys: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,prompt_tokens,output_tokens\n0,10,10\n1,10,10\n")
    with pytest.raises(SpecError, match=complaint):
        Spec.load({"model": "llama-3-8b", "workload": keys}, folder=tmp_path)


def test_lengths_at_a_share_of_the_requests(tmp_path: Path) -> None:
    """Log-normal about 1,000 with cv 1: half are below 1,000 / √2, and 0.95 below that times exp(1.6449 · √ln 2)."""
    spread = Workload(prompt_tokens=1000, output_tokens=10, requests_per_s=1, lengths=Lengths(prompt_cv=1))
    assert not spread.is_alike
    assert (spread.lengths_at(0.5, 9999), spread.lengths_at(0.95, 9999)) == ((707, 10), (2781, 10))
    assert spread.lengths_at(0.95, 2000) == (1999, 10)
    alike = Workload(prompt_tokens=1000, output_tokens=10)
    assert (alike.is_alike, alike.lengths_at(0.99, 9999)) == (True, (1000, 10))
    rows = "".join(f"{n},{100 * n + 1},{n + 1}\n" for n in range(10))
    (tmp_path / "a.csv").write_text(f"time,prompt_tokens,output_tokens\n{rows}")
    of_trace = Spec.load({"model": "llama-3-8b", "workload": {"arrivals": "a.csv"}}, folder=tmp_path).workload
    assert (of_trace.is_alike, of_trace.lengths_at(0.5, 9999)) == (False, (401, 5))
