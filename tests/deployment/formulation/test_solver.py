"""The constraint model itself: requirements under their literals, named decisions, and the solver's own proof."""

import numpy as np
import pytest
from ortools.sat.python import cp_model

from servesat import Requirement, SolverError, Status
from servesat.candidates.evaluation import evaluate
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.formulation import solver as solver_module
from servesat.deployment.formulation.constraints import require_all
from servesat.deployment.formulation.instance import Instance, round_columns
from servesat.deployment.formulation.solver import solve
from servesat.deployment.formulation.variables import add_variables
from servesat.deployment.settings import Settings
from tests.helpers import searching, spec_of


def instance_of(
    cost: list[int],
    violated: list[int] | None = None,
    order: list[int] | None = None,
    layout: list[int] | None = None,
) -> Instance:
    return Instance(
        decisions={"batch": np.arange(1, len(cost) + 1)},
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
    honest = solver_module._minimise

    def worse(instance: Instance, objective: np.ndarray, settings: Settings):
        solution = honest(instance, objective, settings)
        return type(solution)(status=Status.OPTIMAL, column=int(objective.argmax()), bound=solution.bound)

    monkeypatch.setattr(solver_module, "_minimise", worse)
    with pytest.raises(SolverError, match="proved the cost 130"):
        solve(instance_of([130, 105]), Settings())


def test_a_false_infeasible_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    never = solver_module.Solution(status=Status.INFEASIBLE, column=None, bound=None)
    monkeypatch.setattr(solver_module, "_minimise", lambda *_: never)
    with pytest.raises(SolverError, match="infeasible that 2 columns satisfy"):
        solve(instance_of([130, 105]), Settings())


def test_named_decisions_follow_the_column_and_can_be_constrained() -> None:
    columns = evaluate(searching(weights=["bf16", "int8"]))
    instance = round_columns(columns)
    model = cp_model.CpModel()
    variables = add_variables(model, instance)
    for on in require_all(model, variables, instance).values():
        model.add(on == 1)
    assert set(variables.decisions) == {
        "chip", "topology", "tp_axes", "ep_axes", "kv_replicated", "weights", "kv_cache", "compute",
        "mode", "chunk_tokens", "prefill", "batch",
    }  # fmt: skip
    model.add(variables.decisions["batch"] == 44)
    model.add(variables.decisions["weights"] == 0)  # bf16, the first by name
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    assert solver.solve(model) == cp_model.INFEASIBLE
    relaxed = cp_model.CpModel()
    variables = add_variables(relaxed, instance)
    for on in require_all(relaxed, variables, instance).values():
        relaxed.add(on == 1)
    relaxed.add(variables.decisions["weights"] == 0)
    assert solver.solve(relaxed) == cp_model.OPTIMAL
    assert columns.assignment(solver.value(variables.column)).weights == "bf16"


def is_infeasible(instance: Instance, on: set[Requirement]) -> bool:
    model = cp_model.CpModel()
    variables = add_variables(model, instance)
    literals = require_all(model, variables, instance)
    model.add_assumptions([literals[requirement] for requirement in on])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    outcome = solver.solve(model)
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
    instance = round_columns(columns)
    conflicts = minimal_conflicts(columns)
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
