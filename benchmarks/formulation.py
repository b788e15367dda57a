"""Two ways to model the choice of a column: one boolean each, or one index with element constraints.

    python benchmarks/formulation.py

Both choose the cheapest of random columns of which 70 % are forbidden under an enforcement literal, and channel the
choice to one named decision. The figures in docs/notes/measured.md come from here.
"""

import time
from collections.abc import Callable

import numpy as np
from ortools.sat.python import cp_model

Columns = tuple[list[int], list[int], list[int]]


def random_columns(count: int) -> Columns:
    random = np.random.default_rng(0)
    costs = random.integers(10**6, 10**9, count).tolist()
    chips = np.sort(random.integers(0, 8, count)).tolist()
    allowed = np.flatnonzero(random.random(count) >= 0.7).tolist()
    return costs, chips, allowed


def boolean_a_column(model: cp_model.CpModel, columns: Columns) -> None:
    costs, chips, allowed = columns
    chosen = [model.new_bool_var("") for _ in costs]
    model.add_exactly_one(chosen)
    on = model.new_bool_var("on")
    model.add(on == 1)
    forbidden = set(range(len(costs))) - set(allowed)
    model.add(cp_model.LinearExpr.sum([chosen[column] for column in forbidden]) == 0).only_enforce_if(on)
    for chip in range(8):
        is_chip = model.new_bool_var(f"chip{chip}")
        model.add(
            cp_model.LinearExpr.sum([x for x, code in zip(chosen, chips, strict=True) if code == chip]) == is_chip
        )
    model.minimize(cp_model.LinearExpr.weighted_sum(chosen, costs))


def element(model: cp_model.CpModel, columns: Columns) -> None:
    costs, chips, allowed = columns
    column = model.new_int_var(0, len(costs) - 1, "column")
    on = model.new_bool_var("on")
    model.add(on == 1)
    model.add_linear_expression_in_domain(column, cp_model.Domain.from_values(allowed)).only_enforce_if(on)
    chip = model.new_int_var(0, 7, "chip")
    model.add_element(column, chips, chip)
    cost = model.new_int_var(0, max(costs), "cost")
    model.add_element(column, costs, cost)
    model.minimize(cost)


def measure(build: Callable[[cp_model.CpModel, Columns], None], columns: Columns) -> str:
    start = time.perf_counter()
    model = cp_model.CpModel()
    build(model, columns)
    built = time.perf_counter()
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    solved = time.perf_counter()
    costs, _, allowed = columns
    right = status == cp_model.OPTIMAL and solver.objective_value == min(costs[column] for column in allowed)
    return f"{(built - start) * 1e3:6.0f} + {(solved - built) * 1e3:5.0f} ms{'' if right else '  WRONG'}"


def main() -> None:
    print(f"{'columns':>8}  {'boolean a column':>18}  {'element':>18}   (build + solve)")
    for count in (1_000, 6_400, 28_000):
        columns = random_columns(count)
        for build in (boolean_a_column, element):  # once to warm up
            measure(build, columns)
        print(f"{count:8,}  {measure(boolean_a_column, columns):>18}  {measure(element, columns):>18}")


if __name__ == "__main__":
    main()
