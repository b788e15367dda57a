"""The constraint model of one deployment: the only place of it that knows OR-Tools (docs/formulation.md).

`instance` rounds the columns to integers, `variables` and `constraints` state the model, `solver.solve` proves it.
"""
