"""How many slices each pool has, by hand on toy chips."""

import numpy as np
import pytest

from servesat.candidates.pool_sizing import MAX_SMALLER_POOL_SLICES, slices_for_demand, slices_per_request_rate
from tests.helpers import toy_chip, toy_spec
from tests.whole_requests import plan_of

DEMAND = {"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 40.0}


def test_slices_for_a_demand_are_whole_and_exact() -> None:
    spec = toy_spec(workload=DEMAND, utilisation=0.8)
    assert slices_for_demand(spec, np.array([0.02, 0.1, 0.101])).tolist() == [1, 5, 6]  # 40 · 0.1 / 0.8 = 5
    assert slices_per_request_rate(spec, np.array([0.1])).tolist() == [5 / 40]


def test_without_a_demand_slices_are_as_many_as_are_busy() -> None:
    assert slices_per_request_rate(toy_spec(utilisation=0.8), np.array([0.1])).tolist() == [0.125]


def test_pools_match_each_others_pace_with_few_slices_of_the_smaller() -> None:
    # a prompt takes 10 · 2.04 ms on a slow chip; 100 sequences finish every 100 steps of 2.84 ms, one every 2.84 ms
    slow = toy_chip("slow", flop_per_s={"bf16": 1e14}, hbm_bytes=2.5e9)  # which holds no batch of 100
    search = {"modes": ["disaggregated"], "min_batch": 100, "max_batch": 100, "quota": {"toy": 9}}
    plan = plan_of(toy_spec(slow, toy_chip(usd_per_chip_hour=20.0), search=search))
    assert plan.prefill is not None
    assert (plan.prefill.chip, plan.chip) == ("slow", "toy")
    ratio = (plan.prefill_ms or 0.0) / (2 + 0.0084 * 100)  # prefill slices that feed one that decodes: 7.1
    assert plan.slices <= MAX_SMALLER_POOL_SLICES
    assert plan.prefill.slices in (int(plan.slices * ratio), int(plan.slices * ratio) + 1)
    busy = [min(n / (plan.prefill_ms or 0.0) * 1e3, d * 100 / (100 * 2.84e-3)) / (n + 20 * d)
            for d in range(1, 5) for n in (int(d * ratio), int(d * ratio) + 1)]  # fmt: skip
    assert (plan.requests_per_s or 0.0) / plan.usd_per_hour == pytest.approx(max(busy), rel=1e-9)
