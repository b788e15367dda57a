from typing import Any

import pytest
from hypothesis import assume, given

from servesat import Requirement, Status
from servesat.candidates.evaluation import evaluate
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.solve import solve
from tests.helpers import searching, spec_of
from tests.oracles import deployment as oracle
from tests.strategies import examples, tight

MANY = examples(120)


def test_one_requirement_alone_can_conflict() -> None:
    assert minimal_conflicts(evaluate(spec_of(slo={"tpot_ms": 0.1})).violated.tolist()) == ((Requirement.TPOT,),)
    assert minimal_conflicts(evaluate(searching(weights=["bf16"], compute=["int8"])).violated.tolist()) == (
        (Requirement.DTYPES,),
    )


def test_every_minimal_conflict_is_found() -> None:
    spec = spec_of(
        model="llama-3-405b",
        slo={"tpot_ms": 15},
        search={"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "max_chips": 16},
    )
    # 16 chips neither hold 405 GB (256 GB), nor load them in 15 ms (30.9 ms)
    assert set(minimal_conflicts(evaluate(spec).violated.tolist())) == {
        (Requirement.HBM, Requirement.CHIPS),
        (Requirement.TPOT, Requirement.CHIPS),
    }


def test_no_conflict_where_a_plan_exists() -> None:
    assert minimal_conflicts(evaluate(spec_of()).violated.tolist()) == ()


@pytest.mark.slow
@MANY
@given(tight())
def test_conflicts_are_true_and_minimal(spec: dict[str, Any]) -> None:
    result = solve(spec)
    assume(result.status is Status.INFEASIBLE)
    violations = {violated for _, violated in oracle.enumerate_plans(spec)}
    assert result.conflict
    for members in result.conflict:
        assert all(violated & set(members) for violated in violations)
        for dropped in members:
            assert any(not violated & (set(members) - {dropped}) for violated in violations)
    assert {frozenset(map(str, members)) for members in result.conflict} == oracle.minimal_conflicts(violations)
