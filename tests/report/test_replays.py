from servesat.core.result import KeptLimit
from servesat.report.replays import kept


def test_a_limit_tells_its_percentile_and_the_share_of_requests_that_met_it() -> None:
    ttft = KeptLimit(requirement="ttft", share=0.95, value=390, limit=500, met=0.972, confidence=0.003, holds=True)
    assert kept(ttft, 0.0) == "ttft p95 at most 500 ms: 390.0 ms, met by 97.2% ± 0.3% of requests"
    rare = KeptLimit(requirement="ttft", share=0.999, value=390, limit=500, met=0.99923, confidence=2e-4, holds=True)
    assert kept(rare, 0.0) == "ttft p99.9 at most 500 ms: 390.0 ms, met by 99.92% ± 0.02% of requests"
    goodput = KeptLimit(
        requirement="goodput", share=0.9, value=0.88, limit=0.9, met=0.88, confidence=float("inf"), holds=None
    )
    assert kept(goodput, 0.157) == ("at least 90.0% of requests within all: 88.0%, with steps 15.7% slower, undecided")
