"""The least that whole replicas serve, against every sum of a few; and demands just above what they serve."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesat.fleet.formulation.workload_rows import least_sum
from servesat.fleet.plan import plan_fleet
from tests.strategies import examples


@examples(50)
@given(st.lists(st.integers(3, 40), min_size=1, max_size=3), st.integers(1, 120))
def test_the_least_sum_is_that_of_every_choice(terms: list[int], least: int) -> None:
    counts = product(*(range(least // term + 2) for term in terms))
    sums = {sum(count * term for count, term in zip(each, terms, strict=True)) for each in counts}
    assert least_sum(terms, least) == min(each for each in sums if each >= least)


def test_of_too_many_sums_multiples_of_the_common_divisor_are_a_bound() -> None:
    terms = [60 * n for n in range(101, 131)]
    assert least_sum(terms, 60 * 12_345 - 1) == 60 * 12_345


@pytest.mark.parametrize("above", [1e-9, 1e-8, 1e-7])
@pytest.mark.parametrize("replicas", [1, 3])
def test_a_demand_just_above_what_replicas_serve_takes_one_more_of_the_cheapest(replicas: int, above: float) -> None:
    """HiGHS's presolve held a plan of spot replicas alone for too little, and paid for an on-demand one."""
    deployment = {
        "cost_model": "ideal", "model": "llama-3-8b", "workload": {"prompt_tokens": 1024, "output_tokens": 256},
        "slo": {"tpot_ms": 30}, "search": {"modes": ["chunked"], "chips": ["h100-sxm"], "max_chips": 1},
    }  # fmt: skip
    region = {"price": {"h100-sxm": {"on_demand": 3.0, "spot": 1.0}}, "purchases": ["on_demand", "spot"]}
    spec = {"regions": {"here": region}, "workloads": {"chat": {"deployment": deployment, "demand": 1.0}}}
    (option, *_) = plan_fleet(spec).instance.options
    workload = {"deployment": deployment, "demand": option.requests_per_s * replicas * (1 + above)}
    assert plan_fleet({**spec, "workloads": {"chat": workload}}).total_usd == pytest.approx(replicas + 1)
