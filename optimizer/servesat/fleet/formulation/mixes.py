"""Requests of several sizes on the same replicas: how much of a mix these serve, each size for a part of their time."""

from collections.abc import Mapping, Sequence

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.arrays import Floats

PARTS = 1e3
"""Parts of a replica's time in which it is counted: tolerances are of a row."""

LEAST = 1e-6
"""The time of the fastest replica that a size takes at least, where it is asked for at all: a solver's whole numbers
are no more exact.
"""

Rates = tuple[float, ...]
"""What a replica serves of each size when it serves nothing else [requests/s]."""


def add_mix(
    model: mathopt.Model, replicas: Mapping[Rates, mathopt.LinearTypes], asked: Sequence[float]
) -> tuple[mathopt.Variable, dict[Rates, list[mathopt.Variable]]]:
    """Add to a model how often some replicas could serve what is `asked` of each size [requests/s].

    With it come the parts of their time for each size, by what a replica serves of each::

        Σ over sizes  parts[rates, size] ≤ PARTS · replicas[rates]
        Σ over rates  rates[size] / asked[size] · parts[rates, size] ≥ PARTS · times
    """
    times = model.add_variable(lb=0)
    parts = {rates: [model.add_variable(lb=0) for _ in rates] for rates in replicas}
    for rates, count in replicas.items():
        model.add_linear_constraint(mathopt.fast_sum(parts[rates]) <= PARTS * count)
    for size, wanted in enumerate(asked):
        if wanted:
            served = (rates[size] / wanted * own[size] for rates, own in parts.items() if rates[size])
            model.add_linear_constraint(mathopt.fast_sum(served) >= PARTS * times)
    return times, parts


def no_less(asked: Sequence[float], every: Sequence[Rates]) -> list[float]:
    """What is asked of each size, raised to what a solver can tell from nothing."""
    fastest = [max(rates) for rates in zip(*every, strict=True)] if every else [0.0] * len(asked)
    return [max(one, LEAST * most) if one else 0.0 for one, most in zip(asked, fastest, strict=True)]


def best_mix(replicas: Mapping[Rates, int], asked: Sequence[float]) -> Floats:
    """What replicas serve of each size when they serve the most in the proportions asked [requests/s].

    Of shape [rates, sizes]. GLOP says which part of their time goes to which size; what that adds up to is counted
    here, and a size beyond its proportion counts for nothing.
    """
    rates, wanted = np.array(list(replicas)).reshape(-1, len(asked)), np.array(asked)
    most = max(replicas.values(), default=0)
    if not most:
        return np.zeros_like(rates)
    model = mathopt.Model()
    times, parts = add_mix(model, {own: count / most for own, count in replicas.items()}, asked)
    model.maximize(times)
    value = mathopt.solve(model, mathopt.SolverType.GLOP).variable_values()
    busy = np.maximum([[value[one] * most / PARTS for one in own] for own in parts.values()], 0.0)
    taken, there = busy.sum(axis=1), np.array([float(count) for count in replicas.values()])
    held = np.divide(there, taken, out=np.ones_like(taken), where=taken > there)
    served = rates * busy * held[:, None]
    whole = served.sum(axis=0)
    often = np.divide(whole, wanted, out=np.full_like(wanted, np.inf), where=wanted > 0).min()
    in_proportion = np.divide(often * wanted, whole, out=np.zeros_like(whole), where=whole > 0)
    kept: Floats = served * in_proportion
    return kept
