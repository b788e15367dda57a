"""The requirements as constraints, each under its own enforcement literal."""

import numpy as np
from ortools.sat.python import cp_model

from servesat.candidates.requirements import REQUIREMENT_BIT, Requirement
from servesat.deployment.formulation.instance import Instance
from servesat.deployment.formulation.variables import Variables


def require(
    model: cp_model.CpModel, variables: Variables, instance: Instance, requirement: Requirement, on: cp_model.IntVar
) -> None:
    """While `on`, choose no column that violates `requirement`.

    Whether a column violates a requirement is known before the model is built, so every requirement is a set of
    columns to stay out of: no coefficient larger than a column's number reaches the solver.
    """
    allowed = np.flatnonzero(instance.violated & REQUIREMENT_BIT[requirement] == 0)
    model.add_linear_expression_in_domain(
        variables.column, cp_model.Domain.from_values(allowed.tolist())
    ).only_enforce_if(on)


def require_all(
    model: cp_model.CpModel, variables: Variables, instance: Instance
) -> dict[Requirement, cp_model.IntVar]:
    """Add every requirement that some column violates; return their literals, for the caller to fix or assume."""
    literals = {}
    violated_by_any = np.bitwise_or.reduce(instance.violated)
    for requirement in Requirement:
        if violated_by_any & REQUIREMENT_BIT[requirement]:
            literals[requirement] = model.new_bool_var(f"on_{requirement}")
            require(model, variables, instance, requirement, literals[requirement])
    return literals
