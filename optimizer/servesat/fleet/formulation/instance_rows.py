"""The rows by which instances hold the slices of replicas, in the compact model and in the selection of covers."""

from collections.abc import Mapping, Sequence

from ortools.math_opt.python import mathopt

from servesat.fleet.formulation.solvers import solve_model
from servesat.fleet.machines import fillings, nest

TIME_LIMIT_S = 5.0
"""Seconds for the fillings of one machine in one period."""

Pieces = Mapping[int, Sequence[mathopt.LinearTypes]]
"""The numbers of pieces of each size, as terms to sum up."""


def filled_instances(chips: int, pieces: Mapping[int, int]) -> int | None:
    """The fewest instances that hold some pieces of sizes that do not nest, whose fillings are counted again here.

    None where the solver proves no number.
    """
    model = mathopt.Model()
    sizes = sorted((size for size, count in pieces.items() if count), reverse=True)
    full = fillings(chips, tuple((size, chips // size) for size in sizes))
    filled = [model.add_integer_variable(lb=0) for _ in full]
    for at, size in enumerate(sizes):
        held = mathopt.fast_sum(filling[at] * number for filling, number in zip(full, filled, strict=True))
        model.add_linear_constraint(held >= pieces[size])
    model.minimize(mathopt.fast_sum(filled))
    result = solve_model(model, relative_gap=0.0, time_limit_s=TIME_LIMIT_S)
    if result.termination.reason is not mathopt.TerminationReason.OPTIMAL:
        return None
    counts = [round(float(value)) for value in result.variable_values(filled)]
    holds = all(
        sum(filling[at] * count for filling, count in zip(full, counts, strict=True)) >= pieces[size]
        for at, size in enumerate(sizes)
    )
    return sum(counts) if holds else None


def hold_pieces(model: mathopt.Model, chips: int, pieces: Pieces, count: mathopt.Variable) -> None:
    """Require that `count` instances of so many chips hold the pieces; exact for any sizes."""
    if nest(pieces):
        _hold_nested(model, chips, pieces, count)
    else:
        _hold_by_filling(model, chips, pieces, count)


def _hold_nested(model: mathopt.Model, chips: int, pieces: Pieces, count: mathopt.Variable) -> None:
    """For each size, the pieces of it, each larger one counted as several, are no more than fit.

    A size that divides an instance asks for no more than the smallest does.
    """
    smallest = min(pieces)
    for size in pieces:
        if size == smallest or chips % size:
            at_least = [other // size * mathopt.fast_sum(terms) for other, terms in pieces.items() if other >= size]
            model.add_linear_constraint(mathopt.fast_sum(at_least) <= chips // size * count)


def _hold_by_filling(model: mathopt.Model, chips: int, pieces: Pieces, count: mathopt.Variable) -> None:
    """Instances by how they are filled, which together hold the pieces of each size."""
    sizes = sorted(pieces, reverse=True)
    full = fillings(chips, tuple((size, chips // size) for size in sizes))
    filled = [model.add_integer_variable(lb=0) for _ in full]
    model.add_linear_constraint(mathopt.fast_sum(filled) <= count)
    for at, size in enumerate(sizes):
        held = mathopt.fast_sum(filling[at] * number for filling, number in zip(full, filled, strict=True))
        model.add_linear_constraint(mathopt.fast_sum(pieces[size]) <= held)
