"""Many workloads on one inventory of chips, over regions, purchases and periods: `plan.plan_fleet`.

`spec` is what a user writes, `instance` its integers, `formulation` the compact model, `decomposition` the one for
large fleets, and `pods` places TPU slices in the pods they stand in.
"""
