"""Specs with constraints, against enumeration under the same constraints."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import Spec, SpecError, Status
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from tests.constraints import Constraint, constraints, enumerated
from tests.oracles import deployment as decode_oracle
from tests.oracles import requests as requests_oracle
from tests.oracles.requests import MOST
from tests.strategies import examples, specs
from tests.whole_requests import small_specs


def is_that_of_enumeration(spec: dict[str, Any], stated: list[Constraint], oracle: Any, screen: bool) -> None:
    try:
        constrained = Spec.load({**spec, "constraints": [one.text for one in stated]})
    except SpecError:  # it names a chip that the spec has not, or is never true
        assume(False)
        raise
    result = solve(constrained, Settings(screen=screen))
    counts = any(word in one.text for one in stated for word in ("slices", "chips", "usd_per_hour"))
    chunks = any(word in one.text for one in stated for word in ("mode", "chunk_tokens"))
    plans = oracle.enumerate_plans({**spec, "counts_slices": counts, "names_chunks": chunks})
    plan, conflicts = oracle.settled(enumerated(plans, stated), oracle.best)
    if plan is None:
        assert result.status is Status.INFEASIBLE
        assert {frozenset(map(str, members)) for members in result.conflict or ()} == conflicts
        return
    assert result.status is Status.OPTIMAL
    assert result.plan is not None
    pool = result.plan.prefill
    assume(spec["workload"].get("requests_per_s") or pool is None or max(pool.slices, result.plan.slices) <= MOST)
    assert result.plan.usd_per_million_output_tokens == pytest.approx(plan["usd"], rel=2e-6)
    assert result.plan.batch == plan["batch"]
    chip, topology = plan["id"][:2] if "id" in plan else (plan["chip"], plan["topology"])
    assert (result.plan.chip, result.plan.topology) == (chip, topology)


@examples(30)
@given(specs(), constraints(), st.booleans())
def test_decoding_under_constraints_is_as_enumerated(spec: dict[str, Any], stated: Any, screen: bool) -> None:
    is_that_of_enumeration(spec, stated, decode_oracle, screen)


@examples(20)
@given(small_specs(["interleaved", "chunked"], 12), constraints(), st.booleans())
def test_one_pool_under_constraints_is_as_enumerated(spec: dict[str, Any], stated: Any, screen: bool) -> None:
    is_that_of_enumeration(spec, stated, requests_oracle, screen)


@pytest.mark.slow
@examples(10)
@given(small_specs(["interleaved", "disaggregated"], 6), st.data(), st.booleans())
def test_two_pools_under_constraints_are_as_enumerated(spec: dict[str, Any], data: Any, screen: bool) -> None:
    demand = "requests_per_s" in spec["workload"]
    is_that_of_enumeration(spec, data.draw(constraints(of_slices=demand)), requests_oracle, screen)
