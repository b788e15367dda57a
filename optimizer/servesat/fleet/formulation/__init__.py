"""The fleet as one integer program; only this package, `decomposition` and `pods` import OR-Tools.

`compact.FleetModel` is the program, `workload_rows` has the rows of each workload, and `goals` the objectives beyond
the bill. `mixes` and `redundancy_cuts` let requests of several sizes share replicas, `pod_cuts` keeps slices within
pods, and `solvers` chooses the solver.
"""
