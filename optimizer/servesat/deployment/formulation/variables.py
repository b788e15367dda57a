"""The decision variables: the ones a person would name, channelled to the column that is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass

from ortools.sat.python import cp_model

from servesat.core.arrays import Ints
from servesat.deployment.formulation.instance import Instance


@dataclass(frozen=True)
class Variables:
    """`column` is the choice; `decisions` holds those that a person would name, by the names of `Instance.decisions`.

    Each decision is the code of the chosen column (see `Instance.decisions`), so that a constraint on any of them is a
    constraint on the plan.
    """

    column: cp_model.IntVar
    decisions: Mapping[str, cp_model.IntVar]


def add_variables(model: cp_model.CpModel, instance: Instance) -> Variables:
    """Add the choice of a column, and one variable for each named decision that follows from it."""
    column = model.new_int_var(0, len(instance) - 1, "column")
    decisions = {name: looked_up(model, column, codes, name) for name, codes in instance.decisions.items()}
    return Variables(column, decisions)


def looked_up(model: cp_model.CpModel, column: cp_model.IntVar, values: Ints, name: str) -> cp_model.IntVar:
    """A variable equal to `values[column]`.

    One element constraint over an index took a tenth of the time of one boolean a column (28,000 columns: 61 ms
    against 510 ms, docs/formulation.md).
    """
    variable = model.new_int_var(int(values.min()), int(values.max()), name)
    model.add_element(column, values.tolist(), variable)
    return variable
