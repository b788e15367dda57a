"""The fleet as one integer program: the only place, with `decomposition` and `pods`, that knows OR-Tools.

`compact.FleetModel` is the program, `mixes` and `spare_mixes` let requests of several lengths share replicas, and
`solvers` says which solver takes which problem.
"""
