"""Explanations around an answer, where parts of it are missing or are the spec's own."""

from math import ceil
from pathlib import Path

import pytest

from servesat import Spec, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from servesat.questions.why_not import Decisions, why_not
from tests.helpers import ON_32_CHIPS


def test_chips_and_prices_of_ones_own_can_be_corrected_and_compared() -> None:
    chip = {
        "name": "my-chip", "vendor": "test", "hbm_bytes": 16e9, "hbm_bytes_per_s": 8e11, "flop_per_s": {"bf16": 2e14},
        "axes": [{"name": "x", "bytes_per_s": 9e10}], "topologies": ["1", "8"],
    }  # fmt: skip
    spec = {**ON_32_CHIPS, "search": {"chips": [chip]}, "price": {"my-chip": 1.0}}
    assert {c.changes[0].requirement for c in answer(spec).corrections} >= {"chip"}
    small = Spec.load({**spec, "model": "llama-3-8b"})
    assert why_not(small, Decisions(chip="tpu-v6e")).alternative.plan is not None


def test_explanations_do_not_share_the_time_limit_of_the_answer() -> None:
    result = answer(ON_32_CHIPS, Settings(time_limit_s=1e-6))
    assert result.status is Status.INFEASIBLE
    assert {c.changes[0].requirement for c in result.corrections} == {"tpot", "chips", "chip", "weights"}


def test_a_price_book_of_chips_of_ones_own_is_explained_too(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[chips.my-chip]\nusd_per_chip_hour = 1.0\nsource = "an offer"\n'
    )
    chip = {
        "name": "my-chip", "vendor": "test", "hbm_bytes": 16e9, "hbm_bytes_per_s": 8e11, "flop_per_s": {"bf16": 2e14},
        "axes": [{"name": "x", "bytes_per_s": 9e10}], "topologies": ["1", "2"],
    }  # fmt: skip
    spec = {
        "cost_model": "ideal",
        "model": "llama-3-70b",
        "workload": {"context_tokens": 8192},
        "search": {"chips": [chip]},
    }
    result = answer({**spec, "price_book": str(tmp_path / "mine.toml")})
    assert result.conflict == (("hbm",),)
    assert result.corrections == ()  # 35 GB of int4 weights are more than 32 GB, and no other chip has a price


def test_an_infeasible_spec_on_chips_without_a_network_is_still_explained() -> None:
    spec = {
        "cost_model": "ideal",
        "model": "llama-3-8b",
        "workload": {"prompt_tokens": 1000, "output_tokens": 100},
        "slo": {"tpot_ms": 0.001},
        "search": {"chips": ["tpu-v5e"]},
        "chip": {"tpu-v5e": {"network_bytes_per_s": None}},
    }
    result = answer(spec)
    assert result.status is Status.INFEASIBLE
    assert result.conflict
    assert result.corrections[0].changes[0].requirement == "tpot"


def test_what_is_spare_on_spot_is_paid_for() -> None:
    spec = {"cost_model": "ideal",
        "model": "llama-3-8b", "workload": {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 100},
        "search": {"chips": ["h100-sxm"], "modes": ["interleaved"], "min_batch": 64, "max_batch": 64},
        "price_book": "aws-2026-11", "purchase": "spot", "buy": "instances",
    }  # fmt: skip
    whole, most = solve(spec).plan, solve({**spec, "spot_capacity": 0.8}).plan
    assert whole is not None
    assert most is not None
    assert (whole.chip, whole.topology, whole.batch) == (most.chip, most.topology, most.batch)
    assert most.requests_per_s / most.slices == pytest.approx(0.8 * whole.requests_per_s / whole.slices)
    assert most.slices == ceil(100 / (0.8 * whole.requests_per_s / whole.slices))
    on_demand = {**spec, "purchase": "on_demand"}
    assert solve({**on_demand, "spot_capacity": 0.8}).plan == solve(on_demand).plan
    assert (
        "spot_capacity has no effect: no price searched is on spot"
        in Spec.load({**on_demand, "spot_capacity": 0.8}).notes
    )


def test_a_plan_on_spot_stands_beside_the_best_one_without() -> None:
    spot = {"cost_model": "ideal",
        "model": "llama-3-8b", "workload": {"prompt_tokens": 1000, "output_tokens": 100}, "price_book": "gcp-2026-11",
        "purchase": ["on_demand", "spot"], "search": {"chips": ["tpu-v5e", "tpu-v6e"], "modes": ["interleaved"]},
    }  # fmt: skip
    result = answer(spot, limits=False)
    assert result.plan is not None
    assert result.plan.purchase == "spot"
    without = solve({**spot, "purchase": "on_demand"}).plan
    assert result.without_spot == without
    assert without is not None
    assert without.usd_per_million_output_tokens > result.plan.usd_per_million_output_tokens
    assert answer({**spot, "purchase": "on_demand"}, limits=False).without_spot is None
    cheap = {"name": "mine", "chips": {"tpu-v5e": {"purchase": "spot", "usd_per_chip_hour": 0.1, "source": "me"}}}
    only = answer({**spot, "price_book": cheap, "purchase": "spot"}, limits=False)
    assert only.plan is not None
    assert only.without_spot is None
