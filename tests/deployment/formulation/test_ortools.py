"""What OR-Tools gets wrong, so that the limits of docs/notes/ortools-literals.md can go when it no longer does."""

import random
from importlib.metadata import version

import pytest
from ortools.sat.python import cp_model

Layout = tuple[float, float, float, int]
"""The weights, the KV cache, the slope and the largest batch of a layout."""


def layouts_of(seed: int) -> list[Layout]:
    drawn = random.Random(seed)
    shapes = [(3, 1.5), (-1, 0.7), (-0.5, 0.7)]
    return [
        (*(drawn.lognormvariate(*shape) for shape in shapes), drawn.randint(1, 4096))  # type: ignore[misc]
        for _ in range(5)
    ]


def enumerated(layouts: list[Layout], bits: int) -> int:
    def whole(value: float) -> int:
        return round(value * 2**bits)

    return min(
        max(whole(weights) + whole(kv) * batch, whole(slope) * batch) - 2**bits * batch
        for weights, kv, slope, largest in layouts
        for batch in range(1, largest + 1)
    )


def solved(layouts: list[Layout], bits: int) -> int | None:
    model = cp_model.CpModel()
    batch = model.new_int_var(1, 4096, "batch")
    chosen = [model.new_bool_var("") for _ in layouts]
    model.add_exactly_one(chosen)
    cost = model.new_int_var(0, 4 * (4096 << bits), "cost")
    for (weights, kv, slope, largest), on in zip(layouts, chosen, strict=True):
        model.add(batch <= largest).only_enforce_if(on)
        model.add(cost >= round(weights * 2**bits) + round(kv * 2**bits) * batch).only_enforce_if(on)
        model.add(cost >= round(slope * 2**bits) * batch).only_enforce_if(on)
    model.minimize(cost - (1 << bits) * batch)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = 10
    status = solver.solve(model)
    return None if status != cp_model.OPTIMAL else round(solver.objective_value)


@pytest.mark.soak
@pytest.mark.parametrize("bits", [16, 20])
def test_rows_under_literals_are_right_up_to_our_limit(bits: int) -> None:
    for seed in range(5):
        layouts = layouts_of(seed)
        assert solved(layouts, bits) == enumerated(layouts, bits)


@pytest.mark.skipif(version("ortools") != "9.15.6755", reason="other versions may be right")
def test_rows_under_literals_with_coefficients_of_30_bits_are_wrong() -> None:
    found = [solved(layouts_of(seed), 30) for seed in range(5)]
    right = [enumerated(layouts_of(seed), 30) for seed in range(5)]
    assert not any(one is not None and abs(one / other - 1) < 1e-9 for one, other in zip(found, right, strict=True))
