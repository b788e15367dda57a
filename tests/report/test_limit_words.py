from servesat import Requirement
from servesat.report.limit_words import conflict
from tests.helpers import spec_of


def test_a_conflict_is_a_sentence() -> None:
    spec = spec_of(
        slo={"tpot_ms": 15, "min_tokens_per_s": 1e6},
        search={"chips": ["tpu-v5e"], "max_chips": 32, "max_usd_per_hour": 9},
    )
    assert (
        conflict([Requirement.TPOT, Requirement.CHIPS], spec)
        == "tpot ≤ 15 ms and chips ≤ 32 cannot hold together on tpu-v5e"
    )
    assert (
        conflict([Requirement.TPOT, Requirement.BUDGET, Requirement.THROUGHPUT], spec)
        == "tpot ≤ 15 ms, budget ≤ $9/h and throughput ≥ 1,000,000 tokens/s cannot hold together on tpu-v5e"
    )
    assert (
        conflict([Requirement.HBM], spec_of(headroom=0.2))
        == "no plan satisfies hbm (at most 80% of memory used) on tpu-v5e"
    )


def test_a_conflict_says_which_slices_no_price_has() -> None:
    """16 A100s stand in two machines, and no reserved one states a network as fast as that."""
    spec = spec_of(search={"chips": ["a100-80gb"]}, purchase="reserved", price_book="all")
    assert conflict([Requirement.HBM], spec) == (
        "no plan satisfies hbm (at most 100% of memory used) on a100-80gb in slices of up to 8 chips: "
        "wider ones need a faster network than any price states"
    )


def test_a_limit_on_chips_says_that_machines_are_whole() -> None:
    """A machine of eight H100 is counted whole, and wider slices would take no fewer chips."""
    machines = {"owned": {"h100-sxm": {"usd": 250_000, "years": 4, "chips": 8}}, "purchase": "owned"}
    spec = spec_of(search={"chips": ["h100-sxm"], "max_chips": 4}, buy="instances", **machines)
    assert conflict([Requirement.CHIPS], spec) == (
        "no plan satisfies chips ≤ 4 on h100-sxm, where machines are rented, or owned, whole"
    )
