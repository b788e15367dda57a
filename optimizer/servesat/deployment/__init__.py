"""One deployment, from a spec to a proved plan: `solve.solve`.

`formulation` is the CP-SAT model, `check` derives the chosen plan again without a solver, `conflicts` says why there is
none, `certificate` writes down what it rests on, and `verification` checks that.
"""
