"""The constraint model itself: requirements under their literals, named decisions, and the solver's own proof."""

from typing import Any

import numpy as np
import pytest
from ortools.sat.python import cp_model

from servesat import Requirement, SolverError, Status
from servesat.candidates.evaluation import evaluate
from servesat.candidates.rule import mask_of
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.formulation import solver as solver_module
from servesat.deployment.formulation.instance import Instance, round_columns, with_rows
from servesat.deployment.formulation.model import DeploymentModel
from servesat.deployment.formulation.solver import solve
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve as solve_spec
from tests.helpers import searching, spec_of


def instance_of(
    cost: list[int],
    violated: list[int] | None = None,
    order: list[int] | None = None,
    layout: list[int] | None = None,
) -> Instance:
    return Instance(
        layout=np.array(layout or range(len(cost))),
        cost=np.array(cost),
        step=np.zeros(len(cost), dtype=np.int64),
        order=np.array(order or range(len(cost))),
        violated=np.array(violated or [0] * len(cost), dtype=np.int64),
        tie=10,
    )


def test_cheapest_then_first_by_order_among_ties() -> None:
    solution = solve(instance_of([130, 105, 110, 100, 111], order=[0, 3, 2, 4, 1]), Settings())
    assert (solution.status, solution.column, solution.bound) == (Status.OPTIMAL, 2, 100)


def test_ties_are_sought_among_all_columns_of_a_layout() -> None:
    solution = solve(instance_of([100, 105, 130], order=[1, 0, 2], layout=[7, 7, 7]), Settings())
    assert (solution.column, solution.bound) == (1, 100)


def test_a_violating_column_is_never_chosen() -> None:
    assert solve(instance_of([1, 50, 60], violated=[2, 0, 0]), Settings()).column == 1


def test_no_satisfying_column_is_proved_infeasible() -> None:
    solution = solve(instance_of([1, 2], violated=[1, 2]), Settings())
    assert (solution.status, solution.column, solution.bound) == (Status.INFEASIBLE, None, None)


def test_infeasible_is_known_however_short_the_time() -> None:
    assert solve(instance_of([1, 2], violated=[1, 2]), Settings(time_limit_s=1e-9)).status is Status.INFEASIBLE


def test_a_wrong_optimum_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ortools 9.15 did on another formulation: OPTIMAL, with a worse plan."""
    last = solver_module.Solution(status=Status.OPTIMAL, column=1, bound=1)
    monkeypatch.setattr(solver_module, "_minimise", lambda *_: last)
    with pytest.raises(SolverError, match="proved the cost 130"):
        solve(instance_of([130, 105]), Settings())


def test_a_false_infeasible_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    never = solver_module.Solution(status=Status.INFEASIBLE, column=None, bound=None)
    monkeypatch.setattr(solver_module, "_minimise", lambda *_: never)
    with pytest.raises(SolverError, match="infeasible that 2 columns satisfy"):
        solve(instance_of([130, 105]), Settings())


def test_the_first_column_of_each_layout_stands_for_the_others() -> None:
    instance = instance_of([30, 10, 20, 15], layout=[0, 0, 1, 1])
    assert instance.first_of_each_choice(np.array([0, 1, 2, 3]), instance.cost).tolist() == [1, 3]


def test_requirements_are_rows_on_figures_under_their_literals() -> None:
    """Without screening the model has every column, and is right under every set of requirements."""
    spec = searching(weights=["bf16", "int8"], max_batch=300)
    columns = evaluate(spec)
    instance = with_rows(round_columns(columns, spec))
    assert {Requirement.HBM, Requirement.ICI, Requirement.KV_HEADS} <= set(instance.rows)
    for relaxed in ({}, {Requirement.HBM}, {Requirement.ICI, Requirement.KV_HEADS}):
        built = DeploymentModel(instance)
        built.require()
        for name, on in built.literals.items():
            built.model.add(on == (name not in relaxed))
        built.model.minimize(built.looked_up(instance.cost, "cost"))
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        assert solver.solve(built.model) == cp_model.OPTIMAL
        allowed = instance.violated & ~mask_of(*relaxed) == 0
        assert solver.value(built.column) in np.flatnonzero(allowed & (instance.cost == instance.cost[allowed].min()))


@pytest.mark.parametrize("keys", [{}, {"slo": {"tpot_ms": 12}}, {"headroom": 0.3, "ici": "pay"}])
def test_unscreened_and_screened_models_agree(keys: dict[str, Any]) -> None:
    spec = spec_of(**keys)
    plans = [solve_spec(spec, Settings(screen=screen)).plan for screen in (True, False)]
    assert plans[0] == plans[1] is not None


def is_infeasible(instance: Instance, on: set[str]) -> bool:
    built = DeploymentModel(instance)
    built.require()
    built.model.add_assumptions([built.literals[requirement] for requirement in on])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    outcome = solver.solve(built.model)
    assert outcome in {cp_model.OPTIMAL, cp_model.INFEASIBLE}
    return outcome == cp_model.INFEASIBLE


def test_conflicts_are_conflicts_to_the_solver_and_minimal() -> None:
    """A second opinion on the masks: a conflict's requirements, assumed alone, are infeasible; any fewer are not."""
    spec = spec_of(
        model="llama-3-405b",
        slo={"tpot_ms": 12},
        headroom=0.2,
        search={"chips": ["tpu-v5e"], "weights": ["int8"], "kv_cache": ["int8"], "max_chips": 32},
    )
    columns = evaluate(spec)
    instance = with_rows(round_columns(columns, spec))
    conflicts = minimal_conflicts(columns.violated.tolist())
    assert conflicts
    for members in conflicts:
        assert is_infeasible(instance, set(members))
        for dropped in members:
            assert not is_infeasible(instance, set(members) - {dropped})


def test_answers_do_not_depend_on_seed_or_workers() -> None:
    instance = round_columns(evaluate(spec_of(search={"chips": ["tpu-v5e", "tpu-v5p", "h100-sxm"]})))
    answers = {
        solve(instance, Settings(seed=seed, workers=workers)).column for seed in (0, 7, 99) for workers in (1, 2)
    }
    assert len(answers) == 1
