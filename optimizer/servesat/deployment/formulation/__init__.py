"""The constraint model of one deployment: the only place of it that knows OR-Tools (docs/formulation.md).

`instance` rounds the columns to integers, `model` and `expressions` state the model, and `solver.solve` proves its
optimum; `portfolio` joins several deployments.
"""
