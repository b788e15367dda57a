from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given

from servesat import Requirement, Spec, Status, solve
from servesat.candidates.evaluation import evaluate
from servesat.deployment.conflicts import binding, minimal_conflicts
from tests.helpers import searching, spec_of, toy_chip, toy_spec
from tests.oracles import deployment as oracle
from tests.strategies import examples, tight

MANY = examples(120)


def test_one_requirement_alone_can_conflict() -> None:
    assert minimal_conflicts(evaluate(spec_of(slo={"tpot_ms": 0.1}))) == ((Requirement.TPOT,),)
    assert minimal_conflicts(evaluate(searching(weights=["bf16"], compute=["int8"]))) == ((Requirement.DTYPES,),)


def test_every_minimal_conflict_is_found() -> None:
    spec = spec_of(
        model="llama-3-405b",
        slo={"tpot_ms": 15},
        search={"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "max_chips": 16},
    )
    # 16 chips neither hold 405 GB (256 GB), nor load them in 15 ms (30.9 ms)
    assert set(minimal_conflicts(evaluate(spec))) == {
        (Requirement.HBM, Requirement.CHIPS),
        (Requirement.TPOT, Requirement.CHIPS),
    }


def test_no_conflict_where_a_plan_exists() -> None:
    assert minimal_conflicts(evaluate(spec_of())) == ()


def test_two_limits_bind_together_where_neither_alone_does() -> None:
    # 70B on 2x4: HBM holds 43.2 sequences; at 44 the step would be (70e9 + 44 · 1.342e9) / (8 · 8.2e11) = 19.67 ms
    spec = spec_of(
        slo={"tpot_ms": 19.6},
        search={
            "chips": ["tpu-v5e"],
            "weights": ["int8"],
            "kv_cache": ["int8"],
            "topologies": {"tpu-v5e": ["2x4"]},
        },
    )
    columns = evaluate(spec)
    chosen = next(
        i
        for i in range(len(columns))
        if columns.violated[i] == 0 and columns.batch[i] == 43 and columns.layouts.tp[i] == 8
    )
    assert binding(columns, chosen) == (Requirement.HBM, Requirement.TPOT)


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


def binds(spec: Spec) -> tuple[str, ...]:
    columns = evaluate(spec)
    satisfying = np.flatnonzero(columns.violated == 0)
    return binding(columns, int(satisfying[np.argmin(columns.usd_per_million[satisfying])]))


def test_of_the_limits_on_larger_batches_the_fewest_bind() -> None:
    # the next batch violates tpot alone; batches of thousands exceed the memory as well
    spec = toy_spec(toy_chip(hbm_bytes=20e9), search={"modes": ["decode_only"]}, slo={"tpot_ms": 3})
    assert binds(spec) == (Requirement.TPOT,)


def test_a_resource_binds_where_it_alone_excludes_a_cheaper_plan() -> None:
    chips = [toy_chip("cheap", usd_per_chip_hour=0.5), toy_chip("dear")]
    spec = toy_spec(*chips, search={"modes": ["decode_only"], "quota": {"cheap": 0}, "max_batch": 100})
    assert binds(spec) == (Requirement.QUOTA,)


def test_a_service_level_binds_where_it_alone_excludes_a_cheaper_plan_elsewhere() -> None:
    # the slow chip takes 20 ms for a token of any batch; on the fast one nothing but max_batch limits the batch
    chips = [toy_chip("slow", hbm_bytes_per_s=1e11, usd_per_chip_hour=0.01), toy_chip("fast")]
    spec = toy_spec(*chips, search={"modes": ["decode_only"], "max_batch": 100}, slo={"tpot_ms": 10})
    assert binds(spec) == (Requirement.TPOT,)
