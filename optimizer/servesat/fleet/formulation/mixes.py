"""Requests of several sizes on the same replicas: how much of a mix these serve, each size for a part of their time."""

from collections.abc import Mapping, Sequence

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.arrays import Floats

PARTS = 1e3
"""Parts of a replica's time in which it is counted: the tolerances of HiGHS are absolute, 1e-6 of a row."""

Rates = tuple[float, ...]
"""What a replica serves of each size when it serves nothing else [requests/s]."""


def add_mix(
    model: mathopt.Model, replicas: Mapping[Rates, mathopt.LinearTypes], shares: Sequence[float], per_request_s: float
) -> tuple[mathopt.Variable, dict[Rates, list[mathopt.Variable]]]:
    """Add to a model what some replicas serve of a mix, in units of which `per_request_s` are a request/s.

    With it come the parts of their time for each size, by what a replica serves of each::

        Σ over sizes  parts[rates, size] ≤ PARTS · replicas[rates]
        Σ over rates  rates[size] · parts[rates, size] / PARTS ≥ shares[size] · served
    """
    served = model.add_variable(lb=0)
    parts = {rates: [model.add_variable(lb=0) for _ in rates] for rates in replicas}
    for rates, count in replicas.items():
        model.add_linear_constraint(mathopt.fast_sum(parts[rates]) <= PARTS * count)
    for size, share in enumerate(shares):
        of_size = mathopt.fast_sum(
            rates[size] * per_request_s / PARTS * own[size] for rates, own in parts.items() if rates[size]
        )
        model.add_linear_constraint(of_size >= share * served)
    return served, parts


def best_mix(replicas: Mapping[Rates, int], shares: Sequence[float]) -> Floats:
    """The parts of replicas' time, as replicas, with which they serve the most of a mix; shape [rates, sizes].

    GLOP finds them; they are held to the replicas that there are, and what they serve is for the caller to add up.
    """
    model = mathopt.Model()
    if not replicas:
        return np.zeros((0, len(shares)))
    fastest = max(max(rates) for rates in replicas)
    served, parts = add_mix(model, replicas, shares, 1 / fastest if fastest else 1.0)
    model.maximize(served)
    value = mathopt.solve(model, mathopt.SolverType.GLOP).variable_values()
    busy = np.maximum([[value[one] / PARTS for one in own] for own in parts.values()], 0.0)
    there = np.array([float(count) for count in replicas.values()])
    held: Floats = busy * np.minimum(1.0, there / np.maximum(busy.sum(axis=1), np.finfo(float).tiny))[:, None]
    return held
